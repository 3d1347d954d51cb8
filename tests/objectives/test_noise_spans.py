"""Marks beside a vocabulary, ids drawn at random, spans of noise and the rows [inputs | targets]."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from zoo_backbones import VOCABULARY, text

from ssl_zoo import token_scores
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.views.noise_spans import composition, noise_spans, one_stack, span_counts


def equal(mine: tuple, theirs: tuple) -> None:
    for one, two in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, two)


# Marks, and ids drawn at random


@pytest.mark.parametrize("block", [1, 10, 37])
@pytest.mark.parametrize("bias", [True, False])
def test_marks_are_further_rows_of_the_output_matrix(monkeypatch, block, bias):
    monkeypatch.setattr(token_scores, "ROWS", block)
    monkeypatch.setattr(token_scores, "HELD", {"cpu": 1})
    make = {"dtype": torch.float64, "requires_grad": True}
    hidden, weight, marks = torch.randn(37, 8, **make), torch.randn(30, 8, **make), torch.randn(5, 8, **make)
    offset = torch.randn(30, **make) if bias else None
    target, share = torch.randint(35, (37,)), torch.rand(37, dtype=torch.float64)
    got = token_scores.token_cross_entropy(hidden, weight, target, share, offset, marks)
    whole = hidden @ torch.cat([weight, marks]).T
    if offset is not None:
        whole = whole + torch.cat([offset, torch.zeros(5)])
    want = (F.cross_entropy(whole, target, reduction="none") * share).sum()
    inputs = [x for x in (hidden, weight, marks, offset) if x is not None]
    equal((got, *torch.autograd.grad(got * 3, inputs)), (want, *torch.autograd.grad(want * 3, inputs)))


def test_marks_enter_after_the_words():
    model = TextTransformer(VOCABULARY, width=8, depth=1, heads=2)
    marks = token_scores.Marks(3, 8)
    ids = torch.tensor([[5, 64, 66, 63]])
    got = marks.embed(model, ids)
    want = [model.words.weight[5], marks.weight[0], marks.weight[2], model.words.weight[63]]
    assert torch.equal(got[0], torch.stack(want))
    got.sum().backward()
    assert marks.weight.grad is not None
    assert marks.weight.grad[:, 0].tolist() == [1, 0, 1]
    assert model.words.weight.grad is not None
    assert model.words.weight.grad[:, 0].nonzero().flatten().tolist() == [5, 63]


@pytest.mark.parametrize("block", [1, 7, 64])
def test_ids_are_drawn_where_the_running_sum_of_probabilities_exceeds_the_noise(monkeypatch, block):
    monkeypatch.setattr(token_scores, "ROWS", block)
    monkeypatch.setattr(token_scores, "HELD", {"cpu": 1})
    hidden, weight, bias = torch.randn(20, 4, requires_grad=True), torch.randn(9, 4), torch.randn(9)
    noise = torch.rand(20)
    got = token_scores.sample_tokens(hidden, weight, noise, bias)
    assert not got.requires_grad
    for h, u, mine in zip(hidden, noise.tolist(), got.tolist(), strict=True):
        sums = [0.0, *(weight @ h + bias).softmax(0).cumsum(0).tolist()]
        assert [k for k, (low, high) in enumerate(pairwise(sums)) if low <= u < high] == [mine]
    even = token_scores.sample_tokens(torch.ones(4000, 4), weight, (torch.arange(4000) + 0.5) / 4000, bias)
    p = (weight @ torch.ones(4) + bias).softmax(0)
    torch.testing.assert_close(even.bincount(minlength=9) / 4000, p, rtol=0, atol=1 / 2000)
    last = token_scores.sample_tokens(torch.ones(1, 4), weight, torch.tensor([1 - 2.0**-24]), bias)
    assert 0 <= last.item() < 9


# Spans of noise


@pytest.mark.parametrize(("raw", "inputs", "targets"), [(568, 512, 114), (141, 128, 29), (70, 64, 14)])
def test_lengths_are_those_of_t5(raw, inputs, targets):
    """The table of T5's code: what fills inputs of 512, 128 and 64 without padding."""
    noise, spans = span_counts(raw, 0.15, 3.0)
    assert (raw - noise + spans + 1, noise + spans + 1) == (inputs, targets)
    row = one_stack(
        torch.full((2, raw), 7),
        torch.zeros(2, raw, dtype=torch.long),
        *noise_spans(torch.rand(2, raw - 1), 0.15, 3.0),
        mark=64,
        end=1,
    )
    assert (row.order == 0).sum(1).tolist() == [inputs] * 2
    assert (row.order > 0).sum(1).tolist() == [targets] * 2


