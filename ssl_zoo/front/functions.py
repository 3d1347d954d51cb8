"""The front door from Python: what the command `ssl-zoo` does, as functions of a script or a notebook.

Arguments are the words of the command and are checked in the same way. Keys within keys are written as
dicts, optimizer={"lr": 1e-3}, with a double underscore, optimizer__lr=1e-3, or as they are, within
**{"optimizer.lr": 1e-3}.
Nothing here ends the process or touches Hydra's global state; errors are those of the library.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_zoo.front.doors import Progress, as_folder, at_the_door
from ssl_zoo.front.run import Run, held_backbone

if TYPE_CHECKING:
    from ssl_zoo.backbones._base import Backbone
    from ssl_zoo.data.rows import Rows
    from ssl_zoo.front.model import Answers, Model
    from ssl_zoo.front.tuned_model import TunedModel
    from ssl_zoo.objectives._base import Objective
    from ssl_zoo.transfer.table import Table
    from ssl_zoo.transfer.vector_files import Vectors
    from ssl_zoo.trial.answer import Answer


def pretrain(
    objective: str | type[Objective] | Callable[[Backbone], Objective] | None = None,
    *,
    backbone: str | Backbone | None = None,
    data: str | PathLike[str] | Rows | Mapping[str, Rows] | Any = None,
    out: str | PathLike[str] | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    samples: int | None = None,
    tokens: int | None = None,
    minutes: float | None = None,
    init: Run | str | PathLike[str] | None = None,
    progress: Progress = True,
    **overrides: Any,
) -> Run:
    """Pretrain a backbone, as `ssl-zoo pretrain` does; the same call again goes on where it stopped.

    Args:
        objective: a name ("simclr"), a subclass of `Objective` or a function that makes one of a backbone.
        backbone: a name ("resnet18"), or an object (see `ssl_zoo.backbone`), which is copied.
        data: a name, the path of a folder or file of your own, `ssl_zoo.rows(dataset)`, or a mapping of
            "train", "validation" and "test" to rows.
        out: folder of the run; None = runs/OBJECTIVE-BACKBONE-DATA-sSEED.
        steps, epochs, samples, tokens, minutes: the budget; exactly one.
        init: an earlier run, or its folder, whose backbone this one starts from; the backbone is the same.
            With guard="knn" new heads learn first, and the best step is exported, be it the start.
        progress: whether lines on the way are printed; or a function that is handed each of them.
        overrides: any other key of `ssl-zoo pretrain --help`, such as batch_size=128, trainer="cpu",
            optimizer={"lr": 1e-3} or optimizer__lr=1e-3.

    Returns:
        The run, finished.

    Raises:
        ConfigError: an argument that is not there or cannot be; says what would work.
        DataError, RunError, CheckpointError, NonFinite: what went wrong with data, folder or training.
        KeyboardInterrupt: Ctrl-C; what was trained is saved.
    """
    budget = {"steps": steps, "epochs": epochs, "samples": samples, "tokens": tokens, "minutes": minutes}
    given = {f"budget.{name}": value for name, value in budget.items() if value is not None}
    named = {"objective": objective, "backbone": backbone, "data": data, "run": out, "init": init}
    with at_the_door(progress):
        from ssl_zoo.compose.arguments import as_words
        from ssl_zoo.compose.asking import composed
        from ssl_zoo.compose.pretraining import RunError, pretrain_from

        words, parts = as_words("pretrain", {**named, **given, **overrides})
        if parts.backbone is not None:
            parts = replace(parts, backbone=copy.deepcopy(parts.backbone))
        with composed("pretrain", words, parts) as (cfg, choices):
            done = pretrain_from(cfg, choices, parts)
        if done.summary["stopped"]:
            raise RunError(
                f"a signal stopped training at step {done.summary['steps']:,}; it is saved in {done.where}, "
                "and the same call goes on from there"
            )
        return Run(done.where, None if parts.backbone is None else done.backbone.eval())


def evaluate(
    run: Run | str | PathLike[str],
    *,
    data: str | PathLike[str] | Rows | Mapping[str, Rows] | Any = None,
    protocol: str | None = None,
    labels: int | float | Sequence[int | float | None] | None = None,
    floors: bool | Sequence[str] = False,
    progress: Progress = True,
    **overrides: Any,
) -> Table:
    """Measure what the backbone of a run is worth, as `ssl-zoo evaluate` does.

    Args:
        run: what `pretrain` returned, or the folder of a run.
        data: labelled: a name, the path of a folder or file of your own, `ssl_zoo.rows(dataset)`, or a
            mapping of "train", "validation" and "test" to rows. What is missing is carved from train.
        protocol: "linear" (also None), "knn", "finetune", ...
        labels: labels per class (25), a fraction (0.01), several ([5, 25]), or None = all.
        floors: whether random weights and raw pixels or TF-IDF are measured as well; or some of "scratch"
            (of finetune), "random" and "simple".
        progress: whether lines on the way are printed; or a function that is handed each of them.
        overrides: any other key of `ssl-zoo evaluate --help`, such as seeds=[0] or protocol__lrs=[1e-3].

    Returns:
        The table, whose lines have names, means and intervals; it is written to RUN/evaluations as well.

    Raises:
        ConfigError, DataError, HubError: what was asked for cannot be; says what would work.
    """
    named = {"run": as_folder(run), "data": data, "protocol": protocol, "labels": labels, "floors": floors}
    with at_the_door(progress):
        from ssl_zoo.compose.arguments import as_words
        from ssl_zoo.compose.asking import composed
        from ssl_zoo.compose.evaluation import evaluate_from

        words, parts = as_words("evaluate", {**named, **overrides})
        own = held_backbone(run)
        with composed("evaluate", words, parts) as (cfg, choices):
            return evaluate_from(cfg, choices, own, parts)


def finetune(
    run: Run | str | PathLike[str],
    *,
    data: str | PathLike[str] | Rows | Mapping[str, Rows] | Any = None,
    out: str | PathLike[str] | None = None,
    protocol: str | None = None,
    labels: int | float | None = None,
    progress: Progress = True,
    **overrides: Any,
) -> Model | TunedModel | Answers:
    """Make and keep a model for use of a pretrained backbone and labelled data, as `ssl-zoo finetune` does.

    Args:
        run: what `pretrain` returned, or the folder of a run.
        data: labelled: a name, the path of a folder or file of your own, `ssl_zoo.rows(dataset)`, or a
            mapping of "train", "validation" and "test" to rows. Validation is carved from train if missing.
        out: the folder of the model; None = RUN/models/DATA-PROTOCOL.
        protocol: "finetune" (also None) trains everything, "linear" a head on the frozen backbone;
            "completion" makes a model that answers, of a table of prompts and completions.
        labels: labels per class (25), a fraction (0.01), or None = all.
        progress: whether lines on the way are printed; or a function that is handed each of them.
        overrides: any other key of `ssl-zoo finetune --help`, such as protocol__steps=200 or
            task="regression".

    Returns:
        The model, whose `predict` names the classes of what it is given, or what else the data is labelled
        with; of pairs, one whose `answer` writes.

    Raises:
        ConfigError, DataError, HubError: what was asked for cannot be; says what would work.
    """
    named = {"run": as_folder(run), "data": data, "out": out, "protocol": protocol, "labels": labels}
    with at_the_door(progress):
        from ssl_zoo.compose.arguments import as_words
        from ssl_zoo.compose.asking import composed
        from ssl_zoo.compose.finetuning import finetune_from
        from ssl_zoo.front.model import opened

        words, parts = as_words("finetune", {**named, **overrides})
        own = held_backbone(run)
        with composed("finetune", words, parts) as (cfg, choices):
            return opened(*finetune_from(cfg, choices, own, parts))


def embed(
    run: Run | str | PathLike[str],
    data: str | PathLike[str] | Rows | Mapping[str, Rows] | Any,
    *,
    out: str | PathLike[str] | None = None,
    progress: Progress = True,
    **overrides: Any,
) -> Vectors:
    """One vector for each image or text, as `ssl-zoo embed` makes them.

    Args:
        run: what `pretrain` returned, or the folder of a run.
        data: the path of a folder or file of your own, a name, or `ssl_zoo.rows(dataset)`.
        out: a file to write them into besides: .npy, .csv or .parquet.
        progress: whether lines on the way are printed; or a function that is handed each of them.
        overrides: any other key of `ssl-zoo embed --help`, such as depth=3 or normalise=True.

    Returns:
        All vectors with their names, in memory. The command holds a piece of them at a time.

    Raises:
        ConfigError, DataError, HubError: what was asked for cannot be; says what would work.
    """
    named = {"run": as_folder(run), "data": data, "out": out}
    with at_the_door(progress):
        from ssl_zoo.compose.arguments import as_words
        from ssl_zoo.compose.asking import composed
        from ssl_zoo.compose.embedding import embed_from
        from ssl_zoo.transfer.vector_files import Gathered

        words, parts = as_words("embed", {**named, **overrides})
        own = held_backbone(run)
        gathered = Gathered()
        with composed("embed", words, parts) as (cfg, choices):
            made = embed_from(cfg, choices, own, parts, gathered)
        return gathered.vectors(made.about)


def generate(
    run: Run | str | PathLike[str],
    prompt: str | Sequence[str] | None = None,
    *,
    tokens: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float = 1.0,
    samples: int = 1,
    seed: int = 0,
    progress: Progress = True,
    **overrides: Any,
) -> list[str]:
    """Text from a model that writes, as `ssl-zoo generate` has it.

    Args:
        run: what `pretrain` returned, the folder of a run, or that of a model tuned on completions.
        prompt: what is continued or answered, or several; None = a text from its beginning.
        tokens: tokens that are written at most; None = 100, or as many as a tuned model learned to write.
        temperature: divides the logits; 0 takes the likeliest token; None = 1, or 0 for a tuned model.
        top_k, top_p: draw from so many of the likeliest tokens, or from the fewest that are so probable.
        samples: texts for each prompt. seed: decides all draws.
        progress: whether lines on the way are printed; or a function that is handed each of them.
        overrides: any other key of `ssl-zoo generate --help`, such as file="prompts.txt" or length=256.

    Returns:
        What follows each prompt, without the prompt. Several samples of one stand one after the other.

    Raises:
        ConfigError, DataError, HubError: what was asked for cannot be; says what would work.
    """
    drawn = {"tokens": tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    named = {"model": as_folder(run), **drawn, "samples": samples, "seed": seed}
    given = None if prompt is None else [prompt] if isinstance(prompt, str) else list(prompt)
    with at_the_door(progress):
        from ssl_zoo.compose.arguments import as_words
        from ssl_zoo.compose.asking import composed
        from ssl_zoo.compose.generation import generate_from

        words, parts = as_words("generate", {**named, **overrides})
        own = held_backbone(run)
        with composed("generate", words, parts) as (cfg, _):
            return [one.text for one in generate_from(cfg, given, own)]


def worth(
    data: str | PathLike[str],
    *,
    labelled: str | PathLike[str] | None = None,
    minutes: float = 30,
    out: str | PathLike[str] | None = None,
    progress: Progress = True,
    **overrides: Any,
) -> Answer:
    """Whether pretraining is worth it on somebody's data, as `ssl-zoo worth` finds out.

    Args:
        data: the path of a folder or file of your own, or a name.
        labelled: the path or name of labelled data, where `data` has no labels.
        minutes: of wall time that all of it takes, about. What is done already is not done again.
        out: the folder of the answer; None = worth/DATA.
        progress: whether lines on the way are printed; or a function that is handed each of them.
        overrides: any other key of `ssl-zoo worth --help`, such as lines=["text_crops"] or labels=[5, 25].

    Returns:
        The recommendation with all figures; `lines()` says it in sentences, `page` is an HTML file.

    Raises:
        ConfigError, DataError: what was asked for cannot be; says what would work.
        KeyboardInterrupt: Ctrl-C; the same call goes on.
    """
    named = {"data": data, "minutes": minutes, "out": out}
    named |= {} if labelled is None else {"labelled": labelled}
    with at_the_door(progress):
        from ssl_zoo.compose import composition
        from ssl_zoo.compose.arguments import as_words
        from ssl_zoo.compose.asking import composed
        from ssl_zoo.compose.typed import typing
        from ssl_zoo.compose.worthwhile import worth_from

        words, parts = as_words("worth", {**named, **overrides})
        settled = composition.settle("worth", words)
        with typing(words), composed("worth", settled, parts) as (cfg, _):
            return worth_from(cfg, settled)


def report(
    run: Run | str | PathLike[str],
    *,
    out: str | PathLike[str] | None = None,
    data: str | PathLike[str] | Rows | Mapping[str, Rows] | Any = None,
    progress: Progress = True,
    **overrides: Any,
) -> Path:
    """Write a page about a run, as `ssl-zoo report` does.

    Args:
        run: what `pretrain` returned, or the folder of a run.
        out: the HTML file; None = RUN/report.html.
        data: what the features are looked at on, as `evaluate` takes it; None = the data of the run.
        progress: whether lines on the way are printed; or a function that is handed each of them.
        overrides: any other key of `ssl-zoo report --help`.

    Returns:
        The path of the page.

    Raises:
        ConfigError, DataError: what was asked for cannot be; says what would work.
    """
    with at_the_door(progress):
        from ssl_zoo.compose.arguments import as_words
        from ssl_zoo.compose.asking import composed
        from ssl_zoo.compose.reporting import report_from

        words, parts = as_words("report", {"run": as_folder(run), "out": out, "data": data, **overrides})
        with composed("report", words, parts) as (cfg, _):
            return report_from(cfg, parts)


def export(
    run: Run | Model | str | PathLike[str],
    to: str,
    *,
    out: str | PathLike[str] | None = None,
    push: str | None = None,
    progress: Progress = True,
    **overrides: Any,
) -> Path:
    """Write the backbone of a run, or a classifier, for another library, as `ssl-zoo export` does.

    The peer's own loader opens the folder before it gets its place, and has to read the same features.

    Args:
        run: what `pretrain` returned, or `finetune` (a classifier goes out by to="onnx" or "torch"); or the
            folder of either.
        to: "timm", "transformers", "sentence-transformers", "onnx" or "torch".
        out: the folder, in the place of an earlier export; None = RUN/exports/TO.
        push: USER/NAME on the Hugging Face hub, to which the folder is uploaded; None = nowhere.
        progress: whether lines on the way are printed; or a function that is handed each of them.
        overrides: any other key of `ssl-zoo export --help`, such as license="cc-by-4.0" or part="text".

    Returns:
        The folder, whose README.md says how to open it.

    Raises:
        ConfigError: the run has not ended, its backbone cannot be said so, or it is a model of another task;
            says what would work.
        HubError: the backbone or the classifier is damaged.
    """
    with at_the_door(progress):
        from ssl_zoo.compose.arguments import as_words
        from ssl_zoo.compose.asking import composed
        from ssl_zoo.compose.exporting import export_from

        named = {"run": as_folder(run), "to": to, "out": out, "push": push}
        words, parts = as_words("export", {**named, **overrides})
        own = held_backbone(run)
        with composed("export", words, parts) as (cfg, _):
            return export_from(cfg, own).exported.folder
