"""Goals beside second implementations: losses, heads, scores, and where words and cells lie."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)
from tiny import vit
from torch.nn import functional as F
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_jaccard_index,
    multilabel_f1_score,
)

from ssl_zoo import DataError
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.data.items import Item
from ssl_zoo.data.tokenizer import bpe, bytes_tokenizer, characters
from ssl_zoo.transfer.tasks.goal import IGNORED
from ssl_zoo.transfer.tasks.labels import Labels
from ssl_zoo.transfer.tasks.masks import Conv, Masks, as_map
from ssl_zoo.transfer.tasks.regression import Regression, measured
from ssl_zoo.transfer.tasks.tags import Tags
from ssl_zoo.transfer.tasks.words import Words
from ssl_zoo.untrusted import Untrusted

DECAYS = (1.0, 1e-2, 1e-4)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Several labels


def some_labels(n=80, c=4):
    truth = (drawn(n, c, seed=1) > 0.3).float().numpy()
    told = [one[None] for one in drawn(n, c, seed=2) + torch.from_numpy(truth)]
    return Labels(tuple("abcd"[:c]), 0.4), told, list(truth)


def test_scores_of_labels_are_those_of_scikit_learn_and_torchmetrics():
    goal, told, truth = some_labels()
    found = {name: one.value for name, one in goal.scores(told, truth).items()}
    y, shares = np.stack(truth), torch.cat(told).sigmoid()
    assert found["mAP"] == pytest.approx(
        average_precision_score(y, shares.numpy(), average="macro"), abs=1e-6
    )
    for average in ("macro", "micro"):
        over = (shares >= 0.4).numpy()
        assert found[f"{average} F1"] == pytest.approx(f1_score(y, over, average=average), abs=1e-6)
        theirs = multilabel_f1_score(shares, torch.tensor(y).int(), 4, threshold=0.4, average=average)
        assert found[f"{average} F1"] == pytest.approx(float(theirs), abs=1e-6)


def test_a_label_that_no_row_has_counts_for_no_precision():
    goal, told, truth = some_labels()
    y = np.stack(truth)
    y[:, 1] = 0
    shares = torch.cat(told).sigmoid().numpy()
    wanted = np.mean([average_precision_score(y[:, c], shares[:, c]) for c in (0, 2, 3)])
    assert goal.scores(told, list(y))["mAP"].value == pytest.approx(wanted, abs=1e-6)
    assert goal.scores(told, list(0 * y))["mAP"].value == 0


def test_the_threshold_is_the_best_on_validation():
    goal, told, truth = some_labels()
    best = goal.settled(told, truth)
    tried = [
        dataclasses.replace(goal, threshold=t).scores(told, truth)["macro F1"].value
        for t in np.arange(0.02, 1, 0.02)
    ]
    assert best.scores(told, truth)["macro F1"].value == pytest.approx(max(tried))


def test_the_probe_of_labels_is_scikit_learns_logistic_regression():
    x, y = drawn(90, 5), (drawn(90, 3, seed=1) + drawn(90, 5)[:, :3] > 0.2).float()
    y[:, 2] = 1  # nothing to tell
    goal = Labels(("a", "b", "c"))
    z = ((x - x.mean(0)) / x.std(0, correction=0)).numpy()
    for decay, head in goal.path(x, y, DECAYS[:2]):
        told = head(x).sigmoid().detach().numpy()
        for c in (0, 1):  # two rows of weights w and -w are pulled half as much as one of 2 w
            theirs = LogisticRegression(C=2 / (len(x) * decay), tol=1e-8, max_iter=1000).fit(z, y[:, c])
            assert np.allclose(told[:, c], theirs.predict_proba(z)[:, 1], atol=5e-3)
        assert told[:, 2] == pytest.approx(90.5 / 91, abs=1e-4)


def test_the_loss_of_labels_is_binary_cross_entropy():
    goal, told, truth = some_labels()
    out, y = torch.stack(told), torch.from_numpy(np.stack(truth))
    p = out[:, 0].sigmoid().double()
    wanted = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    assert float(goal.loss(out, y)) == pytest.approx(float(wanted), rel=1e-5)


# A number


def test_scores_of_numbers_are_those_of_scikit_learn_and_scipy():
    y, guess = drawn(60).numpy() * 3 + 5, drawn(60, seed=1).numpy() + 5
    goal = Regression(4.0, 2.5)
    truth = list((y.astype(np.float64) - 4.0) / 2.5)
    told = [torch.tensor([[(one - 4.0) / 2.5]], dtype=torch.float64) for one in guess.tolist()]
    found = goal.scores(told, truth)
    wanted = {
        "R2": r2_score(y, guess),
        "RMSE": root_mean_squared_error(y, guess),
        "MAE": mean_absolute_error(y, guess),
        "Spearman": spearmanr(y, guess).statistic,
    }
    for name, one in found.items():
        assert one.value == pytest.approx(wanted[name], rel=1e-5)
        assert one.interval[0] < one.value < one.interval[1]
    assert next(iter(found)) == goal.metric
    same = measured(np.zeros(3), np.ones(3))
    assert math.isnan(same["R2"])
    assert same["Spearman"] == 0


@pytest.mark.parametrize("twice", [False, True])
def test_the_probe_of_numbers_is_scikit_learns_ridge(twice):
    x = drawn(50, 4)
    x = torch.cat([x, x[:, :1]], 1) if twice else x  # a direction in which nothing varies
    y = x[:, 0] * 2 - x[:, 1] + 0.1 * drawn(50, seed=3) + 3
    z = ((x - x.mean(0)) / x.std(0, correction=0)).numpy()
    for decay, head in Regression(0, 1).path(x, y, DECAYS):
        theirs = Ridge(alpha=len(x) * decay).fit(z, y.numpy())
        assert np.allclose(head(x).detach().numpy()[:, 0], theirs.predict(z), atol=1e-4)


def test_targets_are_standardised_and_answers_are_not():
    items = [Item("f", i, "", value) for i, value in enumerate((1000.0, 1200.0, 1400.0))]
    goal = Regression.learnt(items)
    assert (goal.mean, goal.std) == (1200.0, pytest.approx(163.299, abs=1e-3))
    y = goal.targets(items)
    assert y.mean() == pytest.approx(0, abs=1e-6)
    assert y.std() == pytest.approx(1, abs=1e-6)
    told = goal.answers([torch.tensor([[float(one)]]) for one in y], items, None)
    assert [one.value for one in told] == pytest.approx([1000, 1200, 1400], rel=1e-5)
    assert float(goal.loss(torch.zeros(3, 1, 1), torch.from_numpy(y))) == pytest.approx(1, abs=1e-6)
    with pytest.raises(DataError, match="all 2 train rows have the number 7"):
        Regression.learnt([Item("f", 0, "", 7.0)] * 2)


# Tags of words


def test_the_loss_of_tags_is_that_of_words_alone():
    goal, out = Tags(("A", "B", "C")), drawn(2, 4, 3)
    y = torch.tensor([[0, IGNORED, 2, IGNORED], [1, IGNORED, IGNORED, IGNORED]])
    logs = out.log_softmax(2)
    wanted = -(logs[0, 0, 0] + logs[0, 2, 2] + logs[1, 0, 1]) / 3
    assert float(goal.loss(out, y)) == pytest.approx(float(wanted), rel=1e-5)
    assert float(goal.loss(out, torch.full_like(y, IGNORED))) == 0
    x, labels = goal.labelled(out, y)
    assert labels.tolist() == [0, 2, 1]
    assert torch.equal(x, torch.stack([out[0, 0], out[0, 2], out[1, 0]]))
    assert [len(one) for one in goal.each(out, y)] == [2, 1]


@pytest.mark.parametrize("make", [bytes_tokenizer, characters, lambda t: bpe(t, 300)])
@pytest.mark.parametrize("last", [False, True])
def test_each_word_is_read_by_a_piece_of_its_own(make, last):
    words = ("the", "ship", "is", "at", "sea")
    tokenizer = make([" ".join(words)] * 4)
    rows = Words([Item("f", 0, words), Item("f", 1, ("sea",))], tokenizer, 64, [range(5), [4]], last)
    batch = rows.read(np.array([0, 1]))
    assert tokenizer.decode(batch.x[0].tolist()) == " ".join(words)  # read as running text is
    at = (batch.y[0] != IGNORED).nonzero()[:, 0].tolist()
    assert batch.y[0][at].tolist() == [0, 1, 2, 3, 4]
    for i, (place, word) in enumerate(zip(at, words, strict=True)):
        piece = tokenizer.decode([int(batch.x[0, place])]).strip()
        assert piece
        assert word.endswith(piece) if last else word.startswith(piece)
        assert last or i == 0 or place > at[i - 1]
    assert (batch.segments[1] == -1).sum() == batch.x.shape[1] - len(rows.ids[1])
    assert rows.cut == 0


def test_words_beyond_the_length_are_not_read():
    words = tuple("abcdef")
    rows = Words([Item("f", 0, words)], characters(["a b c d e f"]), 6, [[0, 1, 2, 3, 4, 5]], False)
    assert rows.cut == 1
    read, tags = rows.truth(0)
    assert (read.tolist(), tags.tolist()) == ([0, 1, 2], [0, 1, 2, 3, 4, 5])
    with pytest.raises(DataError, match="rows of 1 tokens have no room for a word"):
        Words([Item("f", 0, words)], characters(["a"]), 1, None, False)


def test_a_word_of_unknown_letters_is_read_all_the_same():
    rows = Words([Item("f", 0, ("a", "猫"))], characters(["a b"]), 9, [[0, 1]], False)
    assert rows.truth(0)[0].tolist() == [0, 1]


# Masks


def some_masks(n=3, k=3):
    truth = [
        torch.randint(0, k, (9, 7), generator=torch.Generator().manual_seed(i)).numpy() for i in range(n)
    ]
    for one in truth:
        one[0, 0] = IGNORED
    return Masks((0, 5, 9), (2, 3)), list(drawn(n, 6, k)), truth


def test_scores_of_masks_are_those_of_torchmetrics():
    goal, told, truth = some_masks()
    guess = torch.stack(
        [torch.from_numpy(goal.told(out, one.shape)) for out, one in zip(told, truth, strict=True)]
    )
    y, options = torch.from_numpy(np.stack(truth)), {"num_classes": 3, "ignore_index": IGNORED}
    found = goal.scores(told, truth)
    wanted = multiclass_jaccard_index(guess, y, average="macro", **options)
    assert found["mean IoU"].value == pytest.approx(float(wanted), abs=1e-6)
    wanted = multiclass_accuracy(guess, y, average="micro", **options)
    assert found["pixel accuracy"].value == pytest.approx(float(wanted), abs=1e-6)


def test_cells_come_row_by_row_and_are_upsampled_bilinearly():
    goal, told, truth = some_masks()
    cells = torch.stack([told[0][3 * r : 3 * r + 3] for r in range(2)])  # (2, 3, C)
    assert torch.equal(as_map(told[0][None], (2, 3))[0].permute(1, 2, 0), cells)
    wanted = F.interpolate(cells.permute(2, 0, 1)[None], (9, 7), mode="bilinear", align_corners=False)
    assert (goal.told(told[0], (9, 7)) == wanted[0].argmax(0).numpy()).all()
    y = torch.from_numpy(truth[0])[None]
    logs = wanted.log_softmax(1)[0]
    losses = [-logs[y[0, r, c], r, c] for r in range(9) for c in range(7) if y[0, r, c] != IGNORED]
    assert float(goal.loss(told[0][None], y)) == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)


def test_a_cell_has_the_class_of_most_of_its_pixels():
    goal = Masks((0, 1), (1, 2))
    y = torch.tensor([[[0, 1, IGNORED, IGNORED], [1, 1, IGNORED, 0]], [[1, 0, IGNORED, IGNORED]] * 2])
    x = drawn(2, 2, 5)
    points, labels = goal.labelled(x, y[:, :2])
    assert labels.tolist() == [1, 0, 0]  # a draw goes to the first; what nobody knows counts for nothing
    assert torch.equal(points, torch.stack([x[0, 0], x[0, 1], x[1, 0]]))


def test_the_conv_head_sees_neighbours_and_starts_at_zero():
    head, x = Conv(4, 2, (3, 3)), drawn(1, 9, 4)
    assert not head(x).any()
    torch.nn.init.ones_(head.last.weight)
    moved = x.clone()
    moved[0, 0] += 1
    changed = (head(moved) - head(x)).abs().sum(2)[0].reshape(3, 3) > 0
    assert changed.tolist() == [[True, True, False], [True, True, False], [False, False, False]]


def test_tokens_are_cells_of_a_backbone():
    backbone = vit()
    assert Masks((0, 1), backbone.grid(*backbone.image_size)).fits(backbone)
    assert not Masks((0, 1), (3, 3)).fits(backbone)
    assert not Masks((0, 1), (2, 2)).fits(
        TextTransformer(bytes_tokenizer().vocabulary, width=8, depth=1, heads=1)
    )


# What is kept of them


@pytest.mark.parametrize(
    "goal",
    [
        Labels(("a", "b"), 0.3),
        Regression(2.0, 0.5),
        Tags(("B-X", "O")),
        Masks((0, 7), (2, 3), (1, 2, 3), "conv"),
    ],
)
def test_a_goal_comes_back_from_its_facts(goal):
    assert type(goal).of(goal.facts()) == goal
    for key in goal.facts():
        with pytest.raises(Untrusted):
            type(goal).of(goal.facts() | {key: "odd"})
        with pytest.raises(Untrusted):
            type(goal).of({name: value for name, value in goal.facts().items() if name != key})


@pytest.mark.parametrize(
    ("goal", "facts"),
    [
        (Labels, {"classes": ["a", "a"], "threshold": 0.5}),
        (Labels, {"classes": ["a"], "threshold": 2}),
        (Labels, {"classes": [], "threshold": 0.5}),
        (Regression, {"mean": 0, "std": 0}),
        (Masks, {"classes": ["0", "300"], "grid": [2, 2], "head": "linear", "palette": []}),
        (Masks, {"classes": ["0", "1"], "grid": [2, 0], "head": "linear", "palette": []}),
        (Masks, {"classes": ["0", "1"], "grid": [2, 2, 2], "head": "linear", "palette": []}),
        (Masks, {"classes": ["0", "1"], "grid": [2, 2], "head": "linear", "palette": [256]}),
    ],
)
def test_facts_that_cannot_be_are_refused(goal, facts):
    with pytest.raises(Untrusted):
        goal.of(facts)
