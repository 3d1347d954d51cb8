"""The `ssl-zoo` command. Nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from traceback import print_exception
from types import FrameType

HELP = """\
ssl-zoo: pretrain a text or vision backbone with a self-supervised objective, then measure its worth

  ssl-zoo list [NAME]            objectives, backbones and data, and what pairs with what; a page about one
  ssl-zoo look PATH              what lies there and how it would be read: sizes, classes, copies, damage
  ssl-zoo worth PATH             is pretraining worth it on these data? One page, in minutes=30
  ssl-zoo pretrain KEY=VALUE ... stage 1: objective=rotation backbone=resnet_micro data=digits budget.steps=50
  ssl-zoo evaluate KEY=VALUE ... stage 2: run=runs/... protocol=linear data=cifar10 labels=25 floors=true
  ssl-zoo finetune RUN PATH ...  stage 2 for use: classes, labels, numbers, tags of words, masks; out=MODEL
  ssl-zoo predict MODEL PATH     what a model tells of images or texts, into tables, CoNLL files or masks
  ssl-zoo embed RUN PATH         a vector for each image or text: out=vectors.csv; what is nearest: query=FILE
  ssl-zoo generate MODEL [TEXT]  text that goes on from a prompt, or answers it: tokens=200 temperature=0.8
  ssl-zoo report RUN [KEY=VALUE] a page about a run: curves, map of the features, neighbours, predictions
  ssl-zoo export RUN to=NAME     timm, transformers, sentence-transformers, onnx, torch; a MODEL: the last two
  ssl-zoo reproduce FILE         the pretraining of an export once more: are the weights the same?
  ssl-zoo leaderboard VERB ...   run, reproduce, show, check, add, site: boards that anyone can run again
  ssl-zoo scale KEY=VALUE ...    a ladder of runs, loss fitted to compute: widths=[64,96,128] steps=[200,400]
  ssl-zoo check FILE.CLASS       whether an objective of your own keeps the contract that training relies on
  ssl-zoo demo [FOLDER]          both stages on data found on this machine, in 2 to 6 minutes
  ssl-zoo cache VERB [FOLDER]    list, verify, sweep: decoded images, encoded texts, shards
  ssl-zoo completion SHELL       bash, zsh, fish: a script that completes verbs, keys and choices

  ssl-zoo pretrain --cfg job ...   show the composed configuration      (Hydra's flags work: -m, ...)
  ssl-zoo VERB --help              every key of a verb, with its default and what it means
  ssl-zoo --version

Data: SSL_ZOO_DATA names the folder of data sets. Cache: SSL_ZOO_CACHE (default ~/.cache/ssl_zoo).
"""
VERBS = (
    *("list", "look", "worth", "pretrain", "evaluate", "finetune", "predict", "embed", "generate"),
    *("report", "export", "reproduce"),
    *("cache", "leaderboard", "scale", "demo", "check", "completion"),
)


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 what was asked for failed, 130 stopped by Ctrl-C, 143 by SIGTERM."""
    wait_passively()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, leave)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 (closed by the caller, as by >&-)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    try:
        call_verb()
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        if not error.args:  # training has said what it saved
            print(
                "ssl-zoo: stopped by Ctrl-C; give the same command to start again",
                file=sys.stderr,
            )
        sys.exit(130)
    except BrokenPipeError:  # whoever read what is printed has had enough, as in `ssl-zoo list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # 128 + SIGPIPE, which not every system names
    except Exception as error:  # what a user can cause is said by its verb
        print_exception(error)
        sys.exit(
            "ssl-zoo: this is a bug of ssl_zoo and no fault of yours; please report it with the lines above"
        )


# OpenMP's threads look for work this often (some 10 microseconds), then sleep. GNU's, which torch brings,
# takes the number; others know the policy alone. Sleeping at once costs small steps a third of their speed on
# a quiet machine, and spinning for milliseconds a third and more beside a busy process (docs/log.md).
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}


def wait_passively() -> None:
    """Let threads that wait for others sleep soon instead of spinning, before torch loads.

    A setting of the user's own stays.
    """
    if not {*WAITING, "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ.update(WAITING)


def leave(number: int, frame: FrameType | None) -> None:
    """End the process on SIGTERM, so that what is half written is removed on the way out.

    Training has a handler of its own, which saves first.
    """
    sys.exit(128 + number)


def call_verb() -> None:
    """Do what the first word says. Exits with what would work if there is no such verb or working folder."""
    args = sys.argv[1:]
    if args[:1] == ["help"] and args[1:2] and args[1] in VERBS:  # ssl-zoo help pretrain
        args = [args[1], "--help", *args[2:]]
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP)
        return
    if args[0] == "--version":
        from ssl_zoo import __version__

        print(__version__)
        return
    if args[0] not in VERBS:
        from difflib import get_close_matches

        near = get_close_matches(args[0], VERBS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        sys.exit(f"ssl-zoo: no verb {args[0]!r}, only {', '.join(VERBS)}{hint}")
    try:
        os.getcwd()
    except OSError as error:
        sys.exit(f"ssl-zoo: the working folder cannot be used ({error.strerror}); cd to one that is there")
    verb, rest = args[0], args[1:]
    if verb == "list":
        from ssl_zoo.cli.listing import show

        show(rest)
    elif verb == "demo":
        from ssl_zoo.cli.demo import demo

        demo(rest)
    elif verb == "check":
        from ssl_zoo.cli.check import main as check

        check(rest)
    elif verb == "cache":
        from ssl_zoo.cli.cache import main as cache

        cache(rest)
    elif verb == "completion":
        from ssl_zoo.cli.completion import main as completion

        completion(rest)
    elif verb == "leaderboard":
        from ssl_zoo.cli.leaderboard import main as leaderboard

        leaderboard(rest)
    else:
        from ssl_zoo.cli.verb import run_verb

        run_verb(verb, rest)
