"""A run that Ray Train starts: python benchmarks/scale/ray_train.py (pip install 'ray[train]' first)

Two workers on CPUs train SimCLR on scikit-learn's digits, once undisturbed, and once with a worker that kills
itself: Ray starts both again, and they go on from the last checkpoint. Ray numbers its workers by torchrun's
variables, so that the library needs nothing of Ray, and Ray nothing of the library. On GPUs: use_gpu=True,
and accelerator="gpu". Says whether both end with the same weights, to the bit.
"""

from __future__ import annotations

import os
import signal
import tempfile
from functools import partial
from pathlib import Path

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from safetensors.torch import load_file

WORKERS, STEPS = 2, 12


def train(settings: dict[str, str]) -> None:
    """What every worker does."""
    import torch

    from ssl_zoo import optim
    from ssl_zoo.backbones.vision import timm_backbone
    from ssl_zoo.data.images import ImageData
    from ssl_zoo.objectives.simclr import SimCLR
    from ssl_zoo.pretrain import Budget, Pretraining, PretrainingData, pretrain

    torch.set_num_threads(1)
    torch.manual_seed(0)
    backbone = timm_backbone("resnet10t", image_size=16, stem="small", channels=[8, 8, 16, 16], stem_width=8)
    module = Pretraining(SimCLR(backbone), partial(optim.adamw, lr=1e-3), Budget(steps=STEPS))
    rows = ImageData("digits", "digits", image_size=16, cache=settings["cache"]).rows("pretrain")
    died = Path(settings["run"] + ".died")
    if settings["killed"] and os.environ["RANK"] == "1" and not died.exists():
        advance, steps = module.objective.advance, []

        def mortal(t: float) -> None:
            steps.append(t)
            if len(steps) == 7:
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            advance(t)

        module.objective.advance = mortal
    pretrain(
        module,
        PretrainingData(rows, batch_size=32),
        settings["run"],
        save_every=4,
        accelerator="cpu",
        strategy="ddp",
        devices=WORKERS,
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for name, killed in (("undisturbed", ""), ("killed", "yes")):
            trainer = TorchTrainer(
                train,
                train_loop_config={"run": f"{folder}/{name}", "cache": f"{folder}/cache", "killed": killed},
                scaling_config=ScalingConfig(num_workers=WORKERS),
                run_config=RunConfig(
                    storage_path=f"{folder}/ray",
                    failure_config=FailureConfig(max_failures=1 if killed else 0),
                ),
            )
            trainer.fit()
            found[name] = load_file(f"{folder}/{name}/backbone/model.safetensors")
        same = all((value == found["killed"][name]).all() for name, value in found["undisturbed"].items())
        killed = Path(folder, "killed.died").exists()
        print(f"{STEPS} steps by {WORKERS} workers; one was killed: {killed}; same weights: {same}")
    ray.shutdown()


if __name__ == "__main__":
    ray.init(num_cpus=WORKERS, include_dashboard=False)
    main()
