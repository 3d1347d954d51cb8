"""A backbone tuned on prompts and completions, kept in a folder, opened again, and asked."""

import json

import pytest
import torch

import ssl_zoo
from ssl_zoo import ConfigError, DataError, HubError
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.data.tokenizer import bytes_tokenizer
from ssl_zoo.transfer import model_file, tuned_completion
from ssl_zoo.transfer.completion import Completion, Tuned, complete
from ssl_zoo.transfer.measures import Subject
from ssl_zoo.transfer.tuned_completion import apart, tune_completion

TOKENIZER = bytes_tokenizer()
WORDS = ("ant", "bee", "cow", "doe")
# The first of two words is the answer.
PAIRS = [(f"{a} {b} {i}", a) for i in range(10) for a in WORDS for b in WORDS]
QUICK = Completion(lrs=(1e-2,), steps=120, batch_size=32)


def subject(writes="next", length=32):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = TextTransformer(TOKENIZER.vocabulary, width=32, depth=2, heads=2).eval()
    backbone.order, backbone.writes = "causal" if writes == "next" else "both", writes
    return Subject(backbone, TOKENIZER, length)


@pytest.mark.parametrize("writes", ["next", "spans", "masks"])
def test_a_model_is_tuned_kept_and_asked(tmp_path, writes):
    who, folder = subject(writes), tmp_path / "models/copy"
    before = {name: value.clone() for name, value in who.backbone.state_dict().items()}
    made = tune_completion(who, PAIRS, folder, measure=QUICK)
    assert all(torch.equal(before[name], value) for name, value in who.backbone.state_dict().items())
    assert sorted(path.name for path in folder.iterdir()) == ["backbone", "model.json", "tokenizer"]
    about = json.loads((folder / "model.json").read_text())
    assert (about["format"], about["task"]) == (1, "completion")
    assert about["reads"] == {"length": 32, "completion": 5}  # a space, three letters and the end
    assert about["made"]["pairs"] == {"train": 144, "validation": 16}
    assert about["scores"]["validation"]["exact_match"] > 0.8
    model = tuned_completion.load(folder)
    assert model.form == made.form._replace(tokenizer=model.form.tokenizer)
    assert model.about == made.about
    start = model.form.starts(["ask"], 5)[0]
    assert TOKENIZER.decode(start) == "ask =>"
    assert (start[-1] == TOKENIZER.vocabulary.separator) == (writes == "spans")
    asked = ["bee cow 7", "cow doe 8", "doe  ant\n9"]
    tuned = Tuned(made.subject.backbone, made.form, 0.0, 0.0, 0, 0)
    wanted = complete(tuned, [(one, "") for one in asked], who.device)
    found = ssl_zoo.generate(folder, asked, progress=False)
    assert found == wanted, "in the form that it was tuned on, greedily"
    assert sum(a == b for a, b in zip(found, ("bee", "cow", "doe"), strict=True)) >= 2
    assert ssl_zoo.generate(folder, asked[0], seed=1) == found[:1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that has hardly learned anything."""
    where = tmp_path_factory.mktemp("models") / "a"
    tune_completion(subject(), PAIRS, where, measure=Completion(lrs=(1e-3,), steps=2))
    return where


def test_pairs_come_from_files(tmp_path, folder):
    (tmp_path / "train.csv").write_text("id,question,answer\n" + "".join(f"1,{a},{b}\n" for a, b in PAIRS))
    rows = [json.dumps({"q": a, "a": b}) for a, b in PAIRS[:8]]
    (tmp_path / "held.jsonl").write_text("\n".join(rows))
    quick = Completion(lrs=(1e-3, 1e-2), steps=3)
    made = tune_completion(subject(), tmp_path / "train.csv", tmp_path / "a", measure=quick)
    assert made.about["made"]["data"] == {"train": str(tmp_path / "train.csv")}
    assert made.about["made"]["lr"] == 1e-2, "of the two the better one"
    again = tune_completion(subject(), PAIRS, tmp_path / "a", measure=quick)
    same = zip(made.subject.backbone.parameters(), again.subject.backbone.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    with pytest.raises(DataError, match=r"held.jsonl has no column called prompt, .* but q, a"):
        tune_completion(subject(), PAIRS, tmp_path / "b", validation=tmp_path / "held.jsonl", measure=quick)
    named = {"prompt": "q", "completion": "a"}
    held = tmp_path / "held.jsonl"
    other = tune_completion(subject(), PAIRS, tmp_path / "b", validation=held, measure=quick, **named)
    assert other.about["made"]["pairs"] == {"train": 160, "validation": 8}


def test_a_tenth_is_held_out():
    fitted, held = apart(PAIRS)
    assert (len(fitted), len(held)) == (144, 16)
    assert sorted([*fitted, *held]) == sorted(PAIRS)
    assert [len(part) for part in apart(PAIRS[:2])] == [1, 1]
    with pytest.raises(DataError, match="give two or more"):
        apart(PAIRS[:1])


def test_prompts_are_cut_at_their_end_and_that_is_said(folder):
    heard: list[str] = []
    ssl_zoo.generate(folder, "x" * 40, progress=heard.append)
    # 32 in a row: the beginning, 22 of the prompt, " =>" and 5 of an answer
    assert heard == ["the prompt has 40 tokens, of which the first 23 are read (length=32)"]
    answer = ssl_zoo.generate(folder, "x" * 40, length=64, progress=heard.append)
    assert len(heard) == 1
    assert len(answer) == 1


def test_what_cannot_be_is_refused(tmp_path, folder):
    for prompt in (None, " ", ["a", ""]):
        with pytest.raises(ConfigError, match="a tuned model answers a prompt: give prompt=TEXT"):
            ssl_zoo.generate(folder, prompt)
    with pytest.raises(DataError, match="rows of 32 tokens have no room"):
        ssl_zoo.generate(folder, "a", tokens=30)
    with pytest.raises(DataError, match=r"not pretrained to write: .*objective=next_token"):
        tune_completion(subject(None), PAIRS, tmp_path / "a")
    with pytest.raises(DataError, match="no pairs to train on"):
        tune_completion(subject(), PAIRS, tmp_path / "a", validation=[])
    assert not (tmp_path / "a").exists()
    for about, why in (
        ({"task": "classes"}, "was tuned for 'classes', and not for 'completion'"),
        ({"format": 2}, "is not of format 1: use the ssl_zoo that wrote it"),
        ({"reads": {"length": 0, "completion": 3}}, "does not say how many ids"),
        ({"reads": None}, "does not say how many ids"),
    ):
        other = tmp_path / "other"
        other.mkdir(exist_ok=True)
        kept = json.loads((folder / "model.json").read_text()) | about
        (other / "model.json").write_text(json.dumps(kept))
        with pytest.raises(HubError, match=why):
            ssl_zoo.generate(other, "a")
    (other / "model.json").write_text("{")
    with pytest.raises(HubError, match=r"model.json is damaged"):
        model_file.read_model_file(other, "completion")
