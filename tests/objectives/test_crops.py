"""The bag of tokens, and crops of documents: each against slow and plain code.

Reference (crops): a loop over documents, crops and pairs, value and gradient.
Peers (crops): Contriever's code deletes a tenth of the tokens of a crop and has a queue of negatives.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from zoo_backbones import TEXT_WIDTH, VOCABULARY, backbone, text

from ssl_zoo import hub
from ssl_zoo.backbones._base import pool
from ssl_zoo.backbones.bag import TokenBag
from ssl_zoo.columns import words_of
from ssl_zoo.contrast import nt_xent
from ssl_zoo.noise import rand, seed_noise
from ssl_zoo.objectives._base import Batch
from ssl_zoo.objectives.crops import DocumentCrops
from ssl_zoo.objectives.word_vectors import WordVectors
from ssl_zoo.tokens import mean_rows
from ssl_zoo.views.text import longest, spans

ALMOST = 1 - 2**-24  # the largest number that is drawn


# Where to crop


@pytest.mark.parametrize(
    ("noise", "length", "expected"),
    [
        ((0.0, 0.0), 20, (0, 3)),
        ((0.0, ALMOST), 20, (17, 3)),
        ((ALMOST, 0.0), 20, (0, 6)),
        ((ALMOST, ALMOST), 20, (14, 6)),
        ((0.5, 0.5), 20, (8, 5)),  # 3 + floor(0.5 * 4) tokens, at floor(0.5 * 16)
        ((ALMOST, ALMOST), 9, (5, 4)),  # half of nine
        ((0.0, 0.0), 4, (0, 2)),  # half of four, though 3 are asked for
        ((0.9, 0.5), 1, (0, 1)),
        ((0.9, 0.9), 0, (0, 0)),
    ],
)
def test_spans_by_hand(noise, length, expected):
    start, size = spans(torch.tensor([noise]), torch.tensor([length]), 3, 6)
    assert (start.item(), size.item()) == expected


def test_spans_are_drawn_evenly():
    side = torch.arange(120) / 120
    noise = torch.cartesian_prod(side, side)
    start, size = spans(noise, torch.tensor(15), 2, 5)
    assert size.bincount().tolist() == [0, 0, *[120 * 30] * 4]
    for length in (4, 5):  # 12 and 11 places; 120 divides by 12
        counts = start[size == length].bincount().float()
        assert len(counts) == 15 - length + 1
        assert counts.max() - counts.min() <= 30  # one number of the noise


def test_longest_is_the_loop():
    rows = [
        [0, 0, 0, 1, 1, 2],
        [0, 1, 1, 1, -1, -1],
        [0, 0, 1, 1, 2, 2],
        [-1] * 6,
        [0] * 6,
        [3, -1, -1, -1, -1, 4],
    ]
    start, length = longest(torch.tensor(rows))
    for row, first, count in zip(rows, start.tolist(), length.tolist(), strict=True):
        counts = {document: row.count(document) for document in row if document >= 0}
        most = max(counts, key=counts.get, default=None)
        assert count == counts.get(most, 0)
        assert count == 0 or first == row.index(most)


# The bag


def test_a_bag_is_the_mean_of_its_vectors_in_any_order():
    model = TokenBag(VOCABULARY, 8)
    x = torch.randint(3, 64, (2, 10))
    segments = torch.tensor([[0] * 4 + [1] * 6, [0] * 7 + [-1] * 3])
    features = model(x, segments)
    for row, end in ((0, 10), (1, 7)):
        by_hand = sum(model.words.weight[i] for i in x[row, :end]) / end
        torch.testing.assert_close(features.pooled[row], by_hand)
    assert torch.equal(features.tokens, model.words(x))
    assert not features.layers
    assert torch.equal(model(x, segments, layers="pooled").layers[0], features.pooled)
    assert torch.equal(model(x, segments, layers="tokens").layers[0], features.tokens)
    turned = model.encode(model.embed(x.flip(1)), torch.arange(10).flip(0).expand(2, 10), segments.flip(1))
    torch.testing.assert_close(turned.pooled, features.pooled)
    with pytest.raises(ValueError, match="cannot be causal"):
        model.encode(features.tokens, order="causal")
    with pytest.raises(ValueError, match="width of 1 or more"):
        TokenBag(VOCABULARY, 0)
    with pytest.raises(ValueError, match="holds id 64"):
        model(torch.full((1, 2), 64))


def test_mean_rows_is_lookup_and_pool_in_value_and_gradient():
    table = torch.randn(20, 5, dtype=torch.float64, requires_grad=True)
    ids = torch.randint(0, 20, (4, 9))
    segments = torch.tensor([[0] * 9, [0] * 3 + [-1] * 6, [-1, 0, 1, 1, -1, -1, 2, -1, 0], [-1] * 9])
    weigh = torch.randn(4, 5, dtype=torch.float64)
    fast, slow = mean_rows(table, ids, segments), pool(F.embedding(ids, table), segments)
    torch.testing.assert_close(fast, slow)
    assert not fast[3].any()
    found, expected = (torch.autograd.grad((x * weigh).sum(), table)[0] for x in (fast, slow))
    torch.testing.assert_close(found, expected)


# The objective


def slow(objective: DocumentCrops, batch: Batch) -> torch.Tensor:
    """The loss, document by document and pair by pair, of the same noise."""
    model = objective.backbone
    rows, width = batch.x.shape
    noise, codes = rand(rows, 2, 2), {}
    for row in range(rows):
        kept = [0] * width if batch.segments is None else batch.segments[row].tolist()
        document = max((d for d in kept if d >= 0), key=kept.count)  # max keeps the first of equals
        ids = [i for i, d in zip(batch.x[row].tolist(), kept, strict=True) if d == document]
        for view in range(2):
            wish = objective.low + math.floor(
                noise[row, view, 0].item() * (objective.high - objective.low + 1)
            )
            size = max(1, min(wish, len(ids) // 2))
            first = math.floor(noise[row, view, 1].item() * (len(ids) - size + 1))
            crop = torch.tensor([ids[first : first + size]])
            tokens = model.embed(crop) if objective.words is not None else model(crop).tokens
            code = tokens[0].mean(0)
            codes[view, row] = code / code.norm()
    losses = []
    for (view, row), code in codes.items():
        others = {
            key: torch.exp(code @ z / objective.temperature) for key, z in codes.items() if key != (view, row)
        }
        losses.append(-torch.log(others[1 - view, row] / sum(others.values())))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("packed", ["packed", "padded", "whole"])
@pytest.mark.parametrize(
    ("kind", "through"),
    [
        ("bag", "trunk"),
        ("transformer", "trunk"),
        ("transformer", "words"),
        ("encoder", "trunk"),
        ("decoder", "trunk"),
    ],
)
def test_crops_are_the_slow_loop_in_value_and_gradient(kind, through, packed):
    model = backbone(kind).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    objective = DocumentCrops(model, low=2, high=5, temperature=0.2, through=through)
    batch = text(rows=5, length=24)
    if packed == "padded":
        batch.segments[1, 3:] = -1  # three tokens: crops of one
        batch.segments[2, 15:] = -1
    elif packed == "whole":
        batch = Batch(batch.x)
    seed_noise(0, 3)
    loss = objective(batch).value
    seed_noise(0, 3)
    expected = slow(objective, batch)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    loss.backward()
    found = {name: weight.grad for name, weight in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    expected.backward()
    assert any(gradient is not None and gradient.any() for gradient in found.values())
    for name, weight in model.named_parameters():
        if weight.grad is None or not weight.grad.any():
            assert found[name] is None or not found[name].any(), name
        else:
            torch.testing.assert_close(found[name], weight.grad, rtol=1e-8, atol=1e-10)


def test_both_crops_are_of_one_document_and_padding_is_never_read():
    objective = DocumentCrops(TokenBag(VOCABULARY, 8), low=4, high=40)
    x = torch.arange(3, 27).repeat(6, 1)  # ids say where they stand
    segments = torch.tensor([[0] * 9 + [1] * 12 + [-1] * 3]).repeat(6, 1)
    for step in range(20):
        seed_noise(0, step)
        ids, seen = objective.crops(Batch(x, segments))
        assert ids.shape == (12, 12)
        places = [(row[kept >= 0] - 3).tolist() for row, kept in zip(ids, seen, strict=True)]
        assert all(p[0] >= 9 and p[-1] < 21 and p == list(range(p[0], p[-1] + 1)) for p in places)
        assert {len(p) for p in places} <= {4, 5, 6}
        assert len({tuple(p) for p in places}) > 1
    assert DocumentCrops(TokenBag(VOCABULARY, 8)).eval()(Batch(x, segments)).value.isfinite()


def test_a_row_of_padding_alone_has_a_finite_loss():
    objective = DocumentCrops(backbone("transformer"), low=2, high=5)
    batch = text(rows=3)
    batch.segments[0] = -1
    loss = objective(batch).value
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in objective.parameters())


def test_on_a_bag_the_words_are_the_trunk_and_read_without_copies():
    objective = DocumentCrops(TokenBag(VOCABULARY, 8), low=2, high=5)
    seed_noise(0, 0)
    ids, segments = objective.crops(text(rows=4))
    torch.testing.assert_close(objective.read(ids, segments), objective.backbone(ids, segments).pooled)
    calls = []
    objective.backbone.register_forward_hook(lambda *_: calls.append(1))
    assert objective.read(ids, segments).grad_fn.name() == "EmbeddingBagBackward0"
    assert not calls


def test_the_part_is_the_share_of_pairs_found():
    objective = DocumentCrops(TokenBag(VOCABULARY, 8), low=2, high=5)
    batch = text(rows=4)
    seed_noise(0, 0)
    loss = objective(batch)
    seed_noise(0, 0)
    value, found = nt_xent(objective.read(*objective.crops(batch)), 0.05)
    assert torch.equal(loss.value, value)
    assert torch.equal(loss.parts["pair_found"], found)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"low": 0}, "1 <= low <= high"),
        ({"low": 9, "high": 8}, "1 <= low <= high"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"through": "heads"}, "take trunk or words"),
    ],
)
def test_what_makes_no_sense_is_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        DocumentCrops(TokenBag(VOCABULARY, 8), **options)


def test_a_saved_bag_keeps_its_words(tmp_path):
    model = TokenBag(VOCABULARY, TEXT_WIDTH)
    opened = hub.load(hub.save(model, tmp_path / "bag"))
    assert isinstance(opened, TokenBag)
    assert opened.vocabulary == VOCABULARY
    assert torch.equal(opened.words.weight, model.words.weight)


def test_columns_are_a_table_of_their_own():
    table = torch.nn.Embedding(7, 6)
    some = words_of(table, (1 / 3, 5 / 6))
    assert (some.num_embeddings, some.embedding_dim) == (7, 3)
    ids = torch.tensor([[1, 6, 1]])
    assert torch.equal(some(ids), table(ids)[..., 2:5])
    some(ids).square().sum().backward()
    assert table.weight.grad is not None
    changed = table.weight.grad != 0
    assert changed.any(0).tolist() == [False, False, True, True, True, False]
    assert changed.any(1).tolist() == [False, True, False, False, False, False, True]
    assert words_of(table, None) is table
    for span in ((0.5, 0.5), (-0.2, 0.5), (0.5, 1.5), (0.4, 0.41)):
        with pytest.raises(
            ValueError, match=r"vectors of 6 numbers hold none: .* \[0, 0.5\] for the first half"
        ):
            words_of(table, span)


@pytest.mark.parametrize("name", ["crops", "word_vectors"])
def test_on_columns_an_objective_is_that_of_a_narrower_bag(name):
    """The same loss and gradient as on a bag of these columns alone; the others are left alone."""
    make = {"crops": DocumentCrops, "word_vectors": WordVectors}[name]
    options = make.tiny
    wide, narrow = TokenBag(VOCABULARY, 10), TokenBag(VOCABULARY, 4)
    with torch.no_grad():
        wide.words.weight.normal_()
        narrow.words.weight.copy_(wide.words.weight[:, 3:7])
    one, other = make(wide, columns=[0.3, 0.7], **options), make(narrow, **options)
    if name == "word_vectors":
        torch.nn.init.normal_(one.contexts.weight)
        other.contexts.load_state_dict(one.contexts.state_dict())
    found = []
    for objective in (one, other):
        seed_noise(0, 0)
        loss = objective(text(length=24))
        loss.value.backward()
        found.append(loss.value)
    torch.testing.assert_close(*found)
    torch.testing.assert_close(wide.words.weight.grad[:, 3:7], narrow.words.weight.grad)
    assert not wide.words.weight.grad[:, [0, 1, 2, 7, 8, 9]].any()


def test_columns_of_a_trunk_are_refused():
    with pytest.raises(ValueError, match="take them with through=words"):
        DocumentCrops(backbone("transformer"), columns=(0, 0.5))


@pytest.mark.parametrize("layers", [None, "pooled", "tokens"])
def test_what_a_bag_reads_of_ids_is_what_it_encodes(layers, monkeypatch):
    monkeypatch.setattr("ssl_zoo.backbones.bag.LARGE", 1)
    bag = TokenBag(VOCABULARY, 8)
    x, segments = torch.randint(0, 20, (3, 7)), torch.zeros(3, 7, dtype=torch.long)
    segments[1, 4:] = -1
    for some in (None, segments):
        read, encoded = bag(x, some, layers=layers), bag.encode(bag.embed(x), None, some, layers=layers)
        torch.testing.assert_close(read, encoded)
