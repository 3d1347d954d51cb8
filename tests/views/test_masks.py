"""Masks: counts, what is never hidden, words and spans, and BERT's 80/10/10."""

from __future__ import annotations

import math
import random

import pytest
import torch

from ssl_zoo.views.blocks import blocks, multiblock, squares, units
from ssl_zoo.views.masks import (
    Runs,
    Spans,
    Tokens,
    WholeWords,
    corrupt,
    random_split,
    span_lengths,
    word_starts,
)

V = 50
CONTINUES = torch.arange(V) >= 30  # ids 30.. continue a word; 0..2 are special
KINDS = [Tokens, WholeWords, Spans, Runs]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def text(rows: int = 64, length: int = 100) -> tuple[torch.Tensor, torch.Tensor]:
    """Random ids with a special one here and there; the rows end in 0, 1, 2... positions of padding."""
    ids = torch.randint(3, V, (rows, length))
    ids[torch.rand(rows, length) < 0.05] = 1
    ids[torch.arange(length) >= length - torch.arange(rows)[:, None]] = 0
    return ids, ids > 2


def hidden(at: torch.Tensor, valid: torch.Tensor, length: int) -> torch.Tensor:
    return torch.zeros(len(at), length, dtype=torch.bool).scatter(1, at, valid)


def words(ids: list[int], candidates: list[bool]) -> list[list[int]]:
    """Positions of each word: a second, plain implementation."""
    found: list[list[int]] = []
    for t, (i, ok) in enumerate(zip(ids, candidates, strict=True)):
        if ok and found and bool(CONTINUES[i]) and t > 0 and candidates[t - 1]:
            found[-1].append(t)
        elif ok:
            found.append([t])
    return found


def test_random_split():
    seen, unseen = random_split(torch.rand(2000, 10), 3)
    assert (seen.shape, unseen.shape) == ((2000, 3), (2000, 7))
    assert torch.equal(torch.cat([seen, unseen], 1).sort(1).values, torch.arange(10).expand(2000, -1))
    share = torch.bincount(seen.flatten(), minlength=10) / 2000
    assert (share - 0.3).abs().max() < 5 * (0.3 * 0.7 / 2000) ** 0.5
    for keep in (0, 10):
        with pytest.raises(ValueError, match="keep"):
            random_split(torch.rand(2, 10), keep)


def test_blocks_by_hand():
    """Two squares of four cells, at the first corner and at the last; the second is cut from either side."""
    noise = torch.tensor([[[0.0, 0.5, 0.0, 0.0], [0.2, 0.5, 0.999, 0.999]]] * 2)
    noise[1, 1, 0] = 0.7
    at = blocks(noise, (4, 5), 6, area=(4, 4), aspect=(0.5, 2.0))
    assert at.sort(1).values.tolist() == [[0, 1, 5, 6, 13, 14], [0, 1, 5, 6, 18, 19]]
    # Two that overlap, and then what no rectangle covers.
    noise[..., 2:] = 0.0
    assert blocks(noise, (4, 5), 6, (4, 4), (0.5, 2.0)).sort(1).values[0].tolist() == [0, 1, 2, 3, 5, 6]
    for count in (0, 21):
        with pytest.raises(ValueError, match=f"4x5 cells, {count} cannot"):
            blocks(noise, (4, 5), count, (4, 4), (0.5, 2.0))


def beit(side: int, total: int, least: int, aspect: float) -> torch.Tensor:
    """BEiT's algorithm 1, one rectangle after another: (side, side) bool with about `total` cells hidden."""
    mask = torch.zeros(side, side, dtype=torch.bool)
    for _ in range(200):
        room = total - int(mask.sum())
        area, ratio = (
            random.uniform(least, max(least, room)),
            math.exp(random.uniform(-1, 1) * math.log(aspect)),
        )
        h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if h >= side or w >= side:
            continue
        top, left = random.randint(0, side - h), random.randint(0, side - w)
        part = mask[top : top + h, left : left + w]
        if 0 < int((~part).sum()) <= room:
            part[:] = True
    return mask


