"""The faults that are injected, and docs/reliability.md, which shows them: python tests/faults/table.py

A test that injects a fault carries the mark `fault(ROW, how="in which way")`. The page is made from them
(read from the sources, so nothing is imported) and from docs/torture.json, which `make torture` writes.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parents[2]
PAGE = HERE / "docs/reliability.md"


class Row(NamedTuple):
    """A fault, and what is right."""

    fault: str
    expected: str


# In the order of section 8 of the survey that the library was built by.
ROWS = {
    "kill": Row(
        "SIGKILL within a step, validation or save, also twice",
        "resumes; weights, optimizer and log as undisturbed, by SHA-256",
    ),
    "workers": Row("Resumed with another number of workers", "the same to the bit"),
    "world": Row(
        "Resumed with another number of processes",
        "the same batches; weights equal to 1e-9 in double precision",
    ),
    "boundary": Row(
        "Resumed at the boundary of an epoch, with workers",
        "the batches of the next epoch, not of the first; the same to the bit",
    ),
    "accumulation": Row(
        "Killed within an accumulated step", "starts again at the last whole step; the same to the bit"
    ),
    "teacher": Row(
        "A teacher, and a checkpoint at every step",
        "the teacher saved is the average of the students up to the same step",
    ),
    "sigterm": Row(
        "SIGTERM or Ctrl-C: to one process, to rank 0, rank 1, all, or twice",
        "one whole checkpoint, exit 143 (130 for Ctrl-C), no hang",
    ),
    "rank": Row("One process of two raises or is killed", "all end with an error, before any timeout"),
    "damaged": Row(
        "Newest checkpoint truncated, empty, a bit flipped, or without its sidecar",
        "a warning, and the next older one is used",
    ),
    "all damaged": Row("All checkpoints damaged", "an error; never a fresh start in silence"),
    "disk": Row(
        "Disk full, folder not writable, $TMPDIR on another file system",
        "what was there stays whole; an error that names the path",
    ),
    "late save": Row(
        "A save that fails late",
        "exit code 1 at once, or at the next checkpoint with save_async=true; older ones kept",
    ),
    "changed": Row("Data, seed or settings changed before resuming", "refused, with the difference"),
    "pickle": Row("A checkpoint that is a malicious pickle, or an address", "refused, no code run"),
    "target": Row("A configuration or a model that names code to run", "refused, no code run"),
    "archive": Row(
        "Archives with ../, links, absolute names, cut off, or that claim to be huge",
        "nothing is written outside; nothing half-read is kept",
    ),
    "huge image": Row("Images of 169 or 400 megapixels", "refused by their header, with the path"),
    "image": Row(
        "Truncated, empty and false images; CMYK, 16 bits, LA, GIF, turned by EXIF",
        "unreadable ones follow on_bad_sample, all others become RGB",
    ),
    "few rows": Row(
        "No rows, fewer than a batch, no validation rows", "an error before training that gives the counts"
    ),
    "one sample": Row(
        "A class of one sample",
        "an error where it cannot be in every split, else a warning when it is measured",
    ),
    "small image": Row(
        "An image smaller than a patch, or one that does not divide into patches",
        "an error with the sizes and one that works",
    ),
    "text": Row(
        "Text that is not UTF-8, is empty, has NULs, or is shorter than a context",
        "an error with file, offset or length",
    ),
    "dead worker": Row(
        "A loader's worker is killed by the system",
        "exit code 1, a message that says what to do, and the run can go on",
    ),
    "nan": Row(
        "The loss is NaN in one step, on one of two processes", "all stop; the last checkpoint is finite"
    ),
    "constant": Row("Features that collapse to one point", "a warning when they are next looked at"),
    "wrong gather": Row(
        "A gather whose gradient forgets the other processes", "the test that two processes equal one fails"
    ),
    "uneven": Row("Rows that do not divide among processes", "refused, or left out; no hang"),
    "misspelt": Row(
        "A misspelt key, group, value or type",
        "exit code 1, the full key and a suggestion, in less than 5 seconds",
    ),
    "wheel": Row("The wheel alone, from /, site-packages read-only, without a home or a network", "works"),
    "two runs": Row(
        "Two runs in one folder, two runs in one process",
        "the second is refused; in folders of their own, both are as if alone",
    ),
    "logger": Row("A logger that cannot write", "a warning, and training goes on"),
    "clock": Row("The clock goes backwards", "the run ends, its weights the same to the bit"),
    "start method": Row("Workers that are forked or spawned", "the same to the bit"),
    "shared memory": Row(
        "/dev/shm too small for the workers' batches", "exit code 1 and a message that says what to do"
    ),
    "stream": Row(
        "Shards and texts on a server that is silent, breaks off or is gone, or that are damaged or change",
        "asked again, five times in all; else an error with the address, and nothing half-written",
    ),
}
SURVEYED = 31  # rows of the survey; what follows was added here

NOT_COVERED = """\
- A GPU. Those tests that need one (tests/gpu) inject no faults: NCCL, CUDA's own nondeterminism and the
  device are not covered.
