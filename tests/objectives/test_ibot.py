"""iBOT against lightly's losses and a slow second implementation, with its hidden patches.

Reference (ibot): lightly's DINOLoss and IBOTPatchLoss, value, gradient and centre; own slow implementation,
three steps
Peers (ibot): the patch centre of lightly and DINOv2 is the mean of hidden patches, that of the authors' code
and ours of all of them
"""

import copy
import math

import pytest
import torch
from lightly.loss import DINOLoss, IBOTPatchLoss
from torch import nn
from zoo_backbones import backbone, build, images

from ssl_zoo.assign import centre_softmax
from ssl_zoo.memory import Centre
from ssl_zoo.noise import rand, seed_noise
from ssl_zoo.objectives._distilled import distillation, patch_distillation
from ssl_zoo.objectives.ibot import IBOT
from ssl_zoo.views.blocks import some_blocks
from ssl_zoo.views.view import View, Views


def double(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def close(ours: torch.Tensor, theirs: torch.Tensor, of: torch.Tensor) -> None:
    """The same value, and the same gradient. lightly keeps some numbers in float32."""
    torch.testing.assert_close(ours, theirs.double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(x, of)[0] for x in (ours, theirs)), rtol=1e-5, atol=1e-9)


def test_crops_are_lightlys_dino_loss_over_several_steps():
    peer, centre = DINOLoss(6, 0.04, 0.04, 0), Centre(6).double()
    for _ in range(3):
        student, teacher = double(5, 3, 6), double(2, 3, 6).detach()
        q = centre_softmax(teacher.flatten(0, 1), centre.value, 0.04)
        theirs = peer(list(teacher), list(student), epoch=0)
        close(distillation(student.flatten(0, 1), q, 3, 0.1), theirs, student)
        centre.stash(teacher.flatten(0, 1))
        centre.flush()
    torch.testing.assert_close(centre.value, peer.center.flatten().double(), rtol=1e-5, atol=1e-7)


def test_patches_are_lightlys_patch_loss():
    noise = torch.rand(4, 2 + 64)
    noise[1, 0] = 0.9  # a crop without hidden patches, which counts as 0
    at, valid = some_blocks(noise, (3, 4), (0.1, 0.5), 0.8, 2)
    assert valid.any(1).tolist() == [True, False, True, True]
    mask = torch.zeros(4, 12, dtype=torch.bool).scatter(1, at, valid)
    student, teacher = double(4, 12, 6), double(4, 12, 6).detach()
    theirs = IBOTPatchLoss(6)(teacher[mask], student[mask], mask.view(4, 3, 4))
    index = at[..., None].expand(-1, -1, 6)
    q = centre_softmax(teacher.gather(1, index).flatten(0, 1), torch.zeros(6), 0.04).unflatten(0, at.shape)
    close(patch_distillation(student.gather(1, index), q, valid, 0.1), theirs, student)


def test_patch_loss_of_what_learns_nothing():
    q, valid = torch.full((3, 4, 8), 1 / 8), torch.arange(4) < torch.tensor([[4], [1], [0]])
    loss = patch_distillation(torch.zeros(3, 4, 8), q, valid, 0.1)
    assert loss.item() == pytest.approx(2 / 3 * math.log(8))
    assert patch_distillation(torch.zeros(3, 4, 8), q, valid & False, 0.1).item() == 0


