"""The commands on the pages of the documentation site, and how a test runs them in seconds."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
FENCE = re.compile(
    r"^(?P<ticks>```+|~~~+|:::+)(?P<head>[^\n]*)\n(?P<body>.*?)^(?P=ticks)[ \t]*$", re.MULTILINE | re.DOTALL
)
SHELL = ("sh", "bash", "shell", "console", "")  # a fence without a language may hold commands as well

# Files of docs/ and of other folders, shown on the site, whose commands another test runs or nobody can here.
ELSEWHERE = {
    "README.md": "tests/test_readme.py",
    "CONTRIBUTING.md": "no block; `make` and `ssl-zoo check`, which tests/contract runs",
    "CHANGELOG.md": "no block",
    "benchmarks/speed/README.md": "`make bench` and its parts take minutes; tests/test_speed_harness.py",
    "docs/sequences.md": "tests/test_sequences.py",
    "docs/first-minutes.md": "no block that is run again; docs/first_minutes.py typed them all",
}

# Commands that are composed and not run: a pattern of the whole line -> why.
NOT_RUN = {
    r"^make demo$": "sets up .venv; tests/cli/test_demo.py runs the demo",
    r"^pip install ": "installs",
    r"^python benchmarks/data/(images|texts).py ": "downloads; tests/test_board_data.py",
    r"trainer=(gpu|ddp|fsdp2)( |$)": "needs GPUs",
    r"^(torchrun|srun) ": "needs a launcher",
    r"(https|s3)://": "needs a network; tests/data/test_{image,text,token}_streams.py",
    r"backbone.name=resnet18 backbone.pretrained=true": "needs weights from the hub",
    r"backbone=hf backbone.name=answerdotai": "needs weights from the hub",
    r"^ssl-zoo leaderboard vouch ": "needs the code of earlier commits; tests/leaderboard/test_vouch.py",
}
# Commands that take long: a pattern of the whole line -> what `make slow` spends on it.
SLOW = {
    r"^ssl-zoo leaderboard reproduce ": "a line of a board from nothing",
    r"^ssl-zoo leaderboard run ": "a line of a board, which is all of its measures",
    r"^ssl-zoo report runs/digits$": "a page of a larger run than others",
    r"^ssl-zoo leaderboard check ": "hashes of all code behind a board",
    r"trainer=(ddp|fsdp2)_cpu": "two processes",
    r"^ssl-zoo check ": "two processes",
    r"^ssl-zoo scale ": "nine runs",
    r"^ssl-zoo worth ": "two ways of pretraining and all of their floors",
    r"^ssl-zoo export .* to=(timm|onnx)": "the peer's loader and its imports",
    r"^ssl-zoo reproduce ": "the export that it reads is made by another command",
}

# Commands that a page expects to have run: what it says another page did.
BEFORE = {
    "guide/protocols.md": (
        "ssl-zoo pretrain objective=simclr_small backbone=resnet_micro data=photos/ run=runs/photos",
        "ssl-zoo pretrain objective=next_token backbone=transformer_micro data=notes/ "
        "data.test_fraction=0.2 run=runs/notes",
    ),
}
# What makes a command small, for each verb: keys that are taken away, and words that are added. All else
# stays as the page has it, but images of 224 pixels are read at 32, and `evaluate` draws labels twice.
SMALLER: dict[str, tuple[str, tuple[str, ...]]] = {
    "pretrain": (r"budget\.|batch_size=|workers=", ("budget.steps=2", "batch_size=8")),
    "finetune": (r"protocol\.", ("protocol.steps=2", "protocol.lrs=[1e-3]")),
    "worth": (r"minutes=|seeds=", ("minutes=0.05", "labels=[2]", "seeds=[0]")),
    "scale": (r"steps=|widths=", ("steps=[1,2,3]", "widths=[16,24,32]", "log_every=0")),
}
FINETUNING = r"protocol=(finetune|label_efficiency|cost_efficiency)"


class Block(NamedTuple):
    page: str  # from docs/
    language: str
    text: str


def pages() -> list[Path]:
    """Every Markdown file of the site."""
    return sorted(file for file in DOCS.rglob("*.md") if "_build" not in file.parts)


def name(file: Path) -> str:
    return file.relative_to(DOCS).as_posix()


def fences(file: Path) -> list[Block]:
    """All fenced blocks of a page; the language of a directive is its name in braces."""
    found = FENCE.finditer(file.read_text("utf-8"))
    return [Block(file.name, one["head"].strip(), one["body"]) for one in found]


def lines(block: str) -> list[str]:
    """The commands of a block, one a line: comments left out, lines that end in a backslash joined."""
    joined = re.sub(r"\\\n\s*", "", block)
    found = [shlex.join(shlex.split(line, comments=True)) for line in joined.splitlines()]
    return [line for line in found if line]


def commands(file: Path) -> list[str]:
    """All commands of a page, in order."""
    return [line for one in fences(file) if one.language in SHELL for line in lines(one.text)]


def matching(table: dict[str, str], line: str) -> str | None:
    """The pattern of the table that a line has."""
    plain = " ".join(shlex.split(line))
    return next((pattern for pattern in table if re.search(pattern, plain)), None)


def own_words(line: str) -> list[str] | None:
    """The words of `ssl-zoo` in a line, whoever launches it; None if it is another program's."""
    words = shlex.split(line)
    return words[words.index("ssl-zoo") + 1 :] if "ssl-zoo" in words else None


def smaller(words: list[str]) -> list[str]:
    """The same command with a tiny budget."""
    verb, *rest = words
    if "--help" in rest:
        return words
    if verb == "evaluate":
        tuned = re.search(FINETUNING, " ".join(rest))
        several = any(word.startswith("steps=") for word in rest)
        added = ["steps=[1,2]" if several else "protocol.steps=2", "protocol.lrs=[1e-3]"] if tuned else []
        kept = [word for word in rest if not (tuned and word.startswith(("protocol.", "steps=")))]
        return [verb, *kept, *added, "seeds=[0,1]"]
    away, added = SMALLER.get(verb, (r"(?!)", ()))
    kept = [re.sub(r"^(data\.image_size)=\d+$", r"\1=32", word) for word in rest if not re.match(away, word)]
    on_cpu = verb == "pretrain" and not any(word.startswith("trainer=") for word in rest)
    return [verb, *kept, *added, *(["trainer=cpu"] if on_cpu else [])]
