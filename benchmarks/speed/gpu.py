"""One GPU, under 21 minutes: GPT-2's size against the card's own rate, BERT's size against transformers,
SimCLR and DINO against lightly's examples, views alone, and the minutes until the nearest neighbours of
CIFAR-10's images, by features that saw no label, are of their class.

python benchmarks/speed/gpu.py --out FILE [--only CASE ...] [--tiny]. Hydra is not needed: the parts are built
here. Images and ids are random, as their content does not change the time. What FILE holds of other cases is
kept. --tiny runs the same code on a CPU in seconds; its figures say nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from cases.images import Pictures, fit, lightly_simclr
from cases.joint import dino_example
from cases.material import Recipe, train
from cases.memory import store
from cases.minutes import Lookout, Watch, looking
from cases.text import fit as fit_with_transformers
from cases.text import tokenizer_of
from duel import Case, Gate, Race, Side, alone, play, preload
from hardware import describe
from run import rates_of
from torch import nn
from torch.utils.data import Dataset

from ssl_zoo.backbones._base import Vocabulary
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.backbones.vision import timm_backbone
from ssl_zoo.data.images import ImageData
from ssl_zoo.objectives._base import Batch
from ssl_zoo.objectives.dino import DINO
from ssl_zoo.objectives.masked_lm import MaskedLM
from ssl_zoo.objectives.next_token import NextToken
from ssl_zoo.objectives.simclr import SimCLR
from ssl_zoo.optim import adamw, larc
from ssl_zoo.views.recipes import dino as dino_views
from ssl_zoo.views.recipes import simclr as recipe
from ssl_zoo.views.recipes import simclr_small

WORKERS = 16


def card(tiny: bool) -> dict[str, Any]:
    """What the trainers are told."""
    if tiny:
        return {"accelerator": "cpu", "precision": "32-true"}
    torch.set_float32_matmul_precision("high")
    return {"accelerator": "gpu", "precision": "bf16-mixed"}


def settle(gate: Gate, tiny: bool) -> None:
    if not tiny:
        gate.settle = torch.cuda.synchronize


def pictures(folder: str, tiny: bool) -> Recipe:
    """SimCLR with a ResNet-18 for small images, on as many images as CIFAR-10 trains on."""
    rows = store(folder, 64 if tiny else 50_000)
    backbone = timm_backbone("resnet10t" if tiny else "resnet18", image_size=32, stem="small")
    head: dict[str, Any] = {"temperature": 0.2, "width": 512, "out": 128}
    objective = SimCLR(backbone, **head, view=simclr_small(32))
    return Recipe(objective, rows, partial(adamw, lr=2e-3), 16 if tiny else 512, {"objective": head})


def against(case: Case, rounds: int) -> dict[str, Any]:
    """What is kept of a case whose sides take turns."""
    about = {"title": case.title, "bar": case.bar, "same": case.same, "differs": case.differs}
    return about | rates_of(case, rounds)


def simclr(tiny: bool, gate: Gate) -> None:
    settle(gate, tiny)
    with tempfile.TemporaryDirectory() as folder:
        parts = pictures(folder, tiny)
        if not tiny:
            parts.objective.backbone.compile()
        train(parts, gate, parts.batch_size, **card(tiny))


def lightly(tiny: bool, workers: int, gate: Gate) -> None:
    settle(gate, tiny)
    with tempfile.TemporaryDirectory() as folder:
        make = partial(pictures, folder, tiny)
        lightly_simclr(make, torch.contiguous_format, workers, gate, **card(tiny))


def simclr_case(tiny: bool) -> Case:
    workers = 0 if tiny else WORKERS
    sides: dict[str, Side] = {
        "ssl_zoo": partial(simclr, tiny),
        f"lightly, {workers} workers": partial(lightly, tiny, workers),
    }
    return Case(
        title="SimCLR training, 32-px images, ResNet-18, batch of 512, bf16, one GPU",
        unit="images/s",
        against=f"lightly's Lightning example with {workers} workers",
        sides=sides,
        bar=5.0,
        same="images, batch, network (the same timm module), widths of the projection, crop, flip, jitter, "
        "grey; bf16-mixed",
        differs="ours keeps the images on the GPU, makes views there, and compiles the network, in "
        "channels_last; lightly's example has PIL views in worker processes and plain SGD where ours has "
        "AdamW",
        threads=WORKERS,
        seconds=1.0 if tiny else 10.0,
    )


def crops(folder: str, tiny: bool) -> Recipe:
    """DINO with a ViT-S: two crops of 224 pixels and eight of 96, as published."""
    side, local, count = (32, 16, 2) if tiny else (224, 96, 8)
    rows = store(folder, 16 if tiny else 2048, side)
    size = {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 8} if tiny else {}
    backbone = timm_backbone("vit_small_patch16_224", image_size=side, **size)
    head: dict[str, Any] = {"prototypes": 64, "width": 32, "bottleneck": 16} if tiny else {
        "prototypes": 65_536, "width": 2048, "bottleneck": 256,
    }  # fmt: skip
    views = {"size": side, "local": local, "count": count}
    objective = DINO(backbone, **head, views=dino_views((side, side), (local, local), count))
    return Recipe(
        objective, rows, partial(adamw, lr=5e-4), 4 if tiny else 64, {"objective": head | {"views": views}}
    )


def dino(tiny: bool, gate: Gate) -> None:
    settle(gate, tiny)
    with tempfile.TemporaryDirectory() as folder:
        parts = crops(folder, tiny)
        if not tiny:
            parts.objective.backbone.compile()
        train(parts, gate, parts.batch_size, **card(tiny))


def lightly_crops(tiny: bool, workers: int, gate: Gate) -> None:
    import timm

    settle(gate, tiny)
    with tempfile.TemporaryDirectory() as folder:
        parts = crops(folder, tiny)
        size = {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 8, "img_size": 32} if tiny else {}
        network = timm.create_model("vit_small_patch16_224", num_classes=0, dynamic_img_size=True, **size)
        module, transform = dino_example(parts, network, network.num_features, (0.05, 0.4), blur=0.1)
        fit(module, Pictures(parts.rows, transform), parts.batch_size, workers, gate, **card(tiny))


def dino_against_lightly(tiny: bool, rounds: int) -> dict[str, Any]:
    workers = 0 if tiny else WORKERS
    case = Case(
        title="DINO training, 2 crops of 224 px and 8 of 96 px, ViT-S/16, batch of 64, bf16, one GPU",
        unit="images/s",
        against=f"lightly's Lightning example with {workers} workers",
        sides={
            "ssl_zoo": partial(dino, tiny),
            f"lightly, {workers} workers": partial(lightly_crops, tiny, workers),
        },
        bar=1.3,
        same="images, batch, timm's ViT-S, layers and widths of the head, 65,536 prototypes, number, size "
        "and scale of the crops, flip, jitter, grey, blur, solarisation; bf16-mixed",
        differs="ours keeps the images on the GPU, makes views there, compiles the network, and passes crops "
        "of a size through it at once; lightly's example has PIL views in worker processes, weight-normed "
        "prototypes and plain Adam",
        threads=WORKERS,
        seconds=1.0 if tiny else 10.0,
    )
    return against(case, rounds)


class RandomText:
    """Rows of random ids, one document each (see `Rows`)."""

    unit, y, classes, fingerprint = "tokens", None, (), "random"

    def __init__(self, ids: int, context: int):
        self.ids, self.units_per_row = ids, context

    def __len__(self) -> int:
        return 2**20

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        random = np.random.default_rng(int(index[0]))
        return Batch(torch.from_numpy(random.integers(3, self.ids, (len(index), self.units_per_row + 1))))


def language(tiny: bool) -> tuple[Recipe, TextTransformer]:
    """Our transformer at the size of GPT-2, 124 M parameters with the word embedding."""
    ids, context, rows = (300, 64, 4) if tiny else (50_304, 1024, 32)
    width, depth, heads = (32, 2, 2) if tiny else (768, 12, 12)
    backbone = TextTransformer(Vocabulary(ids), width, depth, heads, mlp="relu2")
    text = RandomText(ids, context)
    return Recipe(NextToken(backbone), text, partial(adamw, lr=6e-4), rows, {}), backbone


def next_token(tiny: bool, gate: Gate) -> None:
    settle(gate, tiny)
    parts, backbone = language(tiny)
    if not tiny:
        backbone.compile()
    train(parts, gate, parts.batch_size * parts.rows.units_per_row, **card(tiny))


SHORT, LONG = 16, 512  # tokens of documents: log-normal between these, 180 in the middle


def lengths(random: np.random.Generator, count: int) -> np.ndarray:
    """Tokens of so many documents, as unequal as those of a corpus of web pages."""
    return np.clip(random.lognormal(np.log(180), 0.9, count).astype(np.int64), SHORT, LONG)


class PackedText:
    """Rows of random ids that documents fill end to end, the last one cut off (see `Rows`)."""

    unit, y, classes, fingerprint, units_per_row = "tokens", None, (), "packed", LONG

    def __init__(self, ids: int):
        self.ids = ids

    def __len__(self) -> int:
        return 2**20

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        random = np.random.default_rng(int(index[0]))
        x = torch.from_numpy(random.integers(3, self.ids, (len(index), LONG)))
        ends = [np.cumsum(lengths(random, LONG // SHORT)) for _ in index]
        segments = np.stack([np.searchsorted(row, np.arange(LONG), side="right") for row in ends])
        return Batch(x, torch.from_numpy(segments))


class Documents(Dataset):
    """A document of random ids a row, as transformers' collators take them."""

    def __init__(self, ids: int):
        self.ids, self.sizes = ids, lengths(np.random.default_rng(0), 2**15)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, i: int) -> dict[str, list[int]]:
        ids = np.random.default_rng(i).integers(3, self.ids, self.sizes[i])
        return {"input_ids": ids.tolist(), "special_tokens_mask": [0] * len(ids)}


