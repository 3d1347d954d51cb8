"""Each loss against a second implementation that is written the slow and plain way.

Reference (simclr): a double loop over equation 1, value and gradient, 1e-9.
Peers (simclr): the authors' code has batch norms in the projection head.
Reference (rotation): own second implementation, turn by turn; the sense of turning is torchvision's.
Reference (supervised): own second implementation, row by row.
Peers (rotation): the authors' code takes crops padded by 4 pixels on CIFAR-10, where crops of at least 60 %
are resized here; it shows all four turns in one batch, as here.
Peers (supervised): no difference found.
Reference (next_token): cross-entropy of shifted ids; packed documents against each document alone.
Reference (masked_lm): cross-entropy at the places that the mask chose; the 80, 10 and 10 % counted.
Reference (mae): a second implementation that keeps tokens in the order of the image.
Peers (mae): the authors' code standardises channels first, which the norm of patches undoes but for the
ratio between channels.
"""

import math

import pytest
import torch
import torch.nn.functional as F
import zoo_backbones
from torch import nn
from torchvision.transforms.functional import rotate
from zoo_backbones import TEXT_WIDTH, VOCABULARY, backbone, build, images, pairs, stirred, text

from ssl_zoo.backbones._base import Vocabulary
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.backbones.vision import timm_backbone
from ssl_zoo.contrast import nt_xent
from ssl_zoo.decoders import grid_positions
from ssl_zoo.noise import rand, seed_noise
from ssl_zoo.norm import BatchNorm1d
from ssl_zoo.objectives._base import Batch, Loss, Objective, Sum, Tune
from ssl_zoo.objectives.mae import MAE
from ssl_zoo.objectives.masked_lm import MaskedLM
from ssl_zoo.objectives.next_token import NextToken
from ssl_zoo.objectives.rotation import Rotation
from ssl_zoo.objectives.simclr import SimCLR
from ssl_zoo.objectives.supervised import Supervised
from ssl_zoo.tokens import normalise
from ssl_zoo.views.masks import Spans, Tokens, WholeWords, random_split


def plain(images: torch.Tensor) -> torch.Tensor:
    """A view that changes nothing."""
    return images.float() / 255


def seen(monkeypatch, module, name: str) -> list:
    """The arguments of every call of module.name from now on: (args, kwargs, result)."""
    calls, original = [], getattr(module, name)

    def spy(*args, **kwargs):
        result = original(*args, **kwargs)
        calls.append((args, kwargs, result))
        return result

    monkeypatch.setattr(module, name, spy)
    return calls


# NT-Xent


@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.5])
def test_nt_xent_is_the_double_loop(temperature):
    z = torch.randn(12, 5, dtype=torch.float64, requires_grad=True)
    loss, found = nt_xent(z, temperature)
    unit = [row / row.square().sum().sqrt() for row in z]
    terms, hits = [], 0
    for i in range(12):
        j = i + 6 if i < 6 else i - 6
        others = {k: torch.exp(unit[i] @ unit[k] / temperature) for k in range(12) if k != i}
        terms.append(-torch.log(others[j] / sum(others.values())))
        hits += max(others, key=lambda k: others[k].item()) == j
    torch.testing.assert_close(loss, sum(terms) / 12, rtol=1e-12, atol=0)
    assert found.item() == pytest.approx(hits / 12)
    (mine,) = torch.autograd.grad(loss, z)
    (theirs,) = torch.autograd.grad(sum(terms) / 12, z)
    torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def test_nt_xent_by_hand():
    # Two samples whose views agree and which are orthogonal to each other: per row, exp(1/T) against
    # two others of exp(0).
    z = torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 0.0], [0.0, 1.0]])
    loss, found = nt_xent(z, 0.5)
    assert loss.item() == pytest.approx(-math.log(math.e**2 / (math.e**2 + 2)), rel=1e-6)
    assert found.item() == 1.0


def test_nt_xent_is_computed_in_float32_for_half_precision():
    z = torch.randn(8, 4)
    loss, _ = nt_xent(z.bfloat16(), 0.05)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, nt_xent(z.bfloat16().float(), 0.05)[0])


def test_simclr_on_images_pairs_two_views_of_each_image(monkeypatch):
    views = []

    def view(x):
        views.append(plain(x) * (0.5 + 0.5 * len(views)))
        return views[-1]

    objective = SimCLR(backbone("cnn"), width=16, out=8, view=view).eval()
    loss = objective(images())
    codes = [objective.project(objective.backbone(v).pooled) for v in views]
    torch.testing.assert_close(loss.value, nt_xent(torch.cat(codes), 0.1)[0])
    assert len(views) == 2


