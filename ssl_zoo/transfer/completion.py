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
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ssl_zoo.backbones._base import TokenBackbone
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_pairs import TextPairs
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.noise import fold, seed_model
from ssl_zoo.optim import groups
from ssl_zoo.schedules import cosine
from ssl_zoo.transfer.causal import Example, completion_nats, writer
from ssl_zoo.transfer.chrf import chrf
from ssl_zoo.transfer.features import evaluating
from ssl_zoo.transfer.generate import Choice, end_of_document, follow
from ssl_zoo.transfer.measures import Data, Measured, Subject
from ssl_zoo.transfer.unmasking import unmasking_nats

BATCH = 128  # rows at once where nothing is trained
ROUNDS = 8  # times that held-out completions are hidden, each time otherwise


def pairs(data: Data, split: str, alike: float) -> tuple[list[str], list[str]]:
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
        return [first for first, _ in kept], [second for _, second in kept]
    if not isinstance(data, TextData) or not data.classes:
        raise DataError(f"{data.name} has neither labelled texts nor pairs of sentences to complete")
    y = data.labels(split)
    assert y is not None, "data with classes has labels"
    return list(data.documents(split)), [data.classes[i] for i in y]


def join(
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    completions: Sequence[str],
    length: int,
    close: Sequence[int] = (),
    fill: int | None = None,
) -> list[Example]:
    """Examples "prompt => completion" of `length` ids at most.

    A completion is cut to half of a row, its end included, and a prompt to what that leaves.

    Args:
        close: ids that end a prompt.
        fill: ids of each completion, which is filled up with ends, or cut; None: those that it has.

    Raises:
        DataError: `length` leaves no room for a prompt.
    """
    arrow = [*tokenizer.encode([" =>"])[0].tolist(), *close]
    before, end = list(tokenizer.prefix), end_of_document(tokenizer)
    found = []
    texts = zip(
        tokenizer.encode([" ".join(text.split()) for text in prompts]),
        tokenizer.encode([" " + " ".join(text.split()) for text in completions]),
        strict=True,
    )
    for prompt, completion in texts:
        after = [*completion[: length // 2 - 1].tolist(), end]
        if fill is not None:
            after = (after + [end] * fill)[:fill]
        room = length - len(before) - len(arrow) - len(after)
        if room < 1:
            raise DataError(f"rows of {length} tokens have no room for a prompt and its completion")
        start = [*before, *prompt[:room].tolist(), *arrow]
        found.append(Example(start + after, len(start)))
    return found


def losses_of(backbone: TokenBackbone, examples: Sequence[Example], *keys: int | str) -> Tensor:
    """What the tokens of the completions add to the loss, which is the mean: (N,) nats.

    keys: decide what is hidden of them, where the backbone fills in masks.
    """
    if backbone.writes == "masks":
        return unmasking_nats(backbone, examples, fold("completion", *keys)).flatten()
    return completion_nats(backbone, examples)


def held_out(backbone: TokenBackbone, examples: Sequence[Example], device: torch.device) -> float:
    """Mean nats per token of the completions, in eval mode; of what fills in masks an upper bound of them."""
    rounds = ROUNDS if backbone.writes == "masks" else 1
    with torch.no_grad(), evaluating(backbone, device):
        parts = [
            losses_of(backbone, examples[i : i + BATCH], "held out", turn, i)
            for turn in range(rounds)
            for i in range(0, len(examples), BATCH)
        ]
    return torch.cat(parts).double().mean().item()


def draw(count: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Indices of the examples of one step: `batch_size` different ones of `count`, or all if that is less."""
    rng = np.random.default_rng([seed, step])
    return rng.choice(count, min(batch_size, count), replace=False)


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
            DataError: nothing to complete, a backbone that does not write, rows that are too short, or
                training that diverges with all learning rates.
            ValueError: no learning rates.
        """
        if not self.lrs:
            raise ValueError("completion needs learning rates to choose from, and lrs is empty")
        backbone, tokenizer = writer(subject.backbone), subject.words()
        prompts, completions = pairs(data, "train", self.alike)
        close = [tokenizer.vocabulary.separator] if backbone.writes == "spans" else []
        train = join(tokenizer, prompts, completions, subject.length, close)
        longest, fill = max(len(one.ids) - one.prompt for one in train), None
        if backbone.writes == "masks":
            fill = longest
            train = join(tokenizer, prompts, completions, subject.length, close, fill)
        common = Counter(completions).most_common(1)[0][0]
        validation = join(tokenizer, *pairs(data, "validation", self.alike), subject.length, close, fill)
        runs, losses = {}, {}
        for lr in tqdm(self.lrs, "completion", unit="run", disable=None, leave=False):
            runs[lr] = self.tune(backbone, train, lr, seed, subject.device)
            loss = held_out(runs[lr], validation, subject.device)
            if math.isfinite(loss):
                losses[lr] = loss
            else:
                warnings.warn(f"completion diverged with lr={lr:g}, which is not chosen", stacklevel=2)
        if not losses:
            raise DataError(f"completion diverged with all of lrs={list(self.lrs)}: add a lower one")
        best = min(losses, key=lambda lr: losses[lr])

        def decoded(texts: Sequence[str]) -> list[str]:
            """The texts as the tokenizer gives them back: one of small letters alone loses capitals."""
            return [tokenizer.decode(ids).strip() for ids in tokenizer.encode([" " + t for t in texts])]

        def score(data: Data) -> Measured:
            prompts, completions = pairs(data, "test", self.alike)
            examples = join(tokenizer, prompts, completions, subject.length, close, fill)
            truth, always, copied = decoded(completions), decoded([common]) * len(prompts), decoded(prompts)
            guesses = complete(runs[best], tokenizer, examples, longest, subject)
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
                chosen={"lr": best, "validation": losses[best]},
                details={"commonest": common, "examples": shown},
                train=len(train),
                validation=len(validation),
                test=len(examples),
            )

        return score

    def tune(
        self,
        backbone: TokenBackbone,
        train: Sequence[Example],
        lr: float,
        seed: int,
        device: torch.device,
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
                losses_of(model, batch, seed, step).mean().backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
        return model.eval()


def exact(guesses: Sequence[str], truth: Sequence[str]) -> float:
    """The share of guesses that are the true text."""
    return sum(g == t for g, t in zip(guesses, truth, strict=True)) / len(truth)


def complete(
    backbone: TokenBackbone, tokenizer: Tokenizer, examples: Sequence[Example], tokens: int, subject: Subject
) -> list[str]:
    """Greedy completions of the examples' prompts, of `tokens` tokens at most."""
    end, special = end_of_document(tokenizer), tokenizer.vocabulary.special
    prompts = [one.ids[: one.prompt] for one in examples]
    found: list[str] = []
    for i in range(0, len(prompts), BATCH):
        runs = follow(
            backbone,
            prompts[i : i + BATCH],
            tokens,
            subject.length,
            Choice(temperature=0),
            end=end,
            never=[one for one in special if one != end],
            device=subject.device,
        )
        found += [tokenizer.decode([step.id for step in run]).strip() for run in runs]
    return found
