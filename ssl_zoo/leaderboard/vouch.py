"""Results of earlier code, vouched for: does today's code compute the same?

A change of shared code makes the results of every board stale, and most such changes alter no figure. Instead
of days, this takes minutes: on this machine, the first steps of a line and its measures are run twice, with
the code that made its records and with today's. Where the weights and all figures agree to the last bit, the
records get today's hashes, and say who vouched, for how many steps, and on which processor. Of lines with the
same network, the measures are run of the first alone.

The earlier code is taken from the repository, and is known to be the right one by the hashes that it gives
itself, which must be those of the records. Recipes must be the same; a key that configurations have gained
since counts as the same, because both runs then show that nothing came of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from safetensors.numpy import load_file

from ssl_zoo.leaderboard import records
from ssl_zoo.leaderboard.board import Board, BoardError
from ssl_zoo.leaderboard.composer import Composer, Trust
from ssl_zoo.leaderboard.datasets import Datasets
from ssl_zoo.leaderboard.unit import Unit
from ssl_zoo.leaderboard.verdict import PACKAGE
from ssl_zoo.pretrain import environment

STEPS = 20
# What a record says of when and where it was made, which two runs never share.
PASSING = ("finished", "seconds", "training_seconds", "processor_seconds", "commit", "versions", "hardware")
Record = dict[str, Any]
Kind = tuple[str, ...]
Sources = Callable[[str], contextlib.AbstractContextManager[Path]]  # commit -> the folder of its package


def differing(before: Any, now: Any, at: str = "") -> list[str]:
    """Where two configurations differ, key by key; keys that only the second has do not count."""
    if not isinstance(before, Mapping) or not isinstance(now, Mapping):
        return [] if before == now else [f"{at} was {before!r} and is {now!r}"]
    found: list[str] = []
    for key in before:
        name = f"{at}.{key}" if at else str(key)
        found += differing(before[key], now[key], name) if key in now else [f"{name} is gone"]
    return found


def hashes(record: Record, without: Collection[str] = ()) -> str:
    """The hashes of the code behind a record, but for some of its measures, as one text."""
    measures = {name: one["code"] for name, one in record["measures"].items() if name not in without}
    return json.dumps([record["code"], measures], sort_keys=True)


def settled(value: Any) -> Any:
    """A record without what passes (`PASSING`), without hashes and without the configuration."""
    if isinstance(value, Mapping):
        gone = (*PASSING, "code", "config", "vouched")
        return {key: settled(one) for key, one in value.items() if key not in gone}
    return [settled(one) for one in value] if isinstance(value, list) else value


def weights(where: Path) -> dict[str, str]:
    """A hash of each tensor of the backbone in the folder of a unit; {} of a floor without one."""
    found: dict[str, str] = {}
    for file in sorted((where / "backbone").glob("*.safetensors")):
        for name, tensor in load_file(file).items():
            told = f"{tensor.dtype} {tensor.shape} ".encode() + tensor.tobytes()
            found[name] = hashlib.blake2b(told, digest_size=8).hexdigest()
    return found


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """The repository that keeps this package, as it was at a commit, in a folder that goes afterwards.

    Raises:
        BoardError: there is no repository, or no such commit in it.
    """
    with tempfile.TemporaryDirectory(prefix="ssl-zoo-code-") as place:
        folder = Path(place) / commit[:10]

        def git(*words: str) -> None:
            words = ("git", "worktree", *words)
            subprocess.run(words, cwd=PACKAGE.parent, check=True, capture_output=True, text=True)

        try:
            git("add", "--detach", str(folder), commit)
        except (OSError, subprocess.CalledProcessError) as error:
            why = str(getattr(error, "stderr", "") or error).strip()
            raise BoardError(
                f"the code of commit {commit} cannot be had from {PACKAGE.parent}: {why}. Fetch it, or run "
                "the lines again"
            ) from error
        try:
            yield folder
        finally:
            git("remove", "--force", str(folder))


def shorten(board: Board, line: str, steps: int, without: Collection[str], folder: Path) -> None:
    """Write a board of one line with so many steps at most, without some measures and without results.

    Raises:
        BoardError: a line whose budget is not a number of steps.
    """
    (folder / "recipes").mkdir(parents=True)
    about = yaml.safe_load((board.folder / "board.yaml").read_text(encoding="utf-8"))
    about["measures"] = {
        name: {
            key: value for key, value in said.items() if key != "lines"
        }  # which earlier code does not know
        for name, said in board.measures.items()
        if line in said.get("lines", [line])
    }
    (folder / "board.yaml").write_text(yaml.safe_dump(about, sort_keys=False), encoding="utf-8")
    text = (board.folder / "recipes" / f"{line}.yaml").read_text(encoding="utf-8")
    body = yaml.safe_load(text) or {}
    if body.get("floor") is None:
        if "budget.steps" not in body["pretrain"]:
            raise BoardError(f"{board.name}/{line} has no budget.steps, which could be fewer")
        body["pretrain"]["budget.steps"] = min(steps, body["pretrain"]["budget.steps"])
    body["without"] = sorted({*(body.get("without") or ()), *without} & set(about["measures"]))
    head = [one for one in text.splitlines() if one.startswith("#")]
    (folder / "recipes" / f"{line}.yaml").write_text("\n".join([*head, yaml.safe_dump(body)]))


def witnessed(
    source: Path, folder: Path, line: str, seed: int, runs: Path, trust: Trust
) -> tuple[Record, dict[str, str]]:
    """Run a line and seed of a board in a process of its own, with the package in `source`: its record, and
    a hash of each of its weights.

    Raises:
        BoardError: it fails there.
    """
    call = "from ssl_zoo.cli import main; main()"
    words = ["leaderboard", "run", str(folder), line, f"seeds=[{seed}]", f"runs={runs}"]
    words += [f"trust={','.join(sorted(trust))}"] if trust else []
    paths = filter(None, (str(source), os.environ.get("PYTHONPATH")))
    done = subprocess.run(
        [sys.executable, "-P", "-c", call, *words],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,  # a killed or failing run leaves no record
    )
    record = records.read(folder / "results.jsonl").get((line, seed))
    if record is None:
        tail = "\n".join(done.stdout.strip().splitlines()[-5:])
        raise BoardError(f"the code in {source} cannot run {line}:\n{tail}")
    (where,) = (runs / folder.name / line).glob(f"s{seed}-*")
    return record, weights(where)


def compared(then: tuple[Record, dict[str, str]], now: tuple[Record, dict[str, str]]) -> str:
    """The first thing in which two witnesses differ, in words; "" where they agree to the last bit."""
    for name in then[1].keys() | now[1].keys():
        if then[1].get(name) != now[1].get(name):
            return f"the weights {name} differ"
    before, after = settled(then[0]), settled(now[0])
    for name in before["measures"]:
        if found := differing(before["measures"][name], after["measures"].get(name), name):
            return found[0]
    return "" if not (found := differing(before["pretraining"], after["pretraining"])) else found[0]


class Case(NamedTuple):
    """Records of one line that the same code made, and which are stale by code alone.

    Attributes:
        unit: of the line, with today's code.
        stale: seed -> record.
        commit: of the code that made them, or that was vouched to be as good.
        kinds: measure -> what it depends on besides the weights: of two lines with the same, one is enough.
    """

    unit: Unit
    stale: dict[int, Record]
    commit: str
    kinds: dict[str, Kind]


def cases(unit: Unit, known: Mapping[int, Record]) -> list[Case]:
    """What there is to vouch for among the records of a line (seed -> record).

    Raises:
        BoardError: nobody can vouch for these: more than code has changed, or nobody knows their code.
    """
    found: dict[str, Case] = {}
    for seed, record in known.items():
        if not unit.changes(record):
            continue
        if others := [*differing(record["config"], unit.config), *unit.changes_beside_code(record)]:
            raise BoardError(f"more than its code changed (seed {seed}): {'; '.join(others)}")
        commit = record["vouched"][-1]["commit"] if "vouched" in record else record["commit"]
        if commit is None:
            raise BoardError(f"seed {seed} was run outside of a repository")
        if (code := hashes(record)) not in found:
            found[code] = Case(unit, {}, commit, kinds(unit, record))
        found[code].stale[seed] = record
    return list(found.values())


def kinds(unit: Unit, record: Record) -> dict[str, Kind]:
    """See `Case`."""
    network = [unit.config["backbone"], unit.code.get("backbone"), unit.recipe.floor]
    return {
        name: (name, one["code"], unit.facts(name)["code"], json.dumps(network))
        for name, one in record["measures"].items()
    }


def same(case: Case, source: Path, steps: int, runs: Path, trust: Trust, shown: set[Kind]) -> str:
    """In what the code in `source`, which made the records, and today's differ; "" where nothing shows.

    Args:
        shown: measures that need not be run again, as they are; those that are run join them.

    Raises:
        BoardError: the code in `source` is not that of the records, or one of the two cannot run the line.
    """
    seed, line = next(iter(case.stale)), case.unit.recipe.name
    without = [name for name, kind in case.kinds.items() if kind in shown]
    found = []
    for when, place in (("then", source), ("now", PACKAGE.parent)):
        folder = (runs / when / case.unit.board.name).resolve()
        shorten(case.unit.board, line, steps, without, folder)
        found.append(witnessed(place, folder, line, seed, folder.parent / "runs", trust))
        if when == "then" and hashes(found[0][0]) != hashes(case.stale[seed], without):
            raise BoardError(
                f"commit {case.commit} holds other code than it was run with (files that were not committed?)"
            )
    if not (why := compared(*found)):
        shown |= set(case.kinds.values())
    return why


def renewed(case: Case, record: Record, steps: int) -> Record:
    """A record with the hashes of today's code, and with who vouched for that."""
    unit, facts = case.unit, environment.environment()
    measures = {name: one | {"code": unit.facts(name)["code"]} for name, one in record["measures"].items()}
    made = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    told = {"commit": facts["commit"], "steps": steps, "made": made, "processor": facts["processor"]}
    new = {"config": unit.config, "code": unit.code, "measures": measures}
    return record | new | {"vouched": [*record.get("vouched", []), told]}


