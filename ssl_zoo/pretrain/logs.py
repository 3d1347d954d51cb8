"""The CSV log of a run, read back."""

from __future__ import annotations

import csv
from pathlib import Path

Metrics = dict[str, tuple[list[int], list[float]]]


def read_metrics(run: Path) -> Metrics:
    """All sessions of a run as one: name -> steps and values. A step logged twice counts as the later session
    saw it; a line cut short by a kill does not. A run that has logged nothing yet gives {}."""
    found: dict[str, dict[int, float]] = {}
    versions = sorted((run / "logs" / "csv").glob("version_*"), key=lambda p: int(p.name.split("_")[1]))
    for file in (version / "metrics.csv" for version in versions):
        if not file.exists():  # a session that ended before its first figures
            continue
        with open(file, newline="") as lines:
            for row in csv.DictReader(line for line in lines if line.endswith("\n")):
                for name, value in row.items():
                    if name != "step" and value:
                        found.setdefault(name, {})[int(row["step"])] = float(value)
    return {name: (sorted(at), [at[s] for s in sorted(at)]) for name, at in found.items()}