- Machines that fail. All processes are of one machine; a network that drops packets or a node that
  vanishes is seen only as a process that was killed.
- Downloads by others. torchvision and the Hugging Face hub check what they fetch in their own way. Streams
  are fetched from a web server in a thread of the test; S3 and the like are other packages of fsspec.
- Power cuts. Files are synced before they are renamed into place, and the tests kill processes before
  each such operation, but no test cuts the power of a disk.
"""


class Injection(NamedTuple):
    row: str
    how: str
    test: str  # path::name, from the root of the repository


def injections(folder: Path = HERE / "tests") -> list[Injection]:
    """All marks `fault(row, how)` on tests, by file and line."""
    found = []
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
                    row, how = (ast.literal_eval(part) for part in (*mark.args, mark.keywords[0].value))
                    found.append(Injection(row, how, f"{path.relative_to(HERE)}::{node.name}"))
    return found


def campaign(file: Path = HERE / "docs/torture.json") -> str:
    """What `make torture` printed last."""
    if not file.exists():
        return "`make torture` has not been run yet.\n"
    last = json.loads(file.read_text())
    lines = [
        f"Last run on {last['date']} (commit {last['commit'][:10]}, seed {last['seed']}): "
        f"**{last['survived']} of {last['tried']} trials survived** {last['kills']} kills; "
        f"left behind: {', '.join(last['left']) or 'nothing'}.\n",
        "| what was killed | survived | tried |\n|---|--:|--:|",
    ]
    lines += [f"| {kind} | {n['survived']} | {n['tried']} |" for kind, n in last["kinds"].items()]
    return "\n".join(lines) + "\n"


def page() -> str:
    """docs/reliability.md."""
    found = injections()
    lines = []
    for number, (key, row) in enumerate(ROWS.items(), 1):
        here = [one for one in found if one.row == key]
        lines.append(f"## {number}. {row.fault}\n\nExpected: {row.expected}.\n")
        lines += [f"- {one.how} (`{one.test.removeprefix('tests/')}`)" for one in here]
        lines.append("")
    table = "\n".join(lines)
    return f"""\
# What is done to it, and what it does

Written by `python tests/faults/table.py` from the marks of the tests; do not edit. Paths are relative to
`tests/`. Faults {SURVEYED + 1} to {len(ROWS)} were added to the {SURVEYED} of the survey that the library was
built by. In all, {len(found)} tests inject {len(ROWS)} faults, and all run in continuous integration.

{table}
## Killed at random: make torture

Pretraining, evaluation, fine-tuning and a leaderboard are killed by SIGKILL, at random moments and before
random operations on files, with a fresh and a warm cache, and run again to the end. A trial survives if
all that it made is what an undisturbed run makes (weights, optimizer and tokenizer by SHA-256; results
without times), and if nothing is left behind.

{campaign()}
## What is not covered

{NOT_COVERED}"""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    missing = set(ROWS) - {one.row for one in injections()}
    sys.exit(f"no test injects {', '.join(sorted(missing))}" if missing else 0)
