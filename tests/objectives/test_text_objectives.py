"""Prefix LM, span corruption and ELECTRA against slow plain code and transformers' own classes.

Reference (prefix_lm): each document alone, its attention by a loop over pairs of places.
Reference (span_corruption): lists of words rewritten by hand, each document alone; the pair of inputs and
targets is scored as transformers' `T5ForConditionalGeneration` scores it.
Reference (electra): both networks run apart, token by token; the detection is transformers'
`ElectraForPreTraining`.
"""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from test_noise_spans import rewritten
from zoo_backbones import VOCABULARY, backbone, build, stirred, text

from ssl_zoo import token_scores
from ssl_zoo.backbones import attention, hf
from ssl_zoo.backbones._base import TokenBackbone, Vocabulary
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.noise import rand, seed_noise
from ssl_zoo.objectives._base import Batch
from ssl_zoo.objectives.electra import Electra, detection
from ssl_zoo.objectives.masked_lm import MaskedLM
from ssl_zoo.objectives.prefix_lm import PrefixLM
from ssl_zoo.objectives.span_corruption import SpanCorruption
from ssl_zoo.views.masks import prefixes
from ssl_zoo.views.noise_spans import noise_spans, one_stack

TEXT = ("transformer", "encoder", "decoder")


def loops(segments, order):
    """Who sees whom, by the definition, one pair after the other."""
    b, t = segments.shape
    mask = torch.zeros(b, 1, t, t, dtype=torch.bool)
    for row in range(b):
        for i in range(t):
            for j in range(t):
                same = segments[row, i] == segments[row, j] >= 0
                if isinstance(order, torch.Tensor):
                    before = order[row, j] <= order[row, i]
                else:
                    before = j <= i or order == "both"
                mask[row, 0, i, j] = (same and before) or i == j
    return mask


@pytest.fixture
def by_loops(monkeypatch):
    """All attention from here on goes by `loops`; call it to start."""

    def start():
        monkeypatch.setattr(attention, "attention_mask", loops)
        monkeypatch.setattr(hf, "attention_mask", loops)

    return start


def equal(mine: tuple, theirs: tuple) -> None:
    for one, two in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def gradients(loss: torch.Tensor, objective: torch.nn.Module) -> tuple[torch.Tensor, ...]:
    learning = [p for p in objective.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, learning, allow_unused=True)
    return tuple(torch.zeros(()) if g is None else g for g in found)


# Span corruption


@pytest.mark.parametrize("kind", TEXT)
def test_span_corruption_is_that_of_each_document_alone(kind, by_loops):
    model = stirred(backbone(kind, dropout=0.0))
    objective = SpanCorruption(model, rate=0.3, marks=8)
    torch.nn.init.normal_(objective.marks.weight, std=0.5)
    batch = text(length=40)
    batch.segments[1, 33:] = -1
    seed_noise(0, 4)
    loss = objective(batch)
    mine = gradients(loss.value, objective)

    seed_noise(0, 4)
    starts, lengths = noise_spans(rand(4, 39), 0.3, 3.0)
    by_loops()
    words = torch.cat([model.word_embedding().weight, objective.marks.weight])
    nats, cut = [], 0
    for b in range(4):
        lists = (batch.x[b], batch.segments[b], starts[b], lengths[b])
        inputs, targets = rewritten(*(part.tolist() for part in lists), 64, VOCABULARY.separator)
        row, cut = [*inputs, *targets], cut + (len(inputs) > 40 - 12 + 4 + 1)
        for document in {d for _, d in row if d >= 0}:
            places = [p for p, (_, d) in enumerate(row) if d == document]
            ids = torch.tensor([row[p][0] for p in places])
            order = torch.tensor([[max(0, p - len(inputs) + 1) for p in places]])
            logits = model.encode(words[ids][None], order=order).tokens[0] @ words.T
            for i, (before, place) in enumerate(pairwise(places)):
                if place == before + 1 and place >= len(inputs):
                    nats.append(F.cross_entropy(logits[i], ids[i + 1]))
    assert loss.counts["nats_per_target"] == len(nats)
    assert cut, "a span ends with its document, so that inputs reach into places that others have for targets"
    want = torch.stack(nats).sum() / (4 * (12 + 4 + 1))
    equal((loss.value, *mine), (want, *gradients(want, objective)))
    torch.testing.assert_close(loss.parts["nats_per_target"], torch.stack(nats).mean().detach())
    assert model.order == "both"


