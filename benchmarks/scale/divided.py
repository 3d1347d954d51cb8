"""Memory of training with weights divided over processes (trainer=fsdp2), measured and on paper.

    python benchmarks/scale/divided.py measure   # 1, 2 and 4 CPU processes over gloo, against DDP; a minute
    python benchmarks/scale/divided.py paper     # 1 and 7 billion parameters on 8 and 64 GPUs

`measure` takes two steps of AdamW of next token with a text transformer of 36 M parameters, and writes
divided.json: MiB of weights, gradients and AdamW's moments that one process holds when a step is over,
counted tensor by tensor, and how far the most it ever held is above what it held before the model was built.
(Each process builds the whole model before it divides it.)

`paper` prints the arithmetic that `held` and `gathered` spell out. Activations come on top of it: with
recompute=true, the inputs of the blocks, 4 bytes x tokens x width x blocks, and what one block keeps.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import socket
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_suffix(".json")
WIDTH, DEPTH, IDS, ROWS, LENGTH = 512, 10, 8192, 4, 128
MIB, GIB = 2**20, 2**30

# Measured


def member(rank: int, processes: int, port: int, strategy: str, told: Any) -> None:
    """One process of a group: train two steps, and tell what it holds."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor
    from torch.nn.parallel import DistributedDataParallel

    from ssl_zoo import optim
    from ssl_zoo.backbones._base import Vocabulary
    from ssl_zoo.backbones.transformer import TextTransformer
    from ssl_zoo.objectives._base import Batch
    from ssl_zoo.objectives.next_token import NextToken
    from ssl_zoo.pretrain.sharding import shard

    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=processes)
    before = resident()
    torch.manual_seed(0)
    objective = NextToken(TextTransformer(Vocabulary(size=IDS), width=WIDTH, depth=DEPTH, heads=8))
    if strategy == "fsdp2":
        root = shard(objective, init_device_mesh("cpu", (processes,)))
        loss = lambda batch: root(lambda: objective(batch).value)  # noqa: E731
    else:
        wrapped = DistributedDataParallel(objective) if processes > 1 else objective
        loss = lambda batch: wrapped(batch).value  # noqa: E731
    optimizer = optim.adamw(objective)
    ids = torch.randint(3, IDS, (ROWS // processes, LENGTH + 1))
    batch = Batch(ids, torch.zeros_like(ids))
    for _ in range(2):
        optimizer.zero_grad()
        loss(batch).backward()
        optimizer.step()

    def mib(tensors: Any) -> float:
        local = [t.to_local() if isinstance(t, DTensor) else t for t in tensors]
        return round(sum(t.nbytes for t in local) / MIB, 1)

    weights = list(objective.parameters())
    held = {
        "weights": mib(p.detach() for p in weights),
        "gradients": mib(p.grad for p in weights if p.grad is not None),
        "moments": mib(v for one in optimizer.state.values() for v in one.values() if v.dim()),
        "grown": round(resident() - before),
        "parameters": sum(p.numel() for p in weights),
    }
    if rank == 0:
        told.put(held)
    dist.barrier()
    dist.destroy_process_group()


def resident() -> float:
    """The most memory this process ever held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def group(processes: int, strategy: str) -> dict[str, Any]:
    """What the first of several processes holds."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    members = [
        context.Process(target=member, args=(rank, processes, port, strategy, told))
        for rank in range(processes)
    ]
    for process in members:
        process.start()
    held = told.get(timeout=600)
    for process in members:
        process.join()
        if process.exitcode:
            raise RuntimeError(f"a process of {processes} ended with {process.exitcode}")
    return held


def measure() -> None:
    found = []
    for strategy, counts in (("ddp", (1, 2, 4)), ("fsdp2", (1, 2, 4))):
        for processes in counts:
            held = group(processes, strategy)
            found.append({"strategy": strategy, "processes": processes, **held})
            print(
                f"{strategy:<6} {processes} processes: {held['weights']:7.1f} MiB of weights, "
                f"{held['gradients']:7.1f} of gradients, {held['moments']:7.1f} of moments; "
                f"grown by {held['grown']:,}",
                flush=True,
            )
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


# On paper


def sizes(width: int, depth: int, ids: int) -> tuple[int, int]:
    """Numbers in one block (attention 4 width^2, SwiGLU 8 width^2) and in what is in no block (embedding)."""
    return 12 * width**2, ids * width


def held(parameters: int, processes: int) -> float:
    """GiB of one process: float32 weights, gradients and AdamW's two moments, 16 bytes a number, divided."""
    return 16 * parameters / processes / GIB


def gathered(block: int, rest: int) -> float:
    """GiB that come and go: two blocks in bfloat16 (one computes while the next arrives) and one's gradient
    in float32 before it is divided; what is in no block in float32, with its gradient."""
    return (2 * 2 * block + 4 * block + 8 * rest) / GIB


def paper() -> None:
    print("| parameters | GPUs | divided, 16 bytes / GPUs | gathered for a moment | together | undivided |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, width, depth, ids in (("1 B", 2048, 18, 32_768), ("7 B", 4096, 32, 32_768)):
        block, rest = sizes(width, depth, ids)
        parameters = depth * block + rest
        for processes in (8, 64):
            own, passing = held(parameters, processes), gathered(block, rest)
            parts = f"{depth} blocks of {block / 1e6:.0f} M, {rest / 1e6:.0f} M besides"
            print(
                f"| {name} ({parameters / 1e9:.2f} B: {parts}) | {processes} | {own:.2f} GiB | "
                f"{passing:.2f} GiB | {own + passing:.2f} GiB | {held(parameters, 1):.1f} GiB |"
            )


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("measure", "paper"):
        raise SystemExit(__doc__)
    {"measure": measure, "paper": paper}[sys.argv[1]]()
