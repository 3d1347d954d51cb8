"""What `ssl_zoo.products` is worth: python benchmarks/speed/rates.py [--threads 2] [WORDS ...]

Milliseconds of a training step with torch as it is, with memory that stays, with linear layers by oneDNN, and
with both; each in a process of its own. WORDS: those of `ssl-zoo pretrain`, between quotes, or one of STEPS.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from contextlib import ExitStack
from statistics import median

from duel import fix_threads

STEPS = (
    *(
        f"experiment=cifar10_{name}"
        for name in ("simclr", "byol", "vicreg", "dino", "mae", "simmim", "ijepa")
    ),
    "next_token",
    "masked_lm",
)
WAYS = {"torch": (False, False), "memory": (True, False), "products": (False, True), "both": (True, True)}
WARM, TIMED = 2, 9


def step_of_way(words: str, threads: int, way: str) -> tuple[float, float]:
    """Median milliseconds of a step, and the most MiB that the process held."""
    fix_threads(threads)
    from cases import text
    from cases.material import recipe, step_of

    from ssl_zoo import products

    memory, linears = WAYS[way]
    if not linears:
        products.slow_mkl = lambda: False  # the token head asks it, too
    with ExitStack() as ways:
        if memory:
            ways.enter_context(products.HEAP.kept())
        if linears:
            ways.enter_context(products.Linears())
        step = step_of(recipe(*text.STEPS.get(words, words.split())))
        taken: list[float] = []
        for _ in range(WARM + TIMED):
            began = time.perf_counter()
            step()
            taken.append(time.perf_counter() - began)
    return 1000 * median(taken[WARM:]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("words", nargs="*", default=STEPS)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    alone = multiprocessing.get_context("spawn")
    for words in given.words:
        found = {}
        for way in WAYS:
            with alone.Pool(1) as pool:
                found[way] = pool.apply(step_of_way, (words, given.threads, way))
        base = found["torch"][0]
        cells = (f"{way} {ms:5.0f} ms ({base / ms:.2f}x, {mib:,.0f} MiB)" for way, (ms, mib) in found.items())
        print(f"{words:28} {'  '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