def test_a_pair_is_scored_as_t5_scores_it():
    """Each target once, the first mark and the end among them: the mean is the loss of T5's labels."""
    transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")
    size = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    config = transformers.T5Config(
        vocab_size=70, **size, dropout_rate=0.0, decoder_start_token_id=0, tie_word_embeddings=False
    )
    t5 = transformers.T5ForConditionalGeneration(config).eval()
    ids = text(rows=2, length=24, layout="document").x[:1]
    starts, lengths = noise_spans(torch.rand(1, 23), 0.3, 3.0)
    row = one_stack(ids, torch.zeros_like(ids), starts, lengths, mark=64, end=1)
    end = int((row.order == 0).sum())
    inputs, targets = row.ids[:, :end], row.ids[:, end:]
    out = t5(input_ids=inputs, labels=targets, output_hidden_states=True)
    weight = t5.lm_head.weight
    rows = out.decoder_hidden_states[-1][0]
    scored = torch.ones(len(rows), dtype=torch.bool)
    loss, *_ = token_scores.score_tokens(rows, weight[:64], targets[0], scored, len(rows), marks=weight[64:])
    torch.testing.assert_close(loss, out.loss)


def test_span_corruption_says_what_it_lacks():
    objective = SpanCorruption(backbone("transformer"), marks=2)
    with pytest.raises(ValueError, match=r"100 tokens has 5 spans, and there are 2 marks .*objective\.marks"):
        objective(Batch(torch.full((1, 100), 7)))
    with pytest.raises(ValueError, match="holds id 64"):  # which would be a mark
        objective(Batch(torch.full((1, 10), 64)))
    with pytest.raises(ValueError, match=r"take at least 2 tokens, a rate in \(0, 1\)"):
        SpanCorruption(backbone("transformer"), rate=1.5)
    bare = TextTransformer(VOCABULARY, width=8, depth=1, heads=2)
    bare.vocabulary = None
    with pytest.raises(ValueError, match="whose separator ends inputs and targets"):
        SpanCorruption(bare)


@pytest.mark.parametrize("cls", [PrefixLM, SpanCorruption])
def test_a_backbone_of_one_order_is_refused(cls):
    model = backbone("decoder")
    assert isinstance(model, TokenBackbone)
    model.orders = frozenset({"causal"})
    with pytest.raises(ValueError, match="reads in the order 'causal' alone"):
        cls(model)


# Prefix LM


def test_prefixes_by_hand():
    segments = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 2, -1, -1], [3] * 10])
    noise = torch.rand(2, 10)
    noise[0, 0], noise[0, 5], noise[1, 0] = 0.6, 0.99, 0.0
    order, after = prefixes(noise, segments)
    # Of 5 tokens, 1 + floor(0.6 * 4) = 3 are the prefix; of 2, one; of one, itself.
    assert order[0, :8].tolist() == [0, 0, 0, 1, 2, 0, 1, 0]
    assert after[0, :8].tolist() == [False, False, True, True, True, True, True, True]
    assert order[1].tolist() == list(range(10))
    assert after[1].all()


def test_prefixes_are_of_every_length_alike():
    _, after = prefixes(torch.rand(9000, 10), torch.zeros(9000, 10, dtype=torch.long))
    lengths = 11 - after.sum(1)
    count = lengths.bincount(minlength=11)
    assert count[0] == count[10] == 0
    torch.testing.assert_close(count[1:10] / 9000, torch.full((9,), 1 / 9), rtol=0, atol=0.0133)


