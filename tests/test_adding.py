"""Adding an objective is one file, one YAML and one test: dropped into a copy of the tree, it works."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import tiny

from ssl_zoo.leaderboard.board import load

REPOSITORY = Path(__file__).parents[1]
OBJECTIVE = '''\
"""Alignment and uniformity: Wang & Isola (2020, eq. 5-6), with the projections z on the sphere.

    L = mean_i |z_i - z_i'|^2 + log mean over all pairs i, j of exp(-2 |z_i - z_j|^2)
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.distributed import gather
from ssl_zoo.heads import exact, mlp
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives._shown import Pairs, cosines
from ssl_zoo.views.recipes import simclr


@exact
def align_uniform(z: Tensor, everyone: Tensor) -> Tensor:
    """z: (2 N, D) of this process; everyone: (2 M, D), row i and row i + N of a process are of one sample."""
    z, everyone = F.normalize(z, dim=1), F.normalize(everyone, dim=1)
    first, second = z.chunk(2)
    apart = (2 - 2 * z @ everyone.T).mul(-2).exp().mean()
    return (first - second).square().sum(1).mean() + apart


class AlignUniform(Objective[ImageBackbone]):
    """Args:
    backbone: a CNN.
    out: width of the projection.
    """

    family = "contrastive"
    takes = ("cnn",)
    unit = "squared distance"
    whole_batch = True
    tiny: ClassVar[dict[str, Any]] = {"out": 8}

    def __init__(self, backbone: ImageBackbone, out: int = 128):
        super().__init__(backbone)
        self.view = simclr(backbone.image_size)
        self.project = mlp(backbone.dim, out)

    def forward(self, batch: Batch) -> Loss:
        x = torch.cat([self.view(batch.x), self.view(batch.x)])
        z = self.project(self.backbone(x).pooled)
        return Loss(align_uniform(z, gather(z)), {})

    def show(self, batch: Batch) -> Pairs:
        first, second = self.view(batch.x), self.view(batch.x)
        z = [self.project(self.backbone(x).pooled) for x in (first, second)]
        return Pairs("Two views of each image.", first, second, cosines(*z))
'''
YAML = """\
# Alignment and uniformity (Wang & Isola 2020).
_partial_: true
_target_: ssl_zoo.objectives.align_uniform.AlignUniform
out: 128 # width of the projection
"""
TEST = """\
import torch
from ssl_zoo.objectives.align_uniform import align_uniform


def test_value():
    z = torch.randn(8, 4, dtype=torch.float64)
    unit = z / z.norm(dim=1, keepdim=True)
    align = sum(((unit[i] - unit[i + 4]) ** 2).sum() for i in range(4)) / 4
    apart = sum(torch.exp(-2 * ((a - b) ** 2).sum()) for a in unit for b in unit) / 64
    assert torch.allclose(align_uniform(z, z), align + apart)
"""
SMALL = ("backbone=resnet_micro", "backbone.channels=[4,4,8,8]", "data=digits", "data.image_size=8")
STEPS = ("budget.steps=4", "batch_size=16", "evaluate_every=2", "validation_limit=16", "log_every=2")
VERBS = (
    ("list",),
    ("pretrain", "objective=align_uniform", *SMALL, *STEPS, "run=run", "trainer=cpu", "threads=1"),
    ("evaluate", "run=run", "data=digits", "data.image_size=8", "protocol=knn"),
    ("report", "run", "limit=20"),
    ("leaderboard", "add", "digits", "mine", "objective=align_uniform", "backbone=resnet_micro"),
)


def test_one_file_one_yaml_and_one_test(tmp_path):
    skipped = shutil.ignore_patterns(".*")
    for name in ("ssl_zoo", "configs", "tests", "benchmarks"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=skipped)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    contract = next((tmp_path / "tests").rglob("test_zoo.py"))
    added = contract.parent / "test_align_uniform.py"
    (tmp_path / "ssl_zoo/objectives/align_uniform.py").write_text(OBJECTIVE)
    (tmp_path / "configs/objective/align_uniform.yaml").write_text(YAML)
    added.write_text(TEST)

    environment = os.environ | {"PYTHONPATH": str(tmp_path), "SSL_ZOO_CACHE": str(tmp_path / "cache")}
    run = partial(subprocess.run, cwd=tmp_path, env=environment, capture_output=True, text=True)
    chosen = ["-k", "AlignUniform or align_uniform", "-p", "no:xdist", "-p", "no:cacheprovider"]
    done = run([sys.executable, "-m", "pytest", "-q", str(contract), str(added), *chosen], check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split()[0].count(".") >= 6, "contract, refusals, YAML, and its own test"
    code, said = tiny.forked(tmp_path, tiny.called_from, tmp_path, tmp_path, tmp_path / "cache", [*VERBS])
    assert code == 0, said
    assert "align_uniform" in said.split("saved in run")[0]
    page = (tmp_path / "run/report.html").read_text()
    assert "Two views of each image." in page
    assert "loss (squared distance)" in page
    assert json.loads(next((tmp_path / "run/evaluations").glob("*.json")).read_text())["results"]
    assert load(tmp_path / "benchmarks/leaderboard/digits").recipes["mine"].role == "pretrained"
