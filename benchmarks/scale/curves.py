"""Cost of what grows with rows, processes, shards and lines: time and memory, and how they grow.

    python benchmarks/scale/curves.py run [CASE ...]   # writes curves.json; all: ten minutes of one core
    python benchmarks/scale/curves.py show             # the table of docs/guide/machines.md

Each size runs in a fresh process with one thread. Time is the median of several calls where these are short.
Memory is how far the most that the process held is above what it held before the call, without pages of
mapped files, which the system takes back when it needs them; what is handed over (a batch, a bank of
features) was there before. Exponents are slopes of the largest two sizes on logarithmic scales: time ~ n^a.
The bars: memory does not grow with n where a case says so, and time grows at most 1.1 times as much as n (as
its square where each row is compared with each).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

HERE = Path(__file__).parent
RESULTS = HERE / "curves.json"
LONG = 0.5  # seconds of a call that is timed once
Call = Callable[[], object]


def order(n: int) -> Call:
    import numpy as np

    from ssl_zoo.data.permutation import permuted

    places = np.arange(512) * (n // 512)
    return lambda: permuted(places, n, 0, 3)


def windows(n: int) -> Call:
    import numpy as np

    from ssl_zoo.data.windows import Windows

    order, places = Windows(np.full(n, 10_000), 16_384), np.arange(512)
    return lambda: (order._epochs.clear(), order.order(places, 0, 3))  # as an epoch begins


def index(n: int) -> Call:
    from ssl_zoo.data.mds import read_index

    one = {
        "column_encodings": ["jpeg", "int"], "column_names": ["image", "label"], "column_sizes": [None, 8],
        "compression": None, "format": "mds", "samples": 1000, "version": 2, "zip_data": None,
    }  # fmt: skip
    raw = [{"basename": f"shard.{i:07d}.mds", "bytes": 1 << 26, "hashes": {}} for i in range(n)]
    text = json.dumps({"shards": [one | {"raw_data": about} for about in raw], "version": 2}).encode()
    return lambda: read_index(text, "index.json", "https://host/set")


def noise(n: int) -> Call:
    from ssl_zoo.noise import rand, seed_noise

    return lambda: (seed_noise(0, 7, n - 1, n), rand(64, 3, 32, 32))


def nt_xent(n: int) -> Call:
    import torch

    from ssl_zoo import contrast

    own = torch.randn(2 * 1024, 128, requires_grad=True)
    others = torch.nn.functional.normalize(torch.randn(2 * n - len(own), 128), dim=1)
    contrast.gather = lambda z: torch.cat([z, others])
    return lambda: contrast.nt_xent(own, 0.1)[0].backward()  # noqa: PLW0108


def nt_xent_alone(n: int) -> Call:
    import torch

    from ssl_zoo import contrast

    own = torch.randn(2 * n, 128, requires_grad=True)
    return lambda: contrast.nt_xent(own, 0.1)[0].backward()  # noqa: PLW0108


def queue(n: int) -> Call:
    import torch

    from ssl_zoo.memory import Queue

    kept, rows = Queue(n, 128).train(), torch.randn(4096, 128)
    return lambda: (kept.stash(rows), kept.flush())


def sinkhorn(n: int) -> Call:
    import torch

    from ssl_zoo.assign import sinkhorn

    scores = 2 * torch.rand(n, 3000) - 1  # cosines
    return lambda: sinkhorn(scores)


def knn(n: int) -> Call:
    import torch

    from ssl_zoo.transfer.knn import predict

    bank, y, queries = torch.randn(n, 64), torch.randint(0, 100, (n,)), torch.randn(256, 64)
    return lambda: predict(queries, bank, y, 100, [20], [0.07])


def probe(n: int) -> Call:
    import torch

    from ssl_zoo.transfer.linear import fit_path

    x, w = torch.randn(n, 64), torch.randn(64, 10)
    y = (x @ w + 2 * torch.randn(n, 10)).argmax(1)
    return lambda: fit_path(x, y, 10, [1e-3])


def board(n: int) -> Call:
    """All of digits' results, for lines under other names."""
    import shutil

    from ssl_zoo.leaderboard import standings
    from ssl_zoo.leaderboard.table import show

    source, folder = HERE.parent / "leaderboard/digits", Path(os.environ["CURVES_FOLDER"])
    (folder / "recipes").mkdir(parents=True)
    shutil.copy(source / "board.yaml", folder)
    recipes = {path.stem: path.read_text() for path in sorted((source / "recipes").glob("*.yaml"))}
    rows = [json.loads(line) for line in (source / "results.jsonl").read_text().splitlines()]
    with (folder / "results.jsonl").open("w") as out:
        for number in range(n):
            name = list(recipes)[number % len(recipes)]
            (folder / f"recipes/{name}-{number}.yaml").write_text(recipes[name])
            for row in rows:
                if row["line"] == name:
                    out.write(json.dumps(row | {"line": f"{name}-{number}"}) + "\n")
    return lambda: show(standings.load(folder))


