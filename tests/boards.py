"""Boards with made-up results, for the tests of what shows them."""

import json

import yaml

RECIPE = """# {title}.
# Paper: {paper}
# Cost: a minute on one core
# Expected: nothing, these results are made up
# Command: ssl-zoo leaderboard run {board} {name}
"""
SIMCLR = {"objective": "simclr_small", "backbone": "resnet_micro"}
MAE = {"objective": "mae", "backbone": "vit_micro", "backbone.depth": 4}
# name -> (title, recipe, linear accuracy over seeds)
ROWS = {
    "simclr-resnet": ("SimCLR, small ResNet", {"pretrain": SIMCLR}, [0.50, 0.51, 0.52]),
    "rotation-resnet": (
        "Rotation <b>, small ResNet",
        {"pretrain": SIMCLR | {"objective": "rotation"}},
        [0.095, 0.1, 0.097],
    ),
    "mae-vit": ("MAE, small ViT", {"pretrain": MAE}, [0.40, 0.41, 0.43]),
    "supervised-resnet": (
        "All labels, small ResNet",
        {"pretrain": SIMCLR | {"objective": "supervised"}},
        [0.70, 0.71, 0.69],
    ),
    "random-resnet": (
        "Random weights, small ResNet",
        {"floor": "random", "pretrain": {"backbone": "resnet_micro"}},
        [0.30, 0.29, 0.31],
    ),
    "pixels": ("Raw pixels", {"floor": "pixels"}, [0.38]),
    "simclr-vit": ("SimCLR, small ViT", {"pretrain": MAE | {"objective": "simclr_small"}}, []),
}
BUDGETS = (1, 25, None)


def result(value, train, **more):
    said = {"protocol": "linear", "metric": "accuracy", "value": value, "others": {"macro_f1": value - 0.01}}
    said |= {"labels": None, "steps": None, "chosen": {"weight_decay": 0.001, "validation": value + 0.01}}
    return (
        said
        | {"train": train, "validation": 512, "test": 10000, "seconds": 3.0, "flops": None, "details": {}}
        | more
    )


def record(name, seed, value):
    """A line of results.jsonl: every measure is derived from one accuracy."""
    tuned = [
        result(value * share, 45000 if labels is None else 10 * labels, labels=labels, protocol="finetune")
        for labels, share in zip(BUDGETS, (0.4, 0.8, 1.2), strict=True)
    ]
    cost = [
        result(value * share, 250, labels=25, steps=steps, flops=1e9 * steps)
        for steps, share in ((50, 0.6), (200, 0.7))
    ]
    words = ROWS[name][1].get("pretrain", {})
    depth = 4 if "vit" in name else 3
    layers = result(value, 45000, protocol="layers")
    layers["details"] = {"curve": [value * (0.5 + i / depth / 2) for i in range(depth)]}
    measures = {"linear": [result(value, 45000)], "finetune": tuned, "cost": cost, "layers": [layers]}
    measures["rank"] = [result(100 * value, 0, metric="effective_rank")]
    return {
        "line": name,
        "seed": seed,
        "title": ROWS[name][0],
        "finished": "2026-11-24T01:02:03+0000",
        "config": {"seed": seed, **words} if words else None,
        "overrides": [f"{key}={value}" for key, value in words.items()],
        "pretraining": {"steps": 680, "images": 174080, "seconds": 301.2} if words else None,
        "measures": {key: {"overrides": [], "results": found} for key, found in measures.items()},
        "seconds": 512.0,
    }


def write(folder, rows=ROWS):
    """A board's folder with the given rows; the path."""
    (folder / "recipes").mkdir(parents=True)
    measures = {
        "linear": {"title": "Linear probe", "data": "cifar10", "protocol": "linear"},
        "finetune": {"title": "Fine-tuned", "data": "cifar10", "protocol": "finetune"},
        "cost": {"title": "Cost efficiency", "data": "cifar10", "protocol": "finetune"},
        "layers": {"title": "Probe of each layer", "data": "cifar10", "protocol": "layers"},
        "rank": {"title": "Effective rank", "data": "cifar10", "protocol": "rank"},
    }
    board = {
        "title": "A made-up board",
        "about": "Nothing here was measured.",
        "seeds": [0, 1, 2],
        "hardware": "none",
    }
    board |= {"primary": "linear", "fixed": {"data": "cifar10"}, "measures": measures}
    (folder / "board.yaml").write_text(yaml.safe_dump(board, sort_keys=False))
    for name, (title, recipe, _) in rows.items():
        head = RECIPE.format(title=title, name=name, board=folder.name, paper="Somebody, arXiv:2002.05709")
        (folder / "recipes" / f"{name}.yaml").write_text(head + yaml.safe_dump(recipe))
    lines = [record(name, seed, value) for name in rows for seed, value in enumerate(rows[name][2])]
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    reference = {"name": "lightly's SimCLR", "source": "its README, https://github.com/lightly-ai/lightly."}
    reference |= {"scores": {"linear top-1, %": 87.5}, "protocol": "ResNet-18, 200 epochs, a GPU"}
    (folder / "references.yaml").write_text(yaml.safe_dump([reference]))
    return folder
