"""The speed table: python benchmarks/speed/run.py [CASE ...] [--rounds N] [--out FILE]"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from cases import CASES
from duel import Case, play
from hardware import describe


def run_case(name: str, case: Case, rounds: int) -> dict[str, Any]:
    """Play one case; print its lines; return what the results file keeps."""
    began = time.monotonic()
    outcome = play(case, rounds)
    ours, *others = case.sides
    peer = outcome.best([other for other in others if other not in case.asides])
    ratios = outcome.ratios(ours, peer)
    for side, rates in outcome.rates.items():
        spread = (max(rates) - min(rates)) / median(rates)
        print(f"    {side:28} {median(rates):12,.1f} {case.unit:12} spread {100 * spread:3.0f} %", flush=True)
    ratio = median(ratios)
    verdict = "met" if ratio >= case.bar else "MISSED"
    print(
        f"{name}: {ratio:.2f}x {peer} (bar {case.bar:g}: {verdict}), {time.monotonic() - began:.0f} s\n",
        flush=True,
    )
    return {
        "title": case.title,
        "unit": case.unit,
        "against": case.against,
        "peer": peer,
        "ratio": ratio,
        "ratios": ratios,
        "bar": case.bar,
        "threads": case.threads,
        "same": case.same,
        "differs": case.differs,
        "rates": outcome.rates,
        "notes": outcome.notes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"no case called {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    began = time.monotonic()
    results: dict[str, Any] = {"environment": describe(), "cases": {}}
    print(results["environment"]["hardware"], results["environment"]["versions"], "\n", flush=True)
    for name in options.cases or CASES:
        results["cases"][name] = run_case(name, CASES[name](), options.rounds)
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{time.monotonic() - began:.0f} s in all", file=sys.stderr)


if __name__ == "__main__":
    main()