@pytest.mark.parametrize("kind", ["transformer", "encoder", "decoder"])
def test_simclr_on_text_takes_dropout_as_the_view(monkeypatch, kind):
    objective = build(SimCLR, stirred(backbone(kind)), temperature=0.05)
    projections = seen(monkeypatch, objective.project, "forward")
    batch = text(layout="document")
    objective.train()(batch)
    objective.eval()(batch)
    (one, two), (same, other) = (call[2].chunk(2) for call in projections)
    assert not torch.allclose(one, two, atol=1e-4), "while training, each view has a dropout of its own"
    torch.testing.assert_close(same, other, rtol=1e-4, atol=1e-5)
    # Padding and what is in it do not matter: the pooled code is of the document alone.
    alone = Batch(batch.x[:, :15], torch.zeros(4, 15, dtype=torch.long))  # the shortest row is 15 long
    cut = Batch(batch.x, torch.where(torch.arange(24) < 15, batch.segments.clamp_min(0), -1))
    torch.testing.assert_close(objective(alone).value, objective(cut).value, rtol=1e-4, atol=1e-4)


def test_simclr_refuses_text_without_dropout_and_views_of_text():
    with pytest.raises(ValueError, match=r"backbone\.dropout=0\.1"):
        SimCLR(backbone("transformer", dropout=0.0))
    with pytest.raises(ValueError, match="leave `view` out"):
        SimCLR(backbone("transformer"), view=plain)
    with pytest.raises(ValueError, match="temperature must be positive"):
        SimCLR(backbone("cnn"), temperature=0.0)


# Next token


@pytest.mark.parametrize("kind", ["transformer", "encoder", "decoder"])
def test_next_token_is_cross_entropy_on_shifted_ids(kind):
    model = stirred(backbone(kind)).eval()
    objective = NextToken(model).eval()
    ids = text(length=17).x
    loss = objective(Batch(ids))
    code = model.encode(model.embed(ids[:, :16]), order="causal").tokens
    logits = code @ model.word_embedding().weight.T  # (4, 16, V)
    want = -torch.stack([logits[b, i].log_softmax(0)[ids[b, i + 1]] for b in range(4) for i in range(16)])
    torch.testing.assert_close(loss.value, want.mean())
    torch.testing.assert_close(loss.parts["nats_per_token"], want.mean())
    assert model.order == "causal"


@pytest.mark.parametrize("kind", ["transformer", "encoder", "decoder"])
def test_next_token_of_packed_documents_is_that_of_each_document_alone(kind):
    model = stirred(backbone(kind)).eval()
    objective = NextToken(model).eval()
    batch = text(length=25)
    assert batch.segments is not None
    batch.segments[1, 20:] = -1  # one row ends in padding
    nats = []
    for ids, segments in zip(batch.x, batch.segments, strict=True):
        for document in segments.unique().tolist():
            if document < 0:
                continue
            places = (segments == document).nonzero().squeeze(1).tolist()
            ends = min(places[-1], 23)  # the last id of the row is only a target
            run = ids[places[0] : ends + 1][None]
            logits = F.linear(
                model.encode(model.embed(run), order="causal").tokens[0], objective.output.weight
            )
            for i, place in enumerate(range(places[0], ends + 1)):
                if segments[place + 1] >= 0:  # padding is never a target
                    nats.append(F.cross_entropy(logits[i], ids[place + 1]))
    assert len(nats) == 3 * 24 + 19
    check_scores(objective(batch), "nats_per_token", nats, places=4 * 24)


def test_next_token_shows_no_padding():
    objective = NextToken(backbone("transformer")).eval()
    batch = text()
    batch.segments[0, 11:] = -1
    shown = objective.show(batch)
    assert shown.at.tolist() == list(range(1, 11))
    everything = objective.show(Batch(batch.x))
    assert everything.at.tolist() == list(range(1, 24))
    for guesses in (shown, everything):
        torch.testing.assert_close(guesses.p.sum(1), torch.ones(len(guesses.at)))


