"""A model of another task than classes that `ssl-zoo finetune` made, for scripts and notebooks."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_zoo.front.doors import Progress, at_the_door

if TYPE_CHECKING:
    from torch import nn

    from ssl_zoo.backbones._base import Backbone
    from ssl_zoo.transfer.tasks.model import TaskModel


class TunedModel:
    """A backbone with a head that tells labels, a number, the tags of words or the classes of pixels.

    Attributes:
        path: its folder.
        task: "labels", "regression", "tags" or "masks".
        classes: the names that it tells apart; () of a number.
        about: how inputs are read, how it was made and what it scored.
    """

    def __init__(self, model: TaskModel, path: str | PathLike[str]):
        self._model, self.path = model, Path(path)
        self.task, self.about = model.goal.task, model.about
        self.classes: tuple[str, ...] = getattr(model.goal, "classes", ())

    @property
    def backbone(self) -> Backbone:
        """The backbone, fine-tuned or as it was."""
        return self._model.subject.backbone

    @property
    def head(self) -> nn.Module:
        """From points (B, M, D), the pooled feature, words or cells, to (B, M, WIDTH)."""
        return self._model.head

    def predict(self, data: Any, *, progress: Progress = False, **overrides: Any) -> list[Any]:
        """What the model tells of images or texts.

        Args:
            data: a list of texts; or the path of a folder or file, or, of labels and numbers, a name or
                `ssl_zoo.rows(dataset)`.
            progress: whether lines on the way are printed; or a function that is handed each of them.
            overrides: any other key of `ssl-zoo predict --help`, such as out="predictions.csv".

        Returns:
            For each, in order, an object with its file and row, and: of labels, `labels` and `probabilities`;
            of a number, `value`; of tags, `words`, `tags` and `spans`; of masks, `mask` (H, W) and `shares`.

        Raises:
            ConfigError, DataError: what was asked for cannot be; says what would work.
        """
        found: list[Any] = []
        with at_the_door(progress):
            from ssl_zoo.compose.arguments import as_words
            from ssl_zoo.compose.asking import composed
            from ssl_zoo.compose.predicting import predict_from
            from ssl_zoo.compose.task_predicting import tell_texts

            if isinstance(data, (list, tuple)) and all(isinstance(one, str) for one in data):
                return tell_texts(self._model, list(data))
            words, parts = as_words("predict", {"model": self.path, "data": data, **overrides})
            with composed("predict", words, parts) as (cfg, choices):
                predict_from(cfg, choices, found.append, self._model, parts, file=False)
        return found

    def __repr__(self) -> str:
        scores = self.about.get("scores", {})
        told = [f"{split} {one['metric']} {one['value']:.3f}" for split, one in scores.items()]
        return f"TunedModel in {self.path}: {'; '.join([self._model.goal.title(), *told])}"
