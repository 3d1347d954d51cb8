"""Views: each operation against torchvision image by image, and the draws against its transforms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.stats import ks_2samp
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from ssl_zoo import noise
from ssl_zoo.views import image, recipes
from ssl_zoo.views.image import Draw
from ssl_zoo.views.kernels import render
from ssl_zoo.views.recipes import crop_flip, simclr, simclr_small
from ssl_zoo.views.view import View, Views, crop_boxes


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    yield
    noise.free_noise()


def near(ours: torch.Tensor, theirs: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)


def pictures(n: int, height: int, width: int, channels: int = 3) -> torch.Tensor:
    """Noise, with a sample each of black, white, grey and two-coloured (ties between channels)."""
    x = torch.rand(n, channels, height, width)
    x[0], x[1], x[2] = 0, 1, x[2, :1]
    x[3] = x[3].round()
    return x


def test_to_float():
    x = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    near(image.to_float(x), F.to_dtype(x, torch.float32, scale=True), 1e-7)
    assert image.to_float(x.double()).dtype == torch.float64
    with pytest.raises(ValueError, match="uint8 or float"):
        image.to_float(x.long())


@pytest.mark.parametrize("source", [(32, 32), (50, 37), (7, 96)])
@pytest.mark.parametrize("size", [(32, 32), (5, 64), (100, 9)])
def test_resized_crop(source, size):
    n, (h, w) = 24, source
    height, width = torch.randint(1, h + 1, (n,)), torch.randint(1, w + 1, (n,))
    height[:2], width[:2] = torch.tensor([h, 1]), torch.tensor([w, 1])  # everything; one pixel
    top = (torch.rand(n) * (h - height + 1)).long()
    left = (torch.rand(n) * (w - width + 1)).long()
    top[2:4], left[2:4] = (h - height)[2:4], (w - width)[2:4]  # the far corner
    x, flip = pictures(n, h, w), torch.rand(n) < 0.5
    ours = image.resized_crop(x, top, left, height, width, size, flip)
    for i in range(n):
        box = {"top": top[i], "left": left[i], "height": height[i], "width": width[i]}
        box = {name: int(value) for name, value in box.items()}
        theirs = F.resized_crop(
            x[i], **box, size=list(size), interpolation=F.InterpolationMode.BILINEAR, antialias=True
        )
        near(ours[i], F.hflip(theirs) if flip[i] else theirs)
    near(image.resized_crop(x, top, left, height, width, size)[~flip], ours[~flip], 0)


@pytest.mark.parametrize(("source", "kernel"), [((32, 32), 3), ((20, 33), 9), ((12, 12), 23), ((9, 30), 1)])
def test_gaussian_blur(source, kernel):
    x, sigma = pictures(8, *source), torch.rand(8) * 3 + 0.1
    ours = image.gaussian_blur(x, sigma, kernel)
    for i in range(8):
        near(ours[i], F.gaussian_blur(x[i], [kernel, kernel], [float(sigma[i])] * 2))


def test_gaussian_blur_that_does_nothing():
    x = pictures(4, 16, 16)
    near(image.gaussian_blur(x, torch.full((4,), 1e-3), 7), x, 1e-7)


@pytest.mark.parametrize("kernel", [4, 0, 33])
def test_gaussian_blur_refuses(kernel):
    with pytest.raises(ValueError, match="kernel"):
        image.gaussian_blur(torch.rand(1, 3, 16, 16), torch.ones(1), kernel)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_factors(name):
    x, factor = pictures(40, 12, 9), torch.rand(40) * 2
    factor[4], factor[5] = 0, 1
    ours = getattr(image, f"adjust_{name}")(x, factor)
    for i in range(40):
        near(ours[i], getattr(F, f"adjust_{name}")(x[i], float(factor[i])))
    near(ours[5], x[5], 1e-6)


def test_hue():
    x, factor = pictures(200, 12, 9), torch.rand(200) - 0.5
    factor[4:7] = torch.tensor([0.0, 0.5, -0.5])
    factor[3] = 1 / 3
    ours = image.adjust_hue(x, factor)
    for i in range(200):
        near(ours[i], F.adjust_hue(x[i], float(factor[i])), 2e-5)
    near(ours[4], x[4], 1e-6)


def test_grey_images():
    x, factor = torch.rand(5, 1, 8, 8), torch.rand(5) * 2
    ours = image.adjust_contrast(x, factor)
    for i in range(5):
        near(ours[i], F.adjust_contrast(x[i], float(factor[i])))
    for change in (image.adjust_hue, image.adjust_saturation):
        with pytest.raises(ValueError, match="1 channel"):
            change(x, factor)


def test_fixed_operations():
    x = pictures(6, 10, 7)
    near(image.rgb_to_grayscale(x), F.rgb_to_grayscale(x, 3), 1e-6)
    near(image.solarize(x, 0.5), F.solarize(x, 0.5), 0)
    near(image.hflip(x), F.hflip(x), 0)
    chosen = torch.tensor([True, False] * 3)
    mixed = image.where(chosen, 1 - x, x)
    near(mixed[0::2], 1 - x[0::2], 0)
    near(mixed[1::2], x[1::2], 0)


def test_rot90():
    x, k = torch.rand(9, 3, 6, 6), torch.arange(9) - 2
    ours = image.rot90(x, k)
    for i in range(9):
        near(ours[i], F.rotate(x[i], 90.0 * int(k[i])), 0)
    with pytest.raises(ValueError, match="square"):
        image.rot90(torch.rand(1, 3, 4, 6), torch.zeros(1, dtype=torch.long))


@pytest.mark.parametrize(
    ("height", "width", "scale", "ratio"),
    [
        (32, 32, (0.08, 1.0), (3 / 4, 4 / 3)),
        (40, 100, (0.5, 1.0), (3 / 4, 4 / 3)),  # few tries fit: mostly the fallback
        (50, 30, (0.2, 0.6), (0.5, 2.0)),
    ],
)
def test_crop_boxes_are_torchvisions(height, width, scale, ratio):
    n = 10_000
    ours = torch.stack(crop_boxes(torch.rand(n, 10, 4), height, width, scale, ratio), 1)
    top, left, h, w = ours.unbind(1)
    assert ((top >= 0) & (left >= 0) & (h > 0) & (w > 0)).all()
    assert ((top + h <= height) & (left + w <= width)).all()
    transform, blank = v2.RandomResizedCrop(8, scale, ratio), [torch.empty(3, height, width)]
    draws = [transform.make_params(blank) for _ in range(n)]
    theirs = torch.tensor([[d["top"], d["left"], d["height"], d["width"]] for d in draws])
    for a, b in ((ours, theirs), (ours[:, 2:].prod(1, keepdim=True), theirs[:, 2:].prod(1, keepdim=True))):
        a, b = a.double(), b.double()
        error = 5 * b.std(0) * (2 / n) ** 0.5 + 1e-9  # five standard errors of a difference of means
        assert ((a.mean(0) - b.mean(0)).abs() <= error).all()
        assert ((a.std(0) - b.std(0)).abs() <= 1.5 * error).all()
        # Two-sample Kolmogorov-Smirnov distance over whole pixels; 1.95 sqrt(2 / n) is its 0.1 % point.
        grid = torch.arange(float(b.max()) + 1, dtype=torch.float64)
        for u, v in zip(a.T, b.T, strict=True):
            cdf = [torch.searchsorted(z.sort().values, grid, right=True) / n for z in (u, v)]
            assert (cdf[0] - cdf[1]).abs().max() < 1.95 * (2 / n) ** 0.5


def test_crop_boxes_fall_back_on_the_centre():
    noise = torch.full((1, 10, 4), 0.999)
    for height, width, wanted in ((20, 60, (0, 16, 20, 27)), (60, 20, (16, 0, 27, 20))):
        box = crop_boxes(noise, height, width, (0.9, 1.0), (3 / 4, 4 / 3))
        assert tuple(int(v) for v in box) == wanted


def test_crop_boxes_stay_inside_at_the_end_of_the_noise():
    top = 1 - 2**-24  # the largest float32 below 1
    noise = torch.full((1, 10, 4), top)
    noise[..., 0], noise[..., 1] = 0.0, 0.5
    y, x, h, w = crop_boxes(noise, 225, 225, (0.001, 1.0), (1.0, 1.0))
    assert (y + h, x + w) == (225, 225)


STRONG: dict[str, Any] = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2, "solarize": 0.3}


def test_view_draws_for_each_image():
    x = torch.randint(0, 256, (1, 3, 24, 24), dtype=torch.uint8).expand(16, -1, -1, -1)
    view = View(**STRONG)
    y, z = view(x), view(x)
    assert y.shape == x.shape
    assert y.dtype == torch.float32
    assert y.min() >= 0
    assert y.max() <= 1
    for i in range(16):
        assert (y[i] - z[i]).abs().max() > 1e-3
        for j in range(i):
            assert (y[i] - y[j]).abs().max() > 1e-3


def test_view_of_two_halves_is_the_view_of_the_whole():
    x, view = torch.randint(0, 256, (8, 3, 24, 24), dtype=torch.uint8), View((16, 20), **STRONG)

    def seen(part: int, parts: int, step: int = 3) -> torch.Tensor:
        noise.seed_noise(5, step, part, parts)
        return view(x.chunk(parts)[part])

    whole = seen(0, 1)
    near(seen(0, 1), whole, 0)
    near(torch.cat([seen(0, 2), seen(1, 2)]), whole, 1e-6)
    assert (seen(0, 1, step=4) - whole).abs().max() > 0.1


def test_view_with_everything_off_is_the_image():
    x = torch.randint(0, 256, (4, 3, 20, 20), dtype=torch.uint8)
    view = View(
        scale=(1, 1), ratio=(1, 1), flip=0, brightness=0.8, hue=0.2, jitter=0, grayscale=0, blur=0, solarize=0
    )
    near(view(x), x / 255, 1e-6)
    near(view(x / 255), x / 255, 1e-6)


@pytest.mark.parametrize(
    ("option", "apply"),
    [
        ({"flip": 0.3}, F.hflip),
        ({"grayscale": 0.3}, lambda x: F.rgb_to_grayscale(x, 3)),
        ({"solarize": 0.3}, lambda x: F.solarize(x, 0.5)),
        (
            {"blur": 0.3, "blur_sigma": (1.5, 1.5), "blur_kernel": 5},
            lambda x: F.gaussian_blur(x, [5, 5], [1.5, 1.5]),
        ),
    ],
)
def test_view_applies_each_option_as_often_as_asked(option, apply):
    n = 4000
    x = torch.rand(1, 3, 12, 12).expand(n, -1, -1, -1)
    off: dict[str, Any] = {
        "scale": (1, 1),
        "ratio": (1, 1),
        "flip": 0.0,
        "jitter": 0.0,
        "grayscale": 0.0,
        "blur": 0.0,
    }
    y = View(**off | option)(x)
    changed = (y - apply(x[:1])).abs().amax((1, 2, 3)) < 1e-5
    same = (y - x).abs().amax((1, 2, 3)) < 1e-5
    assert (changed ^ same).all()
    assert abs(changed.float().mean() - 0.3) < 5 * (0.3 * 0.7 / n) ** 0.5


def test_jitter_draws_torchvisions_factors():
    n = 4000
    x = torch.full((n, 3, 4, 4), 0.25)
    off: dict[str, Any] = {"scale": (1, 1), "ratio": (1, 1), "grayscale": 0.0, "blur": 0.0}
    factor = View(brightness=0.6, jitter=0.8, **off)(x)[:, 0, 0, 0] / 0.25
    changed = factor[(factor - 1).abs() > 1e-6]
    assert abs(len(changed) / n - 0.8) < 5 * (0.8 * 0.2 / n) ** 0.5
    assert 0.4 <= changed.min() < 0.41
    assert 1.59 < changed.max() <= 1.6
    assert abs(changed.mean() - 1) < 5 * 1.2 / (12 * len(changed)) ** 0.5
    assert View(brightness=2.0, jitter=1.0, **off)(x).min() >= 0  # a factor is never negative


def test_jitter_takes_every_order():
    x = torch.rand(1, 3, 6, 6)
    view = View(
        scale=(1, 1), ratio=(1, 1), flip=0, grayscale=0, blur=0, jitter=1, brightness=0.5, contrast=0.5
    )
    seen = set()
    for _ in range(20):
        draw = view._draw(x, 1)
        one, two = draw.factors[:, 0], draw.factors[:, 1]
        first = image.adjust_contrast(image.adjust_brightness(x, one), two)
        second = image.adjust_brightness(image.adjust_contrast(x, two), one)
        for y in (view._compose(x, (6, 6), draw, 1), render(x, (6, 6), draw, 1)):
            near(y, first if draw.order == [0, 1] else second, 1e-6)
        seen.add(tuple(draw.order))
    assert seen == {(0, 1), (1, 0)}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("source", "size"), [((32, 32), (32, 32)), ((50, 37), (16, 24)), ((7, 90), (40, 30)), ((64, 64), (9, 9))]
)
def test_loops_on_the_cpu_give_what_the_operations_give(source, size, channels):
    view = View(size, **STRONG | {"scale": (0.02, 1.0), "solarize": 0.3})
    x = pictures(96, *source, channels=channels)
    whole = (x * 255).round().to(torch.uint8)
    for kernel in (1, 3, 9, 2 * (min(size) - 1) + 1):
        draw = view._draw(x, kernel)
        near(render(x, size, draw, kernel), view._compose(x, size, draw, kernel), 2e-5)
        near(render(whole, size, draw, kernel), view._compose(whole / 255, size, draw, kernel), 2e-5)


def test_loops_do_not_depend_on_threads():
    view, x = View(24, **STRONG), torch.randint(0, 256, (7, 3, 32, 32), dtype=torch.uint8)
    draw, threads = view._draw(x, 5), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = render(x, (24, 24), draw, 5)
        torch.set_num_threads(3)
        near(render(x, (24, 24), draw, 5), alone, 0)
        torch.set_num_threads(16)  # more threads than images
        near(render(x, (24, 24), draw, 5), alone, 0)
    finally:
        torch.set_num_threads(threads)
    near(torch.cat([render(x[i : i + 1], (24, 24), one, 5) for i, one in enumerate(split(draw))]), alone, 0)


def split(draw: Draw) -> list[Draw]:
    """One draw for each image."""
    count = len(draw.flip)
    return [
        Draw(*(tuple(b[i : i + 1] for b in v) if k == "box" else v if k == "order" else v[i : i + 1]
               for k, v in draw._asdict().items()))
        for i in range(count)
    ]  # fmt: skip


class Calls(TorchDispatchMode):
    """Counts torch's operations, and those that make as many numbers as the images have."""

    def __init__(self, pixels: int):
        super().__init__()
        self.pixels, self.all, self.large = pixels, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.all += 1
        fresh = isinstance(result, torch.Tensor) and func is not torch.ops.aten.detach.default
        self.large += fresh and result.numel() >= self.pixels
        return result


