"""Thirty minutes of a GPU: everything of this repository that waits for one, the most worth first.

    python benchmarks/gpu/all.py [--out FOLDER] [--minutes 9] [--only STAGE ...] [--tiny]

A stage that FOLDER/results.json holds is not run again, so that the next call, or the next half hour, goes
on; one for which less time is left than it may take is left for then. Each stage is a process of its own,
with a limit and a log beside the results. A stage that needs what is not installed (Hydra, lightly) is left
out, and said to be. --tiny runs all of it on a CPU, small, so that nothing but the hardware is new on the
day; two stages run at a time, and their figures say nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

ROOT = Path(__file__).parents[2]
BOARDS = ROOT / "benchmarks/leaderboard"
IMAGES, TEXTS = "cifar10-resnet18", "text-base"
LINES = (
    *((IMAGES, name) for name in ("vicreg", "lejepa", "simclr", "moco_v3", "dino")),
    *((TEXTS, name) for name in ("masked_lm", "next_token", "simcse")),
)
COMMAND = ("-c", "from ssl_zoo.cli import main; main()")  # where nothing is installed


@dataclass(frozen=True)
class Stage:
    """One thing to find out.

    Attributes:
        name: of its entry in the results, and of its log.
        seconds: that it may take.
        words: OUT, whether it is tiny -> what follows `python`.
        found: OUT -> what the results keep of what it wrote.
        needs: modules without which it is left out.
    """

    name: str
    seconds: float
    words: Callable[[Path, bool], Sequence[str]]
    found: Callable[[Path], Any]
    needs: tuple[str, ...] = ()


def tests(out: Path, tiny: bool) -> Sequence[str]:
    words = ["-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider", f"--junitxml={out / 'tests.xml'}"]
    return [*words, "tests/gpu", *(["-k", "MAE or compile or packed or views"] if tiny else [])]


def outcome_of_tests(out: Path) -> dict[str, Any]:
    """How many passed, and the names of those that did not."""
    cases = list(ET.parse(out / "tests.xml").iter("testcase"))
    failed = [
        one.get("name") for one in cases if one.find("failure") is not None or one.find("error") is not None
    ]
    skipped = sum(one.find("skipped") is not None for one in cases)
    return {"passed": len(cases) - len(failed) - skipped, "skipped": skipped, "failed": failed}


PEERS = {"simclr": ("lightly",), "dino": ("lightly",), "masked_lm": ("transformers", "accelerate")}


def speed(case: str, seconds: float) -> Stage:
    """A case of benchmarks/speed/gpu.py."""

    def words(out: Path, tiny: bool) -> Sequence[str]:
        small = ["--tiny", "--rounds", "1"] if tiny else []
        return ["benchmarks/speed/gpu.py", "--out", str(out / f"speed-{case}.json"), "--only", case, *small]

    return Stage(
        f"speed-{case}",
        seconds,
        words,
        lambda out: json.loads((out / f"speed-{case}.json").read_text())[case],
        PEERS.get(case, ()),
    )


def line(board: str, name: str) -> Stage:
    """One seed of a line of a board for GPUs, in a copy of it that OUT keeps."""

    def words(out: Path, tiny: bool) -> Sequence[str]:
        folder = str(copied(board, out, tiny))
        return [*COMMAND, "leaderboard", "run", folder, name, "seeds=1", f"runs={out / 'runs'}"]

    def found(out: Path) -> dict[str, Any]:
        rows = [json.loads(text) for text in (out / board / "results.jsonl").read_text().splitlines()]
        row = next(row for row in rows if row["line"] == name)
        measures = {key: [one["value"] for one in value["results"]] for key, value in row["measures"].items()}
        return {"measures": measures, "pretraining": row["pretraining"], "hardware": row["hardware"]}

    return Stage(f"{board}-{name}", 540, words, found, ("hydra",))


def copied(board: str, out: Path, tiny: bool) -> Path:
    """A board's recipes in OUT; tiny ones on the digits of scikit-learn."""
    folder, source = out / board, BOARDS / board
    (folder / "recipes").mkdir(parents=True, exist_ok=True)
    for file in (source / "recipes").glob("*.yaml"):
        (folder / "recipes" / file.name).write_text(file.read_text())
    text = (source / "board.yaml").read_text()
    if tiny:
        for old, new in TINY:
            if old not in text:
                raise ValueError(f"{source / 'board.yaml'} has no {old!r}: all.py --tiny replaces it")
            text = text.replace(old, new)
    (folder / "board.yaml").write_text(text)
    return folder


def shakespeare(out: Path, tiny: bool) -> Sequence[str]:
    """One minute of next token at the size of nanoGPT's configuration for a GPU, 10.7 M parameters."""
    how = SMALL if tiny else MINUTE
    return [*COMMAND, "pretrain", "experiment=shakespeare", *how, f"run={out / 'shakespeare'}"]


