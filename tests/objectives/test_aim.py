"""AIM against lightly's causal vision transformer and head, patch by patch.

Reference: lightly's `MaskedCausalVisionTransformer` and `AIMPredictionHead`, value and gradient; one patch
after the other.
Peers: lightly's example and benchmark compare prediction k with patch k, which the network sees, and score
the prefix too; its prefixes are of 0 to N - 2 patches, the authors' of 1 to N - 1.
"""

import math

import pytest
import torch
from lightly.models.modules import AIMPredictionHead, MaskedCausalVisionTransformer
from zoo_backbones import backbone, build, images, plain, stirred

from ssl_zoo.decoders import grid_positions
from ssl_zoo.noise import seed_noise, stratified
from ssl_zoo.objectives.aim import AIM, next_patch


def lengths(rows: int, patches: int) -> list[int]:
    """The prefixes of the step that was just seeded."""
    return [1 + math.floor(u * (patches - 1)) for u in stratified(rows).tolist()]


def cell(x: torch.Tensor, k: int) -> torch.Tensor:
    """Patch k of 4 x 4 of an image (3, 32, 32), channels last: (192,)."""
    row, column = divmod(k, 4)
    return x[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].permute(1, 2, 0).flatten()


def test_it_is_lightlys_network_with_the_next_patch_as_its_target():
    """lightly's example and benchmark compare what is said at patch k with patch k itself, which the network
    sees there (and in the prefix, too): copying has no loss. The paper predicts patch k + 1 (figure 2). After
    200 steps of two blocks on CIFAR-10 their loss is 0.19, and that of the next patch 0.64."""
    objective = stirred(build(AIM, backbone("vit", class_token=False), view=plain, depth=2)).double()
    position = grid_positions(16, 4, 4).double()
    vit = MaskedCausalVisionTransformer(
        img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, class_token=False, num_classes=0,
        global_pool="", qkv_bias=True,
    ).double()  # fmt: skip
    vit.load_state_dict(objective.backbone.model.state_dict())
    head = AIMPredictionHead(16, 192, 16, 2).double()
    head.load_state_dict(dict(zip(head.state_dict(), objective.head.state_dict().values(), strict=True)))

    batch = images(rows=5)
    seed_noise(0, 0)
    loss = objective.train()(batch)
    seed_noise(0, 0)
    prefix = lengths(5, 16)
    x = objective.backbone.normalise(plain(batch.x))
    unread = torch.arange(16) >= torch.tensor(prefix)[:, None]
    said = head(vit.forward_features(x, mask=unread) + position)
    errors = []
    for b in range(5):
        for k in range(prefix[b], 16):
            true = cell(plain(batch.x)[b], k)
            true = (true - true.mean()) / (true.var() + 1e-6).sqrt()
            errors.append((said[b, k - 1] - true).square().sum() / 192)
    want = sum(errors) / (5 * 8)  # half of 16 patches are scored on average
    torch.testing.assert_close(loss.value, want, rtol=1e-9, atol=0)
    torch.testing.assert_close(loss.parts["error"], sum(errors) / len(errors), rtol=1e-9, atol=0)
    assert loss.counts["error"].item() == len(errors)
    mine = torch.autograd.grad(loss.value, [*objective.backbone.parameters(), *objective.head.parameters()])
    theirs = torch.autograd.grad(want, [*vit.parameters(), *head.parameters()])
    for one, two in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-7, atol=1e-10)


def test_no_patch_is_predicted_from_itself_or_what_follows():
    objective = stirred(build(AIM, backbone("vit"), view=plain)).double().eval()
    x = plain(images(rows=2).x).requires_grad_()
    seed_noise(0, 0)
    drawn, after = objective.predict(x)
    seed_noise(0, 0)
    for b, prefix in enumerate(lengths(2, 16)):
        assert after[b].tolist() == [k >= prefix for k in range(1, 16)]
        for k in range(prefix, 16):
            (slope,) = torch.autograd.grad(drawn[b, k - 1].square().sum(), x, retain_graph=True)
            read = [cell(slope[b], i).abs().sum().item() > 0 for i in range(16)]
            assert read == [i < k for i in range(16)]
            assert not slope[1 - b].any()


def test_prefixes_of_a_batch_are_spread_evenly():
    """Of 15 images of 16 patches, each length from 1 to 15 is there once: half of all patches are scored."""
    objective = build(AIM, backbone("vit"), view=plain)
    seed_noise(0, 3)
    _, after = objective.predict(plain(images(rows=15).x).float())
    assert sorted((15 - after.sum(1) + 1).tolist()) == list(range(1, 16))


def test_what_learns_nothing_has_the_loss_that_chance_says():
    objective = build(AIM, backbone("vit"), view=plain).double()
    torch.nn.init.zeros_(objective.head[-1].weight)
    loss = objective(images(rows=15))
    assert objective.chance(15) == 191 / 192
    assert loss.value.item() == pytest.approx(191 / 192, rel=1e-3)
    assert loss.parts["error"].item() == pytest.approx(191 / 192, rel=1e-3)


def test_a_patch_counts_the_same_wherever_the_prefix_ends():
    drawn, true = torch.rand(2, 2, 7, 12, dtype=torch.float64)
    after = torch.tensor([[True] * 7, [False] * 6 + [True]])
    loss, error = next_patch(drawn, true, after)
    each = (drawn - true).square().mean(-1)
    torch.testing.assert_close(loss, (each[0].sum() + each[1, 6]) / 8)
    torch.testing.assert_close(error, (each[0].sum() + each[1, 6]) / 8)
    assert next_patch(drawn, true, after & False)[1].item() == 0


def test_features_are_read_both_ways_and_a_picture_shows_what_is_drawn():
    vit = backbone("vit")
    vit.order = "causal"
    objective = build(AIM, vit, view=lambda x: plain(x).float()).eval()
    assert vit.order == "both"
    seed_noise(0, 0)
    with torch.no_grad():
        columns = objective.show(images(rows=3)).columns
    seed_noise(0, 0)
    for b, prefix in enumerate(lengths(3, 16)):
        for k in range(16):
            same = torch.equal(cell(columns["drawn"][b], k), cell(columns["crop"][b], k))
            assert same == (k < prefix)
            grey = cell(columns["prefix"][b], k) == 0.5
            assert grey.all() if k >= prefix else not grey.all()


@pytest.mark.parametrize("wrong", [{"depth": 0}, {"width": 0}])
def test_heads_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="one block at least"):
        build(AIM, backbone("vit"), **wrong)
    with pytest.raises(ValueError, match="of 1x1 patches"):
        build(AIM, backbone("vit", patch_size=32))
