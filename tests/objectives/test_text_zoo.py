"""Masked diffusion, several tokens ahead, filling in the middle, word vectors, TSDAE, RetroMAE and the
order of halves: each against slow and plain code.

Reference (masked_diffusion): a loop over rows and hidden tokens; a network without knowledge is at log(V -
1).
Peers (masked_diffusion): MDLM's code spreads t over the rows of each process, here it is over the whole
batch.
Reference (multi_token): each document alone, one place and one token ahead after the other.
Reference (fill_in_the_middle): lists of words, rewritten by hand; next-token prediction of what they
become.
Reference (word_vectors): a loop over centres, contexts and negatives.
Peers (word_vectors): gensim and word2vec draw negatives for each pair, here a step's pairs share a larger
draw.
Reference (tsdae): each document alone, its tokens deleted one by one.
Reference (retromae): each place of each document alone, its attention written out.
Reference (sentence_order): lists of words, joined by hand; binary cross-entropy written out.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_text_objectives import TEXT, equal, gradients
from zoo_backbones import TEXT_WIDTH, VOCABULARY, backbone, build, stirred, text

from ssl_zoo.backbones._base import Vocabulary
from ssl_zoo.backbones.bag import TokenBag
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.data.text_rows import DocumentRows
from ssl_zoo.data.tokenizer import bytes_tokenizer
from ssl_zoo.decoders import sine_positions
from ssl_zoo.noise import rand, rand_shared, seed_noise, stratified
from ssl_zoo.objectives._base import Batch
from ssl_zoo.objectives.fill_in_the_middle import FillInTheMiddle
from ssl_zoo.objectives.masked_diffusion import MaskedDiffusion
from ssl_zoo.objectives.multi_token import MultiToken
from ssl_zoo.objectives.retromae import RetroMAE
from ssl_zoo.objectives.sentence_order import SentenceOrder
from ssl_zoo.objectives.tsdae import TSDAE
from ssl_zoo.objectives.word_vectors import WordVectors
from ssl_zoo.views.text import joined, longest, middles_last, without

ALMOST = 1 - 2**-24


def agree(objective, batch, plain, seed=0):
    """Value and gradient of an objective and of `plain(batch)`, which draws the same noise."""
    seed_noise(seed, 0)
    loss = objective(batch)
    mine = (loss.value, *gradients(loss.value, objective))
    seed_noise(seed, 0)
    want = plain(batch)
    equal(mine, (want, *gradients(want, objective)))
    return loss


# Masked diffusion


@pytest.mark.parametrize("kind", TEXT)
def test_masked_diffusion_is_its_equation(kind):
    model = stirred(backbone(kind, dropout=0.0))
    objective = MaskedDiffusion(model)
    batch = text(length=24)
    batch.segments[1, 15:] = -1

    def plain(batch):
        share = 1e-3 + (1 - 1e-3) * stratified(4)
        noise, found = rand(4, 24), []
        for b in range(4):
            hidden = [i for i in range(24) if noise[b, i] < share[b] and batch.segments[b, i] >= 0]
            shown = batch.x[b : b + 1].clone()
            shown[0, hidden] = VOCABULARY.mask
            code = model.encode(model.embed(shown), None, batch.segments[b : b + 1], order="both").tokens[0]
            for i in hidden:
                logits = objective.output.weight @ code[i]
                others = torch.cat([logits[: VOCABULARY.mask], logits[VOCABULARY.mask + 1 :]])
                found.append((others.logsumexp(0) - logits[batch.x[b, i]]) / share[b])
        assert found
        return torch.stack(found).sum() / 96

    loss = agree(objective, batch, plain)
    assert loss.counts["nats_per_token"] == (batch.segments >= 0).sum()
    torch.testing.assert_close(loss.parts["nats_per_token"], loss.value.detach() * 96 / 87)
    assert model.order == "both"


def test_a_network_that_knows_nothing_is_at_the_log_of_the_ids():
    model = backbone("transformer", dropout=0.0)
    objective, batch = MaskedDiffusion(model), text(rows=16, length=24)
    torch.nn.init.zeros_(model.word_embedding().weight)
    found = []
    for step in range(200):
        seed_noise(0, step)
        found.append(objective(batch).value.detach())
    mean = torch.stack(found).mean().item()
    assert mean == pytest.approx(math.log(VOCABULARY.size - 1), rel=0.02)


def test_masked_diffusion_refuses():
    with pytest.raises(ValueError, match="tokenizer=bpe, bytes or characters"):
        MaskedDiffusion(
            TextTransformer(Vocabulary(64, mask=None, special=(0, 1)), width=16, depth=1, heads=1)
        )
    with pytest.raises(ValueError, match=r"least in \(0, 1\)"):
        MaskedDiffusion(backbone("transformer"), least=0.0)


@torch.no_grad()
def test_masked_diffusion_shows_guesses_and_never_the_mask():
    objective = MaskedDiffusion(stirred(backbone("transformer", dropout=0.0)).eval()).eval()
    found = objective.show(text(length=24))
    assert 4 < len(found.at) < 20
    assert found.p[:, VOCABULARY.mask].eq(0).all()
    torch.testing.assert_close(found.p.sum(1), torch.ones(len(found.at)))


# Several tokens ahead


@pytest.mark.parametrize("kind", TEXT)
def test_several_tokens_ahead_are_those_of_each_document_alone(kind):
    model = stirred(backbone(kind, dropout=0.0))
    objective = stirred(MultiToken(model, ahead=3))
    batch = text(length=27)
    batch.segments[1, 20:] = -1

    def plain(batch):
        found = []
        for b in range(4):
            for document in range(3):
                places = [i for i in range(24) if batch.segments[b, i] == document]
                code = model.encode(model.embed(batch.x[b, places][None]), order="causal").tokens
                for k in (1, 2, 3):
                    states = code
                    if k > 1:
                        head = objective.heads[k - 2]
                        states = head.encode(objective.enter[k - 2](code), order="causal").tokens
                    for n, place in enumerate(places):
                        inside = batch.segments[b, place + k - 1] == document
                        if inside and batch.segments[b, place + k] >= 0:
                            logits = objective.output.weight @ states[0, n]
                            found.append(F.cross_entropy(logits, batch.x[b, place + k]))
        return torch.stack(found).sum() / 96

    loss = agree(objective, batch, plain)
    assert set(loss.parts) == {"nats_per_token", "nats_2_ahead", "nats_3_ahead"}
    assert loss.counts["nats_per_token"] > loss.counts["nats_2_ahead"] > loss.counts["nats_3_ahead"]
    assert objective.lookahead == 3
    assert model.order == "causal"
    with pytest.raises(ValueError, match="objective=next_token"):
        MultiToken(model, ahead=1)


def test_what_looks_ahead_is_one_block_and_no_second_table():
    model = backbone("transformer")
    objective = MultiToken(model, ahead=4)
    assert len(objective.heads) == 3
    assert all(len(head.blocks()) == 1 for head in objective.heads)
    tables = [p for p in objective.heads.parameters() if p.requires_grad and p.shape[0] == VOCABULARY.size]
    assert not tables
    assert objective.export() == {"backbone": model}


# Filling in the middle


def test_middles_last_by_hand():
    ids = torch.tensor([[1, 11, 12, 13, 14, 15, 1, 21], [1, 31, 1, 41, 42, 43, 44, 0]])
    segments = torch.tensor([[0] * 6 + [1] * 2, [0] * 2 + [1] * 5 + [-1]])
    marks = (91, 92, 93)

    def told(noise, rate=1.0, swapped=0.5):
        x, s = middles_last(torch.tensor([noise] * 2), ids, segments, marks, rate, swapped)
        return x.tolist(), s.tolist()

    x, s = told((0.3, 0.6, 0.0, 0.9))  # cuts at 1 + 1 and 1 + 3 of six, at 1 + 1 and 1 + 3 of five
    assert x[0] == [1, 91, 11, 92, 14, 15, 93, 12, 13, 1, 21]
    assert s[0] == [0] * 9 + [1] * 2
    assert x[1] == [1, 31, 1, 91, 41, 92, 44, 93, 42, 43, 0]
    assert s[1] == [0] * 2 + [1] * 8 + [-1]
    x, s = told((0.6, 0.3, 0.0, 0.1))  # the same cuts, in the second order
    assert x[0] == [1, 91, 92, 14, 15, 93, 11, 12, 13, 1, 21]
    assert x[1] == [1, 31, 1, 91, 92, 44, 93, 41, 42, 43, 0]
    x, s = told((0.0, ALMOST, 0.0, 0.9))  # neither prefix nor suffix
    assert x[0] == [1, 91, 92, 93, 11, 12, 13, 14, 15, 1, 21]
    x, s = told((0.3, 0.6, 0.5, 0.9), rate=0.5)
    assert [row[:8] for row in x] == ids.tolist()
    assert [row[8:] for row in s] == [[-1] * 3] * 2
    short = torch.tensor([[1, 5, -1, -1]])
    _, s = middles_last(
        torch.zeros(1, 4), short.clamp_min(0), torch.tensor([[0, 0, -1, -1]]), marks, 1.0, 0.5
    )
    assert s.tolist() == [[0, 0, -1, -1, -1, -1, -1]]


@pytest.mark.parametrize("kind", TEXT)
def test_filling_in_the_middle_is_next_token_prediction_of_what_rows_become(kind):
    model = stirred(backbone(kind, dropout=0.0))
    objective = stirred(FillInTheMiddle(model))
    batch = text(rows=8, length=25)
    batch.segments[1, 20:] = -1

    def plain(batch):
        noise, found = rand(8, 4), []
        told, segments = middles_last(noise, batch.x, batch.segments, (64, 65, 66), 0.5, 0.5)
        assert 0 < (told[:, :-3] == 66).any(1).sum() < 8  # some rows change, and some do not
        table = torch.cat([model.word_embedding().weight, objective.marks.weight])
        scores = torch.cat([objective.output.weight, objective.marks.weight])
        for b in range(8):
            for document in {int(d) for d in segments[b] if d >= 0}:
                places = [i for i in range(27) if segments[b, i] == document]
                code = model.encode(table[told[b, places]][None], order="causal").tokens[0]
                for n, place in enumerate(places):
                    if segments[b, place + 1] >= 0:
                        found.append(F.cross_entropy(scores @ code[n], told[b, place + 1]))
        return torch.stack(found).sum() / (8 * 27)

    agree(objective, batch, plain)


# Word vectors


@pytest.mark.parametrize("predicts", ["contexts", "centre"])
def test_word_vectors_are_their_equation(predicts):
    model = stirred(TokenBag(VOCABULARY, 8))
    objective = stirred(WordVectors(model, predicts, window=3, negatives=4.0, shared=6, threshold=0.02))
    objective.counts += torch.arange(64) % 7
    batch = text(length=20)
    batch.segments[1, 15:] = -1
    u, v = model.words.weight, objective.contexts.weight

    def plain(batch):
        noise = rand(4, 20, 2)
        likely = objective.counts.double() ** 0.75
        sums = likely.cumsum(0) / likely.sum()
        drawn = [int((sums <= x).sum()) for x in rand_shared(6).double()]
        found, left_out = [], 0
        for b in range(4):
            ids, documents = batch.x[b].tolist(), batch.segments[b].tolist()
            often = [objective.counts[i] / objective.counts.sum() for i in ids]
            kept = [i for i in range(20) if noise[b, i, 0] < (0.02 / often[i]) ** 0.5 and documents[i] >= 0]
            left_out += 20 - len(kept)
            for place, i in enumerate(kept):
                reach = 1 + int(noise[b, place, 1] * 3)
                near = [j for j in kept[max(0, place - reach) : place + reach + 1] if j != i]
                near = [j for j in near if documents[j] == documents[i]]
                if predicts == "contexts":
                    terms = [(u[ids[i]], v[ids[j]]) for j in near]
                else:
                    terms = [(torch.stack([u[ids[j]] for j in near]).mean(0), v[ids[i]])] if near else []
                for one, two in terms:
                    against = torch.stack([-(-(one @ v[n])).sigmoid().log() for n in drawn])
                    found.append(-(one @ two).sigmoid().log() + 4 * against.mean())
        assert left_out > 5
        return torch.stack(found).sum() / (80 * 4 if predicts == "contexts" else 80)

    agree(objective, batch, plain)


def test_word_vectors_count_what_they_read_once_a_step():
    objective = build(WordVectors, TokenBag(VOCABULARY, 8))
    batch = text(length=20)
    batch.segments[1, 15:] = -1
    objective(batch)
    assert objective.counts.eq(1).all()  # `forward` changes no state
    objective(batch)  # an accumulated part
    objective.advance(0.5)
    real = batch.x[batch.segments >= 0]
    assert objective.counts.equal(1 + 2.0 * real.bincount(minlength=64))
    objective.eval()(batch)
    objective.advance(0.5)
    assert objective.counts.sum() == 64 + 2 * len(real)


def test_words_that_stand_together_become_alike():
    """Of 64 ids, each row holds those of one half alone: neighbours share their contexts."""
    torch.manual_seed(0)
    model = TokenBag(VOCABULARY, 16)
    objective = WordVectors(model, shared=64, threshold=1.0)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=0.03)
    for step in range(150):
        seed_noise(0, step)
        half = torch.randint(0, 2, (16, 1))
        batch = Batch(torch.randint(4, 34, (16, 12)) + 30 * half)
        optimizer.zero_grad()
        objective(batch).value.backward()
        optimizer.step()
        objective.advance(0.0)
    words = F.normalize(model.words.weight[4:], dim=1)
    alike = words @ words.T
    same = (torch.arange(60)[:, None] < 30) == (torch.arange(60) < 30)
    assert alike[same].mean() > alike[~same].mean() + 0.5


# TSDAE


def test_without_by_hand():
    ids, segments = torch.tensor([[5, 6, 7, 8, 0]] * 3), torch.tensor([[0, 0, 0, 0, -1]] * 3)
    noise = torch.tensor([[0.7, 0.1, 0.6, 0.2, 0.9], [0.1, 0.3, 0.2, 0.0, 0.9], [0.9] * 5])
    left, documents = without(noise, ids, segments, 0.6)
    assert left[0, :2].tolist() == [5, 7]
    assert documents[0].tolist() == [0, 0, -1, -1, -1]
    assert left[1, 0] == 6  # at least one is kept
    assert documents[1].tolist() == [0, -1, -1, -1, -1]
    assert left[2].tolist() == [5, 6, 7, 8, 0]
    assert documents[2].tolist() == [0, 0, 0, 0, -1]


@pytest.mark.parametrize("kind", TEXT)
def test_tsdae_is_that_of_each_document_alone(kind):
    model = stirred(backbone(kind, dropout=0.0))
    objective = stirred(TSDAE(model))
    batch = text(length=20, layout="document")

    def plain(batch):
        noise, found = rand(4, 20), []
        for b in range(4):
            ids = [i for i, d in zip(batch.x[b].tolist(), batch.segments[b].tolist(), strict=True) if d >= 0]
            left = [i for i, u in zip(ids, noise[b].tolist(), strict=False) if u >= 0.6]
            assert 0 < len(left) < len(ids)
            vector = model.encode(model.embed(torch.tensor([left])), order="both").tokens[0].mean(0)
            read = torch.cat([objective.enter(vector)[None], model.embed(torch.tensor([ids[:-1]]))[0]])
            code = model.encode(read[None], order="causal").tokens[0]
            logits = code @ objective.output.weight.T
            found.append(F.cross_entropy(logits, torch.tensor(ids), reduction="sum"))
        return torch.stack(found).sum() / 80

    loss = agree(objective, batch, plain)
    assert loss.counts["nats_per_token"] == (batch.segments >= 0).sum()
    assert model.order == "both"
    with pytest.raises(ValueError, match=r"take a rate in \(0, 1\)"):
        TSDAE(model, rate=1.0)


@pytest.mark.parametrize("cls", [TSDAE, RetroMAE])
def test_parts_average_to_the_whole_where_rows_are_even(cls):
    """Parts whose longest documents differ, read as pretraining reads them; rows that are as long as the
    longest one read would count otherwise."""
    texts = ["ab", "abc", "abcdefghi", "abcdefghijklmno"]
    model = stirred(TextTransformer(bytes_tokenizer().vocabulary, 16, 1, 2, dropout=0.0))
    objective = stirred(build(cls, model))

    def loss(rows, part, parts):
        seed_noise(0, 0, part, parts)
        return objective(rows.read(np.arange(4).reshape(parts, -1)[part])).value

    for even in (True, False):
        rows = DocumentRows(texts, bytes_tokenizer(), 16, even=even)
        whole, halves = loss(rows, 0, 1), (loss(rows, 0, 2) + loss(rows, 1, 2)) / 2
        assert (abs(halves / whole - 1) < 1e-5) == even


# RetroMAE


@pytest.mark.parametrize("kind", TEXT)
def test_retromae_is_its_equations(kind):
    model = stirred(backbone(kind, dropout=0.0))
    objective = stirred(RetroMAE(model, heads=2))
    batch = text(length=16, layout="document")

    def plain(batch):
        at, valid = objective.hiding(rand(4, 16), batch.x, batch.segments)
        noise = rand(4, 16, 16)
        position, found, told = sine_positions(TEXT_WIDTH, 16), [], []
        block, half = objective.decoder, TEXT_WIDTH // 2
        for b in range(4):
            size = int((batch.segments[b] >= 0).sum())
            ids = batch.x[b, :size]
            masked = ids.clone()
            masked[at[b][valid[b]]] = VOCABULARY.mask
            code = model.encode(model.embed(masked[None]), order="both").tokens[0]
            vector = code.mean(0)
            for place in at[b][valid[b]].tolist():
                logits = objective.output.weight @ objective.transform(code[place]) + objective.bias
                found.append(F.cross_entropy(logits, ids[place]))
            words = objective.words(model.embed(ids[None])[0]) + position[:size]
            for i in range(size):
                others = [j for j in range(size) if j != i and noise[b, i, j] >= 0.5]
                keys = objective.norm(torch.stack([vector, *(words[j] for j in others)]))
                asked = vector + position[i]
                q, kv = block.q(block.norm1(asked)), block.kv(keys)
                mixed = []
                for head in range(2):
                    part = slice(head * half, (head + 1) * half)
                    k, v = kv[:, : 2 * half][:, part], kv[:, 2 * half :][:, part]
                    mixed.append((k @ q[part] / half**0.5).softmax(0) @ v)
                x = asked + block.out(torch.cat(mixed))
                x = objective.leave(x + block.mlp(block.norm2(x)))
                told.append(F.cross_entropy(objective.output.weight @ x + objective.bias, ids[i]))
        return torch.stack(found).sum() / (0.3 * 64) + torch.stack(told).sum() / 64

    agree(objective, batch, plain)
    assert model.order == "both"


def test_sines_are_those_of_the_equation():
    found = sine_positions(6, 4)
    for place in range(4):
        for i in range(3):
            angle = place / 10_000 ** (2 * i / 6)
            assert found[place, i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert found[place, 3 + i].item() == pytest.approx(math.cos(angle), abs=1e-6)


# The order of halves


def test_joined_by_hand():
    ids = torch.tensor([[[10, 11, 12, 13], [20, 21, 22, 23]]] * 2)
    first = torch.tensor([1, 0]), torch.tensor([2, 4])
    second = torch.tensor([0, 1]), torch.tensor([1, 3])
    x, segments = joined(ids, first, second, 99)
    assert x[0, :4].tolist() == [11, 12, 99, 20]
    assert segments[0].tolist() == [0, 0, 0, 0, -1]
    assert x[1].tolist() == [10, 11, 12, 13, 99]  # what has no room is cut off
    assert segments[1].tolist() == [0] * 5


@pytest.mark.parametrize("wrong", ["swapped", "other"])
@pytest.mark.parametrize("kind", TEXT)
def test_the_order_of_halves_is_told_from_lists_of_words(kind, wrong):
    model = stirred(backbone(kind, dropout=0.0))
    objective = stirred(SentenceOrder(model, wrong))
    batch = text(rows=7, length=24)

    def plain(batch):
        noise, found = rand(7, 2), []
        halves = []
        for b in range(7):
            start, length = (int(x) for x in longest(batch.segments[b : b + 1]))
            words = batch.x[b, start + 1 : start + length - 1].tolist()
            cut = 1 + int(noise[b, 0] * (len(words) - 1))
            halves.append((words[:cut], words[cut:]))
        for b, (one, two) in enumerate(halves):
            changed = bool(noise[b, 1] < 0.5)
            if changed and wrong == "swapped":
                one, two = two, one
            elif changed:
                changed = b < 6  # the last of seven stands alone
                two = halves[b ^ 1][1] if changed else two
            ids = torch.tensor([[*one, VOCABULARY.separator, *two][:25]])
            p = objective.tell(model(ids).pooled).sigmoid()[0, 0]
            found.append(-(p if changed else 1 - p).log())
        return torch.stack(found).mean()

    for seed in range(3):
        agree(objective, batch, plain, seed)
    assert objective.whole_batch == (wrong == "other")


def test_a_network_that_tells_nothing_is_at_chance():
    objective = SentenceOrder(backbone("transformer", dropout=0.0))
    torch.nn.init.zeros_(objective.tell.weight)
    torch.nn.init.zeros_(objective.tell.bias)
    assert objective(text(rows=8)).value.item() == pytest.approx(objective.chance(8))
