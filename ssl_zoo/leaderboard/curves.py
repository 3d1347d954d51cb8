"""Curves of a board, one for each of its lines: scores over labels, depth and the cost of stage 2."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from ssl_zoo.leaderboard.standings import Cell, Line, Record, Standings, format_point
from ssl_zoo.transfer.report import Metric, interval, metric


class Point(NamedTuple):
    """A point of a curve, in the units in which the page shows them.

    Attributes:
        low, high: the 95 % interval of y; both are y where there is one seed.
        text: y with its interval, for people.
        words: what the point is, such as its label budget.
    """

    x: float
    y: float
    low: float
    high: float
    text: str
    words: str


Drawn = list[tuple[Line, list[Point]]]  # in the order of the board


# More curves than MOST in one picture cannot be told apart. Then it has the best line of each of so many
# objectives, the best of each kind of floor, and so many references.
MOST, OBJECTIVES, REFERENCES = 12, 6, 2
FEW = f"the best of each of {OBJECTIVES} objectives and each kind of floor, and up to {REFERENCES} references"
# How a title names each kind of curve.
KINDS = {"labels": "by labels", "layers": "by depth", "cost": "by the cost of stage 2"}


class Curves(NamedTuple):
    """The curves of one chart.

    Attributes:
        kind: "labels", "layers" or "cost".
        title: of the measure, and of the part.
        x, y: titles of the axes.
        drawn: the lines that have points, with these.
        everything: the x of "all labels"; None where no line has such a point.
        part: which of several charts of one measure this is; "" where it has one of this kind.
    """

    kind: str
    measure: str
    title: str
    x: str
    y: str
    drawn: Drawn
    everything: float | None = None
    part: str = ""

    @property
    def name(self) -> str:
        """What files and elements of a page call the chart."""
        return "-".join(filter(None, (self.kind, self.measure, self.part)))

    @property
    def pictured(self) -> Drawn:
        """The curves of the picture: of `drawn` those of `few` lines, where those of one point come last."""
        longest_first = sorted(self.drawn, key=lambda one: len(one[1]) == 1)
        kept = {line.name for line in few([line for line, _ in longest_first])}
        return [(line, points) for line, points in self.drawn if line.name in kept]

    @property
    def choice(self) -> str:
        """A sentence on which curves the picture has; "" where it has all."""
        count = len(self.pictured)
        if count == len(self.drawn):
            return ""
        both = len({len(points) == 1 for _, points in self.drawn}) == 2
        last = "; those of one point come last" if both else ""
        return f"{count} of {len(self.drawn)} curves are drawn, {FEW}{last}"


def few(lines: Sequence[Line]) -> list[Line]:
    """The lines that a picture or a summary has: all, or where these would be too many those that `FEW` says.

    lines: in the order of the board, best first, as are those that are given.
    """
    if len(lines) <= MOST:
        return list(lines)
    most = {"pretrained": OBJECTIVES, "reference": REFERENCES}
    found: dict[tuple[str, str], Line] = {}  # by role and kind
    for line in lines:
        kind = {
            "pretrained": str(line.recipe.pretrain.get("objective", "")).removesuffix("_small"),
            "reference": line.name,
            "floor": f"{line.recipe.floor}:{line.name.partition(':')[2]}",  # also what trains it for longer
        }[line.role]
        if sum(role == line.role for role, _ in found) < most.get(line.role, len(lines)):
            found.setdefault((line.role, kind), line)
    return list(found.values())


DEPTH = "depth: blocks passed, as a fraction"
# The diagnostics of every layer, by their names in the details of a result.
DIAGNOSTICS = ("effective_rank", "feature_std", "alignment", "uniformity")


def curves(board: Standings) -> list[Curves]:
    """Every curve that the results of a board hold, in the order of its measures."""
    found: list[Curves] = []
    for measure in board.measures:
        title = board.label(measure)
        cells = [cell for line in board.lines for cell in line.cells.get(measure, ())]
        if not cells or "scratch_of" in board.measures[measure]:  # drawn beside what it is held against
            continue
        score = metric(cells[0].metric).title
        if len({cell.labels for cell in cells}) > 1:
            lines = [(line, _labels(board, line, measure)) for line in board.lines] + _longer(board, measure)
            x = "labels per class" if classes(board, measure) else "labels"
            everything = [
                cell.train / (classes(board, measure) or 1) for cell in cells if cell.labels is None
            ]
            found.append(
                Curves("labels", measure, title, x, score, _drawn(lines), max(everything, default=None))
            )
        if len({cell.steps for cell in cells}) > 1:
            counted = all(cell.flops for cell in cells)
            x = "FLOPs of stage 2" if counted else "seconds of stage 2"
            lines = [(line, _cost(line, measure, counted)) for line in board.lines]
            found.append(Curves("cost", measure, title, x, score, _drawn(lines)))
        if probed := _drawn((line, _probed(line, measure)) for line in board.lines):
            found.append(Curves("layers", measure, title, DEPTH, f"validation {score}", probed))
        for part in DIAGNOSTICS:
            if diagnosed := _drawn((line, _diagnosed(line, measure, part)) for line in board.lines):
                y = metric(part).title
                found.append(Curves("layers", measure, f"{title}: {y}", DEPTH, y, diagnosed, part=part))
    return found


def classes(board: Standings, measure: str) -> int | None:
    """How many classes the data of a measure have, told from a budget per class; None where no budget is per
    class."""
    cells = (cell for line in board.lines for cell in line.cells.get(measure, ()))
    return next((cell.train // cell.labels for cell in cells if isinstance(cell.labels, int)), None)


def longer(board: Standings, measure: str) -> list[str]:
    """Measures that train random weights for longer than a fine-tuning measure trains."""
    return [name for name, words in board.measures.items() if words.get("scratch_of") == measure]


def _longer(board: Standings, measure: str) -> Drawn:
    """The curves of the measures that `longer` names, which stand beside those of the measure."""
    found: Drawn = []
    for name in longer(board, measure):
        for line in board.lines:
            if points := _labels(board, line, name):
                title = f"{line.title}: {board.label(name)}"
                recipe = replace(line.recipe, name=f"{line.name}:{name}", title=title)
                found.append((replace(line, recipe=recipe), points))
    return found


def by_labels(board: Standings, line: Line, measure: str) -> list[tuple[float, Cell]]:
    """Numbers of labels (per class, where some budget of the measure is per class), and for each the cell of
    the longest training."""
    per = classes(board, str(board.measures[measure].get("scratch_of", measure))) or 1
    longest: dict[int, Cell] = {}
    for cell in line.cells.get(measure, ()):
        if cell.train not in longest or (cell.steps or 0) > (longest[cell.train].steps or 0):
            longest[cell.train] = cell
    return [(train / per, cell) for train, cell in sorted(longest.items())]


def _labels(board: Standings, line: Line, measure: str) -> list[Point]:
    return [_point(labels, cell) for labels, cell in by_labels(board, line, measure)]


def _cost(line: Line, measure: str, counted: bool) -> list[Point]:
    cells = line.cells.get(measure, ())
    points = [_point(cell.flops or 0.0 if counted else cell.seconds, cell) for cell in cells]
    return sorted(points)


def _point(x: float, cell: Cell) -> Point:
    shown = metric(cell.metric)
    low, high = cell.interval or (cell.mean, cell.mean)
    y, low, high = (shown.factor * value for value in (cell.mean, low, high))
    return Point(x, y, low, high, cell.text(), format_point(cell.labels, cell.steps))


def _results(line: Line, measure: str, protocol: str) -> list[Record]:
    """The results of a protocol under a measure, one for each seed."""
    return [
        result
        for record in line.records.values()
        for result in record["measures"].get(measure, {}).get("results", ())
        if result["protocol"] == protocol
    ]


def _probed(line: Line, measure: str) -> list[Point]:
    """The validation score of a probe of each depth, with the most labels."""
    results = _results(line, measure, "layers")
    if not results:
        return []
    most = max(one["train"] for one in results)
    results = [one for one in results if one["train"] == most]
    return _layers(
        [one["details"]["curve"] for one in results], metric(results[0]["metric"]), _first(results[0])
    )


def _first(result: Record) -> int:
    """The depth of the first value of a curve: 0 where it is of the mean of the embeddings of a text."""
    return result["details"].get("first", 1)


def _diagnosed(line: Line, measure: str, part: str) -> list[Point]:
    """One of the diagnostics of each depth. The last of its values is left out: it is of the features that
    a probe reads, after all blocks."""
    results = _results(line, measure, "diagnostics")
    if not results:
        return []
    return _layers([one["details"][part][:-1] for one in results], metric(part), _first(results[0]))


def _layers(found: list[list[float]], shown: Metric, first: int) -> list[Point]:
    """Means and intervals at each depth from the first on, from one list of values for each seed; [] where
    seeds have other numbers of blocks."""
    if not found or len({len(values) for values in found}) > 1:
        return []
    points = []
    blocks = len(found[0]) + first - 1
    for block, values in enumerate(zip(*found, strict=True), first):
        mean = sum(values) / len(values)
        low, high = interval(values) or (mean, mean)
        half = "" if len(values) < 2 else f" ± {shown.text((high - low) / 2)}"
        y, low, high = (shown.factor * value for value in (mean, low, high))
        words = f"after block {block} of {blocks}" if block else "mean of the embeddings"
        points.append(Point(block / max(1, blocks), y, low, high, shown.text(mean) + half, words))
    return points


def _drawn(lines: Iterable[tuple[Line, list[Point]]]) -> Drawn:
    return [(line, points) for line, points in lines if points]