@pytest.mark.parametrize("kind", TEXT)
def test_prefix_lm_is_that_of_each_document_alone(kind, by_loops):
    model = stirred(backbone(kind, dropout=0.0))
    objective = PrefixLM(model)
    batch = text(length=25)
    batch.segments[1, 20:] = -1
    seed_noise(0, 0)
    loss = objective(batch)
    mine = gradients(loss.value, objective)

    seed_noise(0, 0)
    noise = rand(4, 24)
    by_loops()
    nats = []
    for b in range(4):
        for document in range(3):
            places = (batch.segments[b, :24] == document).nonzero().flatten().tolist()
            size = len(places)
            prefix = 1 + math.floor(noise[b, places[0]].item() * (size - 1))
            order = torch.tensor([[max(0, j - prefix + 1) for j in range(size)]])
            code = model.encode(model.embed(batch.x[b, places][None]), order=order).tokens[0]
            for j in range(prefix - 1, size):  # the last of the prefix predicts the first after it
                if batch.segments[b, places[j] + 1] >= 0:
                    logits = code[j] @ objective.output.weight.T
                    nats.append(F.cross_entropy(logits, batch.x[b, places[j] + 1]))
    assert loss.counts["nats_per_target"] == len(nats)
    want = torch.stack(nats).sum() / (4 * 24 / 2)
    equal((loss.value, *mine), (want, *gradients(want, objective)))
    assert model.order == "both"


@torch.no_grad()
def test_prefix_lm_shows_what_it_predicts_after_the_prefixes():
    model = stirred(backbone("transformer", dropout=0.0)).eval()
    objective, batch = PrefixLM(model), text(length=25)
    batch.segments[0, 20:] = -1
    seed_noise(0, 0)
    found = objective.show(batch)
    seed_noise(0, 0)
    order, after = prefixes(rand(1, 25), batch.segments[:1])
    code = model.encode(model.embed(batch.x[:1]), None, batch.segments[:1], order=order).tokens[0]
    assert found.at.tolist() == [i for i in range(1, 20) if after[0, i - 1]]
    for place, p in zip(found.at.tolist(), found.p, strict=True):
        torch.testing.assert_close(p, (code[place - 1] @ objective.output.weight.T).softmax(0))


# ELECTRA


