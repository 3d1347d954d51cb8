"""DINOv2's parts against lightly's, and the whole against a slow second implementation.

Reference (dinov2): lightly's KoLeoLoss; own slow implementation of the whole with both centrings, two steps
Peers (dinov2): KoLeo of the authors and of lightly looks for neighbours in one process, ours in all; the
authors' code hides patches in exactly half of a batch's crops, in evenly spread shares, where each crop draws
here
"""

import math

import pytest
import torch
from lightly.loss import KoLeoLoss
from zoo_backbones import backbone, build, images

from ssl_zoo.assign import sinkhorn
from ssl_zoo.contrast import koleo
from ssl_zoo.noise import seed_noise
from ssl_zoo.objectives.dinov2 import DINOv2
from ssl_zoo.views.view import View, Views


def test_koleo_is_lightlys():
    x = torch.randn(9, 5, dtype=torch.float64, requires_grad=True)
    ours, theirs = koleo(x), KoLeoLoss()(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        *(torch.autograd.grad(loss, x)[0] for loss in (ours, theirs)), rtol=1e-12, atol=0
    )


def test_koleo_of_rows_that_are_one_and_of_rows_at_a_known_distance():
    same = koleo(torch.ones(4, 9, dtype=torch.float64)).item()
    assert same == pytest.approx(-math.log(1e-8 * (1 + 3)))
    apart = torch.eye(5, dtype=torch.float64)  # all at a distance of sqrt(2)
    assert koleo(3 * apart).item() == pytest.approx(-math.log(2) / 2, abs=1e-7)
    with pytest.raises(ValueError, match="here is one alone: raise batch_size"):
        koleo(torch.ones(1, 9))


def balanced(scores: torch.Tensor, eps: float) -> torch.Tensor:
    """Sinkhorn's algorithm on exp of the scores, entry by entry."""
    q = torch.exp(scores / eps)
    for _ in range(3):
        for k in range(q.shape[1]):
            q[:, k] = q[:, k] / q[:, k].sum()
        for i in range(q.shape[0]):
            q[i] = q[i] / q[i].sum()
    return q


def test_rows_that_do_not_count_take_no_share():
    scores = torch.randn(7, 4, dtype=torch.float64)
    valid = torch.tensor([1, 0, 1, 1, 0, 1, 1], dtype=torch.bool)
    scores[~valid] *= 5
    q = sinkhorn(scores, 0.5, valid=valid)
    torch.testing.assert_close(q[valid], balanced(scores[valid], 0.5), rtol=1e-10, atol=0)
    torch.testing.assert_close(sinkhorn(scores[valid], 0.5), q[valid], rtol=1e-10, atol=0)
    assert torch.isfinite(sinkhorn(scores, 0.5, valid=valid & False)).all()


def test_rows_that_do_not_count_take_no_share_at_a_low_temperature():
    """Their scores are 1, those of the others near -0.7: in float32, exp(-1.7 / 0.01) is 0."""
    valid = torch.tensor([1, 0, 1, 1, 0, 1, 1], dtype=torch.bool)
    scores = torch.where(valid[:, None], 0.3 * torch.rand(7, 4) - 0.8, 1.0)
    for given in (valid, valid & False):
        assert torch.isfinite(sinkhorn(scores, 0.01, valid=given)).all()
    alone = sinkhorn(scores[valid].double(), 0.01).float()
    torch.testing.assert_close(sinkhorn(scores, 0.01, valid=valid)[valid], alone, rtol=1e-4, atol=1e-5)


