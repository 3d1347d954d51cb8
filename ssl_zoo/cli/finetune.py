"""`ssl-zoo finetune`: a model for use, made of a pretrained backbone and labelled data."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from ssl_zoo.compose.finetuning import finetune_from, format_score
from ssl_zoo.compose.overrides import shell
from ssl_zoo.compose.task_tuning import score_line
from ssl_zoo.transfer.kept import Kept
from ssl_zoo.transfer.tasks.model import TaskModel
from ssl_zoo.transfer.tuned_completion import Answering


def run(cfg: DictConfig, choices: dict[str, str]) -> float:
    """Make the model, print where it is and what it scored, and return the figure that chose it."""
    model, out = finetune_from(cfg, choices)
    if isinstance(model, Answering):
        found, pairs = model.about["scores"]["validation"], model.about["made"]["pairs"]
        print(f"{out}: answers prompts; tuned on {pairs['train']:,} pairs, lr {model.about['made']['lr']:g}")
        exact, close = 100 * found["exact_match"], 100 * found["chrf"]
        print(
            f"validation: exact match, %: {exact:.1f}, chrF {close:.1f}, nats per token {found['nats']:.3f}, "
            f"{pairs['validation']:,} pairs, on which it was chosen: too hopeful"
        )
        print(f"next: ssl-zoo generate {shell(str(out))} prompt=TEXT")
        return found["nats"]
    if isinstance(model, TaskModel):
        print(f"{out}: {model.goal.title()}")
        line = score_line
    else:
        named = ", ".join(model.classes[:8]) + (", ..." if len(model.classes) > 8 else "")
        print(f"{out}: tells {len(model.classes)} classes apart ({named})")
        line = format_score
    scores = model.about["scores"]
    for split, found in scores.items():
        print(line(split, found))
    say_what_is_next(model, out)
    return scores["validation"]["value"]


def say_what_is_next(model: Kept | TaskModel, out: Path) -> None:
    """Print how a test split is had, where there was none, and the verb that uses the model."""
    if "test" not in model.about["scores"]:
        print("no test rows were held out; data.test_fraction=0.2 scores it on a fifth that it never saw")
    print(f"next: ssl-zoo predict {shell(str(out))} PATH")
