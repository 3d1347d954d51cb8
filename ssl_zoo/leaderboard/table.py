"""A board as tables of text, for the terminal and for what pages and `docs/leaderboard/` show."""

from __future__ import annotations

from collections.abc import Mapping

from ssl_zoo.leaderboard.cells import Cell, in_order, point_text
from ssl_zoo.leaderboard.curves import longer
from ssl_zoo.leaderboard.ranking import Standings
from ssl_zoo.leaderboard.worth import HOW, WORDS, leads, saved, scratch
from ssl_zoo.transfer.efficiency import Saved
from ssl_zoo.transfer.report import metric, table

Stale = Mapping[str, str]  # row -> why its results are older than the code, the data or the recipe


def show(board: Standings, stale: Stale | None = None) -> str:
    """The standings and all measures, aligned, with the rows by the names that commands take. stale: row ->
    reason."""
    header, lines = standing(board)
    names = [row.name for row in board.rows]
    parts = [
        f"{board.title}. {MEANING}",
        table(["", *header], [[n, *x] for n, x in zip(names, lines, strict=True)]),
    ]
    if any(row.cells for row in board.rows):
        parts.append(table(["measure", *names], measured(board)))
    parts += [f"stale: {name}: {(stale or {})[name]}" for name in names if name in (stale or {})]
    return "\n\n".join(parts)


MEANING = "Mean ± half of the 95 % interval over seeds (Student's t)"
OVER = "“over”: the difference, seed by seed, with an interval of its own"


def standing(board: Standings) -> tuple[list[str], list[list[str]]]:
    """The primary measure: a header, and a line for each row with what it gains over the floors."""
    found = {words: gained for kind, words in WORDS.items() if (gained := leads(board, kind))}
    over = [f"over {one}" for one in found]
    header = ["row", "rank", heading(board, board.primary), *over, "kind", "seeds"]
    lines = [
        [
            row.title,
            str(board.ranks.get(row.name, "")),
            cell.text() if (cell := row.headline(board.primary)) else "-",
            *(gained[row.name].text if row.name in gained else "" for gained in found.values()),
            row.family,
            str(len(row.records)) if row.records else "not run",
        ]
        for row in board.rows
    ]
    return header, lines


def measured(board: Standings) -> list[list[str]]:
    """A line for each measure: its title, and what every row got."""
    return [
        [heading(board, name), *(cell.text() if (cell := row.headline(name)) else "-" for row in board.rows)]
        for name in board.measures
    ]


def heading(board: Standings, measure: str) -> str:
    """The title of a measure with its point and its metric."""
    shown = next((metric(cell.metric).title for row in board.rows if (cell := row.headline(measure))), "")
    return ", ".join(filter(None, (board.heading(measure), shown)))


def worth_words(floor: str) -> str:
    """What the table of gains over a kind of floor holds."""
    return (
        f"Scores less those of {WORDS[floor]}, {HOW[floor]}, seed by seed; more is better in every line. "
        "The interval is that of the differences"
    )


COST = (
    "What stage 2 took, with the settings that were chosen: GFLOP, and seconds of training, means over seeds"
)


def cost(board: Standings, measure: str) -> tuple[list[str], list[list[str]]]:
    """FLOPs and seconds behind every point of a measure: a header, and a line for each row."""
    spent = {
        row.title: {point_text(cell.labels, cell.steps): _spent(cell) for cell in row.cells[measure]}
        for row in board.rows
        if measure in row.cells
    }
    columns = [
        point_text(*point) for point in in_order(c for row in board.rows for c in row.cells.get(measure, ()))
    ]
    return ["", *columns], [[title, *(found.get(c, "-") for c in columns)] for title, found in spent.items()]


def _spent(cell: Cell) -> str:
    flops = "" if cell.flops is None else f"{cell.flops / 1e9:,.0f} GFLOP, "
    return f"{flops}{cell.seconds:.1f} s"


def chosen_words(board: Standings, measure: str) -> str:
    """On how many validation labels the settings of a measure were chosen: they are labels too."""
    counts = sorted({cell.choosing for row in board.rows for cell in row.cells.get(measure, ())})
    return (
        f"Settings were chosen on {' or '.join(f'{n:,}' for n in counts)} labelled validation rows at every "
        "budget, the same for all rows: a user with so few labels would choose less well"
    )


def saved_words(board: Standings, measure: str) -> str:
    """What the table of labels saved holds against each other."""
    sources = [board.label(measure), *(board.label(name) for name in longer(board, measure))]
    full = list(
        dict.fromkeys(row.title for row, _, _ in scratch(board, measure) if row.family == "reference")
    )
    words = "; ".join([*sources, *full])
    return (
        "Labels per class that training from scratch needs for the same accuracy, and how many times as many "
        "(of means, without an interval; read between its points as linear in log labels). Of the trainings "
        f"of the same network from scratch ({words}), the one that did best on validation counts where a "
        "budget has several"
    )


def saved_lines(board: Standings, measure: str) -> list[list[str]]:
    """Labels that pretraining saves, one line a row under a header; empty where nothing is compared."""
    found = saved(board, measure)
    budgets = sorted({one.labels for _, points in found for one in points})
    lines = [
        [row.title, *({one.labels: _needed(one) for one in points}.get(n, "-") for n in budgets)]
        for row, points in found
    ]
    header = ["pretrained, labels per class", *(f"{n:g}" for n in budgets)]
    return [header, *lines] if lines else []


def _needed(one: Saved) -> str:
    """ "100 (4.0x)", or what is known where scratch was not measured that far."""
    if one.needed is None or one.factor is None:
        return one.outside
    labels = f"{one.needed:,.0f}" if one.needed >= 100 else f"{one.needed:.3g}"
    return f"{labels} ({one.factor:.2g}x)"
