"""Two processes of N rows equal one of 2 N, and parts of a batch average to the whole: tried out.

Processes meet over gloo, and average their gradients by hand as DDP does. `python -m ssl_zoo.contract.pair`
is one of the two for an objective that lies in a file of its own.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ssl_zoo.backbones._base import Kind
from ssl_zoo.contract import tiny
from ssl_zoo.distributed import rank, world
from ssl_zoo.noise import free_noise, seed_noise
from ssl_zoo.norm import BatchNorm, over_all_processes
from ssl_zoo.objectives._base import Batch, Objective

ROWS, STEPS, SEED = 8, 3, 5
CLOSE = 1e-3  # of float32, relative to the largest value of a tensor; faults are of 1e-2 and more
FAINT, LEAST = 1e-3, 1e-6  # see `faint` and `furthest`


def learn(objective: Objective, rows: Batch, accumulate: int = 1) -> dict[str, Any]:
    """Three SGD steps on this process's share of the rows.

    Args:
        objective: what learns; it is changed.
        rows: the whole batch, the same in every process.
        accumulate: in how many parts a process reads its share.

    Returns:
        "losses": the mean loss of each step. "gradient": that of the last step, by name. "weights": all
        weights and buffers after it, by name, in float64.
    """
    parameters = {key: p for key, p in objective.named_parameters() if p.requires_grad}
    found: dict[str, Any] = {"losses": []}
    each = len(rows.x) // (world() * accumulate)
    for step in range(STEPS):
        total = torch.zeros((), dtype=torch.float64)
        for micro in range(accumulate):
            part = micro * world() + rank()
            seed_noise(SEED, step, part, accumulate * world())
            loss = objective(tiny.part(rows, slice(part * each, (part + 1) * each)))
            (loss.value / accumulate).backward()
            total += loss.value.detach() / accumulate
        gradients = {key: p.grad for key, p in parameters.items() if p.grad is not None}
        for value in [total, *gradients.values()]:
            if world() > 1:
                dist.all_reduce(value)
                value /= world()
        found["losses"].append(total.item())
        # The last one: a queue is empty at first.
        found["gradient"] = {key: gradient.clone() for key, gradient in gradients.items()}
        with torch.no_grad():
            for key, gradient in gradients.items():
                parameters[key].sub_(0.05 * gradient)
                parameters[key].grad = None
        objective.advance((step + 1) / STEPS)
    free_noise()
    found["weights"] = {key: x.detach().double() for key, x in objective.state_dict().items()}
    return found


def furthest(found: dict[str, Tensor], expected: dict[str, Tensor], least: float = LEAST) -> float:
    """Largest difference, relative to the largest finite value of the tensor, but at least to `least`.

    It is not finite where any value is NaN, or infinite in one of the two alone.
    """
    pairs = [(found[k].double(), e.double()) for k, e in expected.items()]  # some buffers are truth values
    differences = [torch.where(f == e, 0, f - e).abs().max() / max(largest({"": e}), least) for f, e in pairs]
    return torch.stack(differences).max().item()  # of NaN and a number, NaN


def largest(tensors: dict[str, Tensor]) -> float:
    """The largest finite magnitude among the values of tensors; 0 if there is none."""
    return max((x.double().abs().nan_to_num(0, 0).max().item() for x in tensors.values()), default=0.0)


def faint(gradient: dict[str, Tensor]) -> float:
    """`least` for a gradient: a thousandth of its largest value, whichever tensor has that.

    Some tensors have a gradient that is 0 in theory (that of a bias before a batch norm, or of the keys' bias
    in attention) and is the rounding of much larger terms in fact. Compared with itself, rounding is a fault.
    """
    return max(FAINT * largest(gradient), LEAST)


def in_parts(objective: Objective) -> bool:
    """Whether each sample has a loss of its own: nothing compares or normalises it with its batch."""
    normed = any(isinstance(module, BatchNorm) for module in objective.modules())
    return not objective.whole_batch and not normed


def tried(cls: type[Objective], kind: Kind) -> tuple[Objective, Batch]:
    """The objective on a tiny backbone, and rows; those of text are of unequal lengths.

    On text it is in evaluation mode, since the noise of dropout belongs to a process.
    """
    objective = tiny.build(cls, tiny.backbone(kind)).train()
    over_all_processes(objective)
    rows = tiny.batch(objective, ROWS, length=20)
    if rows.segments is not None:
        objective.eval()
        for row in range(ROWS):
            rows.segments[row, rows.x.shape[1] - row :] = -1
    return objective, rows


def apart(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    """In words, how what two ways of learning found differs; None if it is the same."""
    for step, (a, b) in enumerate(zip(one["losses"], other["losses"], strict=True)):
        if not abs(a - b) <= CLOSE * max(1.0, abs(a)):  # NaN is not close to anything
            return f"the loss of step {step} is {a:g} and {b:g}"
    # A weight that only rounding moves starts at 0 as a rule, and stays near it: hence FAINT.
    for what, least in (("gradient", faint(one["gradient"])), ("weights", FAINT)):
        if not (far := furthest(other[what], one[what], least)) <= CLOSE:
            return f"the {what} differ{'s' * (what == 'gradient')} by {far:.2g} of the largest"
    return None


@contextmanager
def one_thread() -> Iterator[None]:
    """Within, PyTorch computes with one thread, as each of two processes does; afterwards as before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def divided(cls: type[Objective], kinds: Sequence[Kind]) -> dict[Kind, list[str]]:
    """What is wrong where a batch is divided, over accumulated parts or two processes: a sentence each."""
    with torch.random.fork_rng(devices=[]), one_thread():
        alone = {kind: learn(*tried(cls, kind)) for kind in kinds}
        found: dict[Kind, list[str]] = {kind: [] for kind in kinds}
        for kind in kinds:
            objective, rows = tried(cls, kind)
            if in_parts(objective) and (how := apart(alone[kind], learn(objective, rows, 2))):
                found[kind].append(
                    f"Two halves of a batch do not average to the whole: {how}. Where the loss compares "
                    "samples with each other, say whole_batch = True; where it is a mean over some places of "
                    "a batch, divide by a number that depends on shapes alone (heads.score_tokens)."
                )
    for kind, two in together(cls, kinds).items():
        if how := two if isinstance(two, str) else apart(alone[kind], two):
            found[kind].append(
                f"Two processes are not one: {how}. Draw noise with ssl_zoo.noise.rand, compare with the "
                "rows of all processes (ssl_zoo.distributed.gather), and take batch norms of ssl_zoo.norm."
            )
    return found