def test_detection_is_the_loss_of_transformers():
    transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")
    config = transformers.ElectraConfig(
        vocab_size=64, embedding_size=32, hidden_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    theirs = transformers.ElectraForPreTraining(config).eval()
    objective = build(Electra, backbone("transformer"))
    head = theirs.discriminator_predictions
    objective.read[0].load_state_dict(head.dense.state_dict())
    objective.tell.load_state_dict(head.dense_prediction.state_dict())
    batch = text(rows=4, length=24, layout="document")
    real, replaced = batch.segments >= 0, torch.rand(4, 24) < 0.15
    out = theirs(batch.x, attention_mask=real.long(), labels=replaced.long(), output_hidden_states=True)
    code = objective.read(out.hidden_states[-1])
    loss, right = detection(code, objective.tell.weight, objective.tell.bias, replaced, real)
    torch.testing.assert_close(loss / real.sum(), out.loss)
    assert right == (((out.logits > 0) == replaced) & real).sum()


@pytest.mark.parametrize("kind", ["transformer", "encoder"])
@pytest.mark.parametrize("weight", [50.0, 0.0])
def test_electra_is_its_equations(kind, weight):
    model = stirred(backbone(kind, dropout=0.0))
    objective = stirred(Electra(model, fraction=0.5, weight=weight))
    batch = text(length=24)
    batch.segments[1, 15:] = -1
    seed_noise(0, 0)
    loss = objective(batch)
    mine = gradients(loss.value, objective)

    seed_noise(0, 0)
    at, valid = objective.hiding(rand(*batch.x.shape), batch.x, batch.segments)
    noise = rand(4, 2, at.shape[1])
    masked, shown = batch.x.clone(), batch.x.clone()
    hidden = [(b, k) for b in range(4) for k in range(at.shape[1]) if valid[b, k]]
    assert len(hidden) < at.numel()
    for b, k in hidden:
        assert batch.x[b, at[b, k]] > 2
        if noise[b, 0, k] < 0.85:
            masked[b, at[b, k]] = VOCABULARY.mask
    small = objective.generator.encode(objective.enter(model.embed(masked)), None, batch.segments).tokens
    filling = []
    for b, k in hidden:
        logits = objective.output.weight @ objective.leave(small[b, at[b, k]]) + objective.bias
        filling.append(F.cross_entropy(logits, batch.x[b, at[b, k]]))
        sums = logits.softmax(0).cumsum(0)
        shown[b, at[b, k]] = int((sums <= noise[b, 1, k]).sum())
    code = model.encode(model.embed(shown), None, batch.segments).tokens
    found = []
    for b in range(4):
        for i in range(24):
            if batch.segments[b, i] >= 0:
                p = objective.tell(objective.read(code[b, i])).sigmoid()[0]
                found.append(-(p.log() if shown[b, i] != batch.x[b, i] else (1 - p).log()))
    want = torch.stack(filling).sum() / (0.15 * 96) + weight * torch.stack(found).sum() / 96
    assert (shown != batch.x).any()
    equal((loss.value, *mine), (want, *gradients(want, objective)))
    assert loss.parts["replaced"] == (shown != batch.x).sum() / len(found)
    assert loss.counts["detection_nats"] == len(found)
    torch.testing.assert_close(loss.parts["detection_nats"], torch.stack(found).mean().detach())


def test_electra_keeps_the_discriminator_and_shares_its_words():
    objective = Electra(backbone("transformer"))
    assert objective.export() == {"backbone": objective.backbone}
    assert objective.output is objective.backbone.word_embedding()
    assert objective.generator.dim == objective.backbone.dim // 4
    generator = sum(p.numel() for p in objective.generator.parameters() if p.requires_grad)
    assert generator < sum(p.numel() for p in objective.backbone.blocks()[0].parameters()) / 4
    with pytest.raises(ValueError, match=r"fraction 2 .* not in \(0, 1\]"):
        Electra(backbone("transformer"), fraction=2)
    with pytest.raises(ValueError, match="tokenizer=bpe, bytes or characters"):
        Electra(TextTransformer(Vocabulary(64, mask=None, special=(0, 1)), width=16, depth=1, heads=1))


def test_a_token_that_the_generator_guesses_is_no_replacement(monkeypatch):
    """The most common mistake of all: labels that say where the mask was."""
    objective = Electra(backbone("transformer"))
    batch = text(length=24)
    monkeypatch.setattr(
        "ssl_zoo.objectives.electra.sample_tokens", lambda rows, weight, noise, bias: originals()
    )

    def originals():
        seed_noise(0, 0)
        at, _ = objective.hiding(rand(*batch.x.shape), batch.x, batch.segments)
        return batch.x.gather(1, at).flatten()

    seed_noise(0, 0)
    loss = objective(batch)
    assert loss.parts["replaced"] == 0
    assert loss.parts["nats_per_masked_token"] > 0


@pytest.mark.parametrize("cls", [MaskedLM, Electra, PrefixLM, SpanCorruption])
def test_a_model_may_have_more_embeddings_than_its_tokenizer_has_ids(cls):
    """As those have whose tables are rounded up for speed."""
    model = backbone("encoder", vocab_size=80)
    objective = build(cls, model)
    assert objective.output.weight.shape[0] == 80
    assert objective(text(length=24 + objective.lookahead)).value.isfinite()
