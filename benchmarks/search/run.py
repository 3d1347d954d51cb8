"""Search behind the recipes of a board: the same few settings for each line of a kind, on validation rows.

    python benchmarks/search/run.py try BOARD [LINE ...] [--jobs 2]   # goes on where it stopped
    python benchmarks/search/run.py show BOARD [LINE ...]            # what was found
    python benchmarks/search/run.py time BOARD [LINE ...] [--jobs 2]  # how long a step of the best takes now
    python benchmarks/search/run.py write BOARD [LINE ...]           # the best setting into the recipes

BOARD.yaml beside this file says which lines are searched, with which settings, and for how long. A setting is
a recipe with other values; `crop` stands for the side in pixels of its crops. How many steps the minutes hold
is measured first, as processor seconds of a step. Every setting is then a line of a board in .cache, which
runs with seed 0 and score=validation. BOARD.json keeps the scores. `write` puts the setting that is best by
`chosen_by`, and the number of steps that the board's own minutes hold, into each recipe: by the time that a
step took when it was tried, or by `time`, where code has become faster since.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, median
from typing import Any

import yaml

from ssl_zoo.cli import leaderboard
from ssl_zoo.compose.composition import build, flatten
from ssl_zoo.leaderboard import records
from ssl_zoo.leaderboard.board import HEADER, Board, load, overrides

sys.path.insert(0, str(Path(__file__).parents[1] / "cost"))
from stepping import spent, stepper, text_stepper

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

Setting = dict[str, Any]
Key = tuple[str, str]  # a line, and the name of a setting
WARM, TIMED = 2, 5  # steps


def board_folder(name: str) -> Path:
    return ROOT / "benchmarks" / "leaderboard" / name


def name_of(setting: Setting) -> str:
    """A setting as the name of a file: "lr0.002-crop20"."""
    return "-".join(f"{key.split('.')[-1]}{value}" for key, value in setting.items())


def with_setting(pretrain: Mapping[str, Any], setting: Setting) -> Setting:
    """The overrides of a recipe with those of a setting; `crop` has another key for each objective."""
    found = dict(pretrain)
    for key, value in setting.items():
        found[crop_key(pretrain["objective"]) if key == "crop" else key] = value
    return found


def crop_key(objective: str) -> str:
    """The key for the side of an objective's crops."""
    keys = flatten(build("pretrain", [f"objective={objective}", "backbone=resnet_micro", "data=cifar10"]))
    return next(key for key in keys if re.fullmatch(r"objective\.views?\.(view\.)?size", key))


def step_seconds(words: list[str], rows: int, texts: bool) -> float:
    """Median processor seconds of a step."""
    import torch

    torch.set_num_threads(1)
    step = text_stepper(words) if texts else stepper(words, rows)
    return median([spent(step) for _ in range(WARM + TIMED)][WARM:])


def steps_in(minutes: float, seconds: float) -> int:
    """How many steps fit, rounded down to two digits."""
    whole = f"{60 * minutes / seconds:.0f}"
    return int(whole[:2].ljust(len(whole), "0"))


def searched(board: str, lines: list[str]) -> tuple[Setting, dict[str, list[Setting]]]:
    """What BOARD.yaml says, and the settings of each of the lines; of all that it names without lines."""
    said = yaml.safe_load((HERE / f"{board}.yaml").read_text())
    settings = {line: group["settings"] for group in said["groups"] for line in group["lines"]}
    return said, {line: settings[line] for line in lines or settings}


def attempt(board: str, lines: list[str], jobs: int) -> None:
    """Score the settings that have no score yet, some of them at a time."""
    said, settings = searched(board, lines)
    whole, found = load(board_folder(board)), kept(board)
    todo = {
        (line, name_of(one)): with_setting(whole.recipes[line].pretrain, one)
        for line, several in settings.items()
        for one in several
        if name_of(one) not in found.get(line, {})
    }
    while todo:
        some = dict(list(todo.items())[: 4 * jobs])
        seconds = measured(whole, list(some.values()), jobs)
        for key, took in zip(some, seconds, strict=True):
            some[key] |= {"budget.steps": steps_in(said["minutes"], took)}
        for (line, name), took, record in zip(some, seconds, scored(whole, said, some, jobs), strict=True):
            found.setdefault(line, {})[name] = {
                "step_seconds": round(took, 4),
                "steps": record["pretraining"]["steps"],
                "processor_seconds": record["pretraining"]["processor_seconds"],
            } | {
                kind: round(100 * fmean(one["value"] for one in record["measures"][kind]["results"]), 1)
                for kind in said["measures"]
            }
            del todo[line, name]
        keep(board, found)
        show(board, sorted({line for line, _ in some}))


def measured(board: Board, several: list[Setting], jobs: int) -> list[float]:
    """Processor seconds of a step of each of these recipes, `jobs` of them at a time."""
    asked = []
    for one in several:
        words = {key: value for key, value in one.items() if not key.startswith("budget")}
        if texts := "context" in one:
            words["data"] = board.fixed["data"]
        asked.append((overrides(words), one["batch_size"], texts))
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        return pool.starmap(step_seconds, asked)


