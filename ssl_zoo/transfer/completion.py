"""Fine-tuning on prompt -> completion, with the loss on the completion alone.

    L = - mean over the completion's tokens t of log p(u_t | prompt, u_1 ... u_{t-1})

(supervised fine-tuning: Radford et al. 2018; Ouyang et al. 2022). The completion's last token is the end of
the document, so that the model learns to stop. Everything is trained: AdamW, warm-up and cosine, a fixed
number of steps. The test prompts are then completed greedily.

The prompt is read as the backbone was pretrained to (`backbones._base.Writes`): causally, or as a prefix that
sees itself whole; span corruption ends it with the separator, as its inputs, and needs no marks, as T5 is
fine-tuned without sentinels (Raffel et al. 2020, section 3.1.4). Masked diffusion fills completions in: they
are filled up with ends to the longest of the training set, and the loss is that of `transfer.unmasking`.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch

from ssl_zoo.backbones._base import Backbone, TokenBackbone
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_pairs import TextPairs
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.noise import seed_model
from ssl_zoo.optim import groups
from ssl_zoo.pace import Progress
from ssl_zoo.schedules import cosine
from ssl_zoo.transfer.causal import Example, writer
from ssl_zoo.transfer.chrf import chrf
from ssl_zoo.transfer.generate import Choice, end_of_document, follow
from ssl_zoo.transfer.measures import Data, Measured, Subject
from ssl_zoo.transfer.pair_rows import BATCH, Form, Pairs, draw, held_out, losses_of


def pairs(data: Data, split: str, alike: float) -> list[tuple[str, str]]:
    """Prompts and completions: text and class name, or the two sentences of pairs scored `alike` or more.

    Raises:
        DataError: data without either.
    """
    if isinstance(data, TextPairs):
        kept = [
            pair for pair, score in zip(data.pairs(split), data.scores(split), strict=True) if score >= alike
        ]
        if not kept:
            raise DataError(f"{data.name}: {split} holds no pair with a score of {alike} or more")
        return kept
    if not isinstance(data, TextData) or not data.classes:
        raise DataError(f"{data.name} has neither labelled texts nor pairs of sentences to complete")
    y = data.labels(split)
    assert y is not None, "data with classes has labels"
    return list(zip(data.documents(split), [data.classes[i] for i in y], strict=True))


class Tuned(NamedTuple):
    """A backbone after fine-tuning.

    Attributes:
        backbone: in evaluation mode.
        form: in which it was tuned.
        lr: the learning rate that was chosen. loss: nats per token of the validation completions with it.
        train, validation: how many pairs there were.
    """

    backbone: TokenBackbone
    form: Form
    lr: float
    loss: float
    train: int
    validation: int


@dataclass(frozen=True)
class Completion:
    """Exact match and chrF of greedy completions after fine-tuning.

    The floors beside it: always the commonest completion of train, and (chrF alone) the prompt repeated.

    Args:
        lrs: learning rates to choose from, by the loss on validation; one that diverges is not chosen.
        steps, batch_size, weight_decay, warmup: as in `transfer.finetune`.
        alike: of scored pairs, those with this score or a higher one are used.
    """

    name: ClassVar[str] = "completion"
    stochastic: ClassVar[bool] = True
    lrs: Sequence[float] = (3e-4, 1e-3, 3e-3)
    steps: int = 300
    batch_size: int = 32
    weight_decay: float = 0.05
    warmup: float = 0.1
    alike: float = 4.0

    def begin(self, subject: Subject, data: Data, seed: int) -> Callable[[Data], Measured]:
        """Fine-tune with each learning rate and choose one; act two completes the test prompts.

        Raises:
            DataError: nothing to complete, or see `fit`.
            ValueError: see `fit`.
        """
        backbone, tokenizer = writer(subject.backbone), subject.words()
        train = pairs(data, "train", self.alike)
        common = Counter(completion for _, completion in train).most_common(1)[0][0]
        validation = pairs(data, "validation", self.alike)
        tuned = self.fit(backbone, tokenizer, train, validation, subject.length, seed, subject.device)

        def decoded(texts: Sequence[str]) -> list[str]:
            """The texts as the tokenizer gives them back: one of small letters alone loses capitals."""
            return [tokenizer.decode(ids).strip() for ids in tokenizer.encode([" " + t for t in texts])]

        def score(data: Data) -> Measured:
            test = pairs(data, "test", self.alike)
            prompts, completions = [one for one, _ in test], [one for _, one in test]
            truth, always, copied = decoded(completions), decoded([common]) * len(test), decoded(prompts)
            guesses = complete(tuned, test, subject.device)
            shown = [list(one) for one in zip(prompts, truth, guesses, strict=True)][:5]
            return Measured(
                "exact_match",
                exact(guesses, truth),
                others={
                    "chrf": chrf(guesses, truth),
                    "commonest_exact_match": exact(always, truth),
                    "commonest_chrf": chrf(always, truth),
                    "copied_chrf": chrf(copied, truth),
                },
                chosen={"lr": tuned.lr, "validation": tuned.loss},
                details={"commonest": common, "examples": shown},
                train=tuned.train,
                validation=tuned.validation,
                test=len(test),
            )

        return score

    def fit(
        self,
        backbone: Backbone,
        tokenizer: Tokenizer,
        train: Pairs,
        validation: Pairs,
        length: int,
        seed: int,
        device: torch.device,
    ) -> Tuned:
        """A copy of the backbone, trained with the learning rate that does best on validation.

        length: ids of a row at most.

        Raises:
            DataError: a backbone that does not write, rows that are too short, or training that diverges with
                all learning rates.
            ValueError: no learning rates.
        """
        if not self.lrs:
            raise ValueError("completion needs learning rates to choose from, and lrs is empty")
        model = writer(backbone)
        form = Form.of(model, tokenizer, length)
        examples = form.examples(train)
        form = form._replace(longest=max(len(one.ids) - one.prompt for one in examples))
        examples = form.examples(train) if form.fills else examples
        held = form.examples(validation)
        best: Tuned | None = None
        with Progress("fine-tuning on completions", self.steps * len(self.lrs)) as progress:
            for lr in self.lrs:
                tuned = self.tune(model, examples, lr, seed, device, progress)
                loss = held_out(tuned, held, device)
                if not math.isfinite(loss):
                    warnings.warn(f"completion diverged with lr={lr:g}, which is not chosen", stacklevel=2)
                elif best is None or loss < best.loss:
                    best = Tuned(tuned, form, lr, loss, len(examples), len(held))
        if best is None:
            raise DataError(f"completion diverged with all of lrs={list(self.lrs)}: add a lower one")
        return best

    def tune(
        self,
        backbone: TokenBackbone,
        train: Sequence[Example],
        lr: float,
        seed: int,
        device: torch.device,
        progress: Progress,
    ) -> TokenBackbone:
        """A trained copy, on the device, in eval mode. The default random generator is left as it was."""
        model = copy.deepcopy(backbone).to(device).train()
        optimizer = torch.optim.AdamW(groups(model.named_parameters(), lr, self.weight_decay))
        schedule = cosine(self.warmup)
        with torch.random.fork_rng([device.index or 0] if device.type == "cuda" else []):
            for step in range(self.steps):
                # The middle of each step: neither the first nor the last has a learning rate of 0.
                for group in optimizer.param_groups:
                    group["lr"] = group["base_lr"] * schedule((step + 0.5) / self.steps)
                seed_model(device, "completion", seed, step)
                batch = [train[i] for i in draw(len(train), self.batch_size, seed, step)]
                loss = losses_of(model, batch, seed, step).mean()
                loss.backward()
                progress.step(loss)
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
        return model.eval()


def exact(guesses: Sequence[str], truth: Sequence[str]) -> float:
    """The share of guesses that are the true text."""
    return sum(g == t for g, t in zip(guesses, truth, strict=True)) / len(truth)


def complete(tuned: Tuned, asked: Pairs, device: torch.device) -> list[str]:
    """Greedy completions of the prompts of these pairs, which are cut to leave room for their completions."""
    tokenizer, form = tuned.form.tokenizer, tuned.form
    end, special = end_of_document(tokenizer), tokenizer.vocabulary.special
    prompts = [one.ids[: one.prompt] for one in form.examples(asked)]
    found: list[str] = []
    for i in range(0, len(prompts), BATCH):
        runs = follow(
            tuned.backbone,
            prompts[i : i + BATCH],
            form.longest,
            form.length,
            Choice(temperature=0),
            end=end,
            never=[one for one in special if one != end],
            device=device,
        )
        found += [tokenizer.decode([step.id for step in run]).strip() for run in runs]
    return found
