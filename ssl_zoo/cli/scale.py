"""`ssl-zoo scale`: pretrain a ladder of sizes and budgets, and fit how the loss falls with compute.

RUN/
  SIZE-stepsN-sSEED/  a run of `ssl-zoo pretrain`, and rung.json, which marks it as finished
  scale.json          every rung and the fits
  scale.svg           the picture of them
  scale.html          the same to hover over, with the table

The same command again goes on where it stopped.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from ssl_zoo import scaling
from ssl_zoo.cli import pretrain, scale_ladder
from ssl_zoo.cli.scale_chart import chart, curve
from ssl_zoo.cli.scale_ladder import Rung, rungs
from ssl_zoo.compose import pretraining
from ssl_zoo.compose.composition import plain
from ssl_zoo.compose.step_cost import Cost, cost, open_data
from ssl_zoo.pages import page
from ssl_zoo.pretrain.run import RunError
from ssl_zoo.pretrain.saying import say
from ssl_zoo.pretrain.writing import write_atomically
from ssl_zoo.transfer.report import table

# May change between sessions of one run, but not between rungs whose losses are compared.
COMPARED = ("validation_limit", "trainer.precision", "trainer.gradient_clip_val")


def run(cfg: DictConfig, choices: dict[str, str]) -> None:
    """Train the rungs that are not finished, print the table and the fits, and write them."""
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    where = Path(
        cfg.run or "runs/" + "-".join(["scale", *(choices[k] for k in ("objective", "backbone", "data"))])
    )
    planned = [(rung, scale_ladder.pretraining(cfg, rung, where / rung.name)) for rung in rungs(cfg)]
    records = {rung.name: finished(Path(own.run), own) for rung, own in planned}  # refuses before it works
    data, tokenizer = open_data(cfg)
    costs: dict[str, Cost] = {}
    for rung, own in planned:
        if rung.size not in costs:
            costs[rung.size] = cost(own, data, tokenizer)
            say(described(rung.size, costs[rung.size]))
    total = sum(costs[rung.size].flops * rung.steps for rung, _ in planned)
    say(f"{len(planned)} rungs, {total:.3g} FLOPs; {sum(r is not None for r in records.values())} finished")
    for rung, own in planned:
        if records[rung.name] is None:
            say(f"\n--- {rung.name}, {costs[rung.size].flops * rung.steps:.3g} FLOPs ".ljust(100, "-"))
            pretrain.run(own, choices)
            records[rung.name] = finish(rung, own, costs[rung.size])
    found = outcome([record for record in records.values() if record is not None], cfg.resamples)
    found["configuration"] = plain(cfg)
    title = f"{choices['objective']} of {choices['backbone']} on {choices['data']}: loss and compute"
    say("\n" + text(found))
    write(where, title, found)
    say(f"\nwritten to {where / 'scale.json'}, scale.svg, scale.html")


def described(size: str, one: Cost) -> str:
    """A line on what a size costs."""
    return (
        f"{size:<16} {one.parameters:>12,} parameters, {one.flops:.3g} FLOPs a step of {one.units:,} "
        f"{one.unit}, {one.flops / one.units / one.parameters:.1f} for each parameter and {one.unit[:-1]}"
    )


def finished(where: Path, own: DictConfig) -> dict[str, Any] | None:
    """The record of a rung that was trained to its end, else None.

    Raises:
        RunError: the folder holds a rung of other settings.
    """
    file = where / "rung.json"
    if not file.exists():
        return None
    settings = plain(own)
    pretraining.refuse_other_run(where, settings)
    record = json.loads(file.read_bytes())
    for key, before in record["compared"].items():
        if (now := pretraining.flat(settings)[key]) != before:
            raise RunError(
                f"{where} was finished with {key}={before}, not {now}, and its loss would not compare. Give "
                "the same, or another run=..."
            )
    return record


def finish(rung: Rung, own: DictConfig, one: Cost) -> dict[str, Any]:
    """Write and return the record of a rung whose run has ended."""
    where = Path(own.run)
    summary = json.loads((where / "summary.json").read_bytes())
    settings = pretraining.flat(plain(own))
    losses = {name: value for name, value in summary.items() if name.startswith("val/")}
    record = {
        "name": rung.name,
        "size": rung.size,
        "words": rung.words,
        "steps": rung.steps,
        "seed": rung.seed,
        **asdict(one),
        "flops_per_step": one.flops,
        "flops": one.flops * rung.steps,
        "units": one.units * rung.steps,
        "seconds": summary["seconds"],
        "loss": losses["val/loss"],
        "losses": losses,
        "compared": {key: settings[key] for key in COMPARED},
    }
    write_atomically(where / "rung.json", json.dumps(record, indent=1).encode())
    return record


def outcome(records: list[dict[str, Any]], resamples: int) -> dict[str, Any]:
    """The rungs, which of them are on the frontier, and the fits, or why there is none.

    The frontier is one of rungs, by the mean loss of their seeds; all seeds of its rungs are fitted.
    """
    seeds: dict[tuple[str, int], list[float]] = {}
    for record in records:
        seeds.setdefault((record["size"], record["steps"]), []).append(record["loss"])
    flops = {(record["size"], record["steps"]): record["flops"] for record in records}
    keys = list(seeds)
    best = scaling.frontier(np.array([flops[k] for k in keys]), np.array([np.mean(seeds[k]) for k in keys]))
    on = {keys[i] for i in best}
    shown = [record | {"frontier": (record["size"], record["steps"]) in on} for record in records]
    efficient = [record for record in shown if record["frontier"]]
    laws = [
        fitted("L(C) = E + A / C^alpha", efficient, resamples, C="flops"),
        fitted("L(N, D) = E + A / N^alpha + B / D^beta", shown, resamples, N="parameters", D="units"),
    ]
    return {"rungs": shown, "fits": laws}


def fitted(law: str, records: list[dict[str, Any]], resamples: int, **inputs: str) -> dict[str, Any]:
    """The fit of a law to records, as plain values; where it cannot be made, why.

    Args:
        inputs: name of a variable of the law -> the key of the records that holds its values.
    """
    loss = np.array([record["loss"] for record in records])
    values = {name: np.array([float(record[key]) for record in records]) for name, key in inputs.items()}
    try:
        fit = scaling.fit(loss, resamples=resamples, seed=0, **values)
    except ValueError as error:
        return {"law": law, "runs": len(records), "refused": str(error)}
    found: dict[str, Any] = {
        "law": law,
        "runs": fit.runs,
        "residual": fit.residual,
        "parameters": {
            name: dict(zip(("value", "low", "high"), p, strict=True)) for name, p in fit.parameters().items()
        },
        "contains_0": fit.flat(),
        "resamples": resamples,
        "seed": fit.seed,
    }
    if "C" in values:
        return found | {"curve": curve(fit, values["C"])}
    return found | {"share": dict(zip(("value", "low", "high"), fit.share(), strict=True))}


def text(found: dict[str, Any]) -> str:
    """The table of rungs and the fits."""
    unit = found["rungs"][0]["unit"]
    header = ("size", "steps", "seed", "parameters", "FLOPs", unit, "seconds", "val/loss", "")
    rows = [
        (r["size"], r["steps"], r["seed"], f"{r['parameters']:,}", f"{r['flops']:.3g}", f"{r['units']:,}",
         f"{r['seconds']:.1f}", f"{r['loss']:.4f}", "frontier" if r["frontier"] else "")
        for r in found["rungs"]
    ]  # fmt: skip
    return table(header, rows) + "\n\n" + "\n\n".join(law_text(law) for law in found["fits"])


def law_text(law: dict[str, Any]) -> str:
    """A law with its parameters and intervals, or why it was not fitted."""
    if "refused" in law:
        which = "frontier" if law["law"].startswith("L(C)") else "ladder"
        return f"{law['law']}: not fitted to the {law['runs']} runs of the {which}. {law['refused']}"
    lines = [f"{law['law']}, {law['runs']} runs, {100 * law['residual']:.2g} % off (rms)"]
    shown = dict(law["parameters"])
    if "share" in law:
        shown["beta / (alpha + beta)"] = law["share"]
    lines += [
        f"  {name:<22} {p['value']:>10.4g}   [{p['low']:.4g}, {p['high']:.4g}]" for name, p in shown.items()
    ]
    lines.append(
        f"  in brackets: 95 % intervals, {law['resamples']:,} bootstrap resamples of the runs' residuals, "
        f"seed {law['seed']}"
    )
    lines += [
        f"  The interval of {name} contains 0: these runs do not show that the loss falls with it. Add rungs "
        "that lie further apart, or seeds."
        for name in law["contains_0"]
    ]
    return "\n".join(lines)


def write(where: Path, title: str, found: dict[str, Any]) -> None:
    """Write scale.json, scale.svg and scale.html."""
    spec = chart(title, found)
    write_atomically(where / "scale.json", json.dumps(found, indent=1).encode())
    write_atomically(where / "scale.svg", page.picture(spec | {"width": 640, "height": 400}).encode())
    html = page.render(
        "scale.html",
        {"scale": spec},
        title=title,
        rungs=found["rungs"],
        laws=[law_text(law) for law in found["fits"]],
    )
    write_atomically(where / "scale.html", html.encode())