MINUTE = (
    *("backbone.width=384", "backbone.depth=6", "backbone.heads=6", "backbone.kv_heads=6"),
    *(
        "backbone.dropout=0.2",
        "context=256",
        "batch_size=64",
        "optimizer.lr=1e-3",
        "budget={minutes:1}",
        "evaluate_every=500",
    ),
    *("trainer=gpu", "compile=true"),
)
SMALL = ("data=stdlib", "budget.steps=2", "evaluate_every=0", "context=32", "trainer=cpu", "threads=1")


# What a board for a CPU in seconds has in the place of the real one's.
TINY = (
    ("protocol: label_efficiency", "protocol: linear"),
    ("data: cifar100", "data: digits"),
    ("data: cifar10", "data: digits"),
    ("backbone: resnet18\n", "backbone: resnet_micro\n"),
    ("batch_size: 256", "batch_size: 32"),
    ("budget.epochs: 200", "budget.steps: 2"),
    ("trainer: gpu", "trainer: cpu\n  threads: 1"),
    ("evaluate_every: 1760", "evaluate_every: 0"),
)


STAGES = (
    Stage("tests", 200, tests, outcome_of_tests),
    speed("next_token", 150),
    speed("views", 60),
    speed("simclr", 240),
    speed("dino", 240),
    speed("masked_lm", 200),
    speed("speedrun", 500),
    Stage(
        "shakespeare",
        180,
        shakespeare,
        lambda out: json.loads((out / "shakespeare/summary.json").read_text()),
        ("hydra",),
    ),
    *(line(board, name) for board, name in LINES),
)


PATIENCE = 900.0  # seconds for each stage where all is tiny, on a machine that may have other work
# Where all is tiny, the first line stands for these, whose recipes tests/leaderboard/test_boards.py tries.
ALIKE = {f"{board}-{name}" for board, name in LINES[1:]}


def run(stage: Stage, out: Path, tiny: bool) -> dict[str, Any]:
    """What is kept of a stage: its outcome, or the end of its log where it failed."""
    variables = {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    if tiny:
        variables |= {"SSL_ZOO_GPU_TESTS": "cpu", "OMP_NUM_THREADS": "1"}
    began, most = time.monotonic(), PATIENCE if tiny else stage.seconds
    log = out / f"{stage.name}.log"
    with open(log, "w", encoding="utf-8") as file:
        try:
            code: int | str = subprocess.run(
                [sys.executable, *stage.words(out.resolve(), tiny)],
                cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env=os.environ | variables,
                timeout=most, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            code = f"longer than {most:g} s"
    kept: dict[str, Any] = {"seconds": round(time.monotonic() - began), "code": code}
    try:
        kept["found"] = stage.found(out)
    except (OSError, LookupError, ValueError, StopIteration, ET.ParseError):
        kept["log"] = log.read_text(encoding="utf-8", errors="replace")[-2000:]
    return kept


def card(tiny: bool) -> str:
    """The name of what all of it runs on."""
    if tiny:
        return f"{platform.machine()} CPU, tiny"
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("no GPU is here: --tiny tries everything out on the CPU")
    return torch.cuda.get_device_name()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--minutes", type=float, default=9.0, help="after which no stage begins (9)")
    parser.add_argument("--only", nargs="*", choices=[stage.name for stage in STAGES], help="default: all")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    name, out = card(options.tiny), options.out
    out.mkdir(parents=True, exist_ok=True)
    file = out / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {"card": name, "stages": {}}
    if results["card"] != name:
        raise SystemExit(
            f"{file} is of {results['card']}, and this is {name}: name another folder with --out"
        )
    began, alone = time.monotonic(), Lock()
    end = began + 60 * options.minutes

    def attempt(stage: Stage) -> None:
        if "found" in results["stages"].get(stage.name, {}):
            print(f"{stage.name:<18} done before")
        elif missing := [one for one in stage.needs if importlib.util.find_spec(one) is None]:
            print(f"{stage.name:<18} left out: {', '.join(missing)} is not installed")
        elif (left := end - time.monotonic()) < (stage.seconds if not options.tiny else 0):
            print(
                f"{stage.name:<18} left for later: it may take {stage.seconds:g} s, and {left:.0f} are left"
            )
        else:
            kept = run(stage, out, options.tiny)
            with alone:
                results["stages"][stage.name] = kept
                file.write_text(json.dumps(results, indent=1) + "\n")
            how = "done" if "found" in kept else f"FAILED ({kept['code']})"
            print(f"{stage.name:<18} {how}, {kept['seconds']} s", flush=True)

    names = set(options.only or [stage.name for stage in STAGES]) - (ALIKE if options.tiny else set())
    with ThreadPoolExecutor(2 if options.tiny else 1) as threads:
        list(threads.map(attempt, [stage for stage in STAGES if stage.name in names]))
    print(f"{time.monotonic() - began:.0f} s in all")
    failed = [one for one, kept in results["stages"].items() if kept["code"] != 0 or "found" not in kept]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; see their logs in {out}")


if __name__ == "__main__":
    main()