def vouch(
    composer: Composer,
    board: Board,
    lines: Sequence[str],
    datasets: Datasets,
    runs: Path,
    *,
    steps: int = STEPS,
    jobs: int = 1,
    trust: Trust = frozenset(),
    sources: Sources = checked_out,
) -> Iterator[tuple[str, str, bool]]:
    """Vouch for the records of lines that are stale by code alone, as far as today's code computes the same.

    Args:
        runs: the folder of the runs, which go when a line is done.
        steps: how many of each line's steps are run with either code.
        jobs: lines at once.
        trust: see `Composer.pretraining`.
        sources: gives the folder of the code of a commit.

    Yields:
        A line, what was found of it in words, and whether it has to be run again.
    """
    known = records.read(board.results)
    ahead: list[Case] = []
    for line in lines:
        before = {seed: one for (name, seed), one in known.items() if name == line}
        unit = Unit(composer, board, board.recipes[line], board.seeds[0], runs, datasets, trust)
        try:
            found = cases(unit, before)
        except BoardError as error:
            yield line, str(error), True
            continue
        if not found:
            yield line, "stands" if before else "has no results", not before
        ahead += found
    with contextlib.ExitStack() as kept, ThreadPoolExecutor(jobs) as pool:
        places = {commit: kept.enter_context(sources(commit)) for commit in sorted({c.commit for c in ahead})}

        shown: set[Kind] = set()

        def judged(number: int) -> str:
            case, place = ahead[number], runs / f"vouch-{os.getpid()}-{number}"
            try:
                return same(case, places[case.commit], steps, place, trust, shown)
            except BoardError as error:
                return str(error)
            finally:
                shutil.rmtree(place, ignore_errors=True)

        for case, why in zip(ahead, pool.map(judged, range(len(ahead))), strict=True):
            for record in () if why else case.stale.values():
                records.append(board.results, renewed(case, record, steps))
            told = why or f"today's code computes the same: {len(case.stale)} results vouched for"
            yield case.unit.recipe.name, told, bool(why)
