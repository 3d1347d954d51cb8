"""One whole view of each image on a CPU: loops that Numba compiles on first use, and keeps on disk.

torch's operations pass over the batch once for each step of the recipe, some fifty times for a SimCLR
view. Here one image goes through the whole recipe, in the cache, before the next is touched, and steps that
its draw left out cost nothing. The numbers are those of `views.image`, which serves all other devices
(tests/views/test_views.py holds the two to each other). Numba's store notices changes of this file alone, so
all that is compiled is here. Images come as uint8 or float32, views are float32, and all are C-contiguous;
the steps after the crop change single views in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numba import njit

from ssl_zoo.views.image import LUMA

RED, GREEN, BLUE = (np.float32(part) for part in LUMA)
ZERO, HALF, ONE, SIX = (np.float32(value) for value in (0, 0.5, 1, 6))

BLOCK = 4096  # floats, of which seven rows lie in the first cache


def compiled(function: Callable) -> Callable:
    """Machine code of `function`, kept on disk where some folder can be written."""
    options = {"nogil": True, "error_model": "numpy", "fastmath": True}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can
        return njit(**options)(function)


@compiled
def _clamped(value):
    return min(max(value, ZERO), ONE)


@compiled
def _taps(start, length, flip, unit, at, weights):
    """One axis of `image.resize_weights` times `unit`, without its zeros.

    Output i is the sum over k of weights[k, i] * pixel at[k, i]; both are (K, out). Returns how many k there
    are, an even number, as the loops below take two at a time.
    """
    out = at.shape[1]
    scale = np.float32(length) / np.float32(out)
    reach = max(scale, ONE)
    count = 2 * math.ceil(reach)  # pixels within an open interval of 2 * reach
    for i in range(out):
        centre = (np.float32(out - 1 - i if flip else i) + HALF) * scale
        first = max(math.floor(centre - reach + HALF), 0)
        total = ZERO
        for k in range(count):
            weight = max(ONE - abs(np.float32(first + k) + HALF - centre) / reach, ZERO)
            weight = weight if first + k < length else ZERO
            weights[k, i] = weight
            at[k, i] = start + min(first + k, length - 1)
            total += weight
        for k in range(count):
            weights[k, i] *= unit / total
    return count


@compiled
def _crop(x, out, top, height, rows, row_weights, row_taps, cols, col_weights, col_taps, line, wide):
    """x (C, H, W) -> out (C, h, w): each row of the crop is resized once, then rows are mixed."""
    channels, h, w = out.shape
    for c in range(channels):
        for y in range(top, top + height):
            for j in range(x.shape[2]):
                line[j] = x[c, y, j]
            for j in range(w):
                wide[y, j] = col_weights[0, j] * line[cols[0, j]] + col_weights[1, j] * line[cols[1, j]]
            for k in range(2, col_taps, 2):
                for j in range(w):
                    wide[y, j] += (
                        col_weights[k, j] * line[cols[k, j]] + col_weights[k + 1, j] * line[cols[k + 1, j]]
                    )
        for i in range(h):
            above, below = wide[rows[0, i]], wide[rows[1, i]]
            for j in range(w):
                out[c, i, j] = row_weights[0, i] * above[j] + row_weights[1, i] * below[j]
            for k in range(2, row_taps, 2):
                above, below = wide[rows[k, i]], wide[rows[k + 1, i]]
                for j in range(w):
                    out[c, i, j] += row_weights[k, i] * above[j] + row_weights[k + 1, i] * below[j]


@compiled
def _brightness(x, factor):
    for i in range(x.size):
        x[i] = _clamped(x[i] * factor)


@compiled
def _contrast(x, pixels, factor):
    total = ZERO
    if x.size == 3 * pixels:
        red, green, blue = x[:pixels], x[pixels : 2 * pixels], x[2 * pixels :]
        for i in range(pixels):
            total += RED * red[i] + GREEN * green[i] + BLUE * blue[i]
    else:
        for i in range(pixels):
            total += x[i]
    offset = (ONE - factor) * total / np.float32(pixels)
    for i in range(x.size):
        x[i] = _clamped(factor * x[i] + offset)


@compiled
def _saturation(x, pixels, factor):
    red, green, blue = x[:pixels], x[pixels : 2 * pixels], x[2 * pixels :]
    for i in range(pixels):
        grey = (ONE - factor) * (RED * red[i] + GREEN * green[i] + BLUE * blue[i])
        red[i] = _clamped(factor * red[i] + grey)
        green[i] = _clamped(factor * green[i] + grey)
        blue[i] = _clamped(factor * blue[i] + grey)


@compiled
def _channel(hue, centre, spread, high):
    """The value of the channel whose hue is `centre` (see `image.adjust_hue`)."""
    away = abs(abs(hue - centre) - np.float32(3)) - np.float32(2)
    return high + spread * min(max(away, -ONE), ZERO)


@compiled
def _hue(x, pixels, turn):
    red, green, blue = x[:pixels], x[pixels : 2 * pixels], x[2 * pixels :]
    for i in range(pixels):
        r, g, b = red[i], green[i], blue[i]
        high, low = max(r, g, b), min(r, g, b)
        spread = high - low
        part = r - g + np.float32(4) * spread
        part = b - r + np.float32(2) * spread if g == high else part
        part = g - b if r == high else part
        hue = part / max(spread, np.float32(1e-12)) + turn
        hue -= SIX * math.floor(hue / SIX + HALF)  # in [-3, 3]
        red[i] = _channel(hue, ZERO, spread, high)
        green[i] = _channel(hue, np.float32(2), spread, high)
        blue[i] = _channel(hue, np.float32(-2), spread, high)


@compiled
def _grey(x, pixels):
    red, green, blue = x[:pixels], x[pixels : 2 * pixels], x[2 * pixels :]
    for i in range(pixels):
        grey = RED * red[i] + GREEN * green[i] + BLUE * blue[i]
        red[i] = grey
        green[i] = grey
        blue[i] = grey


@compiled
def _reflect(i, length):
    """Where position i lies when the line is mirrored at its ends; 0 where it lies further out than that."""
    i = -i if i < 0 else i
    i = 2 * (length - 1) - i if i >= length else i
    return max(i, 0)


@compiled
def _mix(out, a, b, c, d, e, f, one, two, three):
    for j in range(len(out)):
        out[j] += one * (a[j] + b[j]) + two * (c[j] + d[j]) + three * (e[j] + f[j])


@compiled
def _convolve(source, out, first, last, stride, taps, pad):
    """out[j] = sum of taps[|k|] * source[j + k * stride] for first <= j < last, block by block."""
    for start in range(first, last, BLOCK):
        stop = min(start + BLOCK, last)
        part, here = out[start:stop], source[start:stop]
        for j in range(len(part)):
            part[j] = taps[0] * here[j]
        for k in range(1, pad, 3):
            s, t, u = k * stride, (k + 1) * stride, (k + 2) * stride
            _mix(
                part,
                source[start - s : stop - s], source[start + s : stop + s],
                source[start - t : stop - t], source[start + t : stop + t],
                source[start - u : stop - u], source[start + u : stop + u],
                taps[k], taps[k + 1], taps[k + 2],
            )  # fmt: skip


@compiled
def _blur(x, sigma, radius, taps, one, two):
    """x (C, h, w); taps, one and two are scratch, these two for a plane with room for its mirror."""
    channels, h, w = x.shape
    radius = min(radius, math.ceil(SIX * sigma))  # what lies beyond rounds to nothing
    pad = (radius + 2) // 3 * 3  # taps are taken three at a time
    total = ZERO
    for k in range(pad + 1):
        taps[k] = math.exp(-HALF * (np.float32(k) / sigma) ** 2) if k <= radius else ZERO
        total += taps[k] if k == 0 else taps[k] + taps[k]
    for k in range(pad + 1):
        taps[k] /= total
    wide = w + 2 * pad
    first, last = pad * wide, (pad + h) * wide  # of the image's own rows
    for c in range(channels):
        for i in range(h):
            row, line = x[c, i], one[first + i * wide : first + (i + 1) * wide]
            middle = line[pad : pad + w]
            for j in range(w):
                middle[j] = row[j]
            for k in range(1, pad + 1):
                line[pad - k] = row[_reflect(-k, w)]
                line[pad + w - 1 + k] = row[_reflect(w - 1 + k, w)]
        _convolve(one, two, first, last, 1, taps, pad)
        for k in range(1, pad + 1):
            for beyond in (-k, h - 1 + k):
                line = two[first + beyond * wide : first + (beyond + 1) * wide]
                mirror = first + _reflect(beyond, h) * wide
                line[:] = two[mirror : mirror + wide]
        _convolve(two, one, first, last, wide, taps, pad)
        for i in range(h):
            row, line = x[c, i], one[first + i * wide + pad : first + i * wide + pad + w]
            for j in range(w):
                row[j] = line[j]


@compiled
def render_some(x, unit, out, order, radius, boxes, flip, factors, grey, sigma, solar, first, last):
    """Views of the images first to last of x (B, C, H, W) times `unit`, into out (B, C, h, w).

    boxes (B, 4): top, left, height, width. The rest is as in `Draw`; radius is half of the blur's width.
    """
    height, width = x.shape[2:]
    h, w = out.shape[2:]
    pixels = h * w
    most = max(height / h, width / w, 1.0)
    count = 2 * math.ceil(most)
    rows, cols = np.empty((count, h), np.uint32), np.empty((count, w), np.uint32)
    row_weights, col_weights = np.empty((count, h), np.float32), np.empty((count, w), np.float32)
    line, wide = np.empty(width, np.float32), np.empty((height, w), np.float32)
    gauss = np.empty(radius + 3, np.float32)
    room = (h + 2 * radius + 4) * (w + 2 * radius + 4) + 4
    one, two = np.zeros(room, np.float32), np.zeros(room, np.float32)
    for n in range(first, last):
        top, left, tall, broad = boxes[n]
        row_taps = _taps(top, tall, False, unit, rows, row_weights)
        col_taps = _taps(left, broad, flip[n], ONE, cols, col_weights)
        view = out[n]
        _crop(x[n], view, top, tall, rows, row_weights, row_taps, cols, col_weights, col_taps, line, wide)
        flat = view.reshape(-1)
        for change in order:
            factor = factors[n, change]
            if change == 0 and factor != 1:
                _brightness(flat, factor)
            elif change == 1 and factor != 1:
                _contrast(flat, pixels, factor)
            elif change == 2 and factor != 1:
                _saturation(flat, pixels, factor)
            elif change == 3 and factor != 0:
                _hue(flat, pixels, SIX * factor)
        if grey[n]:
            _grey(flat, pixels)
        if sigma[n] > 0:
            _blur(view, sigma[n], radius, gauss, one, two)
        if solar[n]:
            for i in range(flat.size):
                flat[i] = ONE - flat[i] if flat[i] >= HALF else flat[i]
        for i in range(flat.size):  # weights that sum to 1 may round to just outside
            flat[i] = _clamped(flat[i])
