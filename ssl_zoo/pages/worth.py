"""The page of an answer: the recommendation, all figures, what each cost, and how to go on."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import NamedTuple

from ssl_zoo.pages.board_charts import COLOURS, DASHES, FLOOR_DASHES, GREY, SHAPES, Spec
from ssl_zoo.pages.page import render
from ssl_zoo.trial.answer import Answer
from ssl_zoo.trial.verdict import Figure, Verdict, amount, brief, said, standing, strongest


class Row(NamedTuple):
    """A line of the table: name, cells by budget, minutes of pretraining, operations, whether it leads."""

    name: str
    cells: list[str]
    minutes: str
    flops: str
    leads: bool


def worth_page(answer: Answer) -> str:
    """The HTML."""
    verdict, asked = answer.verdict, answer.asked
    charts = {"curves": chart(answer.figures, asked.all_labels)} if answer.figures else {}
    tested = answer.figures[0].rows if answer.figures else 0
    facts = (
        f"{asked.classes} classes; {asked.rows:,} labelled rows to train on, {asked.chosen_on:,} to choose "
        f"on, whatever the budget, {tested:,} to test on. It took {answer.seconds / 60:.1f} minutes."
    )
    return render(
        "worth.html",
        charts=charts,
        title=f"Is pretraining worth it on {asked.title}?",
        head=verdict.sentences[0],
        sentences=verdict.sentences[1:],
        facts=facts,
        budgets=[brief(one) for one in asked.budgets],
        rows=rows(answer),
        saved=saved(verdict),
        left=list(answer.left),
        commands=list(answer.commands),
        made=[
            shlex.join(["ssl-zoo", "pretrain", *way.pretraining["words"]])
            for way in answer.ways
            if not way.failed
        ],
    )


def rows(answer: Answer) -> list[Row]:
    """The table: ways of pretraining, best first, then the floors."""
    figures = list(answer.figures)
    ways = {way.tried.name: way for way in answer.ways}
    ours = standing([one for one in figures if one.pretrained])
    floors = standing([one for one in figures if not one.pretrained])
    found = []
    for name in [*ours, *floors]:
        for how in dict.fromkeys(one.how for one in figures if one.line == name):
            cells = {one.labels: one for one in figures if (one.line, one.how) == (name, how)}
            way = ways.get(name)
            flops = (way.pretraining.get("flops") if way else None) or 0
            found.append(
                Row(
                    f"{name}, {how}",
                    [cell(cells.get(budget)) for budget in answer.asked.budgets],
                    f"{way.minutes:.1f}" if way else "",
                    f"{flops / 1e12:,.1f}" if flops else "",
                    name == answer.verdict.winner,
                )
            )
    return found


def cell(one: Figure | None) -> str:
    """Accuracy in %, with half of its interval."""
    return "" if one is None else f"{100 * one.mean:.1f} ± {100 * one.half:.1f}"


def saved(verdict: Verdict) -> list[str]:
    """What labels are worth after pretraining, in sentences."""
    return [
        f"{one.labels:.0f} labels a class after pretraining do what "
        f"{one.outside or f'{one.needed:.0f}'} do without."
        for one in verdict.saved
    ]


def chart(figures: Sequence[Figure], all_labels: float) -> Spec:
    """Accuracy over labels a class: the best reading of each way and floor, with its interval."""
    names = [
        *standing([one for one in figures if one.pretrained]),
        *standing([one for one in figures if not one.pretrained]),
    ]
    pretrained = {one.line for one in figures if one.pretrained}
    values = [
        {
            "way": name,
            "labels": amount(labels, all_labels),
            "accuracy": 100 * one.mean,
            "low": 100 * (one.mean - one.half),
            "high": 100 * (one.mean + one.half),
            "text": f"{one.title}, {said(labels)}: {cell(one)} %",
        }
        for name in names
        for labels, one in strongest(figure for figure in figures if figure.line == name).items()
    ]
    looks = []
    for i, name in enumerate(names):
        ours = name in pretrained
        j = i if ours else i - len(pretrained)
        dashes = DASHES if ours else FLOOR_DASHES
        looks.append(
            (
                COLOURS[j % len(COLOURS)] if ours else GREY,
                list(dashes[j % len(dashes)]),
                SHAPES[i % len(SHAPES)],
            )
        )
    scale = {"domain": names}
    legend = {"title": None, "columns": 1, "labelLimit": 400, "symbolOpacity": 1, "orient": "bottom"}
    colours = {**scale, "range": [look[0] for look in looks]}
    colour = {"field": "way", "type": "nominal", "scale": colours, "sort": names, "legend": legend}
    dash = {"field": "way", "scale": {**scale, "range": [look[1] for look in looks]}, "legend": None}
    shape = {"field": "way", "scale": {**scale, "range": [look[2] for look in looks]}, "legend": None}
    x = {"field": "labels", "type": "quantitative", "scale": {"type": "log"}, "title": "labels a class"}
    y = {
        "field": "accuracy",
        "type": "quantitative",
        "scale": {"zero": False},
        "title": "accuracy on test, %",
    }
    tooltip = [{"field": "text", "title": "figure"}]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"values": values},
        "width": "container",
        "height": 380,
        "encoding": {"x": x, "color": colour, "tooltip": tooltip},
        "layer": [
            {
                "mark": {"type": "rule", "opacity": 0.35},
                "encoding": {"y": {**y, "field": "low"}, "y2": {"field": "high"}},
            },
            {"mark": "line", "encoding": {"y": y, "strokeDash": dash}},
            {
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                "encoding": {"y": y, "shape": shape},
            },
        ],
    }
