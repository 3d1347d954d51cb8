"""A results file as tables and a picture: python benchmarks/speed/report.py RESULTS.json

Writes the picture beside the results, and the tables into the README of this folder, between its markers.
No number of either comes from anywhere but the file.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib

matplotlib.use("Agg")  # there may be no display
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

MARKERS = ("<!-- results -->", "<!-- end of results -->")
ONCE = {"memory": "mib", "race": "minutes"}  # what each side of such a case notes
OURS, PEER, MISSED = "#0072B2", "#999999", "#D55E00"  # Okabe and Ito's: told apart by most


def figure(value: float) -> str:
    """Three digits that mean something, thousands parted."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio(value: float) -> str:
    """Two decimals near 1, where they decide."""
    return f"{value:.1f}x" if value >= 10 else f"{value:.2f}x" if value >= 0.1 else f"{value:.2g}x"


def verdict(case: dict[str, Any]) -> str:
    sign = "≤" if case["kind"] == "memory" else "≥"
    return f"{sign} {case['bar']:g}x " + ("met" if case["met"] else "**MISSED**")


def more(case: dict[str, Any], side: str) -> str:
    """The sign before a figure that a side's giving up has cut."""
    return "" if case["notes"].get(side, {}).get("reached", True) else "> "


def amount(case: dict[str, Any], side: str) -> str:
    """A side's rate, memory or minutes, and its accuracy where it noted one."""
    noted = case["notes"].get(side, {})
    value = median(case["rates"][side]) if case["kind"] == "speed" else noted[ONCE[case["kind"]]]
    accuracy = f" ({100 * noted['accuracy']:.1f} %)" if "accuracy" in noted else ""
    return more(case, side) + figure(value) + accuracy


def sides_of(case: dict[str, Any]) -> list[str]:
    return list(case["rates"] if case["kind"] == "speed" else case["notes"])