def check_scores(loss: Loss, part: str, nats: list[torch.Tensor], places: float) -> None:
    """The loss is their sum over what full rows would have, the part is their mean."""
    assert len(nats) != places
    torch.testing.assert_close(loss.value, torch.stack(nats).sum() / places, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(loss.parts[part], torch.stack(nats).mean().detach(), rtol=1e-5, atol=1e-5)
    assert loss.counts[part] == len(nats)


def test_next_token_has_a_matrix_of_its_own_where_widths_differ():
    model = backbone("transformer")
    tied = NextToken(model)
    assert tied.output is model.words
    model.words = torch.nn.Embedding(64, 8)
    assert NextToken(model).output.weight.shape == (64, TEXT_WIDTH)


# Masked language model


def scored(monkeypatch, objective: MaskedLM, batch: Batch, step: int = 0) -> tuple[Loss, torch.Tensor]:
    """The loss, and the ids that the backbone was shown."""
    shown = seen(monkeypatch, objective.backbone, "embed")
    seed_noise(0, step)
    return objective(batch), shown[-1][0][0]


@pytest.mark.parametrize("kind", ["transformer", "encoder", "decoder"])
@pytest.mark.parametrize("mask", [None, Spans(0.3), WholeWords(0.3)], ids=["tokens", "spans", "words"])
def test_masked_lm_scores_what_the_mask_chose(monkeypatch, kind, mask):
    model = stirred(backbone(kind)).eval()
    objective = MaskedLM(model, mask).eval()
    stirred(objective.transform), torch.nn.init.normal_(objective.bias)
    batch = text(length=24)
    batch.segments[2, 15:] = -1
    loss, shown = scored(monkeypatch, objective, batch)

    seed_noise(0, 0)
    candidates = (batch.x > 2) & (batch.segments >= 0)
    at, valid = (mask or Tokens(0.15))(
        rand(*batch.x.shape), batch.x, candidates, torch.zeros(64, dtype=torch.bool)
    )
    code = model.encode(model.embed(shown), None, batch.segments, order="both").tokens
    nats = []
    for b in range(4):
        for k in range(at.shape[1]):
            if valid[b, k]:
                h = objective.transform(code[b, at[b, k]])
                logits = objective.output.weight @ h + objective.bias
                nats.append(torch.logsumexp(logits, 0) - logits[batch.x[b, at[b, k]]])
    check_scores(loss, "nats_per_masked_token", nats, places=objective.hiding.choose.rate * 4 * 24)
    hidden = torch.zeros_like(candidates)
    for b in range(4):
        hidden[b, at[b][valid[b]]] = True
    assert (shown == batch.x)[~hidden].all(), "only chosen positions change"
    assert model.order == "both"


def test_masked_lm_scores_a_fixed_number_of_rows(monkeypatch):
    objective = MaskedLM(backbone("transformer"))
    transforms = seen(monkeypatch, objective.transform, "forward")
    full, padded = text(length=40), text(length=40, layout="document", seed=1)
    padded.segments[0, 3:] = -1
    for batch in (full, padded, Batch(full.x)):
        assert math.isfinite(objective(batch).value.item())
    assert {call[0][0].shape for call in transforms} == {(4 * math.ceil(0.15 * 40), TEXT_WIDTH)}


def test_masked_lm_corrupts_80_10_10_and_spares_what_is_not_text(monkeypatch):
    model = TextTransformer(Vocabulary(64, special=(0, 1, 2, 5)), width=8, depth=1, heads=1)
    objective = MaskedLM(model)
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(0, 64, (512, 200), generator=generator)
    segments = torch.where(torch.arange(200) < 150, 0, -1).repeat(512, 1)
    _, shown = scored(monkeypatch, objective, Batch(ids, segments))
    text_ids = (ids > 2) & (ids != 5)
    changed = shown != ids
    assert not (changed & ~text_ids).any(), "a special id was hidden"
    assert not (changed & (segments < 0)).any(), "padding was hidden"
    noise = shown[changed & (shown != 2)]
    assert not torch.isin(noise, torch.tensor([0, 1, 2, 5])).any(), "a special id was used as noise"
    assert noise.unique().numel() == 60, "noise is any ordinary id"
    chosen = (0.15 * (text_ids & (segments == 0)).sum(1)).round().sum().item()
    assert (changed & (shown == 2)).sum().item() / chosen == pytest.approx(0.8, abs=0.015)
    assert len(noise) / chosen == pytest.approx(0.1 * 59 / 60, abs=0.01)


def test_masked_lm_has_no_loss_where_there_is_nothing_to_hide():
    loss = MaskedLM(backbone("transformer"))(Batch(torch.ones(2, 8, dtype=torch.long)))
    assert loss.value.item() == 0.0


def test_masked_lm_refuses_a_vocabulary_without_a_mask():
    model = TextTransformer(Vocabulary(64, mask=None, special=(0, 1)), width=8, depth=1, heads=1)
    with pytest.raises(ValueError, match="tokenizer=bpe, bytes or characters"):
        MaskedLM(model)


# Masked autoencoder


def mae(**arguments) -> MAE:
    objective = build(MAE, backbone("vit"), view=plain, **arguments)
    stirred(objective)
    return objective


def hand_normalised(patch: torch.Tensor) -> torch.Tensor:
    values = patch.double()
    mean = values.sum() / values.numel()
    variance = (values - mean).square().sum() / (values.numel() - 1)
    return ((values - mean) / (variance + 1e-6).sqrt()).float()


def test_mae_is_the_reference_with_tokens_in_the_order_of_the_image():
    """He et al.'s code puts the decoder's tokens back in order; ours leaves them shuffled."""
    objective = mae(masked=0.75)
    vit, batch = objective.backbone, images(rows=3)
    seed_noise(0, 0)
    loss = objective(batch).value
    seed_noise(0, 0)
    seen_at, _ = random_split(rand(3, 16), 4)
    x = batch.x.float() / 255
    errors = []
    for b in range(3):
        kept = seen_at[b].sort().values  # in the order of the image, on purpose
        code = vit.encode(vit.embed(x[b : b + 1])[:, kept], kept[None]).tokens[0]
        line = objective.blank[0].expand(16, -1).clone()
        line[kept] = objective.widen(code)
        drawn = objective.decoder((line + grid_positions(16, 4, 4))[None])[0]
        for place in set(range(16)) - set(kept.tolist()):
            row, column = divmod(place, 4)
            cell = x[b, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            target = hand_normalised(cell.permute(1, 2, 0).flatten())
            errors.append((drawn[place] - target).square().mean())
    assert len(errors) == 3 * 12
    torch.testing.assert_close(loss, torch.stack(errors).mean(), rtol=1e-5, atol=1e-6)


def test_mae_normalises_within_each_patch():
    patches = torch.rand(2, 3, 12) * 5 + 1
    for one, two in zip(normalise(patches).flatten(0, 1), patches.flatten(0, 1), strict=True):
        torch.testing.assert_close(one, hand_normalised(two))
    assert normalise(torch.full((1, 1, 12), 0.3)).abs().max() < 1e-3, "an even patch has no contrast"


def test_mae_encoder_never_sees_dropped_patches(monkeypatch):
    objective = mae().eval()
    codes = seen(monkeypatch, objective.widen, "forward")
    batch = images(rows=2)
    seed_noise(0, 0)
    seen_at, dropped = random_split(rand(2, 16), 4)

    def changed(places: torch.Tensor) -> Batch:
        x = batch.x.clone()
        for b in range(2):
            row, column = divmod(int(places[b, 0]), 4)
            cell = x[b, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            cell.copy_(255 - cell.flip(-1) // 2)
        return Batch(x)

    losses = []
    for rows in (batch, changed(dropped), changed(seen_at)):
        seed_noise(0, 0)
        losses.append(objective(rows).value.item())
    before, other_dropped, other_seen = (call[0][0] for call in codes)
    assert before.shape == (2, 4, 16)
    assert torch.equal(before, other_dropped)
    assert losses[0] != losses[1], "the dropped patch is a target"
    assert not torch.allclose(before, other_seen, atol=1e-3)


def test_mae_scores_dropped_patches_only():
    """A decoder that draws the true patch where one was dropped, and nonsense elsewhere, has no loss."""
    objective = mae()
    batch = images(rows=2)
    x = batch.x.float() / 255
    cells = x.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 4, 5, 1).reshape(2, 16, 192)

    class Oracle(torch.nn.Module):
        def forward(
            self, tokens, first
        ):  # which token is where: from the position that was added to the blank
            drawn = torch.full((*tokens.shape[:2], 192), 100.0)
            table = objective.position + objective.blank[0]
            for b in range(2):
                for i in range(4, 16):
                    place = int((tokens[b, i] - table).abs().sum(1).argmin())
                    drawn[b, i] = hand_normalised(cells[b, place])
            return drawn[:, first:]

    objective.decoder = Oracle()
    assert objective(batch).value.item() < 1e-10


def test_grid_positions_by_hand():
    table = grid_positions(8, 2, 3)
    assert table.shape == (6, 8)
    y, x = 1, 2  # the last patch; rates 1 and 1 / 100
    want = [math.sin(y), math.sin(y / 100), math.cos(y), math.cos(y / 100)]
    want += [math.sin(x), math.sin(x / 100), math.cos(x), math.cos(x / 100)]
    torch.testing.assert_close(table[5], torch.tensor(want))
    assert len(table.unique(dim=0)) == 6
    with pytest.raises(ValueError, match="multiple of 4"):
        grid_positions(6, 2, 2)


def test_mae_that_draws_the_mean_has_the_loss_that_chance_says():
    objective = mae()
    torch.nn.init.zeros_(objective.decoder.pixels.weight)
    torch.nn.init.zeros_(objective.decoder.pixels.bias)
    assert objective.chance(4) == 191 / 192
    assert objective(images()).value.item() == pytest.approx(191 / 192, rel=1e-3)


@pytest.mark.parametrize(("masked", "keep"), [(0.75, 4), (0.5, 8), (0.94, 1), (0.06, 15)])
def test_mae_keeps_a_share(masked, keep):
    assert mae(masked=masked).keep == keep


@pytest.mark.parametrize("masked", [0.0, 0.99, 1.0])
def test_mae_refuses_to_keep_all_or_nothing(masked):
    with pytest.raises(ValueError, match="both sides need at least one"):
        mae(masked=masked)


def test_mae_refuses_a_cnn_by_naming_vits():
    with pytest.raises(ValueError, match="backbone=vit_micro"):
        MAE(backbone("cnn"))


# Rotation


def test_rotation_shows_each_image_at_four_turns(monkeypatch):
    objective = Rotation(backbone("cnn"), view=plain).eval()
    forward = seen(monkeypatch, objective.backbone, "forward")
    batch = images(rows=3)
    loss = objective(batch)
    x = batch.x.float() / 255
    (shown,) = forward[0][0]
    for turn in range(4):
        for i in range(3):
            got = shown[3 * turn + i]
            assert torch.equal(got, torch.rot90(x[i], turn, (1, 2)))
            torch.testing.assert_close(got, rotate(x[i], 90 * turn))  # the same sense as torchvision's
    nats, right = [], 0
    for i in range(3):
        for turn in range(4):
            code = objective.backbone(torch.rot90(x[i : i + 1], turn, (2, 3))).pooled
            logits = objective.classify(code)[0]
            nats.append(-logits.log_softmax(0)[turn])
            right += int(logits.argmax()) == turn
    torch.testing.assert_close(loss.value, torch.stack(nats).mean(), rtol=1e-5, atol=1e-5)
    assert loss.parts["accuracy"].item() == pytest.approx(right / 12)


def test_rotation_accuracy_counts_right_answers():
    objective = Rotation(backbone("cnn"), view=plain).eval()
    with torch.no_grad():
        objective.classify.weight.zero_()
        objective.classify.bias.copy_(torch.tensor([0.0, 9.0, 0.0, 0.0]))  # always says 90 degrees
    loss = objective(images(rows=2))
    assert loss.parts["accuracy"].item() == 0.25
    p = math.exp(9) / (math.exp(9) + 3)
    assert loss.value.item() == pytest.approx(-(math.log(p) + 3 * math.log((1 - p) / 3)) / 4, rel=1e-4)


def test_rotation_needs_square_images():
    with pytest.raises(ValueError, match="square, not 32x16"):
        Rotation(backbone("cnn", image_size=(32, 16)))


# Sum


class Constant(Objective):
    family, takes = "test", ("transformer", "cnn")

    def __init__(self, backbone, value: float, layout="packed", lookahead: int = 0, whole: bool = False):
        super().__init__(backbone)
        self.value, self.layout, self.lookahead, self.whole_batch = value, layout, lookahead, whole

    def forward(self, batch):
        value = torch.tensor(self.value, requires_grad=True)
        return Loss(value, {"seen": value.detach() * 10})


def constant(value, **settings):
    return lambda backbone: Constant(backbone, value, **settings)


def test_sum_weighs_its_terms_and_names_their_parts():
    terms = {"a": constant(2.0), "b": constant(3.0, lookahead=2), "c": constant(5.0, whole=True)}
    objective = Sum(backbone("transformer"), terms, {"b": 0.5, "c": 2})
    loss = objective(text())
    assert loss.value.item() == 2.0 + 1.5 + 10.0
    parts = {name: part.item() for name, part in loss.parts.items()}
    assert parts == {"a/loss": 2, "b/loss": 3, "c/loss": 5, "a/seen": 20, "b/seen": 30, "c/seen": 50}
    assert (objective.layout, objective.lookahead, objective.whole_batch) == ("packed", 2, True)
    assert not any(part.requires_grad for part in loss.parts.values())
    objective.advance(0.25)
    assert [term.t.item() for term in objective.terms.values()] == [0.25] * 3


def test_sum_is_the_sum_of_its_objectives_on_one_backbone():
    vit = backbone("vit")
    both = Sum(vit, {"mae": lambda b: build(MAE, b), "simclr": lambda b: build(SimCLR, b)}, {"simclr": 0.3})
    batch = images()
    seed_noise(0, 0)
    loss = both(batch)
    seed_noise(0, 0)
    mae_loss, simclr_loss = both.terms["mae"](batch).value, both.terms["simclr"](batch).value
    torch.testing.assert_close(loss.value, mae_loss + 0.3 * simclr_loss)
    assert both.terms["mae"].backbone is vit
    assert len({id(p) for p in vit.parameters()} & {id(p) for p in both.parameters()}) == len(
        list(vit.parameters())
    )


def test_an_attribute_of_an_earlier_version_is_refused_with_its_new_name():
    with pytest.raises(TypeError, match=r"Old\.rows is now called layout"):
        type("Old", (Objective,), {"rows": "document"})


def test_terms_of_a_sum_say_what_is_read_tuned_and_exported():
    class Slow(Constant):
        reads = ("x", "y")

        def __init__(self, backbone, **settings):
            super().__init__(backbone, 1.0, **settings)
            self.head, self.slow = nn.Linear(2, 2), nn.Linear(2, 2)

        def tune(self, name, parameter):
            return Tune(lr=0.1, constant=True) if name.startswith(("head.", "backbone.")) else Tune()

        def export(self):
            return {"backbone": self.slow, "second": self.head}

    both = Sum(backbone("cnn"), {"plain": constant(1.0), "slow": Slow})
    assert both.reads == ("x", "y")
    with pytest.raises(ValueError, match="Sum learns from labels, and these rows have none"):
        both(Batch(images().x))
    asked = {name: both.tune(name, weight) for name, weight in both.named_parameters()}
    tuned = {name for name, tune in asked.items() if tune == Tune(0.1, None, True)}
    assert tuned == {name for name in asked if not name.startswith("terms.slow.slow")}
    kept = both.export()
    assert kept == {"backbone": both.backbone, "second": both.terms["slow"].head}


def test_sum_reads_features_in_the_direction_of_its_first_term():
    for terms, order in (((NextToken, MaskedLM), "causal"), ((MaskedLM, NextToken), "both")):
        model = backbone("transformer")
        objective = Sum(model, {cls.__name__: cls for cls in terms})
        assert model.order == order
        loss = objective(text(length=24 + objective.lookahead))
        assert math.isfinite(loss.value.item())
        assert model.order == order


def test_terms_of_a_sum_read_no_further_than_they_look_ahead():
    widths = {}

    class Wide(MaskedLM):
        def forward(self, batch):
            widths["masked"] = batch.x.shape[1], batch.segments.shape[1]
            return super().forward(batch)

    class Next(NextToken):
        def forward(self, batch):
            widths["next"] = batch.x.shape[1], batch.segments.shape[1]
            return super().forward(batch)

    objective = Sum(backbone("transformer"), {"masked": Wide, "next": Next})
    ids = text(length=17).x
    objective(Batch(ids, torch.zeros_like(ids)))
    assert widths == {"masked": (16, 16), "next": (17, 17)}


def test_a_term_may_read_every_so_manyth_row():
    model = stirred(backbone("transformer")).eval()
    thin = Sum(model, {"next": NextToken, "masked": MaskedLM}, every={"next": 4}).eval()
    batch = text(rows=8, length=25)
    seed_noise(0, 0)
    loss = thin(batch)
    seed_noise(0, 0)
    want = thin.terms["masked"](Batch(batch.x[:, :-1], batch.segments[:, :-1])).value
    want = want + thin.terms["next"](Batch(batch.x[[0, 4]], batch.segments[[0, 4]])).value
    torch.testing.assert_close(loss.value, want)
    assert thin.share(Batch(batch.x, other=batch), "next").other.x.shape == (2, 25)
    seed_noise(0, 0)
    masked = Sum(model, {"masked": MaskedLM}, every={"masked": 2}).eval()
    whole, halves = masked(batch).value, []
    for part in range(2):
        seed_noise(0, 0, part, 2)
        halves.append(
            masked(Batch(*(None if x is None else x[4 * part : 4 * part + 4] for x in batch))).value
        )
    torch.testing.assert_close(sum(halves) / 2, whole)
    with pytest.raises(ValueError, match="next reads one row in 4, and 6 rows in one process"):
        thin.train()(text(rows=6, length=25))
    assert thin.eval()(text(rows=6, length=25)).value.isfinite(), "the last rows of a validation split"
    for every, complaint in (({"b": 2}, r"every for \['b'\]"), ({"next": 0}, "n = 1 or more")):
        with pytest.raises(ValueError, match=complaint):
            Sum(model, {"next": NextToken}, every=every)


def test_sum_refuses_what_cannot_be_added():
    with pytest.raises(ValueError, match="at least one term"):
        Sum(backbone("cnn"), {})
    with pytest.raises(ValueError, match=r"weights for \['b'\], but the terms are \['a'\]"):
        Sum(backbone("cnn"), {"a": constant(1.0)}, {"b": 1})
    with pytest.raises(ValueError, match="laid out differently"):
        Sum(backbone("transformer"), {"a": NextToken, "b": SimCLR})


def test_objectives_say_how_text_is_laid_out():
    model = backbone("transformer")
    assert [(o.layout, o.lookahead) for o in (NextToken(model), MaskedLM(model), SimCLR(model))] == [
        ("packed", 1),
        ("packed", 0),
        ("document", 0),
    ]
    assert VOCABULARY.mask == 2


# What autocast may not touch


def features_of(objective: Objective) -> tuple[torch.nn.Module, str]:
    """The module and its method whose result the loss compares with something."""
    if isinstance(objective, SimCLR):
        return objective.project, "forward"
    if isinstance(objective, MAE):
        return objective.decoder, "forward"
    if isinstance(objective, MaskedLM):
        return objective.transform, "forward"
    return objective.backbone, "encode" if isinstance(objective, NextToken) else "forward"


# Those whose loss in double precision `by_hand` knows; files of tests of their own know that of the others.
BY_HAND = (SimCLR, Rotation, Supervised, MAE, NextToken, MaskedLM)


def by_hand(objective: Objective, code, rows: Batch, step: int) -> torch.Tensor:
    """The loss of features, in double precision."""
    if isinstance(objective, SimCLR):
        return nt_xent(code.double(), objective.temperature)[0]
    if isinstance(objective, (Rotation, Supervised)):
        target = rows.y if isinstance(objective, Supervised) else torch.arange(4).repeat_interleave(4)
        logits = (
            code.pooled.double() @ objective.classify.weight.double().T + objective.classify.bias.double()
        )
        return F.cross_entropy(logits, target)
    seed_noise(0, step)
    if isinstance(objective, MAE):
        x = objective.view(rows.x)
        _, unseen = random_split(rand(4, 16), objective.keep)
        cells = x.double().unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 4, 5, 1).reshape(4, 16, 192)
        target = torch.stack([hand_normalised(cells[b, i]) for b in range(4) for i in unseen[b]])
        return F.mse_loss(code.double().flatten(0, 1), target.double())
    if isinstance(objective, NextToken):
        hidden, bias, target = code.tokens.flatten(0, 1), 0.0, rows.x[:, 1:].flatten()
        scored, places = torch.ones_like(target, dtype=torch.bool), len(target)
    else:
        candidates = (rows.x > 2) & (rows.segments >= 0)
        at, valid = Tokens()(rand(*rows.x.shape), rows.x, candidates)
        hidden, bias, places = code, objective.bias.double(), 0.15 * rows.x.numel()
        target, scored = rows.x.gather(1, at).flatten(), valid.flatten()
    logits = hidden.double() @ objective.output.weight.double().T + bias
    return F.cross_entropy(logits[scored], target[scored], reduction="sum") / places


@pytest.mark.parametrize(("cls", "kind"), pairs(), ids=str)
def test_a_bfloat16_step_has_a_loss_in_float32(monkeypatch, cls, kind):
    """Features are in autocast's type; what is made of them is exact, as if there were no autocast."""
    objective = stirred(build(cls, backbone(kind))).train()
    rows = zoo_backbones.batch(objective)
    if cls not in BY_HAND:
        with torch.autocast("cpu", torch.bfloat16):
            assert objective(rows).value.dtype == torch.float32
        return
    codes = seen(monkeypatch, *features_of(objective))
    seed_noise(0, 0)
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(rows)
    loss.value.backward()
    assert loss.value.dtype == torch.float32
    ((_, _, code),) = codes
    want = by_hand(objective, code, rows, 0)
    torch.testing.assert_close(loss.value.double(), want, rtol=1e-6, atol=1e-6)


def test_pairs_are_found_among_features_that_are_alike():
    """Cosines of 1 and 1 - 1e-5: bfloat16 has three digits."""
    one = torch.randn(1, 64) + 1e-2 * torch.randn(32, 64)
    z = torch.cat([one, one + 1e-4 * torch.randn(32, 64)])
    with torch.autocast("cpu", torch.bfloat16):
        loss, found = nt_xent(z, 0.1)
    assert found.item() == 1.0
    torch.testing.assert_close(loss, nt_xent(z.double(), 0.1)[0].float(), rtol=1e-5, atol=0)


def test_a_contrast_of_one_sample_is_refused():
    with pytest.raises(ValueError, match=r"raise batch_size.*\(accumulate\).*processes"):
        build(SimCLR, backbone("vit"))(images(rows=1))
    assert build(SimCLR, backbone("vit"))(images(rows=2)).value.item() > 0


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050"])  # torch's norms, and timm's
def test_batch_norm_of_one_value_says_what_to_do(name):
    small = {"channels": [8, 8, 16, 16]} if name == "resnet10t" else {}
    objective = build(Supervised, timm_backbone(name, image_size=32, **small))
    with pytest.raises(ValueError, match=r"one row .* one cell .*: take batch_size of at least 2"):
        objective(images(rows=1))
    assert math.isfinite(objective.eval()(images(rows=1)).value.item())


def test_supervised_is_its_equation_row_by_row():
    objective, batch = Supervised(backbone("cnn"), classes=3, view=plain).eval(), images(4)
    assert batch.y is not None
    loss, nats, right = objective(batch), 0.0, 0
    for x, y in zip(batch.x.float() / 255, batch.y.tolist(), strict=True):
        logits = objective.classify(objective.backbone(x[None]).pooled)[0].tolist()
        nats += math.log(sum(math.exp(one) for one in logits)) - logits[y]
        right += logits[y] == max(logits)
    assert loss.value.item() == pytest.approx(nats / 4, rel=1e-5)
    assert loss.parts["accuracy"].item() == right / 4


def test_supervised_names_labels_that_are_none_of_its_classes():
    objective, batch = build(Supervised, backbone("vit")), images(4)
    assert batch.y is not None
    value = objective(batch).value
    for wrong, says in ((batch.y * 0 + 3, "label of 3, .* 3 classes .* 0 to 2"), (batch.y - 9, "label of -")):
        with pytest.raises(ValueError, match=says):
            objective(batch._replace(y=wrong))
    for wrong in (batch.y.float(), batch.y[:2]):
        with pytest.raises(ValueError, match="labels are 4 whole numbers"):
            objective(batch._replace(y=wrong))
    for made in (value, objective(batch._replace(y=batch.y.int())).value):
        assert made.isfinite()


def test_batch_norm_of_no_rows_keeps_its_statistics():
    norm = BatchNorm1d(3)
    with pytest.raises(ValueError, match=r"no row at all \(0, 3\)"):
        norm(torch.zeros(0, 3))
    assert norm.running_mean is not None
    assert norm.running_mean.isfinite().all()


@pytest.mark.parametrize("cls", [NextToken, MaskedLM, SimCLR, MAE, Rotation])
def test_a_batch_of_no_rows_is_refused(cls):
    kind = "transformer" if cls in (NextToken, MaskedLM) else "vit"
    objective, batch = build(cls, backbone(kind)), text(4) if kind == "transformer" else images(4)
    with pytest.raises(ValueError, match=f"{cls.__name__} was given a batch of no rows"):
        objective(Batch(batch.x[:0], batch.segments if batch.segments is None else batch.segments[:0]))


@pytest.mark.parametrize("cls", [NextToken, MaskedLM])
@pytest.mark.parametrize("wrong", [-1, VOCABULARY.size])
def test_ids_that_have_no_embedding_are_named(cls, wrong):
    batch = text(4)
    batch.x[1, -1] = wrong  # of next-token prediction only a target
    with pytest.raises(ValueError, match=rf"holds id {wrong}, .* ids 0 to {VOCABULARY.size - 1}"):
        build(cls, backbone("transformer"))(batch)
    with pytest.raises(ValueError, match=r"ids, a tensor \(B, T\) of int64, not \(4, .*float32"):
        build(cls, backbone("transformer"))(Batch(batch.x.float()))
