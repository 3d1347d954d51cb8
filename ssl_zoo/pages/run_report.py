"""The page of one pretraining run: plain data in, HTML out. What is not there is not shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ssl_zoo.leaderboard.standings import format_point
from ssl_zoo.pages import feature_charts, run_charts
from ssl_zoo.pages.feature_views import FeatureView
from ssl_zoo.pages.page import render
from ssl_zoo.pages.shown import Prediction
from ssl_zoo.transfer.report import any_metric


@dataclass(frozen=True)
class Report:
    """All that the page of a run shows.

    Attributes:
        unit: of the loss; "" where it is not known.
        facts: names and values, in order.
        config: the resolved configuration as YAML.
        notes: what could not be shown, and why.
        metrics: see `pretrain.logs.read_metrics`.
        evaluations: file name -> what `ssl-zoo evaluate` wrote to RUN/evaluations, or a board's measure in
            the same form.
    """

    title: str
    unit: str
    facts: Sequence[tuple[str, str]]
    config: str
    notes: Sequence[str] = ()
    metrics: Mapping[str, tuple[list[int], list[float]]] = field(default_factory=dict)
    features: FeatureView | None = None
    predictions: Sequence[Prediction] = ()
    evaluations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def html(report: Report) -> str:
    """The page."""
    charts: dict[str, dict[str, Any]] = {}
    titles: dict[str, str] = {}
    for i, (name, chart) in enumerate(run_charts.curves(report.metrics, report.unit).items()):
        charts[f"curve-{i}"], titles[f"curve-{i}"] = chart, name
    view = report.features
    if view is not None:
        charts["map"] = feature_charts.embedding(view)
        if view.layers is not None:
            charts["layers"] = feature_charts.layer_probe(view.layers)
    for i, prediction in enumerate(report.predictions):
        if prediction.similarity:
            charts[f"similarity-{i}"] = feature_charts.similarity(prediction.similarity)
    return render(
        "run.html",
        charts,
        scripts=["run.js"],
        title=report.title,
        report=report,
        curves=titles,
        once=run_charts.once(report.metrics, report.unit),
        view=view,
        legend=view is not None and len(view.classes) <= feature_charts.LEGEND,
        table=[row for name, found in report.evaluations.items() for row in evaluation_rows(name, found)],
    )


@dataclass(frozen=True)
class Scored:
    """A result in the table of evaluations, formatted for people.

    Attributes:
        what: name of the result, such as "pretrained".
        score: the mean over seeds. span: its 95 % interval.
        seeds: how many.
        rows: how many rows of train, validation and test were used.
    """

    data: str
    what: str
    protocol: str
    labels: str
    metric: str
    score: str
    span: str
    seeds: int
    rows: str


def evaluation_rows(name: str, report: Mapping[str, Any]) -> list[Scored]:
    """The results of one file of RUN/evaluations; [] for a file without any.

    name: of the file, which stands for the data where the file does not name them.
    """
    rows = []
    for what, result in report.get("results", {}).items():
        how, span = any_metric(result["metric"]), result["interval"]
        rows.append(
            Scored(
                data=str(report.get("data", name)),
                what=what,
                protocol=result["protocol"],
                labels=format_point(result["labels"], result.get("steps")) if result["train"] else "none",
                metric=how.title,
                score=how.text(result["mean"]),
                span="one value" if span is None else f"{how.text(span[0])} to {how.text(span[1])}",
                seeds=len(result["values"]),
                rows=f"{result['train']:,} / {result['validation']:,} / {result['test']:,}",
            )
        )
    return rows
