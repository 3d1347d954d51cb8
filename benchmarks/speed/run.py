"""The speed table: python benchmarks/speed/run.py [CASE ...] [--rounds N] [--out FILE]"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import growth
from cases import MODULES, make
from duel import Case, Memory, Race, alone, play
from hardware import describe


def number(value: float) -> str:
    return f"{value:12,.0f}" if value >= 100 else f"{value:12.3g}"


def rates_of(case: Case, rounds: int) -> dict[str, Any]:
    """Play a case of speed; print a line for each side."""
    outcome = play(case, min(rounds, case.rounds or rounds))
    ours, *others = case.sides
    peer = outcome.best([other for other in others if other not in case.asides])
    for side, rates in outcome.rates.items():
        spread = (max(rates) - min(rates)) / median(rates)
        print(
            f"    {side:36} {number(median(rates))} {case.unit:12} spread {100 * spread:3.0f} %", flush=True
        )
    ratios = outcome.ratios(ours, peer)
    return {
        "kind": "speed",
        "peer": peer,
        "ratio": median(ratios),
        "ratios": ratios,
        "met": median(ratios) >= case.bar,
        "rates": outcome.rates,
        "notes": outcome.notes,
    }


def once(case: Memory | Race) -> dict[str, Any]:
    """Weigh or race each side once: memory hardly varies, and a race is long. Less is better in both."""
    kind, key = ("memory", "mib") if isinstance(case, Memory) else ("race", "minutes")
    notes = alone(case)
    ours, *others = case.sides
    peer = min((other for other in others if other not in case.asides), key=lambda other: notes[other][key])
    for side, noted in notes.items():
        print(f"    {side:36} {number(noted[key])} {case.unit} {gave_up(noted)}", flush=True)
    share = notes[ours][key] / notes[peer][key]
    if isinstance(case, Memory):
        ratio, met = share, share <= case.bar
    else:
        ratio, met = 1 / share, notes[ours]["reached"] and 1 / share >= case.bar
    return {"kind": kind, "peer": peer, "ratio": ratio, "met": met, "notes": notes}


def gave_up(noted: dict[str, Any]) -> str:
    return "" if noted.get("reached", True) else f"and not there: {100 * noted['accuracy']:.1f} %"


def run_case(name: str, case: Case, rounds: int) -> dict[str, Any]:
    """Run one case; print its verdict; return what the results file keeps."""
    began = time.monotonic()
    found = once(case) if isinstance(case, Memory | Race) else rates_of(case, rounds)
    seconds = time.monotonic() - began
    verdict = "met" if found["met"] else "MISSED"
    print(f"{name}: {found['ratio']:.2f}x {found['peer']} (bar {case.bar:g}: {verdict}), {seconds:.0f} s\n")
    facts = ("title", "unit", "against", "bar", "same", "differs", "threads", "asides")
    return {key: getattr(case, key) for key in facts} | found | {"seconds": round(seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(MODULES)}; default: all, and growth")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--growth", nargs="*", help=f"of {', '.join(growth.CURVES)}; default: all of them")
    parser.add_argument(
        "--out", type=Path, help="write the results here as JSON; a folder: named by the machine"
    )
    parser.add_argument(
        "--report", action="store_true", help="put them into the README, and draw the picture"
    )
    options = parser.parse_args()
    everything = not options.cases and options.growth is None
    names = list(MODULES) if everything else options.cases
    curves = list(growth.CURVES) if everything else options.growth
    curves = [] if curves is None else curves or list(growth.CURVES)
    if unknown := {*names, *curves} - {*MODULES, *growth.CURVES}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if options.report and not options.out:
        parser.error("--report needs --out")
    environment = describe()
    results: dict[str, Any] = {"environment": environment, "cases": {}, "growth": {}}
    out = options.out
    if out and not out.suffix:
        out = out / f"{environment['slug']}-{environment['date']}.json"
    print(environment["hardware"], environment["versions"], "\n", flush=True)
    began = time.monotonic()

    def keep() -> None:
        results["seconds"] = round(time.monotonic() - began)
        if out:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(results, indent=1) + "\n")

    for name in names:
        results["cases"][name] = run_case(name, make(name), options.rounds)
        keep()
    for name in curves:
        results["growth"][name] = growth.run_curve(name)
        keep()
    print(f"{time.monotonic() - began:.0f} s in all", f"-> {out}" if out else "", flush=True)
    if options.report:
        import report  # draws: not needed on a machine that only measures

        report.main(out, Path(__file__).parent / "README.md")


if __name__ == "__main__":
    main()
