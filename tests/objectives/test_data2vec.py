"""data2vec against a second implementation, position by position.

Reference: a second implementation, position by position.
Peers: fairseq averages the outputs of feed-forward layers before the residual sum; here whole blocks are
averaged.
"""

import pytest
import torch
from torch import Tensor, nn
from zoo_backbones import VOCABULARY, backbone, images, text

from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.noise import rand, seed_noise
from ssl_zoo.objectives._base import Batch
from ssl_zoo.objectives.data2vec import Data2Vec
from ssl_zoo.views.blocks import blocks
from ssl_zoo.views.masks import Runs
from ssl_zoo.views.view import View


def distance(f: Tensor, y: Tensor, beta: float) -> Tensor:
    """One position: the equation, number by number."""
    total = torch.zeros(())
    for e in (f - y).abs():
        total = total + (e * e / (2 * beta) if e < beta else e - beta / 2)
    return total / len(f) ** 0.5


def normal(h: Tensor) -> Tensor:
    return (h - h.mean()) / (h.var(correction=0) + 1e-5).sqrt()


def apart(objective: Data2Vec) -> Data2Vec:
    """With an average that is not the network, and distances on both sides of beta."""
    with torch.no_grad():
        for weight in objective.teacher.parameters():
            weight += 0.1 * torch.randn_like(weight)
        for weight in objective.predict.parameters():
            weight += 0.5 * torch.randn_like(weight)
    return objective


def agree(objective: Data2Vec, loss: Tensor, want: Tensor) -> None:
    weights = [p for p in objective.parameters() if p.requires_grad]
    mine, theirs = (torch.autograd.grad(one, weights, allow_unused=True) for one in (loss, want))
    torch.testing.assert_close(loss, want, rtol=1e-5, atol=1e-6)
    for one, two in zip(mine, theirs, strict=True):
        assert (one is None) == (two is None)
        if one is not None:
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_on_images():
    """A ViT run by hand: patches, blank, positions, blocks, norm; the average reads all of the patches."""
    torch.manual_seed(0)
    vit = backbone("vit")
    top, beta = 1, 0.5
    objective = apart(Data2Vec(vit, 0.6, 3, top, beta, momentum=lambda t: 0.9, view=nn.Identity())).train()
    nn.init.normal_(objective.blank)
    x = images(3).x.float() / 255
    seed_noise(0, 0)
    loss = objective(Batch(x))

    seed_noise(0, 0)
    at = blocks(rand(3, 32, 4), vit.grid(32, 32), 10, (3, 10), (0.3, 1 / 0.3))  # 0.6 of 16

    def run(model: nn.Module, patches: Tensor) -> list[Tensor]:
        x = torch.cat([model.cls_token, patches[None]], 1) + model.pos_embed
        states = [x := block(x) for block in model.blocks]
        return [state[0, 1:] for state in states] + [model.norm(x)[0, 1:]]

    want = torch.zeros(())
    for image, places in zip(x, at.tolist(), strict=True):
        patches = vit.model.patch_embed(vit.normalise(image[None])).flatten(1, 2)[0]
        left = torch.stack([objective.blank if i in places else p for i, p in enumerate(patches)])
        code = run(vit.model, left)[-1]
        with torch.no_grad():
            seen = run(objective.teacher[0].model, patches)[:-1]
        for place in places:
            target = sum(normal(state[place]) for state in seen[-top:]) / top
            want = want + distance(objective.predict(code[place]), target, beta) / 30
    agree(objective, loss.value, want)
    assert set(loss.parts) == {"target_std", "prediction_std"}


@pytest.mark.parametrize("top", [1, 2])
def test_on_text(top):
    """Packed documents and padded rows: runs are hidden behind the mask id, the average sees them."""
    torch.manual_seed(0)
    model = TextTransformer(VOCABULARY, width=16, depth=2, heads=2)
    for block in model.layers:
        nn.init.normal_(block.attention.out.weight, std=0.2)
        nn.init.normal_(block.mlp.down.weight, std=0.2)
    objective = apart(Data2Vec(model, 0.35, 4, top, 4.0, head=2, momentum=lambda t: 0.9)).train()
    objective.teacher[0].words.load_state_dict(model.words.state_dict())  # which it does not read
    for batch in (text(3, 20), text(3, 20, layout="document")):
        seed_noise(0, 0)
        loss = objective(batch)
        seed_noise(0, 0)
        candidates = (batch.x > 2) & (batch.segments >= 0)
        at, valid = Runs(0.35, 4)(rand(3, 20), batch.x, candidates)
        want = torch.zeros(())
        for row, places in enumerate(p[ok].tolist() for p, ok in zip(at, valid, strict=True)):
            ids, segments = batch.x[row : row + 1], batch.segments[row : row + 1]
            shown = ids.clone()
            shown[0, places] = VOCABULARY.mask
            code = model.encode(model.embed(shown), None, segments).tokens[0]
            with torch.no_grad():
                seen = objective.teacher[0](ids, segments, layers="tokens").layers
            for place in places:
                target = sum(normal(state[0, place]) for state in seen[-top:]) / top
                want = want + distance(objective.predict(code[place]), target, 4.0) / at.numel()
        agree(objective, loss.value, want)


def test_it_averages_what_there_is_and_follows_slowly():
    losses = []
    for top in (2, 6):  # there are two
        objective = Data2Vec(backbone("vit"), top=top)
        seed_noise(0, 0)
        torch.manual_seed(0)
        losses.append(objective.eval()(images(2)).value)
    assert torch.equal(*losses)
    (slow,) = objective.teacher
    with torch.no_grad():
        for weight in objective.backbone.parameters():
            weight += 1
    before = [p.clone() for p in slow.parameters()]
    objective.advance(0.5)
    for old, new in zip(before, slow.parameters(), strict=True):
        torch.testing.assert_close(new - old, torch.full_like(old, 2e-4), rtol=0.05, atol=1e-6)
    with pytest.raises(ValueError, match="mask token"):
        Data2Vec(TextTransformer(VOCABULARY._replace(mask=None), width=16, depth=1, heads=2))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"masked": 1.0}, "masked=1.0"),
        ({"masked": 0.99}, "masked=0.99 of 16 squares are 16: at least one is hidden, and not all"),
        ({"top": 0}, "top=0"),
        ({"head": 0}, "head=0"),
        ({"block": 0}, "block=0"),
        ({"beta": -1.0}, "beta=-1.0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        Data2Vec(backbone("vit"), **given)


def test_a_batch_of_padding_has_a_loss_and_parts_of_0():
    batch = text()
    batch.segments[:] = -1
    loss = Data2Vec(backbone("transformer"), 0.35, 4)(batch)
    assert loss.value.item() == 0
    assert loss.parts == {"target_std": 0, "prediction_std": 0}


def test_text_takes_no_view():
    with pytest.raises(ValueError, match="leave `view` out"):
        Data2Vec(backbone("transformer"), view=View(8))