def store(n: int) -> Call:
    """n MiB of tokens from documents that are made as they are asked for."""
    from ssl_zoo.data.text_rows import _write
    from ssl_zoo.data.tokenizer import bytes_tokenizer

    tokenizer, line = bytes_tokenizer(), "It was a bright cold day in April, and the clocks were striking. "
    size = 64 * len(line)

    def documents() -> Iterator[str]:
        for number in range((n << 20) // (2 * (size + 8))):
            yield f"{number:07d} " + line * 64

    folder = Path(os.environ["CURVES_FOLDER"])
    folder.mkdir()
    return lambda: _write(documents(), tokenizer, "curves", (), folder)


def reading(n: int) -> Call:
    """256 batches of 32 rows of 1,024 tokens, drawn from all of n MiB of tokens."""
    import numpy as np

    from ssl_zoo.data.plan import Plan
    from ssl_zoo.data.text_rows import PackedRows

    folder = Path(os.environ["CURVES_FOLDER"])
    folder.mkdir()
    with (folder / "tokens.bin").open("wb") as out:
        for number in range(n):
            out.write(np.random.default_rng(number).integers(0, 1 << 15, 1 << 19, np.uint16).tobytes())
    np.save(folder / "offsets.npy", np.arange(0, n << 19, 4096))
    facts = {"tokens": n << 19, "content": n << 19, "bytes": n << 21, "dtype": "uint16", "fingerprint": "0"}
    (folder / "facts.json").write_text(json.dumps(facts))
    rows = PackedRows(folder, 1024, 1)
    plan = Plan(len(rows), 32, 0)
    return lambda: [rows.read(plan.rows(step), np.int64(step % 2)).x.sum() for step in range(256)]


class Case(NamedTuple):
    """what: a line for people. unit: of n. sizes: n. flat: memory may not grow. make: of n, the call.
    power: of n, which time may grow as."""

    what: str
    unit: str
    sizes: tuple[int, ...]
    flat: bool
    make: Callable[[int], Call]
    power: int = 1


CASES = {
    "order": Case("order of rows, a batch of 512", "rows", (10**4, 10**6, 10**9, 10**12), True, order),
    "windows": Case("order of shards as an epoch begins", "shards", (10**4, 10**5, 10**6), False, windows),
    "index": Case("an MDS index", "shards", (10**4, 10**5, 10**6), False, index),
    "noise": Case("noise of one part's 64 images", "parts", (1, 64, 4096), True, noise),
    "nt_xent": Case(
        "NT-Xent, 1,024 samples of one process, forwards and back",
        "samples of the global batch",
        (8192, 32768, 65536), True, nt_xent,
    ),
    "nt_xent_alone": Case(
        "NT-Xent in one process (n x n scores)", "samples", (4096, 8192, 16384), True, nt_xent_alone, 2
    ),
    "queue": Case("4,096 rows into a queue", "rows", (16384, 65536, 262144), True, queue),
    "sinkhorn": Case("Sinkhorn, 3,000 prototypes", "its rows", (4096, 16384, 65536), False, sinkhorn),
    "knn": Case("256 queries, 64 features", "rows of the bank", (10**5, 10**6, 10**7), True, knn),
    "probe": Case("linear probe, 64 features, 10 classes", "rows", (10**5, 10**6, 10**7), False, probe),
    "board": Case("table of a board with digits' rows", "lines", (10, 100, 1000), False, board),
    "store": Case("token store built", "MiB of tokens", (32, 256, 1024), True, store),
    "reading": Case("256 batches of a token store", "MiB of tokens", (32, 256, 1024), True, reading),
}  # fmt: skip


def one(name: str, n: int) -> dict[str, Any]:
    """Seconds and MiB of one size of a case, in this process."""
    import torch

    torch.set_num_threads(1)
    call = CASES[name].make(n)
    forget()
    before, mapped = held_at_most(), status("RssFile")
    began = time.perf_counter()
    call()
    seconds = [time.perf_counter() - began]
    most = held_at_most() - before - max(0.0, status("RssFile") - mapped)
    while sum(seconds) < LONG and len(seconds) < 9:
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    # The first call imports and fills caches.
    return {"n": n, "seconds": median(seconds[1:] or seconds), "mib": round(most, 1)}


def held_at_most() -> float:
    """MiB that this process held at most since `forget`."""
    return status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def status(name: str) -> float:
    """A figure of this process in MiB, where the system tells it (Linux), else 0."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name):
                return float(line.split()[1]) / 1024
    return 0.0


def forget() -> None:
    """Have `held_at_most` count from what is held now (Linux; elsewhere it counts from the start)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def run(names: list[str]) -> None:
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names or CASES:
        found[name] = []
        for n in CASES[name].sizes:
            with tempfile.TemporaryDirectory() as folder:
                told = subprocess.run(
                    [sys.executable, __file__, "one", name, str(n)],
                    env=os.environ | {"CURVES_FOLDER": f"{folder}/it", "OMP_NUM_THREADS": "1"},
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
            found[name].append(json.loads(told.stdout.splitlines()[-1]))
            print(name, found[name][-1], flush=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def exponent(points: list[dict[str, Any]]) -> float:
    """a of time ~ n^a, by the two largest sizes."""
    (n, first), (m, last) = ((one["n"], one["seconds"]) for one in points[-2:])
    return math.log(last / first) / math.log(m / n)


def spelt(n: int) -> str:
    return f"10^{round(math.log10(n))}" if n >= 10**6 and n == 10 ** round(math.log10(n)) else f"{n:,}"


def clock(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def show() -> None:
    found = json.loads(RESULTS.read_text())
    print("| what | n | time | memory | time ~ n^a | bars |")
    print("|---|---|---|---|---:|---|")
    for name, case in CASES.items():
        points = found[name]
        (n, first), (m, last) = ((p["n"], p["seconds"]) for p in points[-2:])
        slow = last / first > 1.1 * (m / n) ** case.power
        fat = case.flat and points[-1]["mib"] > 1.1 * points[-2]["mib"] + 8
        missed = [word for word, yes in (("time", slow), ("memory", fat)) if yes]
        cells = [" / ".join(column) for column in zip(
            *((spelt(p["n"]), clock(p["seconds"]), f"{p['mib']:,.0f}") for p in points), strict=True
        )]  # fmt: skip
        verdict = f"**missed: {', '.join(missed)}**" if missed else "met" if case.flat else "met (time)"
        sizes, times, memory = cells
        print(
            f"| {case.what} | {sizes} {case.unit} | {times} | {memory} MiB | {exponent(points):.2f} ", end=""
        )
        print(f"| {verdict} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("verb", choices=("run", "show", "one"))
    parser.add_argument("words", nargs="*", help=f"of run: {', '.join(CASES)}; default: all")
    given = parser.parse_args()
    if given.verb == "one":
        print(json.dumps(one(given.words[0], int(given.words[1]))))
    elif given.verb == "run":
        run(given.words)
    else:
        show()


if __name__ == "__main__":
    main()