def test_view_on_the_cpu_makes_one_pass_and_has_no_loop_over_images():
    counts = []
    for n in (4, 64):
        x = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8)
        with Calls(x.numel()) as calls:
            View(**STRONG)(x)
        assert calls.large == 1  # the views themselves
        counts.append(calls.all)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("build", [simclr, simclr_small, crop_flip])
def test_view_on_a_device_has_static_shapes_and_never_waits(build):
    """On the meta device there are no numbers: anything that reads one, or needs one for a shape, fails."""
    counts = []
    for n in (4, 64):
        x, view = torch.empty(n, 3, 40, 40, device="meta"), build(32)
        with Calls(x.numel()) as calls:
            y = view._compose(x, (32, 32), view._draw(x, 3), 3)
        assert y.shape == (n, 3, 32, 32)
        counts.append(calls.all)
    assert counts[0] == counts[1]


def test_whole_recipe_is_distributed_as_torchvisions():
    """Mean, contrast, colour and sharpness of SimCLR views: their averages and quartiles over draws."""
    n, size = 1500, 24
    x = F.resize(torch.rand(3, 8, 8), [size, size])
    view = View(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur_kernel=5, solarize=0.2)
    theirs = v2.Compose(
        [
            v2.RandomResizedCrop(size, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(5, (0.1, 2.0))]),
            v2.RandomSolarize(0.5, 0.2),
        ]
    )
    # In small batches: the order of colour changes is drawn once a batch.
    ours = torch.cat([view(x.expand(10, -1, -1, -1)) for _ in range(n // 10)])
    one, two = features(ours), features(torch.stack([theirs(x) for _ in range(n)]))
    for name in one:
        result = ks_2samp(one[name].numpy(), two[name].numpy())
        assert result.pvalue > 1e-4, (name, result)


def features(views: torch.Tensor) -> dict[str, torch.Tensor]:
    """Numbers that each step of the recipe moves: (N, 3, H, W) -> (N,) each."""
    mean = views.mean((2, 3))
    return {
        "brightness": views.mean((1, 2, 3)),
        "contrast": views.std((1, 2, 3)),
        "red": mean[:, 0] - mean[:, 1],
        "colour": (views.amax(1) - views.amin(1)).mean((1, 2)),
        "sharpness": (views[..., 1:] - views[..., :-1]).abs().mean((1, 2, 3)),
        "skew": views[..., : views.shape[-1] // 2].mean((1, 2, 3)) - views.mean((1, 2, 3)),
    }


def test_view_is_float32_under_autocast_and_has_no_gradient():
    x = torch.rand(4, 3, 16, 16, requires_grad=True)
    view = View(**STRONG)
    noise.seed_noise(0, 0)
    plain = view(x)
    noise.seed_noise(0, 0)
    with torch.autocast("cpu", torch.bfloat16):
        near(view(x), plain, 0)
    assert not plain.requires_grad


def test_view_of_grey_images():
    x = torch.randint(0, 256, (4, 1, 16, 16), dtype=torch.uint8)
    assert View(8, **STRONG)(x).shape == (4, 1, 8, 8)
    with pytest.raises(ValueError, match="2 channels"):
        View(hue=0.1, jitter=1.0, grayscale=0)(x.expand(-1, 2, -1, -1))


def test_recipes():
    x = torch.randint(0, 256, (2, 3, 20, 30), dtype=torch.uint8)
    for build in (simclr, simclr_small, crop_flip):
        assert build(16)(x).shape == (2, 3, 16, 16)
        assert build((8, 16))(x).shape == (2, 3, 8, 16)
        assert build()(x).shape == x.shape
    half = simclr(32, strength=0.5)
    small = simclr_small(32)
    for name in ("brightness", "contrast", "saturation", "hue", "jitter", "grayscale", "flip", "scale"):
        assert getattr(half, name) == getattr(small, name)
    assert (half.brightness, half.hue, half.blur, small.blur) == (0.4, 0.1, 0.5, 0.0)


def test_views_are_grouped_by_size_and_draw_in_turn():
    """Groups hold the views in order; more views change nothing in those before them."""
    x = torch.randint(0, 256, (5, 3, 24, 24), dtype=torch.uint8)
    large, small, other = View(16, **STRONG), View(8, **STRONG), View((8, 16))
    seen = {}
    for count in (1, 3):
        views = Views(Views(large, large), *[small] * count, other)
        assert views.counts == (2, count, 1)
        noise.seed_noise(0, 0)
        seen[count] = views(x)
        assert [y.shape for y in seen[count]] == [(10, 3, 16, 16), (5 * count, 3, 8, 8), (5, 3, 8, 16)]
    noise.seed_noise(0, 0)
    by_hand = [view(x) for view in (large, large, small, small, small, other)]
    near(torch.cat(by_hand[:2]), seen[3][0], 0)
    near(torch.cat(by_hand[2:5]), seen[3][1], 0)
    near(by_hand[5], seen[3][2], 0)
    near(seen[1][0], seen[3][0], 0)
    near(seen[1][1], by_hand[2], 0)
    assert (by_hand[2] - by_hand[3]).abs().max() > 0.1
    with pytest.raises(ValueError, match="at least one view"):
        Views()


def law(view: Any) -> tuple:
    """A view's law: side, least and most area, colours, and how often it is blurred and solarized."""
    colours = (view.brightness, view.contrast, view.saturation, view.hue)
    return view.size[0], *view.scale, colours, view.blur, view.solarize


BYOLS, HALVES, STRONGS = (0.4, 0.4, 0.2, 0.1), (0.4, 0.4, 0.4, 0.1), (0.8, 0.8, 0.8, 0.2)


@pytest.mark.parametrize(
    ("views", "laws"),
    [
        (recipes.byol(224), [(224, 0.08, 1, BYOLS, 1, 0), (224, 0.08, 1, BYOLS, 0.1, 0.2)]),
        (recipes.asymmetric(32), [(32, 0.08, 1, BYOLS, 0, 0), (32, 0.08, 1, BYOLS, 0, 0.2)]),
        (recipes.weak(224), [(224, 0.2, 1, HALVES, 0.5, 0)] * 2),
        (recipes.vic(32), [(32, 0.2, 1, BYOLS, 0, 0.1)] * 2),
        (
            recipes.dino(224, 96),
            [
                (224, 0.4, 1, BYOLS, 1, 0),
                (224, 0.4, 1, BYOLS, 0.1, 0.2),
                *[(96, 0.05, 0.4, BYOLS, 0.5, 0)] * 8,
            ],
        ),
        (
            recipes.dino_small(32, 16),
            [(32, 0.3, 1, BYOLS, 0, 0), (32, 0.3, 1, BYOLS, 0, 0.2), *[(16, 0.1, 0.4, BYOLS, 0, 0)] * 4],
        ),
        (
            recipes.swav(224, 96),
            [*[(224, 0.14, 1, STRONGS, 0.5, 0)] * 2, *[(96, 0.05, 0.14, STRONGS, 0.5, 0)] * 6],
        ),
        (
            recipes.swav_small(32, 16),
            [*[(32, 0.3, 1, HALVES, 0, 0)] * 2, *[(16, 0.1, 0.4, HALVES, 0, 0)] * 4],
        ),
        (
            recipes.lejepa(224, 98),
            [*[(224, 0.3, 1, BYOLS, 0.5, 0.2)] * 2, *[(98, 0.05, 0.3, BYOLS, 0.5, 0.2)] * 6],
        ),
        (
            recipes.lejepa_small(32, 16),
            [*[(32, 0.3, 1, BYOLS, 0, 0.2)] * 2, *[(16, 0.1, 0.4, BYOLS, 0, 0.2)] * 4],
        ),
    ],
)
def test_recipes_of_several_views(views, laws):
    assert [law(view) for view in views.each] == laws
    assert all((view.flip, view.jitter, view.grayscale) == (0.5, 0.8, 0.2) for view in views.each)


def test_crop_changes_nothing_but_the_place():
    x = torch.rand(1, 3, 1, 1).expand(50, 3, 20, 20).clone()
    x[..., 10:] += 1e-3  # a step from left to right, which mirroring would turn
    y = recipes.crop(16)(x)
    assert (y[..., 1:] >= y[..., :-1] - 1e-6).all()
    assert ((y.amax((2, 3)) - x.amax((2, 3))).abs() < 2e-3).all()
    assert recipes.crop(16).scale == (0.3, 1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0},
        {"size": (8, 8, 8)},
        {"scale": (1.0, 0.5)},
        {"scale": (0.5, 1.5)},
        {"scale": (0.0, 1.0)},
        {"ratio": (-1.0, 1.0)},
        {"blur_sigma": (0.0, 1.0)},
        {"flip": 1.5},
        {"jitter": -0.1},
        {"grayscale": 2},
        {"blur": -1},
        {"solarize": 1.01},
        {"brightness": -0.1},
        {"hue": 0.6},
        {"blur_kernel": 4},
    ],
)
def test_view_refuses(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        View(**wrong)
