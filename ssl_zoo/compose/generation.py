"""Text from a run or a tuned model, as a configuration asks."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ssl_zoo.backbones._base import Backbone, TokenBackbone
from ssl_zoo.compose.composition import ConfigError
from ssl_zoo.compose.evaluation import subject
from ssl_zoo.compose.reopen import reopen_marks
from ssl_zoo.data.prompts import read_prompts
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.messages import note
from ssl_zoo.pretrain.writing import write_atomically
from ssl_zoo.transfer.causal import writer
from ssl_zoo.transfer.features import place
from ssl_zoo.transfer.generate import Choice, Generated, generate, opened
from ssl_zoo.transfer.model_file import holds_model
from ssl_zoo.transfer.pair_rows import Form
from ssl_zoo.transfer.tuned_completion import load

TOKENS = 100  # of what a run writes
BATCH = 32  # texts that are written side by side


@dataclass(frozen=True)
class Author:
    """A model, and how it reads what it is asked.

    Attributes:
        length: tokens in its window. tokens, temperature: where none are asked for.
        marks: of span corruption, see `transfer.generate.follow`.
        form: in which it was tuned to answer prompts; None: it continues texts. White space around an answer
            is left out.
    """

    backbone: TokenBackbone
    tokenizer: Tokenizer
    length: int
    tokens: int = TOKENS
    temperature: float = 1.0
    marks: Tensor | None = None
    form: Form | None = None

    def starts(self, prompts: Sequence[str], tokens: int) -> list[list[int]]:
        """The ids of prompts that so many tokens are to follow; those that do not fit are cut, and that is
        said."""
        if self.form is None:
            found, end = opened(self.tokenizer, prompts), "last"
            room = self.length - (tokens if self.backbone.writes == "masks" else 0)
            sizes = list(map(len, found))
        else:
            found, end = self.form.starts(prompts, tokens), "first"
            room = self.length - tokens - len(self.form.starts([""], tokens)[0])
            sizes = [len(ids) for ids in self.tokenizer.encode([" ".join(text.split()) for text in prompts])]
        long = [size for size in sizes if size > room]
        if long and len(prompts) == 1:
            note(
                f"the prompt has {long[0]} tokens, of which the {end} {room} are read (length={self.length})"
            )
        elif long:
            note(
                f"{len(long)} of {len(sizes)} prompts have more than {room} tokens, of which the {end} "
                f"{room} are read (length={self.length})"
            )
        return found


def generate_from(
    cfg: DictConfig,
    prompts: Sequence[str] | None = None,
    backbone: Backbone | None = None,
    heard: Callable[[str], object] | None = None,
) -> list[Generated]:
    """Write what a configuration asks for, and the file that it names.

    Args:
        prompts: what is continued; None: what the configuration says.
        backbone: of the run, where its folder alone does not open; else None.
        heard: is handed a text piece by piece while it is written, if only one is asked for.

    Returns:
        The texts; those of one prompt, where it has several, one after the other.

    Raises:
        ConfigError, DataError, HubError: what was asked for cannot be; says what would work.
        OSError: a file that cannot be read or written.
    """
    if OmegaConf.is_missing(cfg, "model"):
        raise ConfigError("which model? ssl-zoo generate MODEL [prompt=TEXT]")
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    out = None if cfg.out is None else free(Path(cfg.out))
    who = author(Path(cfg.model), cfg.length, backbone)
    tokens = who.tokens if cfg.tokens is None else cfg.tokens
    choice = Choice(
        who.temperature if cfg.temperature is None else cfg.temperature, cfg.top_k, cfg.top_p, cfg.seed
    )
    if cfg.samples > 1 and choice.temperature == 0:
        raise ConfigError(
            f"samples={cfg.samples} with a temperature of 0 are {cfg.samples} times the same: give "
            "temperature=0.8, or samples=1"
        )
    refuse_no_room(who, tokens)
    asked = questions(cfg, who, prompts)
    texts = [text for text in asked for _ in range(cfg.samples)]
    starts = [ids for ids in who.starts(asked, tokens) for _ in range(cfg.samples)]
    found: list[Generated] = []
    for first in range(0, len(texts), BATCH):
        if len(texts) > BATCH:
            note(f"{first} of {len(texts)} texts are written")
        found += generate(
            who.backbone,
            who.tokenizer,
            texts[first : first + BATCH],
            starts=starts[first : first + BATCH],
            tokens=tokens,
            length=who.length,
            choice=replace(choice, first=first),
            marks=who.marks,
            steps=cfg.steps,
            device=place(cfg.device),
            heard=None if heard is None or len(texts) > 1 else lambda _, text: heard(text),
        )
    if who.form is not None:
        found = [one._replace(text=one.text.strip()) for one in found]
    if out is not None:
        write_atomically(out, "".join(f"{line(one)}\n" for one in found).encode())
    return found


def author(folder: Path, length: int | None, backbone: Backbone | None = None) -> Author:
    """The model in a folder.

    Raises:
        HubError, DataError, ConfigError: there is none, or it does not write.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}: name a run that pretrain wrote, or a tuned model")
    if holds_model(folder):
        model = load(folder, length)
        backbone, form = writer(model.subject.backbone), model.form
        return Author(backbone, form.tokenizer, form.length, form.longest, 0.0, form=form)
    one = subject(folder, length, "cpu", "text", backbone)
    model = writer(one.backbone)
    marks = reopen_marks(folder) if model.writes == "spans" else None
    return Author(model, one.words(), one.length, marks=marks)


def questions(cfg: DictConfig, who: Author, prompts: Sequence[str] | None) -> list[str]:
    """The prompts that were handed over, or else those that a configuration names.

    Raises:
        ConfigError: prompts and a file, none at all, or an empty one where the model needs something to read.
        DataError: see `read_prompts`.
    """
    if cfg.file is not None and (prompts is not None or cfg.prompt is not None):
        raise ConfigError("prompt=... and file=... both say what is asked: give one of them")
    if prompts is not None:
        found = list(prompts)
    elif cfg.file is not None:
        found = read_prompts(Path(cfg.file))
    elif cfg.prompt == "-":
        found = [sys.stdin.read().removesuffix("\n")]
    else:
        found = ["" if cfg.prompt is None else str(cfg.prompt)]
    if not found:
        raise ConfigError("no prompts are given: [] asks for nothing")
    if who.form is not None and not all(text.strip() for text in found):
        raise ConfigError("a tuned model answers a prompt: give prompt=TEXT, or file=FILE with one a line")
    if not who.tokenizer.prefix and not all(found):
        raise ConfigError(
            "the tokenizer of this run has no token that a text begins with, so that there is nothing to go "
            "on from: give prompt=TEXT"
        )
    return found


def refuse_no_room(who: Author, tokens: int) -> None:
    """Raise ConfigError where the masks of a text leave no room for what is before them."""
    if who.backbone.writes == "masks" and tokens >= who.length:
        raise ConfigError(
            f"the window of {who.length} tokens holds a mask for each token to come, and something before "
            f"them: tokens={tokens} leaves no room; take tokens={who.length // 2}, or a larger length"
        )


def free(out: Path) -> Path:
    """The path of a file that is to be written, whose folder is there by then.

    Raises:
        ConfigError: something is there.
    """
    if out.exists():
        raise ConfigError(f"{out} is there already: name another file, or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


def line(one: Generated) -> str:
    """A text and its prompt as a JSON object."""
    about: dict[str, Any] = {"prompt": one.prompt, "completion": one.text, "ended": one.ended}
    return json.dumps(about, ensure_ascii=False)
