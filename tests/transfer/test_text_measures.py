"""Measures of text backbones against plain loops, scipy, sacrebleu and hand-worked values."""

import math

import numpy as np
import pytest
import sacrebleu
import torch
from scipy import linalg, stats
from torch.nn import functional as F

from ssl_zoo.backbones.bag import TokenBag
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_formats import Prefixed, Text
from ssl_zoo.data.text_pairs import TextPairs
from ssl_zoo.data.tokenizer import bytes_tokenizer
from ssl_zoo.objectives._base import Batch
from ssl_zoo.transfer import completion, pair_rows
from ssl_zoo.transfer.bits_per_byte import BitsPerByte
from ssl_zoo.transfer.causal import Example, completion_nats, language_model
from ssl_zoo.transfer.chrf import chrf
from ssl_zoo.transfer.completion import Completion
from ssl_zoo.transfer.diagnostics import Diagnostics
from ssl_zoo.transfer.evaluate import evaluate
from ssl_zoo.transfer.features import extract
from ssl_zoo.transfer.floors import tfidf_similarity
from ssl_zoo.transfer.generate import Choice, draw, end_of_document, follow, generate, probabilities
from ssl_zoo.transfer.in_context import (
    InContextClasses,
    InContextLoss,
    Prompts,
    by_context,
    examples,
    name_scores,
    undivided,
)
from ssl_zoo.transfer.measures import Subject, Unopened, examine
from ssl_zoo.transfer.protocols import Layers, Linear
from ssl_zoo.transfer.similarity import Similarity, correlations, readiness

TOKENIZER = bytes_tokenizer()
END = 1  # <sep>