def test_blocks_cover_cells_as_often_as_beits_do():
    random.seed(0)
    theirs = torch.stack([beit(14, 75, 16, 1 / 0.3) for _ in range(400)]).float().mean(0)
    at = blocks(torch.rand(4000, 16, 4), (14, 14), 75, (16, 75), (0.3, 1 / 0.3))
    mask = torch.zeros(4000, 196).scatter(1, at, 1.0)
    assert (mask.sum(1) == 75).all(), "a cell is taken twice"
    ours = mask.mean(0).view(14, 14)
    assert (ours - theirs).abs().max() < 0.025 + 5 * 0.5 / 400**0.5
    assert (ours - theirs).abs().mean() < 0.02
    for turned in (ours.flip(0), ours.flip(1), ours.T):  # no side of the image is preferred
        assert (ours - turned).abs().max() < 5 * 0.5 * (2 / 4000) ** 0.5


def test_squares_by_hand():
    """Of 2 x 2 on 3 x 4 cells, squares begin at rows -1 to 2 and columns -1 to 3."""
    places = [[(0, 0), (1, 0), (2, 3)], [(-1, -1), (-1, 3), (2, -1)]]
    noise = torch.tensor([[((row + 1.5) / 4, (column + 1.5) / 5) for row, column in row] for row in places])
    found = [squares(noise, (3, 4), 2, count).sort(1).values.tolist() for count in (4, 5, 7)]
    # What is cut, and what no square covers, is taken from below here.
    assert found[0] == [[0, 1, 4, 5], [0, 3, 8, 11]]
    assert found[1] == [[0, 1, 4, 5, 9], [0, 3, 8, 10, 11]]
    assert found[2] == [[0, 1, 4, 5, 8, 9, 11], [0, 3, 7, 8, 9, 10, 11]]
    for count, side in ((0, 2), (13, 2), (4, 0)):
        with pytest.raises(ValueError, match="of 3x4 cells"):
            squares(noise, (3, 4), side, count)


def test_squares_cover_all_cells_about_equally_and_hold_together():
    torch.manual_seed(0)
    at = squares(torch.rand(8000, 32, 2), (8, 8), 3, 13)
    assert all(len(set(row)) == 13 for row in at[:200].tolist())
    share = torch.bincount(at.flatten(), minlength=64) / 8000
    assert share.min() > 0.85 * 13 / 64
    assert share.max() < 1.15 * 13 / 64
    seen = torch.zeros(8000, 64).scatter(1, at, 1.0).unflatten(1, (8, 8))
    beside = (seen[:, :, 1:] * seen[:, :, :-1]).mean() / seen.mean()
    assert beside > 0.6  # of cells alone, 13 / 64 are


def test_units():
    at = units(torch.rand(500, 6), (4, 6), 2, 2)
    assert at.shape == (500, 8)
    cells = torch.zeros(500, 24).scatter(1, at, 1.0).view(500, 4, 6)
    small = cells[:, ::2, ::2]  # a corner of each unit
    assert (small.sum((1, 2)) == 2).all()
    assert torch.equal(cells, torch.kron(small, torch.ones(2, 2)))
    assert (small.mean(0) - 1 / 3).abs().max() < 5 * (2 / 9 / 500) ** 0.5
    for grid, noise in (((4, 5), 6), ((4, 6), 5)):
        with pytest.raises(ValueError, match="units of 2x2"):
            units(torch.rand(1, noise), grid, 2, 2)


