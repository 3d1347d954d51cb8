"""Text that is written after a prefix, behind marks, and in the places of masks.

References: the objectives' own states at the same places; plain loops that encode everything again; the laws
of the samplers, by chi-square; hand-worked rows.
"""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from ssl_zoo import hub
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_formats import Prefixed
from ssl_zoo.data.tokenizer import bytes_tokenizer
from ssl_zoo.noise import rand, seed_noise, uniform
from ssl_zoo.objectives import prefix_lm, span_corruption
from ssl_zoo.objectives._base import Batch, Sum
from ssl_zoo.objectives.fill_in_the_middle import FillInTheMiddle
from ssl_zoo.objectives.masked_diffusion import MaskedDiffusion
from ssl_zoo.objectives.masked_lm import MaskedLM
from ssl_zoo.objectives.multi_token import MultiToken
from ssl_zoo.objectives.next_token import NextToken
from ssl_zoo.objectives.prefix_lm import PrefixLM
from ssl_zoo.objectives.span_corruption import SpanCorruption
from ssl_zoo.transfer import pair_rows, unmasking
from ssl_zoo.transfer.causal import Example, completion_nats, inputs_first, language_model, writer
from ssl_zoo.transfer.completion import Completion
from ssl_zoo.transfer.generate import Choice, follow, generate
from ssl_zoo.transfer.measures import Subject, examine
from ssl_zoo.transfer.reading import last_states
from ssl_zoo.transfer.sampling import draw, probabilities
from ssl_zoo.transfer.unmasking import surest, unmasking_nats
from ssl_zoo.views.masks import prefixes
from ssl_zoo.views.noise_spans import noise_spans

TOKENIZER = bytes_tokenizer()
V, END, MASK = TOKENIZER.vocabulary.size, 1, 2
WAYS = ("next", "prefix", "spans", "masks")
GREEDY = Choice(temperature=0)


