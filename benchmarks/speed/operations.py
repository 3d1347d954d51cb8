"""Where a step's time goes, by torch's profiler: python benchmarks/speed/operations.py experiment=cifar10_mae

The words are those of `ssl-zoo pretrain`; `mae`, `masked_lm` and `next_token` stand for cases of the table.
"""

from __future__ import annotations

import sys

from duel import fix_threads

CASES = {"mae": ("experiment=cifar10_mae",)}


def main(words: list[str], threads: int = 2, steps: int = 3) -> None:
    fix_threads(threads)
    import torch
    from cases import text
    from cases.material import recipe, step_of
    from torch.profiler import ProfilerActivity, profile

    from ssl_zoo.products import at_full_rate

    cases = CASES | text.STEPS
    step = step_of(recipe(*cases.get(words[0], words)))
    with at_full_rate(torch.device("cpu")), profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(steps):
            step()
    rows = sorted(seen.key_averages(), key=lambda row: -row.self_cpu_time_total)
    total = sum(row.self_cpu_time_total for row in rows)
    print(f"{' '.join(words)}: {total / steps / 1000:.0f} ms a step, {threads} threads")
    for row in rows[:12]:
        share = 100 * row.self_cpu_time_total / total
        print(f"{share:5.1f} %  {row.count / steps:5.0f} calls  {row.key}")


if __name__ == "__main__":
    main(sys.argv[1:] or ["mae"])