def test_as_many_cells_are_hidden_as_drawn_and_in_rectangles():
    noise = torch.rand(4000, 2 + 64)
    at, valid = some_blocks(noise, (8, 8), (0.1, 0.5), 0.5, 4)
    assert at.shape == valid.shape == (4000, 32)
    assert all(len(set(row)) == 32 for row in at[:50].tolist())
    count = valid.sum(1)
    assert (count > 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    hidden = count[count > 0]
    assert hidden.min() == 6
    assert hidden.max() == 32
    assert hidden.float().mean().item() == pytest.approx(0.3 * 64, abs=0.6)
    assert torch.equal(valid, torch.arange(32) < count[:, None])
    # A few cells lie together: those of 6 at random would touch far less.
    few = at[count == 6][:, :6]
    y, x = few // 8, few % 8
    near = ((y[:, :, None] - y[:, None]).abs() + (x[:, :, None] - x[:, None]).abs()) == 1
    assert near.any(2).float().mean() > 0.95


class Slow:
    """iBOT with modules of its own, one crop of one image at a time."""

    def __init__(self, of: IBOT):
        self.student = nn.ModuleList(copy.deepcopy([of.backbone, of.project]))
        self.weight, self.blank = (
            p.detach().clone().requires_grad_() for p in (of.compare.weight, of.hide.blank)
        )
        self.teacher, self.teacher_weight = copy.deepcopy(self.student), self.weight.detach().clone()
        self.centre, self.patch_centre = torch.zeros(2, len(self.weight))

    def score(self, modules: nn.ModuleList, weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        rows = modules[1](rows)
        return (rows / rows.norm(dim=1, keepdim=True)) @ (weight / weight.norm(dim=1, keepdim=True)).T

    def loss(
        self, large: list[torch.Tensor], small: list[torch.Tensor], masks: list[torch.Tensor], t_t: float
    ):
        """large, small: crops (B, C, H, W); masks: (B, N) bool of each large crop. The loss of equation 3."""
        crops, patches = len(large), []
        images = len(large[0])
        log_p, q = {}, {}
        raw, raw_patches = [], []
        for i in range(images):
            for v, crop in enumerate([*large, *small]):
                one = crop[i][None]
                backbone = self.student[0]
                if v < crops:
                    tokens = backbone.embed(one).clone()
                    tokens[0, masks[v][i]] = self.blank
                    features = backbone.encode(tokens)
                    with torch.no_grad():
                        whole = self.teacher[0](one)
                        said = self.score(self.teacher, self.teacher_weight, whole.pooled)[0]
                        of_patches = self.score(self.teacher, self.teacher_weight, whole.tokens[0])
                    raw.append(said)
                    raw_patches.append(of_patches)
                    q[v, i] = ((said - self.centre) / t_t).softmax(0)
                    targets = ((of_patches - self.patch_centre) / t_t).softmax(1)
                    guesses = (self.score(self.student, self.weight, features.tokens[0]) / 0.1).log_softmax(1)
                    errors = -(targets * guesses).sum(1)[masks[v][i]]
                    patches.append(errors.mean() if len(errors) else errors.sum())
                else:
                    features = backbone(one)
                log_p[v, i] = (self.score(self.student, self.weight, features.pooled)[0] / 0.1).log_softmax(0)
        pairs = [-(q[g, i] * log_p[v, i]).sum() for g, i in q for v in range(crops + len(small)) if v != g]
        self.centre = 0.9 * self.centre + 0.1 * torch.stack(raw).mean(0)
        self.patch_centre = 0.9 * self.patch_centre + 0.1 * torch.cat(raw_patches).mean(0)
        return torch.stack(pairs).mean() + torch.stack(patches).mean()

    def step(self, loss: torch.Tensor, momentum: float, lr: float) -> tuple[torch.Tensor, ...]:
        parameters = [*self.student.parameters(), self.weight, self.blank]
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, g in zip(parameters, gradients, strict=True):
                p -= lr * g
            for old, new in zip([*self.teacher.parameters(), self.teacher_weight], parameters, strict=False):
                old.copy_(momentum * old + (1 - momentum) * new)
        return gradients


def test_three_steps_are_those_of_the_slow_implementation():
    crops = Views(View(32), View(32, solarize=0.5), View(16))
    objective = build(IBOT, backbone("vit"), views=crops, momentum=0.8, frozen=0.0, warmup=0.5).train()
    slow, batch, hidden = Slow(objective), images(rows=3), 0
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.5)
    for step, t in enumerate((0.25, 0.5, 1.0)):
        seed_noise(0, step)
        large, small = crops(batch.x)
        noise = rand(3, 2, 66).transpose(0, 1).flatten(0, 1)
        at, valid = some_blocks(noise, (4, 4), (0.1, 0.5), 0.5, 2)
        masks = list(torch.zeros(6, 16, dtype=torch.bool).scatter(1, at, valid).chunk(2))
        hidden += valid.sum().item()
        seed_noise(0, step)
        optimizer.zero_grad()
        loss = objective(batch)
        loss.value.backward()
        optimizer.step()
        objective.advance(t)
        before = (0.0, 0.25, 0.5)[step]
        want = slow.loss(list(large.chunk(2)), [small], masks, 0.04 + 0.03 * min(before / 0.5, 1))
        assert loss.value.item() == pytest.approx(want.item(), rel=1e-4)
        gradients = slow.step(want, 1 - 0.2 * (math.cos(math.pi * t) + 1) / 2, 0.5)
        trained = (objective.backbone, objective.project, objective.compare, objective.hide)
        mine = [p for part in trained for p in part.parameters()]
        for p, gradient in zip(mine, gradients, strict=True):
            torch.testing.assert_close(p.grad, gradient, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(objective.centre.value, slow.centre, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(objective.patch_centre.value, slow.patch_centre, rtol=1e-4, atol=1e-7)
    assert hidden
    for p, want in zip(
        objective.teacher.parameters(), [*slow.teacher.parameters(), slow.teacher_weight], strict=True
    ):
        torch.testing.assert_close(p, want, rtol=1e-4, atol=1e-6)


def test_chance_is_the_loss_where_all_prototypes_are_alike():
    objective = build(IBOT, backbone("vit"), share=1.0).train()
    with torch.no_grad():
        for compare in (objective.compare, objective.teacher[2]):
            compare.weight.copy_(compare.weight[:1].expand_as(compare.weight))
    assert objective(images()).value.item() == pytest.approx(objective.chance(4), rel=1e-5)
    assert objective.chance(4) == pytest.approx(2 * math.log(12))
    assert build(IBOT, backbone("vit")).chance(4) == pytest.approx(1.5 * math.log(12))


def test_patches_are_hidden_from_the_student_alone():
    """With all crops masked, a student that is its teacher sees other crops, and the blank learns."""
    objective = build(IBOT, backbone("vit"), share=1.0).train()
    seen = []
    objective.teacher[0].register_forward_hook(lambda *call: seen.append(call[1][0]))
    loss = objective(images())
    loss.value.backward()
    assert objective.hide.blank.grad.any()
    (large,) = seen
    seed_noise(0, 0)
    whole = objective.backbone(large)
    hidden, at, valid = objective.hide(objective.backbone, large, 4)
    assert valid.any(1).all()
    assert at.shape == (8, 8)
    assert not torch.allclose(whole.pooled, hidden.pooled)


@pytest.mark.parametrize("wrong", [{"masked": [0.5]}, {"masked": [0.5, 0.1]}, {"share": 2.0}, {"block": 0}])
def test_shares_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r"are two shares in .* least and most"):
        build(IBOT, backbone("vit"), **wrong)


def test_pairs_are_shown():
    objective = build(IBOT, backbone("vit")).eval()
    shown = objective.show(images())
    assert shown.first.shape == shown.second.shape == (4, 3, 32, 32)
    assert shown.similarity.shape == (4, 4)
