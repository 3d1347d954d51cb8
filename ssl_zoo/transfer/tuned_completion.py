"""A model that answers prompts: a backbone that was fine-tuned on prompts and completions, and is kept.

The tuning is that of `transfer.completion`, whose learning rate is chosen on validation.

FOLDER/
  model.json   task "completion"; reads: ids of a row, and of a completion; made: how; scores: of validation
  backbone/    the tuned one, whose word embedding is its output matrix, so that there is no other head
  tokenizer/
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ssl_zoo import hub
from ssl_zoo.data.prompts import read_pairs
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.transfer.causal import writer
from ssl_zoo.transfer.chrf import chrf
from ssl_zoo.transfer.completion import Completion, Tuned, complete, exact
from ssl_zoo.transfer.measures import Subject
from ssl_zoo.transfer.model_file import read_model_file, write_model_file
from ssl_zoo.transfer.pair_rows import Form, Pairs

TASK = "completion"
SHOWN = 256  # validation prompts that are completed, for scores beside the loss


@dataclass(frozen=True)
class Answering:
    """A model that answers prompts.

    Attributes:
        subject: the tuned backbone, how it reads text, and where it runs.
        form: how prompts and completions become ids, as in tuning.
        about: "made" and "scores", as plain JSON values.
    """

    subject: Subject
    form: Form
    about: dict[str, Any] = field(default_factory=dict)


def tune_completion(
    subject: Subject,
    train: Path | Pairs,
    out: Path,
    *,
    validation: Path | Pairs | None = None,
    prompt: str | None = None,
    completion: str | None = None,
    measure: Completion | None = None,
    seed: int = 0,
) -> Answering:
    """Fine-tune a backbone on prompts and their completions, and keep it in a folder.

    Args:
        subject: the pretrained backbone and its tokenizer; `length` are the ids of a row, prompt and
            completion together.
        train: pairs, or a .jsonl, .csv or .tsv file of them.
        out: the folder, which is whole or absent. A model in it is replaced.
        validation: as `train`; None: a tenth of train, drawn by seed 0, which is then not trained on.
        prompt, completion: the names of the columns; None: see `data.prompts`.
        measure: the learning rates to choose from, the steps and so on; None: those of protocol=completion.
        seed: of the order of the pairs and of dropout.

    Raises:
        DataError: a backbone that does not write, a file without pairs, or too few of them; and see
            `Completion.fit`.
        ValueError: no learning rates.
    """
    how = Completion() if measure is None else measure
    backbone, tokenizer = writer(subject.backbone), subject.words()
    fitted = read_pairs(train, prompt, completion) if isinstance(train, Path) else list(train)
    if validation is None:
        fitted, held = apart(fitted)
    else:
        held = read_pairs(validation, prompt, completion) if isinstance(validation, Path) else validation
    if not fitted or not held:
        raise DataError("there are no pairs to train on, or none to choose the learning rate on")
    tuned = how.fit(backbone, tokenizer, fitted, held, subject.length, seed, subject.device)
    made = {
        "protocol": {"lrs": list(how.lrs), **{k: v for k, v in asdict(how).items() if k != "lrs"}},
        "lr": tuned.lr,
        "seed": seed,
        "data": {name: str(one) for name, one in (("train", train), ("validation", validation))
                 if isinstance(one, Path)},
        "pairs": {"train": tuned.train, "validation": tuned.validation},
    }  # fmt: skip
    model = Answering(
        Subject(tuned.backbone, tokenizer, subject.length, subject.device),
        tuned.form,
        {"made": made, "scores": {"validation": scores(tuned, list(held)[:SHOWN], subject)}},
    )
    save(model, out)
    return model


def apart(pairs: Pairs) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Nine tenths of the pairs, and the other tenth, one at least, that seed 0 draws.

    Raises:
        DataError: there are fewer than two.
    """
    if len(pairs) < 2:
        raise DataError(f"{len(pairs)} pair(s) cannot be parted into train and validation: give two or more")
    order = np.random.default_rng(0).permutation(len(pairs))
    count = max(1, len(pairs) // 10)
    return [pairs[i] for i in np.sort(order[count:])], [pairs[i] for i in np.sort(order[:count])]


def scores(tuned: Tuned, held: Pairs, subject: Subject) -> dict[str, float]:
    """What the pairs say on which the learning rate was chosen: nats per token of all, and of greedy
    completions of these the share that is exactly right, and chrF."""
    words = tuned.form.tokenizer
    guesses = complete(tuned, held, subject.device)
    truth = [
        words.decode(ids).strip() for ids in words.encode([f" {' '.join(one.split())}" for _, one in held])
    ]
    return {"nats": tuned.loss, "exact_match": exact(guesses, truth), "chrf": chrf(guesses, truth)}


def save(model: Answering, folder: Path) -> None:
    """Write a model into a folder, which is whole or absent."""

    def write(part: Path) -> None:
        hub.save(model.subject.backbone, part / "backbone")
        model.form.tokenizer.save(part / "tokenizer")
        reads = {"length": model.form.length, "completion": model.form.longest}
        write_model_file(part, TASK, {"reads": reads, **model.about})

    hub.replace(folder, write)


def load(folder: Path, length: int | None = None) -> Answering:
    """Open a model on the CPU.

    length: ids of a row; None: as in tuning.

    Raises:
        HubError: there is none, or a file is damaged.
        DataError: its tokenizer is missing or damaged.
    """
    about = read_model_file(folder, TASK)
    reads = about.pop("reads", None)
    reads = reads if isinstance(reads, dict) else {}
    row, longest = (
        one if type(one) is int and one > 0 else None for one in map(reads.get, ("length", "completion"))
    )
    if row is None or longest is None:
        raise hub.HubError(f"{folder}/model.json does not say how many ids a row and a completion have")
    backbone, tokenizer = writer(hub.load(folder)), Tokenizer.load(folder / "tokenizer")
    row = row if length is None else length
    return Answering(Subject(backbone, tokenizer, row), Form.of(backbone, tokenizer, row, longest), about)
