"""What pretraining is worth: what a line gains over a floor, and the labels that it saves.

Seeds draw labels, weights and batches, and the same labels for every line. So scores are compared seed by
seed, and an interval is that of the differences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ssl_zoo.leaderboard.curves import by_labels, classes, longer
from ssl_zoo.leaderboard.standings import Cell, Line, Standings, format_point, in_order
from ssl_zoo.transfer.efficiency import Saved, labels_saved
from ssl_zoo.transfer.report import interval, metric

# How texts name each kind of floor (`board.FLOORS`), and how it is compared.
WORDS = {
    "random": "random weights of the same network",
    "pixels": "raw pixels",
    "tfidf": "TF-IDF",
    "ppmi_svd": "word vectors by PPMI and SVD",
    "word2vec": "gensim's word2vec",
}
HOW = {
    "random": "under the same protocol (fine-tuned: with one learning rate for all layers and the head from "
    "zero, in as many steps unless a line of the table says otherwise)",
    "pixels": "under the same protocol",
    "tfidf": "on which a logistic regression (for similarity, the cosine) had the same labels",
    "ppmi_svd": "under the same protocol",
    "word2vec": "under the same protocol",
}


class Gain(NamedTuple):
    """A score less that of a floor, in the unit of its metric (points, of percentages); more is better.

    Attributes:
        low, high: the 95 % interval of the mean difference; None with fewer than two seeds in common.
        text: "+1.2 ± 0.3", for people.
    """

    mean: float
    low: float | None
    high: float | None
    text: str

    @property
    def verdict(self) -> str:
        """ "better" or "worse" where the interval lies on one side of 0, else ""."""
        if self.low is None or self.high is None:
            return ""
        return "better" if self.low > 0 else "worse" if self.high < 0 else ""


class Comparison(NamedTuple):
    """What is gained at one point of a measure.

    Attributes:
        title: of the measure, with the point where it has several.
        point: labels and steps.
        gains: name of a pretrained line that was measured there -> its gain.
    """

    title: str
    point: tuple[Any, Any]
    gains: dict[str, Gain]


def gains(board: Standings, floor: str) -> list[Comparison]:
    """What every pretrained line gains over a kind of floor, in the order of the measures.

    Random weights are those of the same trunk. Under fine-tuning they train from scratch, and also for longer
    (`scratch_of`). Left out are measures that the floor lacks, and metrics of which neither more nor less is
    better.
    """
    found: list[Comparison] = []
    for measure, words in board.measures.items():
        if "scratch_of" in words:
            continue
        found += _compared(board, floor, measure, measure)
        for name in longer(board, measure) if floor == "random" else ():
            found += _compared(board, floor, measure, name)
    return found


def leads(board: Standings, floor: str) -> dict[str, Gain]:
    """What pretrained lines gain over a kind of floor by the primary measure, at the point that ranks."""
    points = {(cell.labels, cell.steps) for line in board.lines if (cell := line.headline(board.primary))}
    found = _compared(board, floor, board.primary, board.primary)
    return next((one.gains for one in found if one.point in points), {})


def _compared(board: Standings, floor: str, measure: str, against: str) -> Iterator[Comparison]:
    """The points of a measure, each held against the same point of the measure `against` of the floor."""
    cells = [cell for line in board.lines for cell in line.cells.get(measure, ())]
    points = in_order(cell for cell in cells if metric(cell.metric).scored)
    for point in points:
        found = {}
        for line in board.lines:
            ours = _at(line, measure, point)
            floors = _floors(board, floor, line)
            theirs = next((cell for one in floors if (cell := _at(one, against, point))), None)
            if line.role == "pretrained" and ours and theirs and (gain := difference(ours, theirs)):
                found[line.name] = gain
        if found:
            title = board.label(measure) + (f", {format_point(*point)}" if len(points) > 1 else "")
            title += "" if measure == against else f" (less “{board.label(against)}”)"
            yield Comparison(title, point, found)


def lines_of(board: Standings, found: Sequence[Comparison]) -> list[Line]:
    """The lines that comparisons are about, in the order of the board."""
    return [line for line in board.lines if any(line.name in one.gains for one in found)]


def _at(line: Line, measure: str, point: tuple[Any, Any]) -> Cell | None:
    cells = line.cells.get(measure, ())
    return next((cell for cell in cells if (cell.labels, cell.steps) == point), None)


def _floors(board: Standings, kind: str, line: Line) -> list[Line]:
    """The floors of a kind that a line can be held against, best first; [] where the board has none."""
    lines = [one for one in board.lines if one.recipe.floor == kind]
    return [one for one in lines if one.trunk == line.trunk] if kind == "random" else lines


def difference(ours: Cell, theirs: Cell) -> Gain | None:
    """The gain of one cell over another, over the seeds that both have; None where there are none."""
    shown = metric(ours.metric)
    other = dict(zip(theirs.seeds, theirs.values, strict=True))
    sign = -shown.factor if shown.lower else shown.factor
    values = [
        sign * (value - other[seed])
        for seed, value in zip(ours.seeds, ours.values, strict=True)
        if seed in other
    ]
    if not values:
        return None
    mean = sum(values) / len(values)
    low, high = interval(values) or (None, None)
    half = "" if low is None or high is None else f" ± {(high - low) / 2:.{shown.digits}f}"
    return Gain(mean, low, high, f"{mean:+.{shown.digits}f}{half}")


def saved(board: Standings, measure: str) -> list[tuple[Line, list[Saved]]]:
    """What pretraining saves in labels, for each pretrained line whose trunk was also trained from scratch.

    Only measures with `protocol: finetune`: probing frozen random weights is no training from scratch. At
    each budget, of all trainings from scratch (see `scratch`) the one that did best on validation counts.
    """
    if board.measures[measure].get("protocol") != "finetune" or classes(board, measure) is None:
        return []
    best: dict[Any, dict[float, Cell]] = {}  # by trunk and labels
    for line, labels, cell in scratch(board, measure):
        known = best.setdefault(line.trunk, {}).get(labels)
        if known is None or (cell.validation or 0) > (known.validation or 0):
            best[line.trunk][labels] = cell
    found = []
    for line in board.lines:
        ours = [(labels, _shown(cell)) for labels, cell in by_labels(board, line, measure)]
        theirs = [(labels, _shown(cell)) for labels, cell in sorted(best.get(line.trunk, {}).items())]
        if line.role == "pretrained" and len(ours) > 1 and len(theirs) > 1:
            found.append((line, labels_saved(ours, theirs)))
    return found


def scratch(board: Standings, measure: str) -> Iterator[tuple[Line, float, Cell]]:
    """Every training from scratch that a fine-tuning measure can be held against, with its labels per class.

    These are random weights in as many steps and in more of them, and the references, which trained with all
    labels for as long as others pretrained.
    """
    for line in board.lines:
        if line.recipe.floor == "random":
            for name in (measure, *longer(board, measure)):
                for labels, cell in by_labels(board, line, name):
                    yield line, labels, cell
        elif line.role == "reference":
            for labels, cell in by_labels(board, line, measure):
                if cell.labels is None:
                    yield line, labels, cell


def _shown(cell: Cell) -> float:
    return metric(cell.metric).factor * cell.mean
