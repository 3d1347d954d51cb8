"""`ssl-zoo leaderboard`: run a board, run a line again, see where it stands, add a line of one's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ssl_zoo.cli.start import begin
from ssl_zoo.leaderboard.board import Board, BoardError
from ssl_zoo.leaderboard.find import find, names, near, recipe_of, writable

HELP = """\
ssl-zoo leaderboard: boards of pretraining recipes, measured the same way

  run BOARD [LINE ...] [seeds=3] [jobs=1]  what is not done yet; an interrupted board goes on where it stopped
  reproduce BOARD/LINE [seed=0]            once more from nothing: does it lie in the stated interval?
  show [BOARD]                             the table, or all boards
  check [BOARD ...] [strict=true]          lines whose code or data changed since, and files with faults
  vouch BOARD [LINE ...] [steps=20]        lines stale by code alone: does today's compute the same?
  add BOARD LINE KEY=VALUE ...             a recipe of your own, in overrides as `ssl-zoo pretrain` takes them
  site [OUT]                               all boards as a static site (default: build/site)
  docs                                     docs/leaderboard/ and what recipes expect, from the results

  Boards are folders: BOARD is a path, or a name in ./benchmarks/leaderboard. Every line is one command.
  `show` and `site` say what the last `check` found, and whether anything changed since.
  Options: runs=FOLDER (default: runs/leaderboard), seeds=3 or seeds=[0,4], jobs=2 (processes), and
  trust=mine.Objective,... : classes outside this library that recipes may build.
