"""BEiT against BeitForMaskedImageModeling of transformers and a plain loop; its codes against Lloyd's.

Reference (beit): BeitForMaskedImageModeling of transformers 5.23 for given codes, 1e-12; own plain loop
over three steps; Lloyd's algorithm point by point
Peers (beit): transformers has no tokenizer; stable-pretraining's is a hash by random projections
"""

import math

import pytest
import torch
from transformers import BeitConfig, BeitForMaskedImageModeling
from zoo_backbones import backbone, build, images, plain

from ssl_zoo.codebook import Codebook, k_means, nearest
from ssl_zoo.heads import classification
from ssl_zoo.noise import rand, seed_noise
from ssl_zoo.objectives.beit import BEiT
from ssl_zoo.tokens import patchify, put
from ssl_zoo.views.blocks import blocks


def closest(row: torch.Tensor, codes: torch.Tensor) -> int:
    return min(range(len(codes)), key=lambda k: (row - codes[k]).square().sum().item())


def lloyd(rows: torch.Tensor, count: int, rounds: int) -> torch.Tensor:
    codes = [rows[k * len(rows) // count] for k in range(count)]
    for _ in range(rounds):
        of = [closest(row, codes) for row in rows]
        for k in range(count):
            if mine := [row for row, code in zip(rows, of, strict=True) if code == k]:
                codes[k] = sum(mine) / len(mine)
    return torch.stack(codes)


def test_the_loss_is_that_of_transformers_for_given_codes():
    config = BeitConfig(
        vocab_size=12, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        image_size=32, patch_size=8, use_mask_token=True, use_absolute_position_embeddings=True,
    )  # fmt: skip
    peer = BeitForMaskedImageModeling(config).double().eval()
    found = []
    peer.layernorm.register_forward_hook(lambda module, args, out: found.append(out))
    hidden, code = torch.rand(3, 16) < 0.4, torch.randint(0, 12, (3, 16))
    want = peer(torch.rand(3, 3, 32, 32).double(), hidden, labels=code[hidden]).loss
    features, head = found[0][:, 1:][hidden], peer.lm_head
    loss, _ = classification(features, head.weight, head.bias, code[hidden])
    torch.testing.assert_close(loss, want, rtol=1e-12, atol=0)
    wanted = torch.autograd.grad(want, [found[0], head.weight, head.bias], retain_graph=True)
    for mine, theirs in zip(
        torch.autograd.grad(loss, [found[0], head.weight, head.bias]), wanted, strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-15)


def test_three_steps_are_those_of_a_plain_loop():
    """Loss, gradient and codes, which are random at first, then those of the first patches for good."""
    objective = build(BEiT, backbone("vit"), view=plain, block=2, codes=5).double().train()
    codes, kept = objective.codebook.codes.clone(), []
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.1)
    for step in range(3):
        batch = images(rows=3, seed=step)
        seed_noise(0, step)
        loss = objective(batch)
        seed_noise(0, step)
        at = blocks(rand(3, 32, 4), (4, 4), 7, (2, 7), (0.3, 1 / 0.3))
        x, vit = plain(batch.x), objective.backbone
        tokens = put(vit.embed(x), at, objective.blank.expand(3, 7, -1))
        logits = objective.tell(vit.encode(tokens).tokens)
        cells = patchify((x - vit.normalise.mean) / vit.normalise.std, 8)
        terms, right, counts, patches = [], 0, torch.zeros(5), []
        for b in range(3):
            for i in at[b]:
                patch = (cells[b, i] - cells[b, i].mean()) / (cells[b, i].var() + 1e-6).sqrt()
                patches.append(patch)
                code = closest(patch, codes)
                odds = logits[b, i].exp()
                terms.append(-torch.log(odds[code] / odds.sum()))
                right += logits[b, i].argmax().item() == code
                counts[code] += 1
        want = sum(terms) / 21
        torch.testing.assert_close(loss.value, want, rtol=1e-10, atol=0)
        assert loss.parts["accuracy"].item() == pytest.approx(right / 21)
        entropy = -sum(p * math.log(p) for p in (counts / 21).tolist() if p)
        assert loss.parts["code_entropy"].item() == pytest.approx(entropy, rel=1e-5)
        weights = [p for p in objective.parameters() if p.requires_grad]
        theirs = torch.autograd.grad(want, weights)
        optimizer.zero_grad()
        loss.value.backward()
        for p, gradient in zip(weights, theirs, strict=True):
            torch.testing.assert_close(p.grad, gradient, rtol=1e-8, atol=1e-12)
        optimizer.step()
        objective.advance((step + 1) / 3)
        if step == 0:
            codes = lloyd(torch.stack(patches), 5, 10)
        kept.append(objective.codebook.codes.clone())
        torch.testing.assert_close(kept[-1], codes, rtol=1e-10, atol=1e-12)
    assert torch.equal(kept[0], kept[2])


def test_codes_find_the_clusters_there_are():
    centres = torch.tensor([[9.0, 0.0], [0.0, 9.0], [-9.0, -9.0]]).double()
    rows = centres.repeat(20, 1) + torch.randn(60, 2).double()
    rows = rows[torch.arange(60).view(20, 3).T.flatten()]  # of one cluster after the other
    codes = k_means(rows, 3, 10)
    torch.testing.assert_close(codes, rows.view(3, 20, 2).mean(1))
    assert nearest(rows, codes).tolist() == [0] * 20 + [1] * 20 + [2] * 20
    same = torch.ones(6, 2)
    assert torch.equal(k_means(same, 3, 2), torch.ones(3, 2)), "codes without rows stay"


def test_the_codebook_is_part_of_the_state():
    book = Codebook(2, 3).train()
    book.stash(torch.randn(6, 3))
    book.flush()
    other = Codebook(2, 3).train()
    other.load_state_dict(book.state_dict())
    for one in (book, other):
        one.stash(torch.randn(6, 3) + 5)
        one.flush()
    assert other.fitted
    assert torch.equal(other.codes, book.codes)
    early = Codebook(8, 3).train()
    early.stash(torch.randn(6, 3))
    with pytest.raises(ValueError, match="8 codes cannot be found on the 6 rows of the first batch"):
        early.flush()


def test_its_picture_draws_codes_in_the_hidden_patches_alone():
    objective = build(BEiT, backbone("vit")).eval()
    with torch.no_grad():
        shown = objective.show(images(rows=2)).columns
    hidden = (shown["left"] - shown["crop"]).abs().amax(1) > 1e-6
    for name in ("codes", "told"):
        other = (shown[name] - shown["crop"]).abs().amax(1) > 1e-5
        assert not (other & ~hidden).any()
        assert other.any()


@pytest.mark.parametrize(("wrong", "says"), [
    ({"codes": 1}, "one code tells nothing apart"),
    ({"block": 0}, "a rectangle has one patch at least"),
    ({"masked": 1.0}, "at least one is hidden, and not all"),
])  # fmt: skip
def test_it_refuses(wrong, says):
    with pytest.raises(ValueError, match=says):
        build(BEiT, backbone("vit"), **wrong)
