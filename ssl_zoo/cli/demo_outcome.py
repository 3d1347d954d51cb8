"""What a part of the demo found: its table, and the JSON behind it."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from ssl_zoo.backbones._base import Backbone
from ssl_zoo.compose import evaluation
from ssl_zoo.pretrain.checkpoint import write_atomically
from ssl_zoo.transfer.report import Result, interval, table

SCRATCH, TUNED = "from scratch, fine-tuned", "pretrained, fine-tuned"


@dataclass(frozen=True)
class Part:
    """One modality: the words of its two commands, and the label budgets per class."""

    name: str
    pretrain: tuple[str, ...]
    transfer: tuple[str, ...]
    labels: tuple[int, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """What a part found. results: (name of the row, result), budget by budget."""

    part: Part
    run: Path
    backbone: Backbone
    splits: evaluation.Splits
    results: list[tuple[str, Result]]

    @property
    def objective(self) -> str:
        """The class of the objective."""
        return json.loads((self.run / "summary.json").read_text())["objective"]

    def named(self, name: str) -> list[Result]:
        """The results of one row of the table, by budget."""
        return [result for row, result in self.results if row == name]

    def gains(self) -> list[tuple[float, float]]:
        """Pretrained minus from scratch, both fine-tuned: mean and half the 95 % interval, by budget.

        A seed draws the same labels for both, so the interval is that of the differences."""
        found = []
        for tuned, scratch in zip(self.named(TUNED), self.named(SCRATCH), strict=True):
            differences = [a - b for a, b in zip(tuned.values, scratch.values, strict=True)]
            low, high = interval(differences) or (float("nan"), float("nan"))
            found.append((sum(differences) / len(differences), (high - low) / 2))
        return found

    def text(self) -> str:
        """The table."""
        names = list(dict.fromkeys(name for name, _ in self.results))
        rows = [(name, *(result.text() for result in self.named(name))) for name in names]
        rows.append(
            ("gain of pretraining, fine-tuned", *(f"{100 * m:+.1f} ± {100 * h:.1f}" for m, h in self.gains()))
        )
        test = self.splits.test
        title = (
            f"{self.part.name.upper()}: test accuracy in %, mean ± 95 % interval over "
            f"{len(self.part.seeds)} seeds ({len(test):,} rows, {len(test.classes)} classes)"
        )
        return title + "\n" + table(("labels per class", *map(str, self.part.labels)), rows)


def write(outcome: Outcome, file: Path, seed: int) -> None:
    """The table with everything that is behind it, as JSON."""
    report = {
        "data": outcome.part.transfer[0].removeprefix("data="),
        "pretraining": command("pretrain", [*outcome.part.pretrain, f"run={outcome.run}", f"seed={seed}"]),
        "fingerprints": {name: rows.fingerprint for name, rows in outcome.splits._asdict().items()},
        "gains": [
            {"labels": labels, "mean": mean, "half_interval": half}
            for labels, (mean, half) in zip(outcome.part.labels, outcome.gains(), strict=True)
        ],
        "results": [{"name": name} | result.as_dict() for name, result in outcome.results],
    }
    write_atomically(file, json.dumps(report, indent=1).encode())


def command(verb: str, words: list[str]) -> str:
    """A command line that a shell takes."""
    return shlex.join(["ssl-zoo", verb, *words])


def spelt(numbers: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, numbers))}]"
