"""I-JEPA against a slow second implementation that goes image by image and target by target.

Reference: a slow second implementation that goes image by image and target by target.
Peers: the authors' collator cuts all index lists to the shortest of the batch in raster order, so that the
last rows are never context; ours draws a random fixed number.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from zoo_backbones import backbone, build, images, stirred

from ssl_zoo.decoders import grid_positions
from ssl_zoo.noise import rand, rand_shared, seed_noise
from ssl_zoo.objectives.ijepa import IJEPA
from ssl_zoo.views.blocks import multiblock


def plain(x: torch.Tensor) -> torch.Tensor:
    """A view that changes nothing."""
    return x.float() / 255


def smooth_l1(error: torch.Tensor) -> torch.Tensor:
    return torch.where(error.abs() < 1, 0.5 * error.square(), error.abs() - 0.5)


def test_the_loss_is_that_of_each_target_of_each_image():
    objective = stirred(build(IJEPA, backbone("vit", patch_size=4), view=plain)).train()
    (teacher,) = objective.teacher
    batch = images(rows=3)
    seed_noise(0, 0)
    loss = objective(batch)
    seed_noise(0, 0)
    places, order = rand(3, 5, 2), rand(3, 64)
    context, targets = multiblock(rand_shared(3), places, order, (8, 8), 22)
    table, errors, whole = grid_positions(16, 8, 8), [], []
    for b in range(3):
        x = plain(batch.x[b : b + 1])
        seen = objective.backbone.embed(x)[:, context[b]]
        code = (
            objective.widen(objective.backbone.encode(seen, context[b][None]).tokens[0]) + table[context[b]]
        )
        with torch.no_grad():
            told = teacher(x).tokens[0]
            told = (told - told.mean(1, keepdim=True)) / (
                told.var(1, correction=0, keepdim=True) + 1e-5
            ).sqrt()
        whole.append(told)
        for target in targets[b]:
            drawn = objective.predict(torch.cat([code, objective.blank + table[target]])[None])[
                0, len(code) :
            ]
            errors.append(smooth_l1(drawn - told[target]))
    want = torch.stack(errors).mean()
    torch.testing.assert_close(loss.value, want, rtol=1e-5, atol=1e-6)
    learn = [p for p in objective.parameters() if p.requires_grad]
    for mine, theirs in zip(*(torch.autograd.grad(x, learn) for x in (loss.value, want)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)
    spread = torch.stack(whole).var(0, correction=0).sqrt().mean()
    torch.testing.assert_close(loss.parts["target_std"], spread)


def test_the_student_sees_the_context_alone_and_the_teacher_the_whole_image():
    objective = stirred(build(IJEPA, backbone("vit", patch_size=4), view=plain)).eval()
    seed_noise(0, 0)
    places, order = rand(1, 5, 2), rand(1, 64)
    context, targets = multiblock(rand_shared(3), places, order, (8, 8), 22)
    outside = sorted(set(range(64)) - set(context.flatten().tolist()) - set(targets.flatten().tolist()))[0]
    batch = images(rows=1)
    other = batch.x.clone()
    row, column = divmod(outside, 8)
    other[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] ^= 255
    codes, losses = [], []
    objective.widen.register_forward_pre_hook(lambda module, args: codes.append(args[0]))
    for x in (batch.x, other):
        seed_noise(0, 0)
        losses.append(objective(batch._replace(x=x)).value.item())
    assert torch.equal(*codes)
    assert losses[0] != losses[1], "the teacher's features of the targets depend on all of the image"


def test_the_teacher_follows_on_a_line_and_is_exported():
    objective = build(IJEPA, backbone("vit"), momentum=0.6)
    before, student = copy.deepcopy(objective.teacher[0]), stirred(objective).backbone
    objective.teacher[0].load_state_dict(before.state_dict())
    objective.advance(0.25)
    for old, new, kept in zip(
        before.parameters(), student.parameters(), objective.teacher.parameters(), strict=True
    ):
        torch.testing.assert_close(kept, 0.7 * old + 0.3 * new.detach())
    assert objective.export() == {"backbone": objective.teacher[0]}


def test_images_that_look_alike_show_in_the_targets():
    objective = build(IJEPA, backbone("vit"), view=plain)
    same = images(rows=1).x.expand(4, -1, -1, -1)
    assert objective(images()._replace(x=same)).parts["target_std"].item() < 1e-6
    assert objective(images()).parts["target_std"].item() > 1e-3


@pytest.mark.parametrize("keep", [0.0, 1.0])
def test_it_refuses_to_keep_all_or_nothing(keep):
    with pytest.raises(ValueError, match=r"of 4x4 patches are"):
        build(IJEPA, backbone("vit"), keep=keep)


def test_it_refuses_to_predict_nothing():
    with pytest.raises(ValueError, match="nothing to predict"):
        build(IJEPA, backbone("vit"), targets=0)


def test_smooth_l1_is_the_papers():
    error = torch.linspace(-3, 3, 13)
    torch.testing.assert_close(smooth_l1(error).mean(), F.smooth_l1_loss(error, torch.zeros(13)))
