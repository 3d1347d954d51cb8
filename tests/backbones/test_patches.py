"""The dictionary of patches against loops over places and words, and what it refuses."""

import pytest
import torch
from zoo_backbones import backbone, images, stirred

from ssl_zoo.backbones.patches import EPS, PatchDictionary


def made(**changes) -> PatchDictionary:
    """A small dictionary in double precision, with whitening as an objective could have found it."""
    torch.manual_seed(0)
    found = PatchDictionary(**{"count": 5, "patch_size": 3, "stride": 2, "image_size": 11} | changes).double()
    noise = torch.randn(27, 27).double() * 0.1
    found.whiten.copy_(torch.eye(27).double() + noise @ noise.T)
    found.centre.normal_(std=0.3)
    return found


def by_loops(of: PatchDictionary, x: torch.Tensor) -> torch.Tensor:
    """The features of images, place by place; their places have to be an even number of rows and columns."""
    x = (x - 0.5) / 0.25
    rows = []
    for image in x:
        near = []
        for top in range(0, image.shape[1] - of.side + 1, of.stride):
            for left in range(0, image.shape[2] - of.side + 1, of.stride):
                p = image[:, top : top + of.side, left : left + of.side].flatten()
                p = (p - p.mean()) / (((p - p.mean()) ** 2).mean() + EPS) ** 0.5
                z = of.whiten @ (p - of.centre)
                d = torch.stack([((z - c) ** 2).sum() ** 0.5 for c in of.words])
                near.append((d.mean() - d).clamp(min=0))
        side = round(len(near) ** 0.5)
        grid, half = torch.stack(near).view(side, side, -1), side // 2
        parts = [grid[a : a + half, b : b + half].sum((0, 1)) for a in (0, half) for b in (0, half)]
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def test_features_and_gradients_are_those_of_loops():
    of = made(image_size=9)  # 4 x 4 places
    x = torch.rand(3, 3, 9, 9).double()
    found = of(x)
    want = by_loops(of, x)
    assert found.pooled.shape == (3, of.dim)
    assert of.dim == 20
    torch.testing.assert_close(found.pooled, want, rtol=1e-9, atol=1e-9)
    assert torch.equal(found.tokens[:, 0], found.pooled)
    ways = torch.randn_like(want)
    mine, theirs = (torch.autograd.grad((one * ways).sum(), of.words)[0] for one in (found.pooled, want))
    assert theirs.abs().max() > 0.1
    torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-9)


def test_patches_are_those_of_the_places_asked_for():
    of = made()  # 5 x 5 places
    x = torch.rand(2, 3, 11, 11).double()
    at = torch.tensor([[0, 4, 7], [24, 20, 12]])
    found = of.patches(x, at)
    for row, places in enumerate(at.tolist()):
        for n, place in enumerate(places):
            top, left = 2 * (place // 5), 2 * (place % 5)
            p = x[row, :, top : top + 3, left : left + 3].flatten()
            want = (p - p.mean()) / (p.var(correction=0) + EPS) ** 0.5
            torch.testing.assert_close(found[row, n], want)


def test_many_images_are_read_in_parts_and_one_layer_is_given():
    of = stirred(backbone("patches"))
    x = images(11).x
    whole = of(x, layers="pooled")
    torch.testing.assert_close(whole.pooled[9:], of(x[9:]).pooled)
    assert torch.equal(whole.layers[0], whole.pooled)
    assert of.blocks() == ()
    assert of.grid(*of.image_size) == (1, 1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"count": 0}, "count=0"),
        ({"stride": 0}, "stride=0"),
        (
            {"image_size": 4, "patch_size": 6},
            r"images of 4x4 pixels hold 0x0 patches of 6: too few for 2x2 cells",
        ),
        ({"image_size": [12, 6], "patch_size": 6}, "images of 12x6 pixels hold 7x1 patches"),
    ],
)
def test_what_holds_no_patches_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        PatchDictionary(**given)


def test_segments_and_small_images_are_refused():
    of = backbone("patches")
    with pytest.raises(ValueError, match="segments must be None"):
        of(images(2).x, torch.zeros(2, 1))
    with pytest.raises(ValueError, match="images of 7x7 pixels hold 1x1 patches"):
        of(images(2, side=7).x)
