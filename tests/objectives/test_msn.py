"""MSN and PMSN against lightly's losses, and the whole against a slow second implementation.

Reference (msn): lightly's MSNLoss and PMSNLoss; own slow implementation, two steps
Peers (msn): lightly's PMSNLoss has KL(prior || mean p), MSN's regulariser turned round: 0.288 for 0.259 on
random projections, and with equal shares its loss is 6.676 where its own MSNLoss has 6.654; it balances
targets to equal shares as well, which ours does for MSN alone. In the authors'
code the head's batch norms see crops of one size at a time, one choice of dropped patches serves a batch, and
the average's momentum ends at 0.9992; here they see all anchors, each crop has a choice, and it ends at 1
"""

import math

import pytest
import torch
from lightly.loss import MSNLoss, PMSNLoss
from zoo_backbones import backbone, build, images

from ssl_zoo.assign import sharpen, sinkhorn
from ssl_zoo.heads import cosines
from ssl_zoo.noise import rand, seed_noise
from ssl_zoo.objectives.msn import MSN, siamese
from ssl_zoo.views.recipes import msn, swav_small
from ssl_zoo.views.view import View, Views


def prior(count: int, power: float) -> torch.Tensor:
    shares = torch.tensor([k**-power for k in range(1, count + 1)], dtype=torch.float64)
    return shares / shares.sum()


