"""A board as tables: as text for the terminal, and as Markdown for `docs/leaderboard/`. The tables and
sentences that pages show as well are made here too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ssl_zoo.leaderboard.curves import KINDS, Curves, curves, longer
from ssl_zoo.leaderboard.standings import Cell, Line, Standings, format_point, in_order
from ssl_zoo.leaderboard.worth import HOW, WORDS, Gain, gains, leads, lines_of, saved, scratch
from ssl_zoo.transfer.efficiency import Saved
from ssl_zoo.transfer.report import metric, table


def show(board: Standings) -> str:
    """The standings and all measures, aligned, with the lines by the names that commands take."""
    header, body = standing(board, board.lines)
    names = [line.name for line in board.lines]
    parts = [
        f"{board.title}. {MEANING}",
        table(["", *header], [[name, *cells] for name, cells in zip(names, body, strict=True)]),
    ]
    if any(line.cells for line in board.lines):
        parts.append(table(*measured(board, board.lines, names)))
    parts += [f"stale: {name}: {board.stale[name]}" for name in names if name in board.stale]
    parts += filter(None, [vouched(board)])
    return "\n\n".join([*parts, board.checked])


MEANING = "Mean ± half of the 95 % interval over seeds (Student's t)"
OVER = "“over”: the difference, seed by seed where both have the seed, with an interval of its own"


def standing(board: Standings, lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """The table of the primary measure: a header, and the cells of each of these lines, among them its gains
    over the floors."""
    found = {words: gained for kind, words in WORDS.items() if (gained := leads(board, kind))}
    over = [f"over {one}" for one in found]
    header = ["line", "rank", heading(board, board.primary), *over, "role", "seeds"]
    body = [
        [
            line.title,
            str(board.ranks.get(line.name, "")),
            cell.text() if (cell := line.headline(board.primary)) else "-",
            *(gained[line.name].text if line.name in gained else "" for gained in found.values()),
            line.role,
            str(len(line.records)) if line.records else "not run",
        ]
        for line in lines
    ]
    return header, body


def waiting(board: Standings) -> str:
    """A sentence that names the lines that have not run, where others have; else ""."""
    found = [line.title for line in board.lines if line not in board.ran]
    return f"Not run yet: {'; '.join(found)}." if found else ""


def vouched(board: Standings) -> str:
    """A sentence on the lines whose results earlier code made (see `leaderboard.vouch`); "" without any."""
    told = [
        found for line in board.lines if (found := [r for r in line.records.values() if r.get("vouched")])
    ]
    if not told:
        return ""
    steps = min(record["vouched"][-1]["steps"] for records in told for record in records)
    return (
        f"{len(told)} of {len(board.lines)} lines were run with earlier code, of which later code computed "
        f"the first {steps} steps and all measures to the same bit (`ssl-zoo leaderboard vouch`)."
    )


def measured(
    board: Standings, lines: Sequence[Line], names: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """The table of all measures: what each of these lines, called by these names, scored."""
    body = [
        [
            heading(board, name),
            *(cell.text() if (cell := line.headline(name)) else "-" for line in lines),
        ]
        for name in board.measures
    ]
    return lengthwise(["measure", *names], body)


def lengthwise(header: list[str], body: list[list[Any]]) -> tuple[list[str], list[list[Any]]]:
    """A table of measures by lines, turned where it is wider than long: pages scroll down, not sideways."""
    if len(header) <= len(body) + 1:
        return header, body
    turned = [list(column) for column in zip(header, *body, strict=True)]
    return ["line", *turned[0][1:]], turned[1:]


def heading(board: Standings, measure: str) -> str:
    """The title of a measure with its point (see `Standings.heading`) and its metric."""
    shown = next((metric(cell.metric).title for line in board.lines if (cell := line.headline(measure))), "")
    return ", ".join(filter(None, (board.heading(measure), shown)))


def worth_words(floor: str) -> str:
    """A sentence on what the table of gains over a kind of floor holds."""
    return (
        f"Scores less those of {WORDS[floor]}, {HOW[floor]}, seed by seed; more is better everywhere. "
        "The interval is that of the differences"
    )


COST = (
    "What stage 2 took, with the settings that were chosen: GFLOP, and seconds of training, means over seeds"
)


def cost(board: Standings, measure: str) -> tuple[list[str], list[list[str]]]:
    """FLOPs and seconds behind every point of a measure: a header, and the cells of each line."""
    spent = [
        (line.title, {format_point(cell.labels, cell.steps): _spent(cell) for cell in line.cells[measure]})
        for line in board.lines
        if measure in line.cells
    ]
    columns = [
        format_point(*point)
        for point in in_order(c for line in board.lines for c in line.cells.get(measure, ()))
    ]
    return ["", *columns], [[title, *(found.get(c, "-") for c in columns)] for title, found in spent]


def _spent(cell: Cell) -> str:
    flops = "" if cell.flops is None else f"{cell.flops / 1e9:,.0f} GFLOP, "
    return f"{flops}{cell.seconds:.1f} s"


def chosen_words(board: Standings, measure: str) -> str:
    """A sentence on how many validation labels the settings of a measure were chosen, for they are labels
    too."""
    counts = sorted({cell.choosing for line in board.lines for cell in line.cells.get(measure, ())})
    return (
        f"Settings were chosen on {' or '.join(f'{n:,}' for n in counts)} labelled validation rows at every "
        "budget, the same for all lines: a user with so few labels would choose less well"
    )


def saved_words(board: Standings, measure: str) -> str:
    """A sentence on what the table of labels saved compares."""
    sources = [board.label(measure), *(board.label(name) for name in longer(board, measure))]
    full = list(
        dict.fromkeys(line.title for line, _, _ in scratch(board, measure) if line.role == "reference")
    )
    words = "; ".join([*sources, *full])
    return (
        "Labels per class that training from scratch needs for the same accuracy, and how many times as many "
        "(of means, without an interval; read between its points as linear in log labels). Of the trainings "
        f"of the same network from scratch ({words}), the one that did best on validation counts where a "
        "budget has several"
    )


def saved_labels(board: Standings, measure: str) -> list[list[str]]:
    """The table of labels that pretraining saves: first a header, then the cells of each line; [] where
    nothing can be compared."""
    found = saved(board, measure)
    budgets = sorted({one.labels for _, points in found for one in points})
    body = [
        [line.title, *({one.labels: _needed(one) for one in points}.get(n, "-") for n in budgets)]
        for line, points in found
    ]
    header = ["pretrained, labels per class", *(f"{n:g}" for n in budgets)]
    return [header, *body] if body else []


def _needed(one: Saved) -> str:
    """The labels that scratch needs, and how many times as many: "100 (4x)". Where scratch was not measured
    that far, what is known."""
    if one.needed is None or one.factor is None:
        return one.outside
    labels = f"{one.needed:,.0f}" if one.needed >= 100 else f"{one.needed:.3g}"
    return f"{labels} ({one.factor:.2g}x)"


# As Markdown


def markdown(board: Standings, pictures: Mapping[str, str]) -> str:
    """The board as a Markdown page. The same results give the same page.

    pictures: name of a chart ("primary", or `Curves.name`) -> the file beside the page; {} where nothing has
        run.
    """
    parts = [
        f"# {board.title}",
        board.about,
        f"{MEANING}, on test data that chose nothing; {OVER}. "
        f"Ranked by {board.heading(board.primary)}; references and floors stand between without a rank. "
        f"Read from `benchmarks/leaderboard/{board.name}/results.jsonl` by `ssl-zoo leaderboard docs`. "
        f"Hardware: {board.hardware}.",
        grid(*standing(board, board.ran)),
        *filter(None, [waiting(board), vouched(board)]),
    ]
    if "primary" in pictures:
        parts.append(_image(f"{board.heading(board.primary)} by line", pictures["primary"]))
        parts += [
            "## All measures",
            grid(*measured(board, board.ran, [line.title for line in board.ran])),
        ]
    for kind in WORDS:
        parts += _worth(board, kind)
    for one in curves(board):
        parts += _curves(board, one, pictures)
    if board.references:
        published = [
            [r.name, "; ".join(f"{k}: {v:g}" for k, v in r.scores.items()), r.protocol, r.source]
            for r in board.references
        ]
        parts += [
            "## What others published",
            grid(["result", "score", "how the protocol differs", "source"], published, "---"),
        ]
    parts += ["## Lines", *[_about(line) for line in board.lines]]
    return "\n\n".join(parts) + "\n"


def _worth(board: Standings, kind: str) -> list[str]:
    """The section on what pretraining gains over a kind of floor; [] where nothing is compared."""
    if not (found := gains(board, kind)):
        return []
    compared = lines_of(board, found)
    body = [[one.title, *(_marked(one.gains.get(line.name)) for line in compared)] for one in found]
    return [
        f"## What pretraining gains over {WORDS[kind]}",
        f"{worth_words(kind)}. **Bold**: all of it is above 0. ▼: all of it is below 0.",
        grid(*lengthwise(["measure", *(line.title for line in compared)], body)),
    ]


def _marked(gain: Gain | None) -> str:
    if gain is None:
        return "-"
    return {"better": f"**{gain.text}**", "worse": f"▼ {gain.text}"}.get(gain.verdict, gain.text)


def _curves(board: Standings, one: Curves, pictures: Mapping[str, str]) -> list[str]:
    """The section on one chart: its picture, its numbers, and what belongs to its kind."""
    if one.kind == "layers":  # trunks differ in depth: one cell for all blocks
        header = ["line", f"{one.y} at each depth"]
        body = [[line.title, ", ".join(p.text for p in points)] for line, points in one.drawn]
    else:
        columns = list(dict.fromkeys(p.words for _, points in one.drawn for p in points))
        header = [one.y, *columns]
        body = [
            [line.title, *({p.words: p.text for p in points}.get(c, "-") for c in columns)]
            for line, points in one.drawn
        ]
    parts = [
        f"## {one.title}, {KINDS[one.kind]}",
        _image(f"{one.y} by {one.x}", pictures[one.name]),
        *filter(None, [one.choice and f"{one.choice}."]),
        grid(header, body),
    ]
    if one.kind == "labels":
        parts.append(f"{chosen_words(board, one.measure)}.")
    if one.kind == "labels" and (saving := saved_labels(board, one.measure)):
        parts += [f"{saved_words(board, one.measure)}:", grid(saving[0], saving[1:])]
    if one.kind == "cost":
        parts += [f"{COST}:", grid(*cost(board, one.measure))]
    return parts


def _about(line: Line) -> str:
    said = " ".join(f"{key}={json.dumps(value)}" for key, value in line.recipe.pretrain.items())
    options = " ".join(f"{key}={value}" for key, value in line.recipe.options.items())
    text = [
        f"### {_plain(line.title)}",
        f"- Paper: {line.recipe.paper}",
        f"- Cost: {line.recipe.cost}",
        f"- Expected: {line.recipe.expected}",
    ]
    text += [f"- {took}"] if (took := time_taken(line)) else []
    text += [f"- Command: `{line.recipe.command}`", *([f"- Overrides: `{said}`"] if said else [])]
    text += [f"- Options of the floor: `{options}`"] if options else []
    return "\n".join([text[0], "", *text[1:]])


def time_taken(line: Line) -> str:
    """How long pretraining took, over seeds: "Took: 308 to 452 processor seconds"; "" if nobody counted."""
    counted = ((one["pretraining"] or {}).get("processor_seconds") for one in line.records.values())
    if not (spent := [seconds for seconds in counted if seconds]):
        return ""
    low, high = f"{min(spent):,.0f}", f"{max(spent):,.0f}"
    return f"Took: {low if low == high else f'{low} to {high}'} processor seconds"


def _image(alt: str, file: str) -> str:
    return f"![{alt}]({file})"


def _plain(text: object) -> str:
    """Text that Markdown shows as it is, inside a cell too."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")


def grid(header: Sequence[str], body: Sequence[Sequence[str]], rest: str = "---:") -> str:
    """A table in Markdown. rest: the rule below the header of each column after the first; "---:" aligns
    them to the right, "---" to the left."""

    def one(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(_plain, cells)) + " |"

    return "\n".join([one(header), one(["---", *[rest] * (len(header) - 1)]), *map(one, body)])