def model(seed=0, width=16, dropout=0.0, order="causal") -> TextTransformer:
    """A tiny transformer whose predictions are far from uniform."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = TextTransformer(TOKENIZER.vocabulary, width=width, depth=1, heads=2, dropout=dropout)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    made.order = order
    return made.eval()


def subject(length=64, **changes) -> Subject:
    return Subject(model(**changes), TOKENIZER, length)


def write(folder, name, lines):
    path = folder / f"{name}.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def running(folder, test) -> TextData:
    """Running text whose documents end with a line."""
    files = [write(folder, name, lines) for name, lines in (("train", ["some text"]), ("test", test))]
    return TextData(
        "running", files[0], test=files[1], format=Text("line"), validation_fraction=0, cache=folder
    )


def labelled(folder) -> TextData:
    """Texts of a number and a letter, which is the class; no text of test is in train."""

    def lines(first):
        return [f"{('YES', 'NO')[i % 2]}:{i} {'ab'[i % 2]}" for i in range(first, first + 24)]

    files = {name: write(folder, name, lines(i)) for name, i in (("train", 10), ("test", 40))}
    return TextData("letters", **files, format=Prefixed(until=":"), validation_fraction=0.25, cache=folder)


def scored_pairs(folder) -> TextPairs:
    words = ["the", "cat", "dog", "sat", "ran", "on", "mat", "under", "a", "tree", "house"]

    def file(name, seed):
        rng = np.random.default_rng(seed)
        lines = []
        for _ in range(30):
            first = list(rng.choice(words, 5))
            keep = int(rng.integers(0, 6))
            second = first[:keep] + list(rng.choice(words, 5 - keep))
            lines.append(f"{' '.join(first)},{' '.join(second)},{keep}")
        return write(folder, name, lines)

    return TextPairs("pairs", *(file(name, i) for i, name in enumerate(("train", "validation", "test"))))


@torch.no_grad()
def log_p(backbone, ids) -> torch.Tensor:
    """log p of the next id after each of ids, from the trunk alone: (T, V)."""
    x = torch.tensor([ids])
    tokens = backbone.encode(backbone.embed(x), order="causal").tokens[0]
    return torch.log_softmax(tokens @ backbone.words.weight.T, 1)


# Similarity


def test_similarity_is_scipys_correlation_of_cosines(tmp_path):
    data, who = scored_pairs(tmp_path), subject(order="both")
    found = examine(who, data, Similarity())

    def features(sentences, depth):
        """Read sentence by sentence: without padding, and each depth by hand."""
        found = []
        for ids in TOKENIZER.encode(sentences):
            x = torch.tensor([[*TOKENIZER.prefix, *ids.tolist(), *TOKENIZER.suffix]])
            with torch.no_grad():
                every = who.backbone.eval()(x, layers="pooled")
                words = who.backbone.words(x).mean(1)
            one = {"0": words, "pooled": every.pooled} | {str(i): y for i, y in enumerate(every.layers, 1)}
            found.append(one[depth][0].numpy())
        return np.stack(found)

    sentences = sorted({s for pair in data.pairs("train") for s in pair})
    train = {depth: features(sentences, depth) for depth in ("pooled", "0", "1")}

    def whitened(shrinkage):
        """The inverse square root of the shrunk covariance; the library inverts a triangle."""

        def ready(x, depth):
            covariance = np.cov(train[depth].T, bias=True)
            shrunk = covariance + shrinkage * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
            return (x - train[depth].mean(0)) @ np.linalg.inv(linalg.sqrtm(shrunk).real)

        return ready

    ways = {f"whitened-{shrinkage}": whitened(shrinkage) for shrinkage in (0.01, 0.1, 1, 10)} | {
        "raw": lambda x, depth: x,
        "centred": lambda x, depth: x - train[depth].mean(0),
        "standardised": lambda x, depth: (x - train[depth].mean(0)) / train[depth].std(0, ddof=1),
    }

    def score(choice, split, correlation):
        depth, way = choice.split()
        sides = zip(*data.pairs(split), strict=True)
        first, second = (ways[way](features(side, depth), depth) for side in sides)
        norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        return correlation(((first * second).sum(1) / norms).round(6), data.scores(split)).statistic

    choices = [f"{depth} {way}" for depth in train for way in ways]
    validation = {choice: score(choice, "validation", stats.spearmanr) for choice in choices}
    best = max(validation, key=validation.get)
    assert found.chosen[0]["depth"] + " " + found.chosen[0]["features"] == best
    assert found.details["validation"][0] == pytest.approx(validation, abs=1e-3)
    assert found.values[0] == pytest.approx(score(best, "test", stats.spearmanr), abs=1e-3)
    assert found.others["pearson"][0] == pytest.approx(score(best, "test", stats.pearsonr), abs=1e-4)
    assert (found.train, found.validation, found.test) == (len(sentences), 30, 30)


@pytest.mark.parametrize("kind", ["transformer", "bag"])
def test_the_depths_of_a_text_begin_with_its_words(tmp_path, kind):
    """Depth 0 is the mean of the embeddings, padding left out; a bag has no other depth."""
    who = subject(order="both")
    if kind == "bag":
        who = Subject(TokenBag(TOKENIZER.vocabulary, 8), TOKENIZER, 64)
    data = labelled(tmp_path)
    rows = {split: who.rows(data, split) for split in ("train", "validation", "test")}
    found = extract(who.backbone, rows["train"], layers=True)
    assert (len(found.layers), found.first) == (1 if kind == "bag" else 2, 0)
    for at, ids in enumerate(TOKENIZER.encode(data.documents("train"))):
        whole = torch.tensor([[*TOKENIZER.prefix, *ids.tolist(), *TOKENIZER.suffix]])
        words = who.backbone.words(whole)[0].mean(0)
        torch.testing.assert_close(found.layers[0][at], words, rtol=1e-5, atol=1e-6)
    probed = evaluate(who.backbone, *rows.values(), Layers(), device="cpu")
    assert probed.details["first"] == [0]
    assert len(probed.details["curve"][0]) == len(found.layers)
    alone = evaluate(WordsAlone(who.backbone), *rows.values(), Linear(), device="cpu")
    assert probed.details["curve"][0][0] == alone.chosen[0]["validation"]
    diagnosed = examine(who, data, Diagnostics())
    assert diagnosed.details["first"] == [0]
    assert len(diagnosed.details["feature_std"][0]) == len(found.layers) + 1


class WordsAlone(TokenBag):
    """The embeddings of another backbone, as a bag."""

    def __init__(self, other):
        super().__init__(other.vocabulary, other.dim)
        self.words = other.words


def test_constant_features_are_worth_nothing():
    assert correlations(1 + np.array([0, 2e-16, -1e-16, 0]), np.arange(4.0)) == {
        "spearman": 0.0,
        "pearson": 0.0,
    }
    ways = dict(readiness(torch.ones(3, 2)))
    assert ways["standardised"](torch.ones(2, 2)).tolist() == [[0, 0], [0, 0]]
    assert ways["whitened-0.1"](torch.ones(2, 2)).tolist() == [[0, 0], [0, 0]]


def test_tfidf_finds_shared_words(tmp_path):
    found = tfidf_similarity(scored_pairs(tmp_path))
    assert found.values[0] > 0.7
    assert found.chosen[0]["units"] in ("words", "letters")
    assert found.others["pearson"][0] > 0.7


def test_similarity_needs_pairs(tmp_path):
    with pytest.raises(DataError, match="no scored pairs"):
        examine(subject(), labelled(tmp_path), Similarity())


# Bits per byte


def test_bits_per_byte_is_a_double_loop(tmp_path):
    texts = ["a first document, é", "second", "a third one that is longer than a row of sixteen"]
    data, who = running(tmp_path, texts), subject(length=16)
    found = examine(who, data, BitsPerByte())
    stream, owner = [], []
    for number, text in enumerate(texts):
        ids = [END, *TOKENIZER.encode([text])[0].tolist()]
        stream, owner = stream + ids, owner + [number] * len(ids)
    total, count = 0.0, 0
    for start in range(0, len(stream) - 16, 16):
        for at in range(start, start + 16):
            seen = [stream[i] for i in range(start, at + 1) if owner[i] == owner[at]]
            total -= log_p(who.backbone, seen)[-1, stream[at + 1]].item()
            count += 1
    bytes_per_token = len("".join(texts).encode()) / (len(stream) - len(texts))
    assert found.others["nats_per_token"][0] == pytest.approx(total / count, rel=1e-5)
    assert found.values[0] == pytest.approx(total / count / math.log(2) / bytes_per_token, rel=1e-5)
    assert found.test * 16 == count


def test_only_a_causal_backbone_with_a_tied_output_is_a_language_model(monkeypatch):
    with pytest.raises(DataError, match="both directions"):
        language_model(model(order="both"))
    other = model()
    monkeypatch.setattr(other, "word_embedding", lambda: torch.nn.Embedding(5, 8))
    with pytest.raises(DataError, match="8 wide and its features 16"):
        language_model(other)


def test_bits_per_byte_needs_running_text(tmp_path):
    with pytest.raises(DataError, match="not running text"):
        BitsPerByte().begin(subject(), scored_pairs(tmp_path), 0)


# In context


def test_loss_by_context():
    losses = torch.arange(1.0, 65.0).repeat(3, 1)  # column t has t + 1 tokens of context, and that loss
    early, late, curve = by_context(losses)
    assert early == np.arange(8, 32).mean()
    assert late == np.arange(49, 65).mean()
    assert len(curve) == 16
    assert curve[0] == {"first": 1, "last": 4, "nats": 2.5}
    assert curve[-1] == {"first": 61, "last": 64, "nats": 62.5}


def test_rows_that_cross_documents_are_left_out(tmp_path):
    segments = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 1]])
    assert undivided(Batch(segments, segments)).tolist() == [True, False, False]
    assert undivided(Batch(segments)).all()
    text = "".join(chr(97 + i % 26) for i in range(300))
    data, who = running(tmp_path, ["short", text]), subject(length=64)
    found = examine(who, data, InContextLoss())
    ids = [END, *TOKENIZER.encode(["short"])[0], END, *TOKENIZER.encode([text])[0]]
    rows = [ids[s : s + 65] for s in range(64, len(ids) - 64, 64)]  # the first crosses
    assert found.test == len(rows) == 3
    loss = [[-log_p(who.backbone, row[:-1])[p - 1, row[p]].item() for p in range(1, 65)] for row in rows]
    mean = np.mean(loss, axis=0)
    assert found.values[0] == pytest.approx(mean[7:31].mean() - mean[48:].mean(), rel=1e-4)
    with pytest.raises(DataError, match="none of the"):
        examine(who, running(tmp_path, ["short"] * 60), InContextLoss())
    with pytest.raises(DataError, match="too short"):
        examine(subject(length=32), data, InContextLoss())


def test_examples_are_balanced_and_nested():
    y = np.array([0] * 20 + [1] * 3 + [2] * 5)
    drawn = examples(y, 7, seed=3)
    assert sorted(np.bincount(y[drawn])) == [2, 2, 3]
    assert examples(y, 2, seed=3) == drawn[:2]
    assert len(set(y[drawn[:3]])) == 3
    assert examples(y, 7, seed=4) != drawn
    assert len(examples(y, 99, seed=0)) == len(y)


def test_prompts_fit_the_row():
    prompts = Prompts(TOKENIZER, ["A", "BB"], 64)
    (ids,) = prompts.build([("a\n text", 1)], ["query"])
    assert ids[0] == END
    assert TOKENIZER.decode(ids) == "a text => BB\nquery =>"
    (ids,) = prompts.build([("x" * 99, 1)] * 2, ["y" * 99])
    assert 58 <= len(ids) + max(map(len, prompts.names)) <= 64
    assert prompts.room(2) == (64 - 1 - 3 * (3 + 3) - 2) // 3


def test_scores_of_names_are_sums_of_log_p():
    who = subject()
    prompts, names = [[END, 7, 8], [END, 9, 10, 11, 12]], [[20], [21, 22, 23]]
    found = name_scores(who, prompts, names)
    for i, prompt in enumerate(prompts):
        for j, name in enumerate(names):
            table = log_p(who.backbone, prompt + name)
            hand = sum(table[len(prompt) + n - 1, one].item() for n, one in enumerate(name))
            assert found[i, j].item() == pytest.approx(hand, rel=1e-4)


def test_in_context_classes(tmp_path):
    data = labelled(tmp_path)
    found = examine(subject(length=48), data, InContextClasses(ks=(0, 1, 9), limit=10), seeds=(0, 1))
    assert set(found.others) == {"accuracy_k0", "accuracy_k1", "accuracy_majority"}
    assert found.values == found.others["accuracy_k1"]
    assert found.test == 10
    assert "k = 9 is left out" in found.details["notes"][0][0]
    who, chosen = subject(length=48), found.chosen[0]
    prompts = Prompts(TOKENIZER, data.classes, 48)
    kept = np.sort(np.random.default_rng(0).permutation(24)[:10])
    queries = [data.documents("test")[i] for i in kept]
    raw = name_scores(who, prompts.build([], queries), prompts.names)
    empty = name_scores(who, prompts.build([], [""]), prompts.names)
    guess = (raw if chosen["score_k0"] == "raw" else raw - empty).argmax(1).numpy()
    assert found.others["accuracy_k0"][0] == np.mean(guess == data.labels("test")[kept])
    with pytest.raises(DataError, match="hold no prompt"):
        examine(subject(length=12), data, InContextClasses())


# Generation

HAND = torch.tensor([[0.1, 0.4, 0.05, 0.3, 0.15]]).log()


@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        (Choice(), [0.1, 0.4, 0.05, 0.3, 0.15]),
        (Choice(temperature=0), [0, 1, 0, 0, 0]),
        (Choice(top_k=2), [0, 4 / 7, 0, 3 / 7, 0]),
        (Choice(top_p=0.69), [0, 4 / 7, 0, 3 / 7, 0]),
        (Choice(top_p=0.71), [0, 8 / 17, 0, 6 / 17, 3 / 17]),
        (Choice(top_p=0.01), [0, 1, 0, 0, 0]),
        (Choice(top_k=2, top_p=0.5), [0, 1, 0, 0, 0]),
        (Choice(temperature=0.5, top_k=2), [0, 16 / 25, 0, 9 / 25, 0]),
    ],
)
def test_what_is_kept(choice, kept):
    assert probabilities(HAND, choice)[0].tolist() == pytest.approx(kept, abs=1e-6)


def test_draws_are_where_the_sum_exceeds():
    p = torch.tensor([[0.25, 0.0, 0.75, 0.0]], dtype=torch.float64).expand(4, -1)
    assert draw(p, torch.tensor([0.0, 0.2499, 0.25, 0.999999])).tolist() == [0, 0, 2, 2]
    assert draw(p * (1 - 1e-9), torch.tensor([1 - 2**-24] * 4)).tolist() == [2] * 4


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -1}, {"temperature": math.inf}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}],
)
def test_impossible_choices_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Choice(**wrong)


def test_temperature_0_is_argmax_within_the_window():
    backbone, prompts = model(), [[END, 70], [END, 80, 90, 100]]
    found = follow(backbone, prompts, 12, 8, Choice(temperature=0), end=-1)
    for prompt, steps in zip(prompts, found, strict=True):
        ids = list(prompt)
        for step in steps:
            p = log_p(backbone, ids[-8:])[-1].exp()
            assert step.id == int(p.argmax())
            assert step.p == pytest.approx(p.max().item(), rel=1e-4)
            likeliest = p.topk(4)
            assert [i for i, _ in step.alternatives] == likeliest.indices[1:].tolist()
            assert [q for _, q in step.alternatives] == pytest.approx(likeliest.values[1:].tolist(), rel=1e-4)
            ids.append(step.id)
        assert len(steps) == 12


def test_the_same_seed_gives_the_same_text():
    backbone, state = model(), torch.random.get_rng_state()

    def texts(prompts, seed):
        made = generate(backbone, TOKENIZER, prompts, tokens=20, length=16, choice=Choice(seed=seed))
        return [one.text for one in made]

    first = texts(["ab", "c"], 0)
    assert first == texts(["ab", "c"], 0)
    assert first[:1] == texts(["ab"], 0), "whatever the other rows are"
    assert first != texts(["ab", "c"], 1)
    assert len(set(texts(["ab"] * 3, 0))) == 3, "rows draw for themselves"
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_document_ends_and_special_ids_are_not_drawn():
    (steps,) = follow(model(), [[END, 5]], 200, 16, Choice(temperature=5), end=END, never=[0, 2])
    assert not {0, 2} & {step.id for step in steps}
    only = [i for i in range(259) if i != END]
    (ended,) = follow(model(), [[END, 5]], 50, 16, Choice(), end=END, never=only)
    assert [step.id for step in ended] == [END]
    assert ended[0].p == 1
    (made,) = generate(model(), TOKENIZER, ["a"], tokens=3, length=16)
    assert made.prompt == "a"
    assert len(made.tokens) == 3
    assert not made.ended
    with pytest.raises(DataError, match="without ids"):
        follow(model(), [[]], 1, 16, Choice(), end=END)
    for tokens, length in ((-1, 16), (1, 0)):
        with pytest.raises(ValueError, match=f"{tokens=}, {length=}"):
            follow(model(), [[END]], tokens, length, Choice(), end=END)


def test_draws_follow_the_models_distribution():
    """Chi-square over ids that are expected at least 5 times, the others taken together."""
    backbone, prompt, count = model(), [END, 70, 71], 2000
    drawn = [s[0].id for s in follow(backbone, [prompt] * count, 1, 16, Choice(), end=END)]
    p = log_p(backbone, prompt)[-1].exp().double().numpy()
    seen = np.bincount(drawn, minlength=len(p)).astype(float)
    often = p * count >= 5
    expected = np.append(p[often], p[~often].sum())
    observed = np.append(seen[often], seen[~often].sum())
    assert len(expected) > 5
    assert stats.chisquare(observed, expected / expected.sum() * count).pvalue > 0.01


# Completion


def test_chrf_is_sacrebleus():
    rng = np.random.default_rng(0)
    guesses = ["the cat sat on the mat", "a dog", "", "x y z loc"]
    truths = ["the cat is on a mat", "the dog runs", "hum", "x"]
    for _ in range(40):
        guesses.append("".join(rng.choice(list("ab c"), rng.integers(0, 12))))
        truths.append("a" + "".join(rng.choice(list("ab c"), rng.integers(0, 12))))
    for some in (slice(None), slice(0, 2), slice(2, 3), slice(3, 4), slice(4, 9)):
        theirs = sacrebleu.corpus_chrf(guesses[some], [truths[some]]).score / 100
        assert chrf(guesses[some], truths[some]) == pytest.approx(theirs, abs=1e-9)
    assert chrf(["abc"], ["abc"]) == 1


def test_loss_is_that_of_the_completions_alone():
    backbone = model()
    rows = [Example([END, 9, 10, 30, 31, END], 3), Example([END, 11, 12, 13, 32, END], 4)]
    hand = []
    for ids, prompt in rows:
        for at in range(prompt, len(ids)):
            hand.append(-F.log_softmax(log_p(backbone, ids[:at])[-1], 0)[ids[at]].item())
    found = completion_nats(backbone, rows)
    assert found.tolist() == pytest.approx(hand, rel=1e-4)
    assert len(found) == 3 + 2


def test_prompt_and_completion_fit_the_row(tmp_path):
    (one, two) = pair_rows.join(TOKENIZER, ["ask", "x" * 99], ["say", "y" * 99], 32)
    assert TOKENIZER.decode(one.ids[: one.prompt]) == "ask =>"
    assert TOKENIZER.decode(one.ids[one.prompt :]) == " say"
    assert one.ids[-1] == END == end_of_document(TOKENIZER)
    assert len(two.ids) == 32
    assert len(two.ids) - two.prompt == 16
    with pytest.raises(DataError, match="no room"):
        pair_rows.join(TOKENIZER, ["a"], ["b" * 99], 8)
    kept = completion.pairs(scored_pairs(tmp_path), "train", 4.0)
    scores = scored_pairs(tmp_path).scores("train")
    assert len(kept) == (scores >= 4).sum() > 0


def test_batches_are_functions_of_seed_and_step():
    assert pair_rows.draw(50, 8, 0, 3).tolist() == pair_rows.draw(50, 8, 0, 3).tolist()
    assert pair_rows.draw(50, 8, 0, 3).tolist() != pair_rows.draw(50, 8, 0, 4).tolist()
    assert sorted(pair_rows.draw(5, 8, 1, 0)) == [0, 1, 2, 3, 4]


def test_completion_learns_and_leaves_all_as_it_was(tmp_path):
    data, who = labelled(tmp_path), subject(length=32, width=32, dropout=0.1)
    before = {name: value.clone() for name, value in who.backbone.state_dict().items()}
    state = torch.random.get_rng_state()
    measure = Completion(lrs=(1e-6, 1e-2), steps=80, batch_size=16)
    found = examine(who, data, measure, seeds=(0,))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in who.backbone.state_dict().items())
    assert not who.backbone.training
    assert found.chosen[0]["lr"] == 1e-2
    assert found.values[0] == 1.0, found.details
    assert found.others["chrf"][0] == pytest.approx(1.0)
    assert found.others["commonest_exact_match"] == (0.5,)
    again = examine(who, data, measure, seeds=(0,))
    assert again.chosen == found.chosen


def test_a_rate_of_completion_that_diverges_is_not_chosen(tmp_path):
    data, who = labelled(tmp_path), subject(length=32)
    with pytest.warns(UserWarning, match=r"diverged with lr=1e\+30"):
        found = examine(who, data, Completion(lrs=(1e30, 1e-3), steps=2), seeds=(0,))
    assert found.chosen[0]["lr"] == 1e-3
    with pytest.warns(UserWarning, match="diverged"), pytest.raises(DataError, match="diverged with all of"):
        examine(who, data, Completion(lrs=(1e30,), steps=2), seeds=(0,))
    with pytest.raises(ValueError, match="lrs is empty"):
        examine(who, data, Completion(lrs=()), seeds=(0,))


def test_running_texts_are_sealed_too(tmp_path):
    sealed = Unopened(labelled(tmp_path))
    assert len(list(sealed.texts("train"))) == 18
    for reader in (sealed.texts, sealed.documents, sealed.labels):
        with pytest.raises(DataError, match="the test split of letters is sealed"):
            reader("test")


def test_completion_of_pairs(tmp_path):
    found = examine(subject(length=64), scored_pairs(tmp_path), Completion(lrs=(1e-3,), steps=2), seeds=(0,))
    truth = [second for (_, second), s in scored(tmp_path, "test") if s >= 4]
    first = [first for (first, _), s in scored(tmp_path, "test") if s >= 4]
    assert found.test == len(truth)
    assert found.others["copied_chrf"][0] == pytest.approx(sacrebleu.corpus_chrf(first, [truth]).score / 100)


def scored(folder, split):
    data = scored_pairs(folder)
    return zip(data.pairs(split), data.scores(split), strict=True)
