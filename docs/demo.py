"""Writes what the README shows of the demo: its tables as printed, and docs/demo.svg of the same figures.

`python docs/demo.py [FOLDER]` runs the demo into FOLDER (a temporary one), in 2 to 6 minutes on 2 cores.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt

from ssl_zoo.cli.demo_parts import Outcome, run
from ssl_zoo.cli.demo_plots import STYLE, efficiency, save

REPOSITORY = Path(__file__).resolve().parents[1]
README, PICTURE = REPOSITORY / "README.md", REPOSITORY / "docs/demo.svg"
PART = re.compile(r"<!-- demo -->\n.*?<!-- end of demo -->", re.DOTALL)


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        began = time.perf_counter()
        outcomes = run(Path(sys.argv[1] if len(sys.argv) > 1 else made))
        minutes = (time.perf_counter() - began) / 60
        draw(outcomes, PICTURE)
    readme = README.read_text(encoding="utf-8")
    README.write_text(PART.sub(lambda _: block(outcomes, minutes), readme), encoding="utf-8")
    print(f"written: {README}, {PICTURE}")


def block(outcomes: Sequence[Outcome], minutes: float) -> str:
    """What the README says, between its two marks."""
    tables = "\n\n".join(outcome.text() for outcome in outcomes)
    return (
        "<!-- demo -->\n"
        f"What `make demo` printed at the end, after {minutes:.1f} minutes on 2 cores (the text half reads "
        "pieces of\nPython's own standard library):\n\n"
        f"```text\n{tables}\n```\n<!-- end of demo -->"
    )


def draw(outcomes: Sequence[Outcome], file: Path) -> None:
    """The accuracies by labels per class, a panel for each modality."""
    with plt.rc_context({**STYLE, "svg.fonttype": "path", "svg.hashsalt": "ssl-zoo"}):
        figure, grid = plt.subplots(1, len(outcomes), figsize=(14, 4.2), layout="constrained")
        for axes, outcome in zip(grid, outcomes, strict=True):
            efficiency(axes, outcome)
        save(figure, file)


if __name__ == "__main__":
    main()