def ours(anchors, targets, prototypes, of: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both terms, of projections."""
    p = sharpen((cosines(targets, prototypes) / 0.1).softmax(1), 0.25)
    return siamese(cosines(anchors, prototypes), sinkhorn(p.log(), 1.0), of, 0.1)


def samples() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three anchors of each of 4 samples, targets, and prototypes."""
    shapes = ((12, 5), (4, 5), (6, 5))
    return tuple(torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes)


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_msn_is_lightlys(weight):
    anchors, targets, prototypes = samples()
    match, far = ours(anchors, targets, prototypes, prior(6, 0.0))
    peer = MSNLoss(temperature=0.1, sinkhorn_iterations=3, regularization_weight=weight)
    loss, theirs = match + weight * far, peer(anchors, targets, prototypes)
    torch.testing.assert_close(loss, theirs, rtol=1e-10, atol=0)
    for mine, other in zip(
        *(torch.autograd.grad(x, (anchors, prototypes)) for x in (loss, theirs)), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")  # of lightly's PMSNLoss
def test_lightlys_pmsn_has_the_divergence_the_other_way_round():
    """MSN's regulariser is KL(mean p || equal shares). Ours has that direction for other shares, too, so that
    PMSN of power 0 is MSN; lightly's PMSN has KL(shares || mean p), and of power 0 it is not its own MSN."""
    anchors, targets, prototypes = samples()
    shares, mean = prior(6, 0.25), (cosines(anchors, prototypes) / 0.1).softmax(1).mean(0)
    match, far = ours(anchors, targets, prototypes, shares)
    torch.testing.assert_close(far, (mean * (mean / shares).log()).sum(), rtol=1e-12, atol=0)
    theirs = PMSNLoss(temperature=0.1, power_law_exponent=0.25)(anchors, targets, prototypes)
    turned = (shares * (shares / mean).log()).sum()
    torch.testing.assert_close(theirs, match + turned, rtol=1e-7, atol=0)
    assert abs((turned / far).item() - 1) > 0.03  # no rounding
    both = [
        peer(anchors, targets, prototypes).item() for peer in (MSNLoss(), PMSNLoss(power_law_exponent=0.0))
    ]
    assert abs(both[0] - both[1]) > 0.01
    match, far = ours(anchors, targets, prototypes, prior(6, 0.0))
    assert (match + far).item() == pytest.approx(both[0])


@pytest.mark.parametrize("power", [0.0, 0.25])
def test_two_steps_are_the_equation(power):
    crops = Views(View(32), View(32, solarize=0.5), View(16), View(16))
    objective = build(MSN, backbone("vit"), views=crops, power=power, masked=0.3, momentum=0.5).train()
    weights = [p for p in objective.parameters() if p.requires_grad]
    optimizer, batch = torch.optim.SGD(weights, lr=0.3), images(rows=3)
    for step in range(2):
        before = [p.clone() for p in objective.teacher.parameters()]
        seed_noise(0, step)
        large, small = crops(batch.x)
        at = rand(3, 1, 16).squeeze(1).argsort(1)[:, :11]  # of 16 patches, 11.2 are left
        kept = objective.backbone.embed(large[3:])
        kept = torch.stack([kept[i, at[i]] for i in range(3)])
        seen = objective.backbone.encode(kept, at).tokens.mean(1)
        z = objective.project(torch.cat([seen, objective.backbone(small).pooled]))
        z = z / z.norm(dim=1, keepdim=True)
        c = objective.compare.weight / objective.compare.weight.norm(dim=1, keepdim=True)
        slow, project = objective.teacher
        with torch.no_grad():
            h = project(slow(large[:3]).pooled)
            q = torch.exp(h / h.norm(dim=1, keepdim=True) @ c.T / 0.1)
            q = (q / q.sum(1, keepdim=True)) ** 4
            q = q / q.sum(1, keepdim=True)
            for _ in range(0 if power else 3):
                q = q / q.sum(0)
                q = q / q.sum(1, keepdim=True)
        p = torch.exp(z @ c.T / 0.1)
        p = p / p.sum(1, keepdim=True)  # (9, 12), anchor by anchor
        match = sum(-(q[i] * p[3 * v + i].log()).sum() for v in range(3) for i in range(3)) / 9
        mean = p.mean(0)
        want = match + (mean * (mean / prior(12, power).float()).log()).sum()
        wanted = torch.autograd.grad(want, weights)
        seed_noise(0, step)
        optimizer.zero_grad()
        loss = objective(batch)
        torch.testing.assert_close(loss.value, want, rtol=1e-4, atol=1e-5)
        loss.value.backward()
        for weight, gradient in zip(weights, wanted, strict=True):
            torch.testing.assert_close(weight.grad, gradient, rtol=2e-3, atol=2e-5)
        optimizer.step()
        t = (step + 1) / 2
        objective.advance(t)
        m = 0.5 + 0.5 * t
        now = [*objective.backbone.parameters(), *objective.project.parameters()]
        for old, new, mine in zip(before, now, objective.teacher.parameters(), strict=True):
            torch.testing.assert_close(mine, m * old + (1 - m) * new)


def test_prototypes_do_not_decay():
    objective = build(MSN, backbone("vit"))
    asked = {name: objective.tune(name, weight).decay for name, weight in objective.named_parameters()}
    assert [name for name, decay in asked.items() if decay is not None] == ["compare.weight"]
    assert asked["compare.weight"] == 0


@pytest.mark.parametrize("power", [0.0, 0.25])
def test_chance_is_the_loss_where_all_prototypes_are_alike(power):
    objective = build(MSN, backbone("vit"), power=power, weight=2.0).train()
    with torch.no_grad():
        objective.compare.weight.copy_(objective.compare.weight[:1].expand_as(objective.compare.weight))
    assert objective(images()).value.item() == pytest.approx(objective.chance(4), rel=1e-5)
    far = sum(1 / 12 * math.log(1 / 12 / share) for share in prior(12, power).tolist())
    assert objective.chance(4) == pytest.approx(math.log(12) + 2 * far)


def test_crops_are_the_papers_and_what_cannot_be_is_refused():
    assert [view.size for view in build(MSN, backbone("vit")).views.each] == [(32, 32)] * 2 + [(16, 16)] * 10
    assert len(msn(32, 16, count=0).each) == 2
    with pytest.raises(ValueError, match="a target and anchors of one size first"):
        build(MSN, backbone("vit"), views=Views(View(32), View(16)))
    for wrong, said in (
        ({"masked": 1.0}, r"masked=1\.0 is in \(0, 1\)"),
        ({"temperature": 0.0}, r"temperature=0\.0 and sharpening=0\.25 > 0"),
        ({"power": -1.0}, r"power=-1\.0 >= 0"),
    ):
        with pytest.raises(ValueError, match=said):
            build(MSN, backbone("vit"), **wrong)


def test_it_is_measured_by_its_average_and_shows_pairs():
    objective = build(MSN, backbone("vit"), views=swav_small(32, 16, 1)).eval()
    assert objective.export() == {"backbone": objective.teacher[0]}
    shown = objective.show(images())
    assert shown.first.shape == shown.second.shape == (4, 3, 32, 32)
    assert shown.similarity.shape == (4, 4)
