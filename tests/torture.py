"""Kill the command at random moments, run it again, and compare with a run that nobody touched.

    make torture            100 trials; SEED=3 draws others, KILLS=20 fewer
    python tests/torture.py --only 17

Every trial is one of KINDS, with a fresh or a warm cache. It dies by SIGKILL once or twice, at a random
moment or before a random operation on files, and is then run to its end. It survives if that run exits with
0, if all that it made is what an undisturbed one makes (weights, optimizer and tokenizer by SHA-256; JSON
without times), and if no file lies about that an undisturbed one does not leave. Trial N of a seed is
always the same. A campaign that was interrupted goes on where it stopped, as long as the code is the same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import image_files
import numpy as np
import tiny
import torch
import yaml

HERE = Path(__file__).parents[1]
RESULT = HERE / "docs/torture.json"
PRETRAIN = ("trainer=cpu", "run=run", "budget.steps=24", "save_every=5", "log_every=2", "evaluate_every=8")
IMAGES = (
    *("batch_size=16", "data=image_folder", "data.train={root}/photos"),
    *("data.image_size=8", "data.test_fraction=0.2"),
)
VIT = ("backbone=vit_micro", "backbone.depth=1", "backbone.embed_dim=16", "backbone.num_heads=2")
TEXT = (
    *("data=text_files", "data.train={root}/text.txt", "tokenizer.size=300", "context=16", "batch_size=8"),
    *("backbone=transformer_micro", "backbone.width=16", "backbone.depth=1", "backbone.heads=2"),
)
# What the command is given, and what the folder holds before: a run, or a board.
KINDS: dict[str, tuple[str, ...]] = {
    "pretrain rotation": ("pretrain", "objective=rotation", "backbone=resnet_micro", *IMAGES, *PRETRAIN),
    "pretrain simclr": ("pretrain", "objective=simclr_small", *VIT, *IMAGES, *PRETRAIN, "workers=2"),
    "pretrain mae": ("pretrain", "objective=mae_small", *VIT, *IMAGES, *PRETRAIN),
    "pretrain next_token": ("pretrain", "objective=next_token", *TEXT, *PRETRAIN),
    "pretrain masked_lm": ("pretrain", "objective=masked_lm", *TEXT, *PRETRAIN),
    "evaluate": ("evaluate", "run=run", "device=cpu", "floors=true", "labels=[2,null]", *IMAGES[1:]),
    "finetune": (
        *("evaluate", "run=run", "device=cpu", "protocol=finetune", "protocol.steps=20", "labels=5"),
        *("protocol.lrs=[1e-3]", "protocol.batch_size=8", "seeds=[0,1]", *IMAGES[1:]),
    ),
    "leaderboard run": ("leaderboard", "run", "board", "runs=runs"),
}
BOARD = {
    "title": "A board to be killed",
    "about": "Small.",
    "hardware": "any",
    "seeds": [0],
    "primary": "linear",
    "fixed": {"data": "digits", "data.image_size": 8, "trainer": "cpu", "threads": 1, "save_every": 3},
    "measures": {
        name: {"title": name, "data": "digits", "data.image_size": 8, "protocol": name}
        for name in ("linear", "knn")
    },
}
ROTATION = {"objective": "rotation", "backbone": "resnet_micro", "batch_size": 16, "budget.steps": 10}
RECIPES: dict[str, dict[str, Any]] = {
    "rotation": {"pretrain": ROTATION},
    "random": {"floor": "random", "pretrain": {"backbone": "resnet_micro"}},
}


class Undisturbed(NamedTuple):
    """What a kind makes in `seconds` when nobody kills it: products, files and file operations."""

    seconds: float
    operations: int
    products: dict[str, str]
    files: set[str]


# In the process that dies


def mortal(folder: Path, cache: Path, words: tuple[str, ...], note: Path, at: int) -> None:
    """`ssl-zoo WORDS` that dies before file operation number `at` (-1: never), and notes which one it was."""
    torch.set_num_threads(1)
    seen, me = 0, os.getpid()

    def watch(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        if os.getpid() == me and touches(event, args) and within(args[0], folder, cache):
            if seen == at:
                note.write_text(f"{event} {os.path.relpath(args[0], folder.parent)}")
                tiny.die()
            seen += 1

    sys.addaudithook(watch)
    try:
        tiny.called(folder, cache, words)
    finally:
        seen, total = -1_000_000, seen
        note.write_text(str(total))


def touches(event: str, args: tuple[Any, ...]) -> bool:
    """Whether an audit event of Python's changes files."""
    if event == "open":
        return bool((args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink")


def within(path: Any, *folders: Path) -> bool:
    if not isinstance(path, (str, os.PathLike)):
        return False
    return any(Path(os.path.abspath(path)).is_relative_to(folder) for folder in folders)


# What a run has made


def products(folder: Path) -> dict[str, str]:
    """SHA-256 of everything that must not depend on kills, by file."""
    found = {}
    for name in sorted(files(folder)):
        path = folder / name
        if path.suffix == ".ckpt":
            state = torch.load(path, weights_only=True)
            found[name] = tiny.sha256([state["state_dict"], state["optimizer_states"], state["global_step"]])
        elif path.suffix == ".jsonl":
            rows = [timeless(json.loads(line)) for line in path.read_text().splitlines()]
            found[name] = digest({f"{row['row']} {row['seed']}": row for row in rows})
        elif path.suffix == ".json" and path.name not in ("environment.json", "processor_seconds.json"):
            if not path.with_suffix(".ckpt").exists():  # a sidecar holds a digest of a file with times in it
                found[name] = digest(timeless(json.loads(path.read_text())))
        elif path.suffix in (".safetensors", ".yaml"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def timeless(value: Any) -> Any:
    """Nested JSON without what a clock said, and the commit, which may change meanwhile."""
    if isinstance(value, list):
        return [timeless(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        k: timeless(v) for k, v in value.items() if not re.search("second|finished|started|cost|^commit$", k)
    }


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def files(*folders: Path) -> set[str]:
    """All that lies there except logs, of which every session has its own; process numbers left out."""
    return {
        re.sub(r"\.\d+\.(part|old|lock)$", r".PID.\1", str(path.relative_to(folder)))
        for folder in folders
        for path in folder.rglob("*")
        if not (path.is_dir() and any(path.iterdir()))  # an empty folder counts as well
        and "logs" not in path.relative_to(folder).parts
        and path.suffix != ".log"
    }


# The campaign


class Campaign:
    """root: where it works. All trials of a seed can be drawn again, each by its number."""

    def __init__(self, root: Path, seed: int):
        self.root, self.seed = root, seed
        self.known: dict[str, Undisturbed] = {}

    def prepare(self) -> None:
        """Data, a run to evaluate, and every kind left alone; in a place of its own."""
        shutil.rmtree(self.root, ignore_errors=True)
        image_files.folder(self.root / "photos", {"cat": 60, "dog": 60}, size=8)
        lines = np.random.default_rng(0).integers(0, 500, (80, 9))
        (self.root / "text.txt").write_text("\n\n".join(" ".join(map(str, line)) for line in lines))
        self.write_board(self.root / "board")
        for kind in KINDS:
            folder, cache = self.folder("undisturbed", kind), self.root / "warm" / kind
            note, began = self.root / f"{kind}.note", time.monotonic()
            code, log = tiny.forked(self.root / "log", mortal, folder, cache, self.words(kind), note, -1)
            if code:
                sys.exit(f"{kind} fails without any kill:\n{log}")
            seconds, operations = time.monotonic() - began, int(note.read_text())
            self.known[kind] = Undisturbed(seconds, operations, products(folder), files(folder, cache))
            print(f"{kind}: {seconds:.1f} s, {operations} operations on files, undisturbed", flush=True)

    def write_board(self, folder: Path) -> None:
        (folder / "recipes").mkdir(parents=True)
        (folder / "board.yaml").write_text(yaml.safe_dump(BOARD, sort_keys=False))
        for name, recipe in RECIPES.items():
            head = f"# {name}.\n# Paper: none\n# Cost: seconds\n# Expected: nothing\n"
            head += f"# Command: ssl-zoo leaderboard run {BOARD['title']} {name}\n"
            (folder / "recipes" / f"{name}.yaml").write_text(head + yaml.safe_dump(recipe, sort_keys=False))

    def words(self, kind: str) -> tuple[str, ...]:
        return tuple(word.format(root=self.root) for word in KINDS[kind])

    def folder(self, name: str, kind: str) -> Path:
        """A folder in which `kind` can be called."""
        folder = self.root / name / kind
        folder.mkdir(parents=True)
        if kind in ("evaluate", "finetune"):
            shutil.copytree(self.root / "undisturbed/pretrain mae/run", folder / "run")
        if kind == "leaderboard run":
            shutil.copytree(self.root / "board", folder / "board")
        return folder

    def start(self, name: str, kind: str, warm: bool) -> tuple[Path, Path]:
        """The folder and the cache of a trial, as they are before its first session."""
        shutil.rmtree(self.root / name, ignore_errors=True)
        folder, cache = self.folder(name, kind), self.root / name / "cache"
        if warm:
            shutil.copytree(self.root / "warm" / kind, cache)
        return folder, cache

    def trial(self, number: int) -> dict[str, Any]:
        """Killed, resumed and compared: what was done to it, and what is wrong with it afterwards."""
        draw, began = random.Random(f"{self.seed}-{number}"), time.monotonic()
        kinds = list(KINDS)
        kind, warm = kinds[number % len(kinds)], number // len(kinds) % 2 == 1
        known, name = self.known[kind], f"trial-{number}"
        folder, cache = self.start(name, kind, warm)
        deaths = []
        for _ in range(draw.choice((1, 1, 1, 2))):
            # The second session may have less to do, and end before it dies: then it is killed earlier.
            for share in (1.0, 0.5, 0.2, 0.05):
                if death := self.kill(draw, share, known, folder, cache, kind):
                    deaths.append(death)
                    break
                if not deaths:  # it is finished, and nothing is left to kill
                    folder, cache = self.start(name, kind, warm)
        log = self.root / name / "log"
        code, printed = tiny.forked(log, tiny.called, folder, cache, self.words(kind))
        wrong = [] if code == 0 else [f"exit {code}: {printed[-1500:]}"]
        if not deaths:
            wrong.append("it could not be killed")
        made = products(folder) if code == 0 else {}
        for file in sorted({*made, *known.products}) if code == 0 else ():
            if file not in made:
                wrong.append(f"{file} is not there")
            elif file not in known.products:
                wrong.append(f"{file} is not made by an undisturbed run")
            elif made[file] != known.products[file]:
                wrong.append(f"{file} differs")
        left = sorted(files(folder, cache) - known.files)
        if not wrong and not left:
            shutil.rmtree(self.root / name)
        return {
            "trial": number,
            "kind": kind,
            "cache": "warm" if warm else "fresh",
            "deaths": deaths,
            "wrong": wrong,
            "left": left,
            "seconds": round(time.monotonic() - began, 1),
        }

    def kill(
        self, draw: random.Random, share: float, known: Undisturbed, folder: Path, cache: Path, kind: str
    ) -> str | None:
        """Start a session and kill it; None where it had ended before."""
        note = folder.parent / "note"
        note.unlink(missing_ok=True)
        by_file = draw.random() < 0.5
        at = draw.randrange(max(1, int(known.operations * share))) if by_file else -1
        after = draw.uniform(0.02, 0.95) * known.seconds * share
        log = folder.parent / "killed.log"
        process = tiny.spawn(log, mortal, folder, cache, self.words(kind), note, at)
        if by_file:
            tiny.outcome(process, 300)
            return f"before {note.read_text()}" if process.exitcode == -9 else None
        process.join(after)
        process.kill()
        process.join()
        return f"after {after:.2f} s" if process.exitcode == -9 else None

    def run(self, numbers: list[int], jobs: int) -> Iterator[dict[str, Any]]:
        # Processes, as multiprocessing loses exit codes where threads wait for children at the same time.
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            yield from pool.map(self.trial, numbers)


def state_of_the_code() -> str:
    """A digest of all that a trial runs."""
    sources = [*HERE.glob("ssl_zoo/**/*.py"), *HERE.glob("configs/**/*.yaml"), Path(__file__)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources))).hexdigest()[:12]


def summary(trials: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """What the page about reliability shows."""
    kinds = {kind: [t for t in trials if t["kind"] == kind] for kind in KINDS}
    good = lambda some: sum(not t["wrong"] and not t["left"] for t in some)  # noqa: E731
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False
    )
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip(),
        "seed": seed,
        "kinds": {kind: {"survived": good(some), "tried": len(some)} for kind, some in kinds.items()},
        "survived": good(trials),
        "tried": len(trials),
        "kills": sum(len(t["deaths"]) for t in trials),
        "left": sorted({file for t in trials for file in t["left"]}),
        "seconds": round(sum(t["seconds"] for t in trials)),
    }


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    words.add_argument("--kills", type=int, default=100, help="trials; a whole campaign has 100")
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--jobs", type=int, default=2, help="trials at a time")
    words.add_argument("--only", type=int, help="the number of one trial, to repeat it")
    words.add_argument("--root", type=Path, default=HERE / ".cache/torture")
    given = words.parse_args()
    campaign, code = Campaign(given.root.resolve() / "work", given.seed), state_of_the_code()
    log = given.root / f"seed-{given.seed}-{code}.jsonl"
    numbers = list(range(given.kills)) if given.only is None else [given.only]
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = [trial for trial in done if trial["trial"] in numbers and given.only is None]
    print(
        f"{len(done)} of {len(numbers)} trials were made before: {log}" if done else f"log: {log}", flush=True
    )
    campaign.prepare()
    before = {trial["trial"] for trial in done}
    for trial in campaign.run([n for n in numbers if n not in before], given.jobs):
        done.append(trial)
        with open(log, "a") as file:
            file.write(json.dumps(trial) + "\n")
        verdict = "survived" if not trial["wrong"] and not trial["left"] else "FAILED"
        what = f"{trial['kind']}, {trial['cache']} cache, killed {'; '.join(trial['deaths'])}"
        print(f"{trial['trial']:4d}  {what}  {verdict}  {trial['seconds']:.1f} s", flush=True)
        for line in [*trial["wrong"], *(f"left behind: {file}" for file in trial["left"])]:
            print(f"      {line}", flush=True)
    found = summary(done, given.seed)
    for kind, count in found["kinds"].items():
        print(f"{kind:24} {count['survived']:3d} / {count['tried']}")
    print(f"survived {found['survived']} / {found['tried']} trials, {found['kills']} kills")
    print(f"left behind: {', '.join(found['left']) or 'nothing'}")
    if given.only is None and given.kills >= 100:
        RESULT.write_text(json.dumps(found, indent=1) + "\n")
        subprocess.run([sys.executable, HERE / "tests/faults/table.py"], check=True)
        print(f"written to {RESULT} and docs/reliability.md")
    sys.exit(found["survived"] != found["tried"])


if __name__ == "__main__":
    main()
