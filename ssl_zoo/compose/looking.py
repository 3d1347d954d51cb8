"""What lies at a path and how it would be read, as a configuration asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ssl_zoo.compose.evaluation import single_samples
from ssl_zoo.compose.objects import NONE, Objects
from ssl_zoo.data.survey import Split, lines, shared, survey_images, survey_texts
from ssl_zoo.data.text_streams import Texts
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.pretrain.writing import write_atomically


@dataclass
class Looked:
    """What was seen.

    Attributes:
        name: of the data set. splits: what each holds, by its name.
        texts: whether it holds texts. length: tokens that a text would be cut to, where it became tokens.
        page: the HTML file; None where none was asked for.
    """

    name: str
    splits: dict[str, Split]
    texts: bool
    length: int | None = None
    page: Path | None = None

    def lines(self) -> Iterator[str]:
        """All of it, in sentences for people."""
        for split, found in self.splits.items():
            for i, line in enumerate(lines(found, self.texts, self.length)):
                yield f"{split if not i else '':<11} {line}"
        for first, second, pairs in shared(self.splits):
            yield (
                f"WARNING: {len(pairs):,} of {second} are in {first} too, such as {pairs[0][1]}, which is "
                f"{pairs[0][0]}"
            )


def look_from(cfg: DictConfig, objects: Objects = NONE) -> Looked:
    """Look at the data that a configuration names.

    Args:
        objects: what code hands over in the place of groups.

    Raises:
        ConfigError, DataError: there is none, or it cannot be read at all.
    """
    data = single_samples(cfg, objects)
    tokenizer, length = None, None
    if isinstance(data, Texts):
        if cfg.run is not None and (Path(cfg.run) / "tokenizer").is_dir():
            tokenizer = Tokenizer.load(Path(cfg.run) / "tokenizer")
            length = int(OmegaConf.load(Path(cfg.run) / "config.yaml").context)
        splits = {split: survey_texts(data, split, cfg.limit, tokenizer) for split in data.splits()}
    else:
        splits = {split: survey_images(data.rows(split), cfg.limit) for split in data.splits()}
    made = Looked(data.name, splits, isinstance(data, Texts), length)
    if cfg.page is not None:
        from ssl_zoo.pages.look import look_page  # brings what draws charts

        made.page = Path(cfg.page)
        made.page.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(made.page, look_page(made.name, splits, list(made.lines())).encode())
    return made