def model(writes=None, seed=0, width=16, depth=2) -> TextTransformer:
    """A tiny transformer whose predictions are far from uniform.

    With one block less, what an id says would not depend on what the ids that it sees see themselves.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = TextTransformer(TOKENIZER.vocabulary, width=width, depth=depth, heads=2)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    made.order = "causal" if writes == "next" else "both"
    made.writes = writes
    return made.eval()


@torch.no_grad()
def logits_of(backbone, ids, order="both") -> torch.Tensor:
    """The logits at each of ids, from the trunk alone: (T, V)."""
    order = torch.tensor([order]) if isinstance(order, list) else order
    tokens = backbone.encode(backbone.embed(torch.tensor([ids])), order=order).tokens[0]
    return tokens @ backbone.words.weight.T


# How a backbone writes


@pytest.mark.parametrize(
    ("objective", "writes"),
    [
        (NextToken, "next"),
        (MultiToken, "next"),
        (FillInTheMiddle, "next"),
        (PrefixLM, "prefix"),
        (SpanCorruption, "spans"),
        (MaskedDiffusion, "masks"),
        (MaskedLM, None),
    ],
)
def test_a_saved_backbone_writes_as_its_objective_taught_it(tmp_path, objective, writes):
    backbone = model("masks" if writes != "masks" else "prefix")
    objective(backbone)
    assert backbone.writes == writes, "whatever an earlier objective said"
    folder = hub.save(backbone, tmp_path / "backbone")
    about = json.loads((folder / "config.json").read_text())
    assert about.get("writes") == (None if writes == "next" else writes)
    assert hub.load(folder).writes == writes
    into = model("spans")
    assert hub.load(folder, into) is into
    assert (into.writes, into.order) == (writes, backbone.order)
    assert hub.build(hub.describe(backbone)).writes == writes


def test_a_description_from_before_is_read_and_a_strange_one_refused(tmp_path):
    folder = hub.save(model("masks"), tmp_path / "backbone")
    about = json.loads((folder / "config.json").read_text())
    for order, writes in (("both", None), ("causal", "next")):
        old = {key: value for key, value in about.items() if key != "writes"} | {"order": order}
        (folder / "config.json").write_text(json.dumps(old))
        assert hub.load(folder).writes == writes
    for strange in ("backwards", 1, ["next"], {}):
        (folder / "config.json").write_text(json.dumps(about | {"writes": strange}))
        for into in (None, model()):
            with pytest.raises(hub.HubError, match="one of the ways next, prefix, spans, masks, not"):
                hub.load(folder, into)
    one_way = model()
    one_way.orders = frozenset({"both"})
    (folder / "config.json").write_text(json.dumps(about | {"writes": "prefix"}))
    with pytest.raises(hub.HubError, match="cannot write 'prefix': it cannot read 'causal'"):
        hub.load(folder, one_way)


def test_a_sum_writes_as_its_first_term_that_does():
    for terms, writes, order in (
        ((MaskedLM, PrefixLM, NextToken), "prefix", "both"),
        ((NextToken, PrefixLM), "next", "causal"),
        ((MaskedLM, NextToken), "next", "both"),
        ((MaskedLM, MaskedLM), None, "both"),
    ):
        backbone = model("masks")
        objective = Sum(backbone, {str(i): term for i, term in enumerate(terms)})
        assert (backbone.writes, backbone.order, objective.writes) == (writes, order, writes)


def test_who_is_refused_and_why(monkeypatch):
    for writes in WAYS:
        assert writer(model(writes)).writes == writes
    assert language_model(model("next"))
    for writes, why in (
        ("masks", "both directions, so it has no next token"),
        (None, "both directions, so it has no next token"),
        ("prefix", "both directions what it then goes on from"),
        ("spans", "both directions what it then goes on from"),
    ):
        with pytest.raises(DataError, match=f"{why}.* objective=next_token"):
            language_model(model(writes))
    with pytest.raises(DataError, match=r"not pretrained to write: .*prefix_lm, span_corruption or masked_d"):
        follow(model(), [[END]], 1, 8, GREEDY, end=END)
    with pytest.raises(DataError, match="an exported backbone has no marks"):
        generate(model("spans"), TOKENIZER, ["a"])
    with pytest.raises(ValueError, match="marks stand for spans, and this TextTransformer writes 'masks'"):
        follow(model("masks"), [[END]], 1, 8, GREEDY, end=END, marks=torch.zeros(2, 16))
    with pytest.raises(ValueError, match="no room for 8 masks"):
        follow(model("masks"), [[END]], 8, 8, GREEDY, end=END)
    with pytest.raises(ValueError, match="1 step or more, not 0"):
        follow(model("masks"), [[END]], 4, 8, GREEDY, end=END, steps=0)
    maskless = model("masks")
    maskless.vocabulary = maskless.vocabulary._replace(mask=None)
    with pytest.raises(DataError, match="this tokenizer has none"):
        follow(maskless, [[END]], 4, 8, GREEDY, end=END)
    untied = model("prefix")
    monkeypatch.setattr(untied, "word_embedding", lambda: torch.nn.Embedding(5, 8))
    with pytest.raises(DataError, match="8 wide and its features 16"):
        writer(untied)


# After a prefix


@pytest.fixture
def scored(monkeypatch):
    """What an objective hands to `score_tokens`: states, targets, and which of them are scored."""
    found = {}

    def catch(module):
        real = module.score_tokens

        def spy(hidden, weight, target, which, *args, **kwargs):
            found.update(hidden=hidden.detach(), target=target, which=which)
            return real(hidden, weight, target, which, *args, **kwargs)

        monkeypatch.setattr(module, "score_tokens", spy)
        return found

    return catch


def test_after_a_prefix_the_states_are_those_of_training(scored):
    backbone, ids = model().double(), torch.randint(3, V, (1, 15), generator=torch.Generator().manual_seed(0))
    found = scored(prefix_lm)
    objective = PrefixLM(backbone).double()
    seed_noise(0, 0)
    objective(Batch(ids))
    seed_noise(0, 0)
    order, after = prefixes(rand(1, 14), torch.zeros(1, 14, dtype=torch.int64))
    prefix = int((order == 0).sum())
    assert 1 < prefix < 12
    assert found["which"].tolist() == after[0].tolist()
    for at in after[0].nonzero()[:, 0].tolist():
        state = last_states(backbone, [ids[0, : at + 1].tolist()], [prefix], torch.device("cpu"))
        torch.testing.assert_close(state[0], found["hidden"][at], rtol=1e-12, atol=1e-12)


def test_behind_a_mark_the_probabilities_are_those_of_training(scored):
    backbone, found = model().double(), scored(span_corruption)
    objective = SpanCorruption(backbone, rate=0.2, span=4.0, marks=3).double()
    torch.nn.init.normal_(objective.marks.weight)
    ids = torch.randint(3, V, (1, 20), generator=torch.Generator().manual_seed(0))
    for step in range(400):  # until the one span is the text's end, which is what follows a prompt
        seed_noise(0, step)
        starts, lengths = noise_spans(rand(1, 19), 0.2, 4.0)
        if starts.shape[1] == 1 and int(starts + lengths) == 20:
            break
    seed_noise(0, step)
    objective(Batch(ids))
    prompt, hidden = ids[0, : int(starts)].tolist(), ids[0, int(starts) :].tolist()
    assert found["target"].tolist() == [V, *hidden, END], "mark 0, the span, the end"
    words = torch.cat([backbone.words.weight, objective.marks.weight])
    for n in range(len(hidden) + 1):
        p = (found["hidden"][n + 1] @ words.T).softmax(0).detach()
        over = p[END] + p[V + 1]  # the end, or the mark of the next span
        rest = p[:V].sum() + p[V + 1]
        row = [*prompt, V, END, V, *hidden[:n]]
        mark = objective.marks.weight[0].detach()
        state = last_states(backbone, [row], [len(prompt) + 2], torch.device("cpu"), mark)
        torch.testing.assert_close(state[0], found["hidden"][n + 1], rtol=1e-12, atol=1e-12)
    (steps,) = follow(backbone, [prompt], 1, 99, GREEDY, end=END, marks=objective.marks.weight)
    p = (found["hidden"][1] @ words.T).softmax(0).detach()
    over, rest = p[END] + p[V + 1], p[:V].sum() + p[V + 1]
    told = torch.cat([p[:END], over[None], p[END + 1 : V]]) / rest
    assert steps[0].id == int(told.argmax())
    assert steps[0].p == pytest.approx(told.max().item(), rel=1e-5)
    assert steps[0].alternatives[0][1] == pytest.approx(told.topk(2).values[1].item(), rel=1e-5)


@torch.no_grad()
def test_mark_1_ends_a_span():
    backbone = model("spans")
    state = last_states(backbone, [[5, V, END, V]], [3], torch.device("cpu"), torch.zeros(16))[0]
    marks = torch.stack([torch.zeros(16), 50 * state])
    (steps,) = follow(backbone, [[5]], 9, 99, Choice(), end=END, marks=marks)
    assert [step.id for step in steps] == [END]
    assert steps[0].p > 0.99
    (made,) = generate(backbone, TOKENIZER, ["a"], marks=marks.flip(0))
    assert made.tokens[0].text
    assert made.prompt == "a"


def test_inputs_come_first():
    assert inputs_first([3, 1, -1], 5, torch.device("cpu")).tolist() == [
        [0, 0, 0, 1, 2],
        [0, 1, 2, 3, 4],
        [2, 3, 4, 5, 6],
    ]


@pytest.mark.parametrize("writes", ["prefix", "spans"])
def test_a_prefix_is_continued_as_by_a_loop(writes):
    """Rows of several lengths, whose windows lose part of the prompts, and in the end all of one."""
    backbone, prompts = model(writes), [[END, 70], [END, 80, 90, 100, 110]]
    found = follow(backbone, prompts, 12, 8, GREEDY, end=-1)
    for prompt, steps in zip(prompts, found, strict=True):
        ids, inputs = list(prompt), len(prompt)
        for step in steps:
            while len(ids) > 8:
                ids, inputs = ids[1:], inputs - 1
            order = [max(0, i - inputs + 1) for i in range(len(ids))]
            p = logits_of(backbone, ids, order)[-1].softmax(0)
            assert step.id == int(p.argmax())
            assert step.p == pytest.approx(p.max().item(), rel=1e-4)
            ids.append(step.id)
        assert inputs < 1 or len(prompt) > 2
    causal = model("next")
    assert follow(causal, prompts, 3, 8, GREEDY, end=-1) != [steps[:3] for steps in found]


@pytest.mark.parametrize("writes", WAYS)
def test_rows_draw_for_themselves(writes):
    backbone, state = model(writes), torch.random.get_rng_state()

    def ids(prompts, seed):
        runs = follow(backbone, prompts, 12, 24, Choice(seed=seed), end=END, never=[0, 2])
        return [[step.id for step in run] for run in runs]

    one, two = [END, 70, 71], [END, 80, 90, 100, 110]
    first = ids([one, two], 0)
    assert first == ids([one, two], 0)
    assert first[:1] == ids([one], 0), "whatever the other rows are"
    assert first != ids([one, two], 1)
    assert len({tuple(row) for row in ids([one] * 3, 0)}) == 3
    assert not {0, 2} & {i for row in first for i in row}
    assert torch.equal(state, torch.random.get_rng_state())
    assert follow(backbone, [], 3, 24, GREEDY, end=END) == []
    assert follow(backbone, [one], 0, 24, GREEDY, end=END) == [[]]


# In the places of masks


@pytest.fixture
def writing(monkeypatch):
    """Every call of `Canvas.write`: (rows, columns, ids), after a check that it writes over masks alone."""
    calls, real = [], unmasking.Canvas.write

    def spy(canvas, row, column, steps, end):
        assert canvas.hidden[row, column].all()
        assert (canvas.x[row, canvas.at[row, column]] == MASK).all()
        before = canvas.x.clone()
        real(canvas, row, column, steps, end)
        before[row, canvas.at[row, column]] = torch.tensor([step.id for step in steps])
        assert torch.equal(before, canvas.x), "nothing else is changed"
        calls.append((row, column, [step.id for step in steps]))

    monkeypatch.setattr(unmasking.Canvas, "write", spy)
    return calls


@torch.no_grad()
def test_masks_are_drawn_by_their_law(writing):
    """A trunk without blocks says the same of every mask, so that all ids are drawn from one distribution."""
    backbone, rows, tokens, steps = model("masks", depth=0), 400, 10, 5
    found = follow(backbone, [[END, 70]] * rows, tokens, 32, Choice(), end=-1, never=[0], steps=steps)
    assert len(writing) == steps
    left = rows * tokens
    for k, (row, _, _) in enumerate(writing):  # of what is hidden, (t - s) / t with t = 1 - k / steps
        share = 1 / (steps - k)
        assert stats.binomtest(len(row), left, share).pvalue > 0.001
        counts = row.bincount(minlength=rows)
        assert k == steps - 1 or counts.double().var() > 0.5, "places are unmasked for themselves"
        left -= len(row)
    assert left == 0
    logits = logits_of(backbone, [MASK])[0].double()
    logits[[MASK, 0]] = -math.inf
    p = logits.softmax(0)
    seen = np.bincount([step.id for run in found for step in run], minlength=V).astype(float)
    assert seen[[0, MASK]].sum() == 0
    assert all(step.p == pytest.approx(p[step.id].item(), rel=1e-4) for run in found[:5] for step in run)
    often = p.numpy() * rows * tokens >= 5
    expected = np.append(p.numpy()[often], p.numpy()[~often].sum())
    observed = np.append(seen[often], seen[~often].sum())
    assert len(expected) > 5
    assert stats.chisquare(observed, expected * rows * tokens).pvalue > 0.001


def test_each_draw_knows_what_was_written_before(writing):
    """The sampler once more, as a loop over steps and places."""
    backbone, prompts, tokens, steps = model("masks"), [[END, 70], [END, 80, 90]], 6, 4
    choice = Choice(temperature=0.7, top_k=9, seed=3)
    found = follow(backbone, prompts, tokens, 16, choice, end=-1, steps=steps)
    for i, prompt in enumerate(prompts):
        ids, noise = [*prompt, *[MASK] * tokens], choice.noise(i, 2, tokens)
        for k in range(steps):
            logits = logits_of(backbone, ids)
            logits[:, MASK] = -math.inf
            for j in range(tokens):
                if k / steps <= noise[0, j] < (k + 1) / steps:
                    at = len(prompt) + j
                    p = probabilities(logits[at : at + 1], choice)
                    ids[at] = int(draw(p, noise[1, j : j + 1]))
                    assert found[i][j].p == pytest.approx(logits[at].softmax(0)[ids[at]].item(), rel=1e-4)
                    assert len(found[i][j].alternatives) == 3
        assert ids[len(prompt) :] == [step.id for step in found[i]]


@pytest.mark.parametrize("steps", [None, 3, 1, 99])
def test_the_surest_masks_come_first_as_by_a_loop(steps, writing):
    backbone, prompts, tokens = model("masks"), [[END, 70], [END, 80, 90, 100]], 8
    found = follow(backbone, prompts, tokens, 16, GREEDY, end=-1, never=[0], steps=steps)
    plan = {None: [1] * 8, 3: [3, 3, 2], 1: [8], 99: [1] * 8}[steps]
    assert [len(row) for row, _, _ in writing] == [2 * count for count in plan]
    for prompt, run in zip(prompts, found, strict=True):
        ids = [*prompt, *[MASK] * tokens]
        for count in plan:
            logits = logits_of(backbone, ids)
            logits[:, [MASK, 0]] = -math.inf
            p, best = logits.softmax(1).max(1)
            open_ = [i for i in range(len(ids)) if ids[i] == MASK]
            for i in sorted(open_, key=lambda i: -p[i].item())[:count]:
                ids[i] = int(best[i])
        assert [step.id for step in run] == ids[len(prompt) :]


def test_of_equally_sure_places_the_first():
    sure = torch.tensor([0.5, 0.9, 0.5, 0.5, 0.1, 0.2])
    row = torch.tensor([0, 0, 0, 3, 3, 3])
    assert surest(sure, row, 2).tolist() == [0, 1, 3, 5]
    assert surest(sure, row, 9).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("choice", [GREEDY, Choice()])
def test_filled_in_text_stops_at_its_first_end(choice):
    backbone = model("masks")
    long = follow(backbone, [[END, 70], [END, 80]], 12, 20, choice, end=-1)
    for stop in (0, 5, 11):  # whichever id stands there becomes the end
        end = long[0][stop].id
        first = next(i for i, step in enumerate(long[0]) if step.id == end)
        cut = follow(backbone, [[END, 70], [END, 80]], 12, 20, choice, end=end)
        assert [step.id for step in cut[0]] == [step.id for step in long[0][: first + 1]]
        assert [s.p for s in cut[0]] == pytest.approx([s.p for s in long[0][: first + 1]], rel=1e-4)
    windows = follow(backbone, [[END, *range(70, 100)]], 12, 20, choice, end=-1)
    assert windows == follow(backbone, [[*range(92, 100)]], 12, 20, choice, end=-1), "the earliest leave"
    (made,) = generate(backbone, TOKENIZER, ["ab"], tokens=6, length=16, steps=2)
    assert len(made.tokens) == 6 or made.ended


# Completion


def rows(lengths=((3, 3), (4, 3))):
    draws = np.random.default_rng(0)
    return [Example(draws.integers(3, V, a + b).tolist(), a) for a, b in lengths]


@pytest.mark.parametrize("writes", ["prefix", "spans"])
def test_completions_after_a_prefix_are_scored_as_by_a_loop(writes):
    backbone, examples = model(writes), rows(((3, 3), (5, 2), (1, 4)))
    hand = []
    for ids, prompt in examples:
        for at in range(prompt, len(ids)):
            order = [max(0, i - prompt + 1) for i in range(at)]
            hand.append(-F.log_softmax(logits_of(backbone, ids[:at], order)[-1], 0)[ids[at]].item())
    assert completion_nats(backbone, examples).tolist() == pytest.approx(hand, rel=1e-4)


def test_hidden_completions_are_scored_as_by_a_loop():
    backbone, examples = model("masks"), rows()
    found = unmasking_nats(backbone, examples, key=7)
    noise = uniform(7, 0, 7, torch.device("cpu")).tolist()
    hidden = 0
    for b, (ids, prompt) in enumerate(examples):
        t = 1e-3 + (1 - 1e-3) * (b + noise[0]) / 2
        at = [prompt + i for i in range(3) if noise[1 + 3 * b + i] < t]
        hidden += len(at)
        logits = logits_of(backbone, [MASK if i in at else one for i, one in enumerate(ids)])
        logits[:, MASK] = -math.inf
        for i in range(3):
            nats = -F.log_softmax(logits[prompt + i], 0)[ids[prompt + i]].item()
            want = nats / t if prompt + i in at else 0.0
            assert found[b, i].item() == pytest.approx(want, rel=1e-4)
    assert 0 < hidden < 6
    assert torch.equal(found, unmasking_nats(backbone, examples, key=7))
    assert not torch.equal(found, unmasking_nats(backbone, examples, key=8))
    with pytest.raises(ValueError, match=r"one length, not \[3, 4\]"):
        unmasking_nats(backbone, rows(((3, 3), (4, 4))), key=0)


def test_a_backbone_that_knows_nothing_is_at_the_log_of_the_ids():
    backbone, examples = model("masks"), rows([(3, 4)] * 16)
    torch.nn.init.zeros_(backbone.words.weight)
    found = [unmasking_nats(backbone, examples, key).mean().item() for key in range(400)]
    assert np.mean(found) == pytest.approx(math.log(V - 1), rel=0.06)  # 4 standard errors: weights are 1 / t


def test_prompts_are_closed_and_completions_filled_up():
    (one, two) = pair_rows.join(TOKENIZER, ["ask", "x" * 99], ["say", "yes"], 16, [END], fill=6)
    assert TOKENIZER.decode(one.ids[: one.prompt]) == "ask =>"
    assert one.ids[one.prompt - 1] == END
    assert one.ids[one.prompt :] == [*TOKENIZER.encode([" say"])[0].tolist(), END, END]
    assert len(two.ids) == 16
    assert len(two.ids) - two.prompt == 6
    (cut,) = pair_rows.join(TOKENIZER, ["ask"], ["sayings"], 32, fill=4)
    assert TOKENIZER.decode(cut.ids[cut.prompt :]) == " say"


WORDS = ("ant", "bee", "cow", "doe")


def copying(folder) -> TextData:
    """The first of two words and a number is the completion; no text of test is in train."""

    def file(name, seed):
        draws = np.random.default_rng(seed)
        texts = [(*draws.choice(WORDS, 2), seed * 100 + i) for i in range(64)]
        path = folder / f"{name}.txt"
        path.write_text("".join(f"{a}:- {a} {b} {i}\n" for a, b, i in texts))
        return path

    files = {name: file(name, i) for i, name in enumerate(("train", "test"), 1)}
    return TextData("copying", **files, format=Prefixed(until=":"), validation_fraction=0.25, cache=folder)


@pytest.mark.parametrize("writes", WAYS)
def test_completion_learns_to_copy_a_word(tmp_path, writes):
    torch.manual_seed(0)
    backbone = TextTransformer(TOKENIZER.vocabulary, width=32, depth=2, heads=2).eval()
    backbone.order, backbone.writes = "causal" if writes == "next" else "both", writes
    who, state = Subject(backbone, TOKENIZER, 32), torch.random.get_rng_state()
    measure = Completion(lrs=(1e-2,), steps=150, batch_size=32)
    found = examine(who, copying(tmp_path), measure, seeds=(0,))
    assert found.values[0] > 0.9, found.details
    assert found.others["commonest_exact_match"][0] < 0.4
    assert found.chosen[0]["validation"] < 0.5
    assert torch.equal(state, torch.random.get_rng_state())
    assert backbone.writes == writes
    if writes == "masks":  # what is hidden is a function of (seed, step)
        assert examine(who, copying(tmp_path), measure, seeds=(0,)).chosen == found.chosen
