"""What makes some views of a batch on a CPU: the compiled loops of `loops`, or torch without Numba.

Who reads the name finds the loops: type checkers, and the hashes of code (`definitions`), as for a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ssl_zoo.messages import note
from ssl_zoo.views import image
from ssl_zoo.views.view import UNBLURRED


@contextmanager
def _store_of_this_numba() -> Iterator[None]:
    """Where what is compiled meanwhile will be kept: apart for each version of Numba.

    Numba names its files by the version of Python alone. Two environments that share one checkout would
    replace each other's, and one that reads between the other's two writes ends with an error of LLVM.
    """
    import numba
    from numba.core import config

    settings: Any = config
    before = settings.CACHE_DIR
    folder = Path(before) if before else Path(__file__).parent / "__pycache__"
    settings.CACHE_DIR = str(folder / f"numba-{numba.__version__}")
    try:
        yield
    finally:
        settings.CACHE_DIR = before


if TYPE_CHECKING:
    from ssl_zoo.views.loops import render_some as render_some
else:
    try:
        with _store_of_this_numba():
            from ssl_zoo.views.loops import render_some
    except ModuleNotFoundError as error:
        if error.name != "numba":
            raise
        note(
            "note: views are made by torch's operations, which takes longer than compiled loops do: "
            "pip install 'ssl-zoo[cpu]'"
        )

        def render_some(*args):
            compose_some(*args)


def compose_some(
    source: np.ndarray,
    unit: np.float32,
    target: np.ndarray,
    order: np.ndarray,
    reach: int,
    box: np.ndarray,
    flip: np.ndarray,
    factors: np.ndarray,
    grey: np.ndarray,
    sigma: np.ndarray,
    solar: np.ndarray,
    first: int,
    last: int,
) -> None:
    """`loops.render_some` in torch's operations: the same arguments, and views that differ by rounding."""
    if first == last:
        return

    def some(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array[first:last])

    top, left, height, width = some(box).unbind(1)
    size = (target.shape[-2], target.shape[-1])
    x = image.resized_crop(some(source).float() * float(unit), top, left, height, width, size, some(flip))
    changes = (image.adjust_brightness, image.adjust_contrast, image.adjust_saturation, image.adjust_hue)
    for i in order.tolist():
        x = changes[i](x, some(factors)[:, i])
    if grey[first:last].any() and x.shape[1] > 1:
        x = image.where(some(grey), image.rgb_to_grayscale(x), x)
    if reach and sigma[first:last].any():
        x = image.gaussian_blur(x, some(sigma).clamp_min(UNBLURRED), 2 * reach + 1)
    if solar[first:last].any():
        x = image.where(some(solar), image.solarize(x, 0.5), x)
    target[first:last] = x.clamp_(0, 1).numpy()