def base_size(tiny: bool) -> dict[str, int]:
    """BERT's base size."""
    return {"ids": 300, "width": 32, "depth": 2, "heads": 2, "rows": 4} if tiny else {
        "ids": 30_528, "width": 768, "depth": 12, "heads": 12, "rows": 64,
    }  # fmt: skip


def masked_lm(tiny: bool, gate: Gate) -> None:
    settle(gate, tiny)
    size = base_size(tiny)
    backbone = TextTransformer(
        Vocabulary(size["ids"]), size["width"], size["depth"], size["heads"], mlp="relu2"
    )
    rows = PackedText(size["ids"])
    if not tiny:
        backbone.compile()
    parts = Recipe(MaskedLM(backbone), rows, partial(adamw, lr=6e-4), size["rows"], {})
    train(parts, gate, size["rows"] * LONG, **card(tiny))


def bert(tiny: bool, by_length: bool, gate: Gate) -> None:
    from transformers import BertConfig, BertForMaskedLM, DataCollatorForLanguageModeling

    settle(gate, tiny)
    size = base_size(tiny)
    config = BertConfig(
        vocab_size=size["ids"], hidden_size=size["width"], num_hidden_layers=size["depth"],
        num_attention_heads=size["heads"], intermediate_size=4 * size["width"], hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    rows = Documents(size["ids"])
    options: dict[str, Any] = {"train_sampling_strategy": "group_by_length"} if by_length else {}
    if not tiny:
        options |= {"use_cpu": False, "bf16": True}
        options |= {"dataloader_pin_memory": True, "dataloader_num_workers": WORKERS}
    fit_with_transformers(
        BertForMaskedLM(config),
        rows,
        DataCollatorForLanguageModeling(tokenizer_of(size["ids"])),
        gate,
        units=size["rows"] * float(rows.sizes.mean()),
        per_device_train_batch_size=size["rows"],
        **options,
    )


def masked_lm_against_transformers(tiny: bool, rounds: int) -> dict[str, Any]:
    size, aside = base_size(tiny), "transformers, by length"
    asides = {} if tiny else {aside: partial(bert, tiny, True)}
    case = Case(
        title=f"masked-LM training, BERT's base size, {size['rows']} rows of {LONG} tokens, bf16, one GPU",
        unit="tokens/s",
        against="transformers' Trainer, BertForMaskedLM, SDPA, a document a row",
        sides={
            "ssl_zoo": partial(masked_lm, tiny),
            "transformers": partial(bert, tiny, False),
            **asides,
        },
        asides=tuple(asides),
        bar=3.0,
        same="lengths of documents, ids, width, layers, heads, hidden width of the MLP, vocabulary, 15 % "
        "masked 80/10/10, fused AdamW, no dropout, no clipping; bf16. Only tokens that are not padding count",
        differs="ours packs documents into full rows and keeps them apart, scores the masked tokens alone, "
        "compiles the network, and has its own transformer (rotary positions, RMSNorm, ReLU^2, no biases)",
        threads=WORKERS,
        seconds=1.0 if tiny else 10.0,
    )
    return against(case, rounds)


def seconds_of(call: Any, tiny: bool) -> float:
    """Median of some calls, each waited for."""
    wait = (lambda: None) if tiny else torch.cuda.synchronize
    times = []
    for _ in range(4 if tiny else 30):
        wait()
        began = time.perf_counter()
        call()
        wait()
        times.append(time.perf_counter() - began)
    return median(times[len(times) // 4 :])


def product_rates(tiny: bool) -> dict[str, float]:
    """FLOP/s of matrix products alone: the model's own shapes, forward and both gradients; a big square."""
    device, dtype = ("cpu", torch.float32) if tiny else ("cuda", torch.bfloat16)
    parts, backbone = language(tiny)
    tokens = parts.batch_size * parts.rows.units_per_row
    shapes = [(m.in_features, m.out_features) for m in backbone.modules() if isinstance(m, nn.Linear)]
    shapes.append((backbone.dim, backbone.words.num_embeddings))  # the tied output matrix
    flops = spent = 0.0
    for shape in sorted(set(shapes)):
        x, y = (torch.randn(tokens, n, device=device, dtype=dtype) for n in shape)
        w = torch.randn(*shape, device=device, dtype=dtype)
        for a, b in ((x, w), (y, w.T), (x.T, y)):
            count = shapes.count(shape)
            spent += count * seconds_of(lambda a=a, b=b: a @ b, tiny)
            flops += count * 2 * a.shape[0] * a.shape[1] * b.shape[1]
    side = 256 if tiny else 8192
    square = torch.randn(side, side, device=device, dtype=dtype)
    return {"own": flops / spent, "square": 2 * side**3 / seconds_of(lambda: square @ square, tiny)}


def utilisation(tiny: bool, rounds: int) -> dict[str, Any]:
    """Tokens per second, and the model's FLOP/s over those of products alone.

    6 N + 6 L T D a token: N all parameters (the tied matrix once, as it multiplies once), and causal
    attention, of which half the square is worked.
    """
    parts, backbone = language(tiny)
    parameters = sum(p.numel() for p in parts.objective.parameters())
    context = parts.rows.units_per_row
    flops = 6 * parameters + 6 * len(backbone.layers) * context * backbone.dim
    rates = product_rates(tiny)
    case = Case(
        f"next-token training, {parameters / 1e6:.0f} M parameters, context {context}, bf16, one GPU",
        "tokens/s", "the card's own matrix products", {"ssl_zoo": partial(next_token, tiny)}, 0.5, "", "",
        WORKERS, 1.0 if tiny else 10.0,
    )  # fmt: skip
    outcome = play(case, rounds)
    tokens = median(outcome.rates["ssl_zoo"])
    share = {f"of_{name}": tokens * flops / rate for name, rate in rates.items()}
    print(f"{case.title}: {tokens:,.0f} tokens/s, {share}")
    return {
        "title": case.title,
        "tokens_per_second": outcome.rates["ssl_zoo"],
        "flops_per_token": flops,
        "products": rates,
        **share,
        "bar": case.bar,
        "met": min(share.values()) >= case.bar,
        "notes": outcome.notes,
    }


def simclr_against_lightly(tiny: bool, rounds: int) -> dict[str, Any]:
    return against(simclr_case(tiny), rounds)


VIEWS = {32: 1024, 96: 512, 224: 256}  # side in pixels -> images at once


def views(tiny: bool, rounds: int) -> dict[str, Any]:
    """SimCLR views a second by side in pixels, of uint8 images that are on the device already."""
    device = "cpu" if tiny else "cuda"
    found = {}
    for side, count in VIEWS.items():
        images = torch.randint(
            0, 256, (2 if tiny else count, 3, side, side), dtype=torch.uint8, device=device
        )
        view = recipe(side).to(device)
        call = partial(view, images)
        found[str(side)] = [round(len(images) / seconds_of(call, tiny)) for _ in range(rounds)]
        print(f"SimCLR views, {side} px: {median(found[str(side)]):,.0f} a second")
    return {"title": "SimCLR views alone, one GPU", "unit": "views/s", "rates": found}


EPOCHS, CAP = 200, 7.0  # of the training that may end earlier; minutes after which it gives up


def labelled(tiny: bool) -> ImageData:
    """CIFAR-10 from the folder that SSL_ZOO_DATA names."""
    if tiny:
        return ImageData("digits", "digits", image_size=32, test_fraction=0.2)
    place = Path(os.environ["SSL_ZOO_DATA"], "cifar10")
    return ImageData("cifar10", f"{place}/train-*.tar.gz", image_size=32, classes=f"{place}/classes.txt")


def until_good(tiny: bool, gate: Gate) -> None:
    """SimCLR, and looks at its features. The clock begins with the process, and stands still while images are
    decoded and features looked at."""
    watch = Watch()
    with watch.standing():
        data = labelled(tiny)
        backbone = timm_backbone("resnet10t" if tiny else "resnet18", image_size=32, stem="small")
        objective = SimCLR(backbone, temperature=0.2, width=2048, out=256, view=simclr_small(32))
        rows, batch = data.rows("pretrain"), 64 if tiny else 512
        parts = Recipe(objective, rows, partial(larc, lr=0.4, weight_decay=1e-4), batch, {})
        if not tiny:
            backbone.compile()
        look = looking(backbone, data, "cpu" if tiny else "cuda")
        lookout = Lookout(look, watch, gate, 0.2 if tiny else 0.85, CAP)
    train(parts, lookout, batch, steps=1 if tiny else EPOCHS * len(rows) // batch, **card(tiny))
    lookout(last=True)


def speedrun(tiny: bool, rounds: int) -> dict[str, Any]:
    title = "minutes until nearest neighbours on CIFAR-10's validation rows are right for 85 %, one GPU"
    case = Race(
        title, "minutes", "nothing", {"ssl_zoo": partial(until_good, tiny)}, 0.0, "",
        "SimCLR, ResNet-18, batches of 512, bf16", WORKERS,
    )  # fmt: skip
    noted = alone(case)["ssl_zoo"]
    print(f"{title}: {noted}")
    return {"title": title, **noted}


CASES = {
    "next_token": utilisation,
    "masked_lm": masked_lm_against_transformers,
    "simclr": simclr_against_lightly,
    "dino": dino_against_lightly,
    "views": views,
    "speedrun": speedrun,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    environment = describe() | {"data": "random", "tiny": options.tiny}
    if not options.tiny:
        environment["hardware"] = f"{torch.cuda.get_device_name()}, {environment['hardware']}"
    if options.tiny:
        preload("cases.images", "cases.joint", "cases.minutes", "cases.text", "ssl_zoo.pretrain", "timm")
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    results["environment"] = environment
    for name in options.only:
        results[name] = CASES[name](options.tiny, options.rounds)
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