def scored(whole: Board, said: Setting, some: Mapping[Key, Setting], jobs: int) -> list[dict[str, Any]]:
    """The records of these recipes, run as lines of a board in .cache."""
    folder = ROOT / ".cache" / "search" / whole.name
    (folder / "recipes").mkdir(parents=True, exist_ok=True)
    body = {
        "title": f"Search of {whole.name}",
        "about": "Settings of recipes, scored on validation rows.",
        "hardware": whole.hardware,
        "seeds": [0],
        "primary": "linear",
        "fixed": dict(whole.fixed),
        "measures": said["measures"],
    }
    (folder / "board.yaml").write_text(yaml.safe_dump(body))
    head = "".join(f"# {word}: search\n" for word in HEADER)
    for (line, name), settled in some.items():
        text = f"# {line} with {name}.\n{head}{yaml.safe_dump({'pretrain': settled})}"
        (folder / f"recipes/{line}.{name}.yaml").write_text(text)
    names = [f"{line}.{name}" for line, name in some]
    leaderboard.main(["run", str(folder), *names, f"jobs={jobs}", f"runs={folder / 'runs'}"])
    found = records.read(folder / "results.jsonl")
    return [found[name, 0] for name in names]


def kept(board: str) -> dict[str, dict[str, dict[str, Any]]]:
    """What was found: line -> setting -> figures."""
    file = HERE / f"{board}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def keep(board: str, found: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Write what was found."""
    (HERE / f"{board}.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def show(board: str, lines: list[str]) -> None:
    """Print the scores of each setting."""
    found = kept(board)
    for line in lines or found:
        for name, one in found[line].items():
            print(f"{line:<34} {name:<22} " + "  ".join(f"{key} {value}" for key, value in one.items()))


def score(said: Setting, one: dict[str, Any]) -> float:
    """What a setting is chosen by: the mean of some measures."""
    return fmean(one[kind] for kind in said["chosen_by"])


def best_of(said: Setting, several: list[Setting], scores: dict[str, dict[str, Any]]) -> Setting:
    """The setting with the best score."""
    return max(several, key=lambda one: score(said, scores[name_of(one)]))


def time_again(board: str, lines: list[str], jobs: int) -> None:
    """Measure how long a step of the best setting of each line takes now."""
    said, settings = searched(board, lines)
    whole, found = load(board_folder(board)), kept(board)
    recipes = whole.recipes
    best = {line: best_of(said, several, found[line]) for line, several in settings.items() if line in found}
    words = [with_setting(recipes[line].pretrain, one) for line, one in best.items()]
    for (line, one), seconds in zip(best.items(), measured(whole, words, jobs), strict=True):
        own = found[line][name_of(one)]
        own["step_seconds_now"] = round(seconds, 4)
        print(f"{line:<34} {name_of(one):<22} {own['step_seconds']} -> {own['step_seconds_now']}")
    keep(board, found)


def write(board: str, lines: list[str]) -> None:
    """Put the best setting of each line, its steps and what was tried into its recipe."""
    said, settings = searched(board, lines)
    found = kept(board)
    recipes = load(board_folder(board)).recipes
    for line, several in settings.items():
        if any(name_of(one) not in found.get(line, {}) for one in several):
            print(f"{line}: not all settings are tried yet")
            continue
        best = best_of(said, several, found[line])
        own = found[line][name_of(best)]
        start = max(0.0, own["processor_seconds"] - own["steps"] * own["step_seconds"])
        each = own.get("step_seconds_now", own["step_seconds"])
        steps = steps_in(said["board_minutes"] - start / 60, each)
        settled = with_setting(recipes[line].pretrain, best) | {"budget.steps": steps}
        file = board_folder(board) / "recipes" / f"{line}.yaml"
        text = file.read_text()
        tried = ", ".join(f"{name_of(one)} {score(said, found[line][name_of(one)]):.1f}" for one in several)
        by = "linear probe" if said["chosen_by"] == ["linear"] else f"mean of {', '.join(said['chosen_by'])}"
        search = f"# Search: {by} on validation after {said['minutes']:g} min, seed 0: {tried}"
        minutes, rows = said["board_minutes"], settled["batch_size"]
        unit = f"rows of {settled['context']} tokens" if "context" in settled else "images"
        cost = f"# Cost: {minutes:g} minutes on one core ({steps} steps of {rows} {unit})"
        head = [row for row in text.splitlines() if row.startswith("#") and not row.startswith("# Search:")]
        head = [cost if row.startswith("# Cost:") else row for row in head]
        tail = text[text.index("without:") :] if "\nwithout:" in text else ""
        body = "".join(f"  {key}: {spelt(value)}\n" for key, value in settled.items())
        file.write_text("\n".join([*head, search]) + f"\npretrain:\n{body}{tail}")
        print(f"{line}: {name_of(best)}, {steps} steps")


def spelt(value: Any) -> str:
    """A value of a recipe; small numbers as 2.0e-3, which YAML reads back as a number."""
    return f"{value:.1e}".replace("e-0", "e-") if isinstance(value, float) and value < 0.02 else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("verb", choices=("try", "show", "time", "write"))
    parser.add_argument("board", choices=sorted(file.stem for file in HERE.glob("*.yaml")))
    parser.add_argument("lines", nargs="*", help="default: all that BOARD.yaml names")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    given = parser.parse_args()
    if given.verb in ("try", "time"):
        {"try": attempt, "time": time_again}[given.verb](given.board, given.lines, given.jobs)
    else:
        {"show": show, "write": write}[given.verb](given.board, given.lines)


if __name__ == "__main__":
    main()