@pytest.mark.parametrize(("grid", "keep"), [((14, 14), 69), ((8, 8), 22), ((5, 9), 16)])
def test_multiblock(grid, keep):
    """Each row read back: targets are rectangles of one size, the context is what they leave of a square."""
    rows, columns = grid
    cells, drawn = rows * columns, torch.zeros(2, rows * columns)
    for _ in range(20):
        shared, places, order = torch.rand(3), torch.rand(64, 5, 2), torch.rand(64, cells)
        context, targets = multiblock(shared, places, order, grid, keep)
        assert context.shape == (64, keep)
        area, shape, around = (
            low + part * (high - low)
            for (low, high), part in zip(((0.15, 0.2), (0.75, 1.5), (0.85, 1)), shared.tolist(), strict=True)
        )
        tall, wide = round(math.sqrt(cells * area * shape)), round(math.sqrt(cells * area / shape))
        high, broad = (min(side, round(math.sqrt(cells * around))) for side in grid)
        assert targets.shape == (64, 4, tall * wide)
        for b in range(64):
            hidden = set()
            for t in range(4):
                top, left = (
                    int(noise * (side - length + 1))
                    for noise, side, length in zip(places[b, 1 + t].tolist(), grid, (tall, wide), strict=True)
                )
                want = [(top + i) * columns + left + j for i in range(tall) for j in range(wide)]
                assert targets[b, t].tolist() == want
                hidden |= set(want)
            top, left = int(places[b, 0, 0] * (rows - high + 1)), int(places[b, 0, 1] * (columns - broad + 1))
            square = {(top + i) * columns + left + j for i in range(high) for j in range(broad)}
            allowed = sorted(square - hidden, key=order[b].tolist().__getitem__)
            assert context[b].tolist() == [allowed[k % len(allowed)] for k in range(keep)]
        drawn[0] += torch.zeros(64, cells).scatter(1, context, 1.0).sum(0)
        drawn[1] += torch.zeros(64, cells).scatter(1, targets[:, 0], 1.0).sum(0)
    for share in drawn.view(2, rows, columns) / 1280:  # no side of the image is preferred
        assert (share - share.flip(0)).abs().max() < 5 * 0.5 * (2 / 1280) ** 0.5
        assert (share - share.flip(1)).abs().max() < 5 * 0.5 * (2 / 1280) ** 0.5
        assert share.min() > 0


def test_multiblock_of_an_image_whose_targets_leave_nothing():
    """Four targets of 4 x 4 cover an 8 x 8 grid: one cell stands for the context."""
    corners = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 0.999], [0.999, 0.0], [0.999, 0.999]])
    order = torch.rand(1, 64)
    context, targets = multiblock(torch.tensor([1.0, 1 / 3, 1.0]), corners[None], order, (8, 8), 22)
    assert sorted(targets.flatten().tolist()) == list(range(64))
    assert context.tolist() == [[int(order.argmin())] * 22]