def test_counts_of_short_rows_and_refusals():
    assert [span_counts(n, 0.15, 3.0) for n in (2, 3, 10, 24)] == [(1, 1), (1, 1), (2, 1), (4, 1)]
    assert span_counts(10, 0.9, 1.0) == (9, 1)  # text must lie between two spans
    for length, rate, mean in ((1, 0.15, 3.0), (9, 0.0, 3.0), (9, 1.0, 3.0), (9, 0.5, 0.9)):
        with pytest.raises(ValueError, match="take at least 2 tokens"):
            span_counts(length, rate, mean)


def test_every_composition_is_as_likely():
    cut = composition(torch.rand(12_000, 5), 3)  # 6 things in 3 parts: 10 ways
    assert (cut.sum(1) == 6).all()
    ways, count = cut.unique(dim=0, return_counts=True)
    assert len(ways) == 10
    assert ways.min() == 1
    torch.testing.assert_close(count / 12_000, torch.full((10,), 0.1), rtol=0, atol=0.012)  # 4 deviations


def test_spans_lie_apart_and_hide_every_place_but_the_first():
    starts, lengths = noise_spans(torch.rand(4000, 69), 0.15, 3.0)
    assert (lengths.sum(1) == 10).all()
    assert lengths.min() == 1
    assert starts.min() == 1, "a row opens with text"
    assert (starts[:, 1:] > (starts + lengths)[:, :-1]).all(), "text lies between two spans"
    assert (starts + lengths).max() == 70
    place = torch.arange(70)
    hidden = ((place >= starts[..., None]) & (place < (starts + lengths)[..., None])).any(1).float().mean(0)
    assert (hidden[8:-8] - 0.15).abs().max() < 0.03
    assert 0.03 < hidden[-1] < 0.08, "the end of a row is not hidden each time"


def rewritten(ids, segments, starts, lengths, mark, end):
    """One row as lists of (id, document): the inputs, and the targets."""
    numbers, hidden = {}, set()
    for start, length in zip(starts, lengths, strict=True):
        numbers[start] = sum(segments[start] == segments[other] for other in numbers)
        hidden |= {p for p in range(start, start + length) if segments[p] == segments[start]}
    inputs, targets = [], []
    for place, pair in enumerate(zip(ids, segments, strict=True)):
        if place in numbers:
            inputs.append((mark + numbers[place], segments[place]))
            targets.append(inputs[-1])
        (targets if place in hidden else inputs).append(pair)
    return [*inputs, (end, max(segments))], [*targets, (end, max(segments))]


def test_rows_are_rewritten_token_by_token():
    batch = text(rows=6, length=60)
    batch.segments[2, 50:] = -1
    starts, lengths = noise_spans(torch.rand(6, 59), 0.3, 3.0)
    row = one_stack(batch.x, batch.segments, starts, lengths, mark=64, end=1)
    cut = 0
    for b in range(6):
        lists = (batch.x[b], batch.segments[b], starts[b], lengths[b])
        inputs, targets = rewritten(*(part.tolist() for part in lists), 64, 1)
        assert [*zip(row.ids[b].tolist(), row.segments[b].tolist(), strict=True)] == [*inputs, *targets]
        assert row.order[b].tolist() == [0] * len(inputs) + list(range(1, len(targets) + 1))
        seen = []
        for place, (_, document) in zip(row.at[b].tolist(), [*inputs, *targets], strict=True):
            assert place == seen.count(document)
            seen.append(document)
        cut += len(inputs) != 60 - 18 + 6 + 1
    assert cut, "a span ends where its document ends"


def test_rows_that_are_not_scored_are_not_multiplied_on_a_cpu(monkeypatch):
    hidden, weight = torch.randn(40, 8, requires_grad=True), torch.randn(30, 8, requires_grad=True)
    target, scored = torch.randint(30, (40,)), torch.rand(40) < 0.4
    rows = []
    score = token_scores._score
    monkeypatch.setattr(
        token_scores, "_score", lambda hidden, *rest: rows.append(len(hidden)) or score(hidden, *rest)
    )
    for some in (scored, torch.ones(40, dtype=torch.bool), torch.zeros(40, dtype=torch.bool)):
        loss, mean, count = token_scores.score_tokens(hidden, weight, target, some, 20)
        each = F.cross_entropy(hidden @ weight.T, target, reduction="none")
        want = each[some].sum() / 20
        equal(
            (loss, *torch.autograd.grad(loss, (hidden, weight))),
            (want, *torch.autograd.grad(want, (hidden, weight))),
        )
        assert count == some.sum()
        if some.any():
            torch.testing.assert_close(mean, each[some].mean().detach())
    assert rows == [int(scored.sum()), 40, 0]