def together(cls: type[Objective], kinds: Sequence[Kind]) -> dict[Kind, Any]:
    """What the first of two processes learns on each kind; a sentence where it failed.

    Raises:
        OSError: the class is in no file that a process of its own could read.
    """
    file = inspect.getfile(cls)
    if not Path(file).is_file():
        raise OSError(f"{cls.__name__} lies in no file, but in {file}")
    about = {"module": cls.__module__, "file": file, "name": cls.__qualname__, "kinds": list(kinds)}
    with tempfile.TemporaryDirectory() as folder:
        if errors := two_run(folder, about):
            return dict.fromkeys(kinds, f"they ended in {' and '.join(dict.fromkeys(errors))}")
        return torch.load(Path(folder) / "found.pt")


def two_run(folder: str, about: dict[str, Any]) -> list[str]:
    """Let two processes of their own call `main`.

    Returns:
        For each that failed, the last line that it wrote, or its exit code where it wrote none.
    """
    command = [sys.executable, "-m", __name__, folder, json.dumps(about)]
    # Files, not pipes: one whose pipe is full would wait for its reader, and the other for it.
    logs = [Path(folder) / f"log-{i}" for i in range(2)]
    group = []
    for i, log in enumerate(logs):
        with log.open("w", encoding="utf-8") as stderr:
            group.append(subprocess.Popen([*command, str(i)], stderr=stderr, stdout=subprocess.DEVNULL))
    errors = []
    for process, log in zip(group, logs, strict=True):
        if code := process.wait():
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            errors.append(lines[-1] if lines else f"exit code {code}")
    return errors


def located(module: str, file: str, name: str) -> type[Objective]:
    """The class, from its module if that can be imported, else from its file."""
    try:
        if module == "__main__":
            raise ImportError
        found: Any = importlib.import_module(module)
    except ImportError:
        spec = importlib.util.spec_from_file_location("checked", file)
        assert spec is not None
        assert spec.loader is not None
        found = importlib.util.module_from_spec(spec)
        sys.modules["checked"] = found
        spec.loader.exec_module(found)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def main(folder: str, about: dict[str, Any], number: int) -> None:
    """What process `number` of the two does; the first leaves what it found in `folder`."""
    kinds = about.pop("kinds")
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=number, world_size=2)
    cls = located(**about)
    with one_thread():
        found = {kind: learn(*tried(cls, kind)) for kind in kinds}
    if number == 0:
        torch.save(found, Path(folder) / "found.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]))
