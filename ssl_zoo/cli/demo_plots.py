"""The demo's pictures: learning and label efficiency, and the features that transfer starts from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from sklearn.manifold import TSNE

from ssl_zoo import hub
from ssl_zoo.backbones._base import Backbone
from ssl_zoo.data.rows import Rows, Subset
from ssl_zoo.pretrain.logs import Metrics, read_metrics
from ssl_zoo.transfer import floors
from ssl_zoo.transfer.features import extract, labels_of

matplotlib.use("Agg")  # there may be no display
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

if TYPE_CHECKING:
    from ssl_zoo.cli.demo_parts import Outcome

SHOWN = 800  # points of an embedding
STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}
# Okabe and Ito's colours, told apart by most colour-blind people; pretraining is the strong one.
COLOURS = ("#999999", "#E69F00", "#009E73", "#56B4E9", "#D55E00")


def curves(outcomes: Sequence[Outcome], file: Path) -> Path:
    """Write a row for each modality: pretraining loss, a measure of features, accuracy by label budget."""
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(
            len(outcomes), 3, figsize=(14, 4.2 * len(outcomes)), squeeze=False, layout="constrained"
        )
        for axes, outcome in zip(grid, outcomes, strict=True):
            metrics, name = read_metrics(outcome.run), outcome.part.name.capitalize()
            loss(axes[0], metrics, name)
            held_out(axes[1], metrics, name)
            efficiency(axes[2], outcome)
        return save(figure, file)


def loss(axes: Axes, metrics: Metrics, name: str) -> None:
    """The objective on training batches and on held-out rows."""
    for key, label, colour in (
        ("train/loss", "training batch", COLOURS[3]),
        ("val/loss", "held out", COLOURS[4]),
    ):
        if key in metrics:
            axes.plot(*metrics[key], "o-", ms=4, label=label, color=colour)
    axes.set(title=f"{name}: pretraining", xlabel="optimizer step", ylabel="loss (nats)")
    axes.legend()


def held_out(axes: Axes, metrics: Metrics, name: str) -> None:
    """Accuracy of nearest neighbours where pretraining rows have labels, else bits per byte."""
    if "monitor/knn" in metrics:
        steps, values = metrics["monitor/knn"]
        axes.plot(steps, [100 * value for value in values], "o-", ms=4, color=COLOURS[4])
        axes.set(title=f"{name}: nearest neighbours (k = 20)", ylabel="held-out accuracy (%)")
    elif "val/bits_per_byte" in metrics:
        axes.plot(*metrics["val/bits_per_byte"], "o-", ms=4, color=COLOURS[4])
        axes.set(title=f"{name}: held-out text", ylabel="bits per byte (lower is better)")
    axes.set_xlabel("optimizer step")


def efficiency(axes: Axes, outcome: Outcome) -> None:
    """Accuracy by label budget, a line for each row of the table, with 95 % intervals."""
    names = list(dict.fromkeys(name for name, _ in outcome.results))
    for i, (name, colour) in enumerate(zip(names, COLOURS, strict=True)):
        results = outcome.named(name)
        at = np.array(outcome.part.labels) * 1.03 ** (i - 2)  # side by side, so that bars do not hide others
        means = [100 * result.mean for result in results]
        spans = [result.interval or (result.mean, result.mean) for result in results]
        halves = [50 * (high - low) for low, high in spans]
        width = 2.5 if i == len(names) - 1 else 1.5
        axes.errorbar(at, means, halves, fmt="o-", ms=4, capsize=3, color=colour, label=name, lw=width)
    chance = 100 / len(outcome.splits.train.classes)
    axes.axhline(chance, color="black", lw=1, ls=":")
    axes.annotate(
        "chance", (1, chance), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=9
    )
    axes.set_xscale("log")
    axes.set_xticks(outcome.part.labels, [str(labels) for labels in outcome.part.labels])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(
        title=f"{outcome.part.name.capitalize()}: what few labels give",
        xlabel="labels per class",
        ylabel=f"test accuracy (%), {len(outcome.part.seeds)} seeds",
        ylim=(0, None),
    )
    axes.legend(fontsize=8.5, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def embeddings(outcomes: Sequence[Outcome], file: Path) -> Path:
    """Write t-SNE of test features, coloured by class: random weights beside pretrained ones."""
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(
            len(outcomes), 2, figsize=(12, 5 * len(outcomes)), squeeze=False, layout="constrained"
        )
        for axes, outcome in zip(grid, outcomes, strict=True):
            about = hub.describe(outcome.backbone)
            test: Rows = outcome.splits.test
            chosen = np.sort(np.random.default_rng(0).permutation(len(test))[:SHOWN])
            rows = Subset(test, chosen)
            random = floors.fresh(lambda about=about: hub.build(about), 0)
            for ax, backbone, title in zip(
                axes,
                (random, outcome.backbone),
                ("random weights", "pretrained, no labels seen"),
                strict=True,
            ):
                scatter(ax, backbone, rows)
                ax.set_title(f"{outcome.part.name.capitalize()}: {title}")
            axes[1].legend(
                *axes[1].get_legend_handles_labels(),
                loc="center left",
                bbox_to_anchor=(1.0, 0.5),
                markerscale=2,
            )
        figure.suptitle(
            "t-SNE of the frozen features of test rows; colours are the true classes", fontsize=12
        )
        return save(figure, file)


def scatter(axes: Axes, backbone: Backbone, rows: Rows) -> None:
    """One embedding, a colour for each class."""
    features = extract(backbone, rows)
    unit = features.pooled / features.pooled.norm(dim=1, keepdim=True)
    points = TSNE(perplexity=min(30, (len(rows) - 1) / 3), init="pca", random_state=0).fit_transform(
        unit.numpy()
    )
    y = labels_of(features).numpy()
    palette = plt.get_cmap("tab10")
    for c, name in enumerate(rows.classes):
        axes.scatter(*points[y == c].T, s=9, color=palette(c % 10), label=name, linewidths=0)
    axes.set(xticks=[], yticks=[], xlabel="t-SNE 1 (no unit)", ylabel="t-SNE 2 (no unit)")
    axes.grid(visible=False)


def save(figure: Figure, file: Path) -> Path:
    """Write a figure as a PNG, close it, and return the path."""
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(w_pad=0.12, h_pad=0.12)  # inches  # pyright: ignore[reportCallIssue]  # matplotlib's stubs lack the pads
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)
    plt.close(figure)
    return file
