"""K-means of patches.

Reference (patch_kmeans): scikit-learn's KMeans by Lloyd on the same patches, 1e-4; the loss by a plain loop
Peers (patch_kmeans): none has it; the paper's MATLAB code was not run
"""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from zoo_backbones import backbone, build, images

from ssl_zoo.noise import seed_noise
from ssl_zoo.objectives.patch_kmeans import EPS, PatchKMeans, quantization, whitening


def drawn(objective: PatchKMeans, step: int = 0, rows: int = 32) -> torch.Tensor:
    seed_noise(0, step)
    return objective.drawn(images(rows)).flatten(0, 1)


def test_loss_and_gradient_are_those_of_a_loop():
    rows, words = torch.randn(40, 6).double(), torch.randn(5, 6).double().requires_grad_()
    loss, used = quantization(rows, words)
    nearest = [min(range(5), key=lambda k: (row - words[k]).square().sum().item()) for row in rows]
    want = torch.stack(
        [(row - words[k]).square().sum() / 6 for row, k in zip(rows, nearest, strict=True)]
    ).mean()
    torch.testing.assert_close(loss, want)
    assert used.item() == pytest.approx(len(set(nearest)) / 5)
    mine, theirs = (torch.autograd.grad(one, words)[0] for one in (loss, want))
    torch.testing.assert_close(mine, theirs)


def test_whitening_leaves_directions_of_nearly_one_length():
    rows = torch.randn(5000, 4).double() @ torch.randn(4, 4).double() + 3
    mean, white = whitening(rows)
    np.testing.assert_allclose(mean, rows.mean(0), atol=1e-12)
    after = (rows - mean) @ white
    lengths = np.linalg.eigvalsh(np.cov(rows.T, bias=True))
    np.testing.assert_allclose(
        np.sort(np.linalg.eigvalsh(np.cov(after.T, bias=True))), np.sort(lengths / (lengths + EPS)), rtol=1e-8
    )
    assert torch.equal(white, white.T) or torch.allclose(white, white.T, atol=1e-12)


def test_the_first_step_finds_what_whitens_and_lloyds_words():
    objective = build(PatchKMeans, backbone("patches"), patches=16, rounds=20).train()
    of = objective.backbone
    rows = drawn(objective)
    seed_noise(0, 0)
    objective(images(32))
    assert torch.equal(of.whiten, torch.eye(108)), "forward alone finds nothing"
    objective.advance(0.1)
    mean, white = whitening(rows)
    torch.testing.assert_close(of.centre, mean)
    torch.testing.assert_close(of.whiten, white)
    z = of.white(rows)
    first = z[torch.arange(12) * len(z) // 12].numpy()
    want = KMeans(12, init=first, n_init=1, max_iter=20, tol=0, algorithm="lloyd").fit(z.numpy())
    loss = quantization(z, of.words)[0].item()
    assert loss == pytest.approx(want.inertia_ / z.numel(), rel=1e-4)

    before = of.words.clone()
    seed_noise(0, 1)
    objective(images(32))
    objective.advance(0.2)
    assert torch.equal(of.words, before), "what was found is not found again"
    again = build(PatchKMeans, backbone("patches"), patches=16)
    again.load_state_dict(objective.state_dict())
    assert again.first.fitted


def test_descent_goes_on_where_few_rounds_stopped():
    objective = build(PatchKMeans, backbone("patches"), patches=32, rounds=0).train()
    optimizer = torch.optim.AdamW(objective.parameters(), 0.02, weight_decay=0)
    for step in range(60):
        seed_noise(0, step)
        optimizer.zero_grad()
        objective(images(32)).value.backward()
        optimizer.step()
        objective.advance(0.5)
        if step == 0:
            start = quantization(objective.backbone.white(drawn(objective)), objective.backbone.words)[
                0
            ].item()
    end = quantization(objective.backbone.white(drawn(objective)), objective.backbone.words)[0].item()
    assert end < 0.9 * start


def test_what_cannot_be_is_refused():
    for given in ({"patches": 0}, {"rounds": -1}):
        with pytest.raises(ValueError, match="an image gives one patch at least"):
            build(PatchKMeans, backbone("patches"), **given)
    objective = build(PatchKMeans, backbone("patches"), patches=2).train()
    objective(images(4))
    with pytest.raises(ValueError, match="12 codes cannot be found on the 8 rows of the first batch"):
        objective.advance(0.1)


def test_words_are_shown_as_patches():
    objective = build(PatchKMeans, backbone("patches"))
    found = objective.show(images(4)).columns["word"]
    assert found.shape == (4, 3, 6, 6)
    assert found.amin() >= 0
    assert found.amax() <= 1