"""
Options = dict[str, str]


def main(args: list[str]) -> None:
    """Entry point. What takes torch or composes is imported by the verb that needs it."""
    if not args or args[0] == "help" or {"-h", "--help"} & set(args):
        print(HELP)
        return
    verbs: dict[str, Callable[[list[str], Options], None]] = {
        "run": run,
        "reproduce": reproduce,
        "show": show,
        "check": check,
        "vouch": vouch,
        "add": add,
        "site": site,
        "docs": docs,
    }
    verb, *rest = args
    if verb not in verbs:
        sys.exit(f"ssl-zoo leaderboard: no verb {verb!r}{near(verb, verbs)} Verbs: {', '.join(verbs)}")
    if verb != "show":  # which needs no torch
        begin(f"leaderboard {verb}", rest)
    options = dict(word.split("=", 1) for word in rest if "=" in word)
    try:
        verbs[verb]([word for word in rest if "=" not in word], options)
    except Exception as error:
        from ssl_zoo.compose.composition import EXPECTED, explain

        if os.environ.get("SSL_ZOO_TRACEBACK") or not isinstance(error, EXPECTED):
            raise
        sys.exit(f"ssl-zoo leaderboard {verb}: {explain(error)}")


# Options


def only(options: Options, *known: str) -> None:
    """Refuse an option that the verb does not have."""
    for key in options:
        if key not in known:
            raise BoardError(
                f"there is no option {key}{near(key, known)} Options: {', '.join(known) or 'none'}"
            )


def number(options: Options, key: str, default: int, least: int) -> int:
    """The whole number that an option gives, else its default.

    Raises:
        BoardError: it is no whole number, or below `least`.
    """
    text = options.get(key, default)
    try:
        found = int(text)
    except ValueError as error:
        raise BoardError(f"{key}={text} is no whole number") from error
    if found < least:
        raise BoardError(f"{key}={text} is too small; it takes {least} or more")
    return found


def chosen_seeds(options: Options, board: Board) -> tuple[int, ...]:
    """The seeds that an option gives, else the board's: seeds=3 is 0, 1, 2; seeds=[0,4] is 0 and 4.

    Raises:
        BoardError: it gives none, or one that is no whole number from 0 on.
    """
    text = options.get("seeds")
    if text is None:
        return board.seeds
    try:
        listed = text.startswith("[")
        found = tuple(int(one) for one in text.strip("[]").split(",")) if listed else tuple(range(int(text)))
    except ValueError:
        found = ()
    if not found or min(found) < 0:
        raise BoardError(f"seeds={text}: give a count (3) or a list ([0,4])")
    return found


def one_board(positional: list[str]) -> str:
    """The first word, which names a board. Raises BoardError, with the boards there are, without one."""
    if not positional:
        raise BoardError(f"which board? Boards: {', '.join(names())}")
    return positional[0]


def trusted(options: Options) -> frozenset[str]:
    """The full names of classes that trust=... gives."""
    return frozenset(filter(None, options.get("trust", "").split(",")))


# Verbs


def run(positional: list[str], options: Options) -> None:
    """Bring a board up to date."""
    from ssl_zoo.cli.board_workers import spread, work
    from ssl_zoo.compose.boards import BoardComposer
    from ssl_zoo.leaderboard import stages
    from ssl_zoo.leaderboard.check import check as checked
    from ssl_zoo.leaderboard.datasets import AbsentDatasets

    only(options, "seeds", "jobs", "runs", "trust")
    board = writable(find(one_board(positional)))
    lines = [recipe_of(board, name).name for name in positional[1:]] or list(board.recipes)
    composer, trust = BoardComposer(), trusted(options)
    stages.check(composer, board, (board.recipes[line] for line in lines), trust)
    jobs, runs = number(options, "jobs", 1, least=1), Path(options.get("runs", "runs/leaderboard"))
    seeds = chosen_seeds(options, board)
    ahead = [(board.folder, line, seed, runs, trust) for seed in seeds for line in lines]
    if jobs == 1:
        for one in ahead:
            print(work(*one), flush=True)
    else:
        spread(ahead, jobs)
    checked(composer, board, AbsentDatasets(composer))
    show([str(board.folder)], {})


def reproduce(positional: list[str], options: Options) -> None:
    """One line and seed once more, from nothing; exit code 1 where the primary figure lies outside."""
    from ssl_zoo.compose import gate
    from ssl_zoo.compose.boards import BoardComposer
    from ssl_zoo.leaderboard import reproduce as again
    from ssl_zoo.transfer.report import table

    only(options, "seed", "runs", "measure", "trust")
    board_name, slash, line = one_board(positional).rpartition("/")
    if not slash:
        raise BoardError(f"which line? Give BOARD/LINE, for example {line}/{next(iter(find(line).recipes))}")
    board = find(board_name)
    recipe = recipe_of(board, line)
    if (measure := options.get("measure")) is not None:
        board = again.only_measure(board, recipe, measure)
    seed, trust = number(options, "seed", 0, least=0), trusted(options)
    runs = Path(options.get("runs", "runs/reproduce"))
    say = lambda text: print(f"  {text}", flush=True)  # noqa: E731
    with gate.naming(trust):
        found = again.reproduce(BoardComposer(), board, recipe, seed, runs, trust, say)
    kind = "95 % interval of the mean" if found.recorded else "95 % interval of one more seed"
    print(table(("measure", "at", "metric", f"stated, {kind}", f"new, seed {seed}", ""), found.figures))
    what = f"{board.name}/{line}: the new {board.primary}"
    if "OUTSIDE" in found.verdicts:
        sys.exit(f"{what} lies outside the stated interval")
    same = found.verdicts == {"same"}
    print(f"{what} {f'is the recorded one of seed {seed}' if same else 'lies inside the stated interval'}")
    if found.recorded:
        equal = sum(figure.verdict == "same" for figure in found.figures)
        print(f"{equal} of {len(found.figures)} figures are the recorded ones of seed {seed} to the last bit")


def check(positional: list[str], options: Options) -> None:
    """Boards with faults fail; lines that are stale or missing are marked, and fail with strict=true."""
    from ssl_zoo.compose.boards import BoardComposer
    from ssl_zoo.leaderboard.check import check as checked
    from ssl_zoo.leaderboard.datasets import AbsentDatasets

    only(options, "strict")
    strict = {"true": True, "false": False, None: False}.get(options.get("strict"))
    if strict is None:
        raise BoardError(f"strict={options['strict']}: it takes true or false")
    composer = BoardComposer()
    datasets, faults = AbsentDatasets(composer), []
    standing: list[tuple[str, str]] = []
    for name in positional or names():
        board = find(name)
        found = checked(composer, board, datasets)
        faults += found.faults
        if not found.kept:
            print(f"{board.folder} takes no file: what was found is not kept for `show`", file=sys.stderr)
        standing += [(f"{board.name}/{line}", found.problems(line) or "stands") for line in board.recipes]
    width = max((len(line) for line, _ in standing), default=0)
    for line, how in standing:
        print(f"{line:<{width}}  {how}")
    for fault in faults:
        print(fault, file=sys.stderr)
    marked = sum(how != "stands" for _, how in standing)
    if faults or (strict and marked):
        sys.exit(f"{len(faults)} faults, {marked} of {len(standing)} lines do not stand")
    print(f"{len(standing) - marked} of {len(standing)} lines stand, {marked} are marked")


def vouch(positional: list[str], options: Options) -> None:
    """Renew the results of earlier code that today's code would compute to the same bit."""
    from ssl_zoo.compose import gate
    from ssl_zoo.compose.boards import BoardComposer
    from ssl_zoo.leaderboard import vouch as vouching
    from ssl_zoo.leaderboard.check import check as checked
    from ssl_zoo.leaderboard.datasets import AbsentDatasets, Datasets

    only(options, "steps", "jobs", "runs", "trust")
    board = writable(find(one_board(positional)))
    lines = [recipe_of(board, name).name for name in positional[1:]] or list(board.recipes)
    composer, trust = BoardComposer(), trusted(options)
    steps, jobs = number(options, "steps", vouching.STEPS, least=1), number(options, "jobs", 1, least=1)
    runs = Path(options.get("runs", "runs/vouch"))
    with gate.naming(trust):
        found = vouching.vouch(
            composer, board, lines, Datasets(composer), runs, steps=steps, jobs=jobs, trust=trust
        )
        again = []
        for line, told, rerun in found:
            print(f"{line}: {told}", flush=True)
            again += [line] if rerun else []
    checked(composer, board, AbsentDatasets(composer))
    if again:
        sys.exit(f"to be run again: ssl-zoo leaderboard run {board.name} {' '.join(again)}")


