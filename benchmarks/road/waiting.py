"""Shall threads that wait spin or sleep? Training steps under some policies, quiet and beside a busy process.

    python benchmarks/road/waiting.py [ROUNDS] [SECONDS]

OpenMP's threads spin for milliseconds when they wait, unless OMP_WAIT_POLICY=PASSIVE lets them sleep at once,
or GOMP_SPINCOUNT says how often they look before they do. Each measurement is a fresh process, because the
policy is read when torch loads; the policies take turns.
"""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median

from ssl_zoo.cli import WAITING

THREADS = 2
POLICIES: dict[str, dict[str, str]] = {
    "as it comes": {},
    "sleeping": {"OMP_WAIT_POLICY": "PASSIVE"},
    "1,000 looks (ssl-zoo)": WAITING,
    "5,000 looks": {"GOMP_SPINCOUNT": "5000"},
    "20,000 looks": {"GOMP_SPINCOUNT": "20000"},
}
STEPS = ("convolutions", "transformer")
OURS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")


def measure(seconds: float) -> None:
    """In a process of its own: prints the steps a second of each kind of step."""
    import time

    import torch

    from ssl_zoo import Batch, NextToken
    from ssl_zoo.backbones._base import Vocabulary
    from ssl_zoo.backbones.transformer import TextTransformer
    from ssl_zoo.backbones.vision import timm_backbone
    from ssl_zoo.objectives.rotation import Rotation

    torch.set_num_threads(THREADS)
    cnn = timm_backbone("resnet18", image_size=32, stem="small", channels=[16, 32, 64, 128], stem_width=16)
    images, ids = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8), torch.randint(3, 69, (12, 65))
    transformer = TextTransformer(Vocabulary(69, 0, 1, 2, (0, 1, 2)), 128, 4, 2)
    for objective, batch in ((Rotation(cnn), Batch(images)), (NextToken(transformer), Batch(ids))):
        optimizer = torch.optim.AdamW(objective.parameters())
        began, steps = 0.0, 0
        while not began or time.perf_counter() - began < seconds:
            objective(batch).value.backward()
            optimizer.step()
            optimizer.zero_grad()
            steps += 1
            if steps == 3 and not began:  # warm
                began, steps = time.perf_counter(), 0
        print(steps / (time.perf_counter() - began))


def once(policy: str, seconds: float) -> list[float]:
    """Steps a second under a policy, in place of any that is set."""
    environment = {name: value for name, value in os.environ.items() if name not in OURS} | POLICIES[policy]
    command = [sys.executable, __file__, "measure", str(seconds)]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return [float(line) for line in printed.split()]


def main(rounds: int = 4, seconds: float = 1.5) -> None:
    print(
        f"Steps a second on {THREADS} threads, {os.cpu_count()} cores: medians of {rounds} x {seconds:g} s, "
        "and their ratio to the first policy\n"
    )
    print(f"| beside | step | {' | '.join(POLICIES)} |\n|---|---|{'---|' * len(POLICIES)}")
    for beside in ("nothing", "a busy process"):
        busy = None if beside == "nothing" else subprocess.Popen([sys.executable, "-c", "while True: pass"])
        found: dict[str, list[list[float]]] = {policy: [] for policy in POLICIES}
        try:
            for turn in range(rounds):
                for policy in list(POLICIES)[:: 1 if turn % 2 == 0 else -1]:
                    found[policy].append(once(policy, seconds))
        finally:
            if busy is not None:
                busy.kill()
                busy.wait()
        for number, step in enumerate(STEPS):
            speeds = [median(rates[number] for rates in found[policy]) for policy in POLICIES]
            cells = [f"{speed:.2f} ({speed / speeds[0]:.2f})" for speed in speeds]
            print(f"| {beside} | {step} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(float(sys.argv[2]))
    else:
        main(*(kind(word) for kind, word in zip((int, float), sys.argv[1:], strict=False)))
