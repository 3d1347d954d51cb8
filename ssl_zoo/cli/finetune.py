"""`ssl-zoo finetune`: a classifier made of a pretrained backbone and labelled data."""

from __future__ import annotations

from omegaconf import DictConfig

from ssl_zoo.compose.finetuning import finetune_from, format_score


def run(cfg: DictConfig, choices: dict[str, str]) -> None:
    """Make the model, and print where it is and what it scored."""
    model, out = finetune_from(cfg, choices)
    named = ", ".join(model.classes[:8]) + (", ..." if len(model.classes) > 8 else "")
    print(f"{out}: tells {len(model.classes)} classes apart ({named})")
    for split, found in model.about["scores"].items():
        print(format_score(split, found))
    if "test" not in model.about["scores"]:
        print("no test rows were held out; data.test_fraction=0.2 scores it on a fifth that it never saw")
    print(f"next: ssl-zoo predict {out} PATH")
