"""Vectors of what lies at a path, and what is nearest to a query among it, as a configuration asks."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import DictConfig

from ssl_zoo import __version__, hub
from ssl_zoo.backbones._base import Backbone, TokenBackbone
from ssl_zoo.compose.composition import ConfigError
from ssl_zoo.compose.evaluation import single_samples, subject
from ssl_zoo.compose.objects import NONE, Objects
from ssl_zoo.data.images import ImageData
from ssl_zoo.data.rows import DataError, Rows
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_rows import DocumentRows
from ssl_zoo.data.text_streams import Texts
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.messages import note
from ssl_zoo.pretrain.export import read_summary
from ssl_zoo.pretrain.writing import write_atomically
from ssl_zoo.transfer.embed import Account, read, vectors
from ssl_zoo.transfer.measures import Images, Subject
from ssl_zoo.transfer.nearest import Nearest
from ssl_zoo.transfer.vector_files import ENDINGS, Writer, writing
from ssl_zoo.transfer.whole import refuse_ending


@dataclass
class Embedded:
    """What was made.

    Attributes:
        about: how the vectors were made.
        account: how many there are, and what was left out.
        out: the file; None where none was asked for.
        nearest: what is nearest to the query; None without one.
        page: the HTML file that shows it; None without one.
        tokenizer: of a backbone that reads texts; else None.
    """

    about: dict[str, Any]
    account: Account
    out: Path | None = None
    nearest: Nearest | None = None
    page: Path | None = None
    tokenizer: Tokenizer | None = None


def embed_from(
    cfg: DictConfig,
    choices: dict[str, str],
    backbone: Backbone | None = None,
    objects: Objects = NONE,
    besides: Writer | None = None,
) -> Embedded:
    """Write the vectors that a configuration asks for.

    Args:
        choices: group -> the choice that the file is called after.
        backbone: of the run, where its folder alone does not open; else None.
        objects: what code hands over in the place of groups.
        besides: is handed all vectors as well, and is the only one where no file is named.

    Raises:
        ConfigError, DataError, HubError: what was asked for cannot be.
    """
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    run = Path(cfg.run)
    data = single_samples(cfg, objects)
    one = subject(run, cfg.length, cfg.device, data.modality, backbone)
    made = Embedded(described(run, one, data, cfg), Account(), tokenizer=one.tokenizer)
    if cfg.query is None and cfg.page is not None:
        raise ConfigError("page= shows what is nearest to a query: give query=FILE, or query=TEXT")
    if cfg.out is not None:
        made.out = Path(cfg.out)
    elif cfg.query is None and besides is None:
        made.out = run / "embeddings" / f"{choices['data']}-{cfg.split}.npy"
    if made.out is not None:
        refuse_ending(made.out, ENDINGS)
    asked = None
    if cfg.query is not None:
        asked = query_rows(cfg.query, one, data)
        made.nearest = Nearest(read(one.backbone, asked, cfg.depth)[0].numpy(), cfg.nearest)
    stream = vectors(one, data, cfg.split, made.account, depth=cfg.depth, normalise=cfg.normalise)
    with nullcontext() if made.out is None else writing(made.out, made.about) as file:
        for names, rows, values in stream:
            for writer in filter(None, (file, besides)):
                writer.add(names, values)
            if made.nearest is not None:
                made.nearest.add(names, rows, values)
    for line in made.account.lines():
        note(line)
    if made.nearest is not None and asked is not None and cfg.page is not None:
        from ssl_zoo.pages.nearest import nearest_page  # brings what draws charts

        made.page = Path(cfg.page)
        made.page.parent.mkdir(parents=True, exist_ok=True)
        found = made.nearest.found
        page = nearest_page(str(cfg.query), asked, found, one.tokenizer, data.name, made.account.count)
        write_atomically(made.page, page.encode())
    return made


def described(run: Path, one: Subject, data: Images | TextData, cfg: DictConfig) -> dict[str, Any]:
    """How the vectors are made, as values that `json.dump` takes."""
    backbone, summary = one.backbone, read_summary(run / "summary.json")
    read_at = {"length": one.length} if backbone.modality == "text" else {"image_size": data_size(data)}
    where = "the end" if cfg.depth is None else "the embeddings" if cfg.depth == 0 else f"block {cfg.depth}"
    over = "tokens" if isinstance(backbone, TokenBackbone) else "cells"
    return {
        "columns": "pooled" if cfg.depth is None else f"depth{cfg.depth}",
        "pooling": f"mean over the {over} of {where}",
        "normalised": cfg.normalise,
        **read_at,
        "backbone": hub.describe(backbone),
        "objective": summary.get("objective"),
        "steps": summary.get("steps"),
        "data": data.name,
        "split": cfg.split,
        "ssl_zoo": __version__,
    }


def data_size(data: Any) -> int | None:
    """Pixels a side at which images are read; None where the data does not say."""
    return getattr(data, "image_size", None)


def query_rows(query: str, one: Subject, data: Images | TextData) -> Rows:
    """A query as the only row: an image file, or a text, which may be a file's.

    Raises:
        ConfigError: there is no such image.
        DataError: it cannot be read.
    """
    path = Path(query).expanduser()
    if isinstance(data, Texts):
        try:
            text = path.read_text(encoding="utf-8") if path.is_file() else query
        except ValueError as error:
            raise DataError(f"query={query} is no text in UTF-8") from error
        except OSError:  # a text that is too long for the name of a file
            text = query
        if not text.strip():
            raise ConfigError("query holds no text")
        return DocumentRows([text], one.words(), one.length)
    if not path.is_file():
        raise ConfigError(f"query={query}: there is no such image file")
    size = data_size(data) or max(cast(Any, one.backbone).image_size)
    return ImageData("query", str(path), image_size=size, validation_fraction=0.0, unpack=False).rows("train")
