"""What a GPU must not change, under three minutes on one card: python -m pytest -m cuda

Where there is none they are skipped. With SSL_ZOO_GPU_TESTS=cpu they run on the CPU, where they try out
themselves alone; benchmarks/gpu/all.py --tiny does so.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import zoo_backbones
from in_double import ZOO, build
from PIL import Image
from torch import Tensor

from ssl_zoo import optim
from ssl_zoo.backbones._base import KINDS, Vocabulary
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.contract.pair import faint, furthest
from ssl_zoo.data.image_decoding import MAX_PIXELS
from ssl_zoo.data.image_undecoded import Encoded, Undecoded
from ssl_zoo.noise import free_noise, seed_noise
from ssl_zoo.objectives._base import Batch, Objective
from ssl_zoo.transfer.features import move
from ssl_zoo.views import recipes

ON = os.environ.get("SSL_ZOO_GPU_TESTS") or ("cuda" if torch.cuda.is_available() else "")
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not ON, reason="no GPU here; SSL_ZOO_GPU_TESTS=cpu runs them"),
]
DEVICE = torch.device(ON or "cpu")
ACCELERATOR = "gpu" if ON == "cuda" else "cpu"


@contextmanager
def no_waiting() -> Iterator[None]:
    """Within, whatever makes the host wait for the GPU is an error."""
    if ON != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def loss_and_gradient(name: str, device: torch.device) -> tuple[float, dict[str, Tensor]]:
    objective, rows = build(name)
    seed_noise(0, 0, 0, 1)
    value = objective.to(device)(move(rows, device)).value
    value.backward()
    free_noise()
    return value.item(), {k: p.grad.cpu() for k, p in objective.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ZOO)
def test_loss_and_gradient_are_the_cpus(name):
    """In double precision, but for views, which are made in single."""
    (one, ours), (two, theirs) = (loss_and_gradient(name, torch.device(on)) for on in ("cpu", DEVICE))
    assert two == pytest.approx(one, rel=1e-4)
    assert ours.keys() == theirs.keys()
    assert furthest(theirs, ours, faint(ours)) < 1e-3


@pytest.mark.parametrize("name", ZOO)
def test_a_step_in_half_precision_waits_for_nothing(name):
    """After a first step, as memories are empty at first and kernels are chosen then."""
    cls, kind = ZOO[name]
    objective: Objective = zoo_backbones.build(cls, zoo_backbones.backbone(kind)).train().to(DEVICE)
    trainable = any(p.requires_grad for p in objective.parameters())
    optimizer = optim.adamw(objective) if trainable else None
    rows = move(zoo_backbones.batch(objective, 8, length=20), DEVICE)

    def step(number: int) -> Tensor:
        seed_noise(0, number, 0, 1)
        with torch.autocast(DEVICE.type, torch.bfloat16):
            loss = objective(rows).value
        if optimizer is not None:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        objective.advance((number + 1) / 4)
        return loss

    for number in range(2):
        step(number)
    with no_waiting():
        loss = step(2)
    free_noise()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)


@pytest.mark.parametrize("kind", KINDS)
def test_backbones_compile_into_one_graph(kind):
    backbone = zoo_backbones.backbone(kind).to(DEVICE).eval()
    rows = zoo_backbones.images() if backbone.modality == "image" else zoo_backbones.text()
    x = rows.x.to(DEVICE)
    with torch.no_grad():
        plain = backbone(x).pooled
        backbone.compile(fullgraph=True, backend="inductor" if ON == "cuda" else "eager")
        torch.testing.assert_close(backbone(x).pooled, plain, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("order", ["both", "causal"])
def test_packed_documents_do_not_see_each_other(order, half):
    torch.manual_seed(0)
    backbone = TextTransformer(Vocabulary(size=100), width=64, depth=2, heads=2).to(DEVICE)
    zoo_backbones.stirred(backbone).order = order
    x = torch.randint(3, 100, (2, 96), device=DEVICE)
    segments = (torch.arange(96, device=DEVICE) // 40).expand(2, -1)
    with torch.no_grad(), torch.autocast(DEVICE.type, torch.bfloat16, enabled=half):
        packed = backbone(x, segments).tokens
        alone = torch.cat([backbone(part).tokens for part in x.split(40, dim=1)], 1)
    torch.testing.assert_close(packed, alone, rtol=0, atol=0.1 if half else 1e-4)
    assert (backbone(x).tokens - packed)[:, 40:].abs().max() > 0.3  # and it would show


@pytest.mark.parametrize("name", ["simclr", "simclr_small", "instance", "crop_flip"])
def test_views_are_the_cpus(name):
    images = torch.randint(0, 256, (16, 3, 40, 40), dtype=torch.uint8)
    made = []
    for device in ("cpu", DEVICE):
        view = getattr(recipes, name)(32).to(device)
        seed_noise(0, 0, 0, 1)
        made.append(view(images.to(device)).cpu())
    free_noise()
    difference = (made[0] - made[1]).abs()
    assert difference.mean() < 1e-4
    assert (difference > 0.02).float().mean() < 1e-3  # a threshold that rounding decides


def test_jpegs_are_decoded_as_on_the_cpu():
    """Nearly: nvJPEG rounds otherwise, and enlarges the colours, which lie at half the sides, otherwise."""
    noise = np.random.default_rng(0)
    data = []
    for width, height in ((640, 427), (224, 224), (300, 500)):
        values = noise.integers(0, 256, (height // 20, width // 20, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(values).resize((width, height)).save(file, "JPEG", quality=95)
        data.append(Encoded(file.getvalue(), f"{width} x {height}"))
    late = Undecoded(data, 224, MAX_PIXELS)
    difference = (late.to(DEVICE).cpu().int() - late.to("cpu").int()).abs().float()
    assert difference.mean() < 2


@pytest.mark.parametrize("options", [{}, {"precision": "bf16-mixed"}, {"strategy": "fsdp2"}])
def test_a_killed_run_ends_with_the_same_bits(tmp_path, options):
    options = {"accelerator": ACCELERATOR, **options}
    if options.get("strategy"):
        options |= {"precision": "bf16-mixed"}
    for folder, die_at in (("whole", -1), ("broken", 6), ("broken", -1)):
        code, text = tiny.forked(
            tmp_path / f"{folder}-log", trained, tmp_path / folder, die_at=die_at, **options
        )
        assert code == (0 if die_at < 0 else -9), text
    whole, broken = ((tmp_path / name / "sha256").read_text() for name in ("whole", "broken"))
    assert whole == broken


def trained(folder: Path, **options: Any) -> None:
    """A run whose kernels give the same bits each time."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True, warn_only=True)
    tiny.train(folder, "mae", **options)


def test_a_batch_without_a_device_of_its_own_is_refused_by_torch():
    """A mutation check: rows left on the CPU do not go unnoticed."""
    if ON != "cuda":
        pytest.skip("of a GPU alone")
    objective, rows = build("MAE vit")
    with pytest.raises(RuntimeError):
        objective.to(DEVICE)(Batch(rows.x))