def test_corrupt():
    n = 40_000
    noise, originals = torch.rand(n, 2), torch.full((n, 2), 7)
    ids = corrupt(noise, torch.full((n, 2), 9), originals, 2)
    for wanted, share in ((2, 0.8), (9, 0.1), (7, 0.1)):
        assert abs((ids == wanted).float().mean() - share) < 0.01
    noise = torch.tensor([[0.0, 0.79, 0.8, 0.89, 0.9, 0.99]])
    ids = corrupt(noise, torch.full((1, 6), 9), torch.full((1, 6), 7), 2)
    assert ids.tolist() == [[2, 2, 9, 9, 7, 7]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_counts_and_what_is_never_hidden(kind, rate):
    ids, candidates = text()
    at, valid = kind(rate)(torch.rand(ids.shape), ids, candidates, CONTINUES)
    assert at.shape == valid.shape == (64, math.ceil(rate * 100))
    assert (at.dtype, valid.dtype) == (torch.int64, torch.bool)
    assert candidates.gather(1, at)[valid].all()
    for row, ok in zip(at, valid, strict=True):
        assert len(set(row.tolist())) == len(row)  # so that writing the originals back changes nothing
        assert row[ok].tolist() == sorted(row[ok].tolist())
    wanted = [max(1, round(rate * n)) for n in candidates.sum(1).tolist()]
    got = valid.sum(1).tolist()
    if kind is WholeWords:
        assert all(0 <= w - g <= 1 for w, g in zip(wanted, got, strict=True))
        assert sum(got) > 0.99 * sum(wanted)
    else:
        assert got == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_rows_with_little_or_nothing_to_hide(kind):
    ids = torch.full((3, 20), 5)
    candidates = torch.zeros(3, 20, dtype=torch.bool)
    candidates[1, 4] = True
    candidates[2] = True
    _, valid = kind(0.2)(torch.rand(3, 20), ids, candidates, CONTINUES)
    assert valid.sum(1).tolist() == [0, 1, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_every_candidate_is_hidden_about_as_often(kind):
    n = 20_000
    ids = torch.full((1, 40), 5).expand(n, -1)  # words of one token
    candidates = (ids > 2) & (torch.arange(40) != 20)
    at, valid = kind(0.25)(torch.rand(n, 40), ids, candidates, CONTINUES)
    share = hidden(at, valid, 40).float().mean(0)
    assert share[20] == 0
    rate = 10 / 39
    tolerance = 0.02 if kind in (Spans, Runs) else 5 * (rate * (1 - rate) / n) ** 0.5
    assert (share[candidates[0]] - rate).abs().max() < tolerance


def test_word_starts():
    ids = torch.tensor([[40, 41, 5, 33, 34, 1, 35, 6, 0]])
    assert word_starts(ids, ids > 2, CONTINUES).int().tolist() == [[1, 0, 1, 0, 0, 0, 1, 1, 0]]
    assert torch.equal(word_starts(ids, ids > 2, None), ids > 2)


def test_whole_words_stay_whole():
    ids, candidates = text(200)
    at, valid = WholeWords()(torch.rand(ids.shape), ids, candidates, CONTINUES)
    mask = hidden(at, valid, 100).tolist()
    long = 0
    for row, ok, hide in zip(ids.tolist(), candidates.tolist(), mask, strict=True):
        for word in words(row, ok):
            assert len({hide[t] for t in word}) == 1
            long += len(word) > 1 and hide[word[0]]
    assert long > 100


def test_whole_words_are_taken_as_a_plain_loop_takes_them():
    ids, candidates = text(100)
    noise = torch.rand(ids.shape)
    at, valid = WholeWords(0.2)(noise, ids, candidates, CONTINUES)
    mask = hidden(at, valid, 100)
    for r in range(100):
        found = words(ids[r].tolist(), candidates[r].tolist())
        left, chosen = max(1, round(0.2 * int(candidates[r].sum()))), set()
        for _, w in sorted((float(noise[r, w]), w) for w in range(len(found))):
            if len(found[w]) <= left:
                chosen |= set(found[w])
                left -= len(found[w])
        assert set(mask[r].nonzero().flatten().tolist()) == chosen


def test_whole_words_need_words():
    ids, candidates = text()
    with pytest.raises(ValueError, match="continue a word"):
        WholeWords()(torch.rand(ids.shape), ids, candidates)


def test_span_lengths():
    length, rest = span_lengths(torch.rand(500, 400), 0.2, 10)
    pmf = 0.2 * 0.8 ** torch.arange(10.0)
    share = torch.bincount(length.flatten(), minlength=11)[1:] / length.numel()
    assert (share - pmf / pmf.sum()).abs().max() < 0.005
    assert abs(length.float().mean() - 3.8) < 0.02  # the mean the paper reports
    for n in (1, 4, 10):  # the rest is uniform whatever the length
        of = rest[length == n]
        assert of.min() >= 0
        assert of.max() <= 1
        assert abs(of.mean() - 0.5) < 0.01
        assert abs(of.std() - 12**-0.5) < 0.01


def runs(mask: torch.Tensor) -> list[int]:
    """Lengths of the runs of True in a row."""
    text = "".join("x" if m else " " for m in mask.tolist())
    return [len(run) for run in text.split()]


def test_spans_are_contiguous_and_geometric():
    ids = torch.full((400, 1000), 5)
    at, valid = Spans(0.05)(torch.rand(ids.shape), ids, ids > 2)
    found = [n for row in hidden(at, valid, 1000) for n in runs(row)]
    # At 5 % few spans touch (which lengthens runs) and one of 13 a row is cut (which shortens them).
    assert abs(sum(found) / len(found) - 3.8) < 0.3
    tokens = [
        n for row in hidden(*Tokens(0.05)(torch.rand(ids.shape), ids, ids > 2), 1000) for n in runs(row)
    ]
    assert sum(tokens) / len(tokens) < 1.1
    at, valid = Spans(0.05, longest=1)(torch.rand(ids.shape), ids, ids > 2)
    single = [n for row in hidden(at, valid, 1000) for n in runs(row)]
    assert sum(single) / len(single) < 1.1


def test_spans_are_of_whole_words_but_for_the_last():
    ids, candidates = text(200)
    at, valid = Spans()(torch.rand(ids.shape), ids, candidates, CONTINUES)
    mask = hidden(at, valid, 100).tolist()
    for row, ok, hide in zip(ids.tolist(), candidates.tolist(), mask, strict=True):
        cut = [word for word in words(row, ok) if len({hide[t] for t in word}) > 1]
        assert len(cut) <= 1


def test_spans_are_taken_as_a_plain_loop_takes_them():
    ids, candidates = text(100)
    noise = torch.rand(ids.shape)
    at, valid = Spans(0.2)(noise, ids, candidates, CONTINUES)
    mask = hidden(at, valid, 100)
    lengths, priority = span_lengths(noise, 0.2, 10)
    for r in range(100):
        ok = candidates[r].tolist()
        todo, spans = words(ids[r].tolist(), ok), []
        for length in lengths[r].tolist():
            span = [t for word in todo[:length] for t in word]
            todo = todo[length:]
            for i, t in enumerate(span):  # what is not a candidate divides a span
                if i == 0 or t != span[i - 1] + 1:
                    spans.append([])
                spans[-1].append(t)
        left, chosen = max(1, round(0.2 * sum(ok))), set()
        for _, s in sorted((float(priority[r, s]), s) for s in range(len(spans))):
            kept = spans[s][:left] if priority[r, -1] < 0.5 else spans[s][max(0, len(spans[s]) - left) :]
            chosen |= set(kept)
            left -= len(kept)
        assert set(mask[r].nonzero().flatten().tolist()) == chosen


def test_masks_are_functions_of_the_noise():
    ids, candidates = text()
    noise = torch.rand(ids.shape)
    for kind in KINDS:
        at, valid = kind()(noise, ids, candidates, CONTINUES)
        again = kind()(noise[32:], ids[32:], candidates[32:], CONTINUES)
        assert torch.equal(at[32:], again[0])
        assert torch.equal(valid[32:], again[1])
        assert not torch.equal(at, kind()(torch.rand(ids.shape), ids, candidates, CONTINUES)[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_rates_are_checked(kind, rate):
    with pytest.raises(ValueError, match="rate"):
        kind(rate)


def test_spans_are_checked():
    with pytest.raises(ValueError, match="p must"):
        Spans(p=1.0)
    with pytest.raises(ValueError, match="longest"):
        Spans(longest=0)


def test_runs_are_of_their_length_and_begin_anywhere():
    """Where one is hidden it is whole, but for those at the row's ends, and all places are as likely."""
    n = 4000
    ids = torch.full((n, 40), 5)
    at, valid = Runs(0.1, 4)(torch.rand(n, 40), ids, ids > 2)  # four tokens: one run, or two at the ends
    assert valid.all()
    first, last = at.min(1).values, at.max(1).values
    whole = last - first == 3
    assert whole.float().mean() > 0.85
    assert torch.bincount(first[whole] % 4, minlength=4).min() > 0.2 * whole.sum()
    # Across a position that is no candidate there is no run.
    candidates = (ids > 2) & (torch.arange(40) != 2)
    at, valid = Runs(0.1, 4)(torch.rand(n, 40), ids, candidates)
    assert not (at[valid] == 2).any()
    with pytest.raises(ValueError, match="length must be at least 1"):
        Runs(0.1, 0)