def add(positional: list[str], options: Options) -> None:
    """A recipe of one's own becomes a line of a board."""
    from ssl_zoo.compose.boards import BoardComposer
    from ssl_zoo.leaderboard import add as adding

    board = writable(find(one_board(positional)))
    if len(positional) != 2:
        raise BoardError("give a board and the line's name, then KEY=VALUE overrides")
    about = {key: options.pop(key) for key in ("title", "paper", "cost") if key in options}
    settings = {key: read_value(key, value) for key, value in options.items()}
    file, command = adding.add(BoardComposer(), board, positional[1], about, settings)
    print(f"written to {file}; next: {command}")


def read_value(key: str, text: str) -> Any:
    """The value of an override, as YAML reads it.

    Raises:
        BoardError: YAML cannot read it.
    """
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BoardError(f"{key}={text} is no value that YAML reads; quote it if it is a text") from error


def show(positional: list[str], options: Options) -> None:
    """Print the tables of the named boards, or of all."""
    from ssl_zoo.leaderboard.standings import standings
    from ssl_zoo.leaderboard.table import show as table

    only(options)
    for name in positional or names():
        print(table(standings(find(name))))


def site(positional: list[str], options: Options) -> None:
    """Write all boards as a static site."""
    from ssl_zoo.leaderboard.standings import standings
    from ssl_zoo.pages.site import write_site

    only(options)
    out = Path(positional[0] if positional else "build/site")
    write_site([standings(find(name)) for name in names()], out)
    print(f"written to {out}; open {out / 'index.html'}")


def docs(positional: list[str], options: Options) -> None:
    """Write, from the results: docs/leaderboard, the README's table, and what the recipes expect."""
    from ssl_zoo.leaderboard.standings import standings
    from ssl_zoo.pages.board_docs import expect, with_summary, write_docs

    only(options)
    readme = Path("README.md")
    if positional or not readme.is_file():
        raise BoardError("docs is for a checkout of ssl_zoo, and writes of all its boards: name none")
    for name in names():
        expect(find(name))
    found = [standings(find(name)) for name in names()]  # which show what their recipes say
    readme.write_text(with_summary(readme.read_text(encoding="utf-8"), found), encoding="utf-8")
    write_docs(found, Path("docs/leaderboard"))
    print("written: docs/leaderboard, README.md, benchmarks/leaderboard/*/recipes")
