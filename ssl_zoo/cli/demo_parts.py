"""What `ssl-zoo demo` does: both stages on images and text.

Each modality is pretrained by its recipe (configs/experiment/demo_*.yaml) along the road of `ssl-zoo
pretrain`, then fine-tuned with few labels, beside what pretraining must beat under the same budget.
Hyper-parameters are chosen on validation; the test rows are read once for each number.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ssl_zoo import hub
from ssl_zoo.backbones._base import Backbone
from ssl_zoo.cli import pretrain
from ssl_zoo.compose import composition, evaluation
from ssl_zoo.compose.gate import instantiate
from ssl_zoo.data.images import ImageData
from ssl_zoo.data.text import TextData
from ssl_zoo.pretrain.saying import say
from ssl_zoo.pretrain.writing import write_atomically
from ssl_zoo.transfer import floors
from ssl_zoo.transfer.evaluate import evaluate as score
from ssl_zoo.transfer.protocols import Finetune, Linear
from ssl_zoo.transfer.report import Result, interval, table

TUNING = ("protocol=finetune", "protocol.head_start=probe")
SEEDS = (0, 1, 2)
THREADS = 2  # the models are too small for more
SCRATCH, TUNED = "from scratch, fine-tuned", "pretrained, fine-tuned"


@dataclass(frozen=True)
class Part:
    """One modality: the words of its two commands, the label budgets per class, and the seeds of transfer."""

    name: str
    pretrain: tuple[str, ...]
    transfer: tuple[str, ...]
    labels: tuple[int, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """What a part found.

    Attributes:
        part: what was run.
        run: the folder of its pretraining.
        backbone: the pretrained one.
        splits: the labelled rows that it was measured on.
        results: name of the row of the table and its result, budget by budget.
    """

    part: Part
    run: Path
    backbone: Backbone
    splits: evaluation.Splits
    results: list[tuple[str, Result]]

    def named(self, name: str) -> list[Result]:
        """The results of one row of the table, by budget."""
        return [result for row, result in self.results if row == name]

    def gains(self) -> list[tuple[float, float]]:
        """Pretrained minus from scratch, both fine-tuned: mean and half the 95 % interval, by budget.

        A seed draws the same labels for both, so the interval is that of the differences."""
        found = []
        for tuned, scratch in zip(self.named(TUNED), self.named(SCRATCH), strict=True):
            differences = [a - b for a, b in zip(tuned.values, scratch.values, strict=True)]
            low, high = interval(differences) or (float("nan"), float("nan"))
            found.append((sum(differences) / len(differences), (high - low) / 2))
        return found

    def text(self) -> str:
        """The table."""
        names = list(dict.fromkeys(name for name, _ in self.results))
        rows = [(name, *(result.text() for result in self.named(name))) for name in names]
        rows.append(
            ("gain of pretraining, fine-tuned", *(f"{100 * m:+.1f} ± {100 * h:.1f}" for m, h in self.gains()))
        )
        test = self.splits.test
        title = (
            f"{self.part.name.upper()}: test accuracy in %, mean ± 95 % interval over "
            f"{len(self.part.seeds)} seeds ({len(test):,} rows, {len(test.classes)} classes)"
        )
        return title + "\n" + table(("labels per class", *map(str, self.part.labels)), rows)


def write(outcome: Outcome, file: Path, seed: int) -> None:
    """Write the table with everything that is behind it, as JSON. seed: of pretraining."""
    report = {
        "data": outcome.part.transfer[0].removeprefix("data="),
        "pretraining": command("pretrain", [*outcome.part.pretrain, f"run={outcome.run}", f"seed={seed}"]),
        "fingerprints": {name: rows.fingerprint for name, rows in outcome.splits._asdict().items()},
        "gains": [
            {"labels": labels, "mean": mean, "half_interval": half}
            for labels, (mean, half) in zip(outcome.part.labels, outcome.gains(), strict=True)
        ],
        "results": [{"name": name} | result.as_dict() for name, result in outcome.results],
    }
    write_atomically(file, json.dumps(report, indent=1).encode())


def command(verb: str, words: list[str]) -> str:
    """A command line that a shell takes."""
    return shlex.join(["ssl-zoo", verb, *words])


def spelt(numbers: tuple[int, ...]) -> str:
    """Numbers as a word of the command spells a list."""
    return f"[{','.join(map(str, numbers))}]"


PARTS = (
    Part(
        "images",
        ("experiment=demo_images",),
        (
            "data=digits",
            *TUNING,
            "protocol.lrs=[3e-3,1e-2]",
            "protocol.steps=60",
            "protocol.batch_size=32",
            "protocol.augment=null",
        ),
        (1, 5, 20),
        SEEDS,
    ),
    Part(
        "text",
        ("experiment=demo_text",),
        (
            "data=stdlib_roles",
            "length=24",
            *TUNING,
            "protocol.lrs=[1e-3,3e-3]",
            "protocol.steps=80",
            "protocol.batch_size=16",
        ),
        (10, 20, 40),
        SEEDS,
    ),
)


def run(folder: Path, seed: int = 0) -> list[Outcome]:
    """Run all parts, print the tables, and write tables and pictures to `folder`."""
    began = time.perf_counter()
    torch.set_num_threads(min(THREADS, torch.get_num_threads()))
    outcomes = [run_part(part, folder / part.name, seed, began) for part in PARTS]
    pictures = []
    if find_spec("matplotlib") is not None:
        from ssl_zoo.cli import demo_plots

        heading("the pictures", began)
        pictures = [
            demo_plots.curves(outcomes, folder / "curves.png"),
            demo_plots.embeddings(outcomes, folder / "embeddings.png"),
        ]
    for outcome in outcomes:
        say("\n" + outcome.text())
    none = "none, for they need matplotlib: pip install 'ssl-zoo[pages]'"
    say("\nPictures: " + (", ".join(map(str, pictures)) or none))
    say("Tables:   " + ", ".join(str(folder / f"{part.name}.json") for part in PARTS))
    say("\nGo on with")
    for line in onward(folder):
        say(f"  {line}")
    say(f"\ndone in {time.perf_counter() - began:.0f} s")
    return outcomes


def run_part(part: Part, where: Path, seed: int, began: float) -> Outcome:
    """Run both stages of one modality. began: when the demo did, by `time.perf_counter`."""
    words = [*part.pretrain, f"run={where}", f"seed={seed}"]
    heading(f"{part.name}, stage 1: pretrain without labels", began)
    say(f"$ {command('pretrain', words)}")
    made = composition.compose("pretrain", composition.settle("pretrain", words))
    pretrain.run(made.cfg, made.choices)

    words = [
        *part.transfer,
        f"run={where}",
        f"labels={spelt(part.labels)}",
        f"seeds={spelt(part.seeds)}",
        "floors=true",
    ]
    heading(f"{part.name}, stage 2: transfer with few labels", began)
    say(f"$ {command('evaluate', words)}")
    cfg = composition.build("evaluate", composition.settle("evaluate", words))
    backbone = hub.load(where)
    data: ImageData | TextData = instantiate(cfg.data, _convert_="all")
    splits = evaluation.read_splits(data, evaluation.subject(where, cfg.length))
    protocol: Finetune = instantiate(cfg.protocol, _convert_="all")
    say(
        f"labels      {', '.join(map(str, part.labels))} per class; {len(splits.validation):,} rows choose, "
        f"{len(splits.test):,} test\n"
        f"fine-tuning {protocol.steps} steps of up to {protocol.batch_size} rows, lr of {list(protocol.lrs)}"
    )
    results: list[tuple[str, Result]] = []
    with tqdm(total=5 * len(part.labels), unit="result", disable=None) as bar:
        for labels in part.labels:
            for name, measure in contenders(backbone, data, splits, protocol, labels, part.seeds):
                result = measure()
                results.append((name, result))
                say(f"{labels:>3} per class  {name:<32} {result.text():>12}  ({result.seconds:.0f} s)")
                bar.update()
    outcome = Outcome(part, where, backbone, splits, results)
    write(outcome, where.parent / f"{part.name}.json", seed)
    return outcome


def contenders(
    backbone: Backbone,
    data: ImageData | TextData,
    splits: evaluation.Splits,
    protocol: Finetune,
    labels: int,
    seeds: tuple[int, ...],
) -> Iterator[tuple[str, Callable[[], Result]]]:
    """The rows of the table for one label budget: name and how to measure it."""
    options: dict[str, Any] = {"labels": labels, "seeds": seeds}
    about = hub.describe(backbone)

    def random(protocol: Finetune | Linear) -> Result:
        return floors.random_weights(lambda: hub.build(about), *splits, protocol, **options)

    yield SCRATCH, lambda: random(floors.from_scratch(protocol))
    yield "random, frozen, linear probe", lambda: random(Linear())
    if isinstance(data, TextData):
        how = options | {"metric": "accuracy"}
        yield "TF-IDF, logistic regression", lambda: evaluation.tfidf(data, how)
    else:
        yield (
            "raw pixels, linear probe",
            lambda: score(floors.Pixels(splits.train), *splits, Linear(), **options),
        )
    yield "pretrained, frozen, linear probe", lambda: score(backbone, *splits, Linear(), **options)
    yield TUNED, lambda: score(backbone, *splits, protocol, **options)


def onward(folder: Path) -> list[str]:
    """Commands to go on with; each works as it stands."""
    images, text = (folder / part.name for part in PARTS)
    return [
        command("evaluate", [f"run={images}", "data=digits", "protocol=knn", "floors=true"]),
        command("evaluate", [f"run={text}", "data=stdlib_roles", "length=24", "protocol=layers"]),
        command("pretrain", ["experiment=demo_text", "budget.steps=5000", "run=runs/longer"]),
        *([shlex.join(["tensorboard", "--logdir", str(folder)])] if find_spec("tensorboard") else []),
        "ssl-zoo list",
    ]


def heading(text: str, began: float) -> None:
    """A line that says where the demo is, and since when it runs."""
    say(f"\n--- {text} ({time.perf_counter() - began:.0f} s) ".ljust(100, "-"))
