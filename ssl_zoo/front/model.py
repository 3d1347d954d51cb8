"""A classifier that `ssl-zoo finetune` made, for scripts and notebooks; and what opens any saved folder."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_zoo.front.doors import Progress, at_the_door
from ssl_zoo.front.tuned_model import TunedModel

if TYPE_CHECKING:
    from torch import nn

    from ssl_zoo.backbones._base import Backbone
    from ssl_zoo.transfer.kept import Kept
    from ssl_zoo.transfer.predictions import Prediction
    from ssl_zoo.transfer.tasks.model import TaskModel
    from ssl_zoo.transfer.tuned_completion import Answering


class Model:
    """A backbone with a head that names classes.

    Attributes:
        path: its folder.
        classes: the names that it tells apart.
        about: how inputs are read, how it was made and what it scored.
    """

    def __init__(self, kept: Kept, path: str | PathLike[str]):
        self._kept, self.path = kept, Path(path)
        self.classes, self.about = kept.classes, kept.about

    @property
    def backbone(self) -> Backbone:
        """The fine-tuned backbone."""
        return self._kept.subject.backbone

    @property
    def head(self) -> nn.Linear:
        """The layer (D -> C) on the pooled features."""
        return self._kept.head

    def predict(self, data: Any, *, progress: Progress = False, **overrides: Any) -> list[Prediction]:
        """The classes of images or texts.

        Args:
            data: a list of texts; or the path of a folder or file, a name, or `ssl_zoo.rows(dataset)`.
            progress: whether lines on the way are printed; or a function that is handed each of them.
            overrides: any other key of `ssl-zoo predict --help`, such as out="predictions.csv".

        Returns:
            A prediction for each, in order, with the name and probability of the likeliest class, and the
            probabilities of all.

        Raises:
            ConfigError, DataError: what was asked for cannot be; says what would work.
        """
        found: list[Prediction] = []
        with at_the_door(progress):
            from ssl_zoo.compose.arguments import as_words
            from ssl_zoo.compose.asking import composed
            from ssl_zoo.compose.predicting import predict_from, predict_texts
            from ssl_zoo.transfer.embed import Account

            if isinstance(data, (list, tuple)) and all(isinstance(one, str) for one in data):
                return predict_texts(self._kept, list(data), Account())
            words, parts = as_words("predict", {"model": self.path, "data": data, **overrides})
            with composed("predict", words, parts) as (cfg, choices):
                predict_from(cfg, choices, found.append, self._kept, parts, file=False)
        return found

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        scores = self.about.get("scores", {})
        told = [f"{split} {one['metric']} {one['value']:.3f}" for split, one in scores.items()]
        named = ", ".join(self.classes[:8]) + (", ..." if len(self.classes) > 8 else "")
        return f"Model in {self.path}: {'; '.join([f'{len(self.classes)} classes ({named})', *told])}"


class Answers:
    """A model that answers prompts, as the completions did that it was tuned on.

    Attributes:
        path: its folder.
        about: how it was made and what it scored.
    """

    def __init__(self, answering: Answering, path: str | PathLike[str]):
        self.path, self.about = Path(path), answering.about

    def answer(
        self, prompt: str | Sequence[str], *, progress: Progress = False, **overrides: Any
    ) -> list[str]:
        """The answer to each prompt; arguments and errors are those of `ssl_zoo.generate`."""
        from ssl_zoo.front.functions import generate

        return generate(self.path, prompt, progress=progress, **overrides)

    def __repr__(self) -> str:
        found = self.about["scores"]["validation"]
        return f"Answers in {self.path}: validation exact match {found['exact_match']:.3f}"


def opened(model: Kept | TaskModel | Answering, path: str | PathLike[str]) -> Model | TunedModel | Answers:
    """What scripts are handed of a model in its folder."""
    from ssl_zoo.transfer.kept import Kept
    from ssl_zoo.transfer.tasks.model import TaskModel

    if isinstance(model, TaskModel):
        return TunedModel(model, path)
    return Model(model, path) if isinstance(model, Kept) else Answers(model, path)


def load(
    path: str | PathLike[str], backbone: Backbone | nn.Module | None = None, *, name: str = "backbone"
) -> Any:
    """Open what was saved: the model in a folder that `finetune` wrote, else the backbone of a run.

    Args:
        path: the folder of a model or of a run, or a folder that `save` wrote.
        backbone: an instance to fill, for classes outside this library; or the module that `ssl_zoo.backbone`
            was given, with any weights.
        name: which backbone of a run; "text" is the text tower of CLIP and SigLIP.

    Returns:
        A `Model`, which names classes, a `TunedModel` of another task, or `Answers`; else a `Backbone`, on
        the CPU, in evaluation mode.

    Raises:
        HubError: there is none, a file is damaged, or the weights do not fit.
        ValueError: a name that is no identifier.
    """
    from ssl_zoo import hub

    folder = Path(path)
    if (folder / "model.json").is_file():
        from ssl_zoo.transfer import kept, model_file, tuned_completion
        from ssl_zoo.transfer.tasks import model as tasks

        if tasks.is_task_model(folder):
            return opened(tasks.load(folder), folder)
        answers = model_file.task_of(folder) == tuned_completion.TASK
        return opened(tuned_completion.load(folder) if answers else kept.load(folder), folder)
    return hub.load(folder, backbone, name=name)