def cross_entropy(q: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    return -(q * torch.log_softmax(scores / 0.1, -1)).sum(-1)


@pytest.mark.parametrize("centring", ["sinkhorn", "mean"])
def test_two_steps_are_the_equation(centring):
    """With the parts' own modules, image by image; the second step has moved a teacher and the centres."""
    crops = Views(View(32), View(32, solarize=0.5), View(16))
    objective = build(
        DINOv2, backbone("vit"), views=crops, centring=centring, frozen=0.0, momentum=0.5
    ).train()
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.3)
    batch, centres = images(rows=3), torch.zeros(2, 12)
    for step in range(2):
        seed_noise(0, step)
        large, small = crops(batch.x)
        seen, at, valid = objective.hide(objective.backbone, large, 3)
        pooled = torch.cat([seen.pooled, objective.backbone(small).pooled])
        slow, project, compare = objective.teacher
        whole = slow(large)
        with torch.no_grad():
            said = compare(project(whole.pooled))  # (6, 12)
            of_patches = [compare(project(whole.tokens[i][at[i]])) for i in range(6)]
        own = [of_patches[i][j] for i in range(6) for j in range(len(at[0])) if valid[i, j]]
        if centring == "mean":
            q = ((said - centres[0]) / 0.04).softmax(1)
            targets = iter([((row - centres[1]) / 0.04).softmax(0) for row in own])
            new = torch.stack([said.mean(0), torch.cat(of_patches).mean(0)])
            centres = 0.9 * centres + 0.1 * new
        else:
            q, targets = balanced(said, 0.04), iter(balanced(torch.stack(own), 0.04))
        scores = objective.compare(objective.project(pooled))
        pairs = []
        for i in range(3):
            for g in range(2):
                pairs += [cross_entropy(q[3 * g + i], scores[3 * v + i]) for v in range(3) if v != g]
        patches = []
        for i in range(6):
            hidden = objective.compare(objective.project(seen.tokens[i][at[i]]))
            errors = [cross_entropy(next(targets), hidden[j]) for j in range(len(at[0])) if valid[i, j]]
            patches.append(sum(errors) / max(len(errors), 1))
        near = 0
        for rows in pooled[:6].split(3):  # each view by itself
            unit = [row / row.norm() for row in rows]
            for i in range(3):
                near = (
                    near
                    - torch.stack([(unit[i] - unit[j]).norm() for j in range(3) if j != i]).min().log() / 3
                )
        want = sum(pairs) / len(pairs) + sum(patches) / 6 + 0.1 * near
        seed_noise(0, step)
        loss = objective(batch)
        torch.testing.assert_close(loss.value, want, rtol=1e-4, atol=1e-5)
        optimizer.zero_grad()
        weights = [p for p in objective.parameters() if p.requires_grad]
        wanted = torch.autograd.grad(want, weights)
        loss.value.backward()
        for weight, gradient in zip(weights, wanted, strict=True):
            torch.testing.assert_close(weight.grad, gradient, rtol=2e-3, atol=2e-5)
        optimizer.step()
        objective.advance(0.0)
    if centring == "mean":
        now = torch.stack([objective.centre.value, objective.patch_centre.value])
        torch.testing.assert_close(now, centres, rtol=1e-4, atol=1e-6)


def test_chance_is_the_loss_where_all_features_are_one():
    objective = build(DINOv2, backbone("vit"), share=1.0).double().train()
    with torch.no_grad():
        for model in (objective.backbone, objective.teacher[0]):
            model.model.norm.weight.zero_()  # the final norm gives its bias for all images
            model.model.norm.bias.fill_(1.0)
        for compare in (objective.compare, objective.teacher[2]):
            compare.weight.copy_(compare.weight[:1].expand_as(compare.weight))
    assert objective(images()).value.item() == pytest.approx(objective.chance(4), rel=1e-6)
    assert objective.chance(4) == pytest.approx(2 * math.log(12) - 0.2 * math.log(1e-8 * 5))


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="centring='swav' is 'sinkhorn' or 'mean'"):
        build(DINOv2, backbone("vit"), centring="swav")
    with pytest.raises(ValueError, match="spread=-1 a weight of at least 0"):
        build(DINOv2, backbone("vit"), spread=-1)
    with pytest.raises(ValueError, match="predicts one crop from another"):
        build(DINOv2, backbone("vit"), views=View(32))
    with pytest.raises(ValueError, match="here is one alone"):
        build(DINOv2, backbone("vit"))(images(rows=1))