def table(cases: dict[str, dict[str, Any]]) -> list[str]:
    """A row for each case, then what else was timed and what is the same and what is not."""
    lines = [
        "| case | unit | ours | peer | ratio (least - most) | bar | products' share of our step |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, case in cases.items():
        ours = sides_of(case)[0]
        ratios = case.get("ratios", [])
        spread = f" ({ratio(min(ratios))} - {ratio(max(ratios))})" if ratios else ""
        share = case["notes"].get(ours, {}).get("share")
        peer = f"{amount(case, case['peer'])}, {case['peer']}"
        lines.append(
            f"| `{name}` | {case['unit']} | {amount(case, ours)} | {peer} "
            f"| {more(case, case['peer'])}{ratio(case['ratio'])}{spread} "
            f"| {verdict(case)} | {'' if share is None else f'{100 * share:.0f} %'} |"
        )
    for name, case in cases.items():
        lines += ["", f"**`{name}`** {case['title']}. Against: {case['against']}. "]
        lines[-1] += f"The same: {case['same']}. Different: {case['differs']}."
        ours, *others = sides_of(case)
        if rest := [other for other in others if other != case["peer"]]:
            shown = ", ".join(f"{other} {amount(case, other)}" for other in rest)
            lines[-1] += f" Besides: {shown} {case['unit']}."
    return lines


def growth_table(curves: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    for curve in curves.values():
        lines += ["", f"{curve['title']} ({curve['threads']} threads a process at most):", ""]
        points = curve["points"]
        lines.append(f"| {curve['x']} | " + " | ".join(f"{int(x):,}" for x in points) + " |")
        lines.append("|---" * (1 + len(points)) + "|")
        lines.append(f"| {curve['unit']} | " + " | ".join(figure(v) for v in points.values()) + " |")
        if curve["mib"]:
            lines.append("| peak MiB | " + " | ".join(figure(v) for v in curve["mib"].values()) + " |")
    return lines


def render(results: dict[str, Any], picture: str) -> str:
    """Everything between the README's markers."""
    machine = results["environment"]
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    cases = results["cases"]
    parts = [
        f"{machine['hardware']}; {machine['date']}, commit `{machine['commit'][:12]}`, {machine['data']} "
        f"data, {results['seconds'] / 60:.0f} minutes in all. Python {machine['python']}, {versions}.",
        "",
        f"![ratios and growth]({picture})",
        "",
    ]
    for title, kind in (("Speed", "speed"), ("Minutes to an accuracy", "race"), ("Memory", "memory")):
        if chosen := {name: case for name, case in cases.items() if case["kind"] == kind}:
            parts += [f"### {title}", "", *table(chosen), ""]
    if results["growth"]:
        parts += ["### Growth", *growth_table(results["growth"]), ""]
    return "\n".join(parts).rstrip() + "\n"


def draw_ratios(axes: Axes, cases: dict[str, dict[str, Any]]) -> None:
    """Bars from 1: to the right where ours does more a second, to the left where it takes less memory."""
    names = list(cases)[::-1]
    for y, name in enumerate(names):
        case = cases[name]
        axes.barh(y, case["ratio"] - 1, left=1, color=OURS if case["met"] else MISSED, height=0.6)
        axes.plot([case["bar"]] * 2, [y - 0.42, y + 0.42], color="black", lw=1.5)
        outside = "left" if case["ratio"] >= 1 else "right"
        axes.annotate(
            ratio(case["ratio"]),
            (max(case["ratio"], case["bar"]) if outside == "left" else min(case["ratio"], case["bar"]), y),
            xytext=(4 if outside == "left" else -4, 0),
            textcoords="offset points",
            va="center",
            ha=outside,
            fontsize=8,
        )
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_yticks(range(len(names)), names)
    axes.axvline(1, color=PEER, lw=1)
    axes.set_xlabel("ours / peer; memory: left of 1 is less. Black: the bar. Orange: missed")


def draw_curve(axes: Axes, curve: dict[str, Any]) -> None:
    x = [int(value) for value in curve["points"]]
    axes.plot(x, list(curve["points"].values()), "o-", color=OURS)
    axes.set(title=curve["title"], xlabel=curve["x"], ylabel=curve["unit"])
    axes.set_xscale("log", base=2 if x[-1] < 200_000 else 10)
    axes.set_ylim(bottom=0)
    axes.set_xticks(x, [f"{v / 1000:.0f}k" if v >= 1000 else str(v) for v in x], fontsize=7)
    axes.minorticks_off()
    axes.title.set_fontsize(9)


def plot(results: dict[str, Any], path: Path) -> None:
    cases, curves = results["cases"], results["growth"]
    with plt.rc_context({"svg.hashsalt": "ssl_zoo", "axes.spines.top": False, "axes.spines.right": False}):
        heights = [0.32 * len(cases) + 0.6, *[2.2] * -(-len(curves) // 3)]
        figure = plt.figure(figsize=(11, sum(heights)), layout="constrained")
        grid = figure.add_gridspec(len(heights), 3, height_ratios=heights)
        if cases:
            draw_ratios(figure.add_subplot(grid[0, :]), cases)
        for place, curve in enumerate(curves.values()):
            draw_curve(figure.add_subplot(grid[1 + place // 3, place % 3]), curve)
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def write(readme: Path, text: str) -> None:
    """Put the text between the markers of the README."""
    start, end = MARKERS
    before = readme.read_text(encoding="utf-8")
    if not re.search(f"{start}.*{end}", before, re.DOTALL):
        raise SystemExit(f"{readme} has no place for results: {start} ... {end}")
    after = re.sub(f"{start}.*{end}", lambda _: f"{start}\n\n{text}\n{end}", before, flags=re.DOTALL)
    readme.write_text(after, encoding="utf-8")


def main(path: Path, readme: Path) -> None:
    results = json.loads(path.read_text(encoding="utf-8"))
    picture = path.with_suffix(".svg")
    plot(results, picture)
    write(readme, render(results, f"{path.parent.name}/{picture.name}"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent / "README.md")
