"""`ssl-zoo generate` and `ssl_zoo.generate`: every way of writing, prompts from everywhere, refusals."""

import io
import json
import sys

import pytest
import tiny
import torch
from omegaconf import OmegaConf

import ssl_zoo
from ssl_zoo import ConfigError, DataError, hub
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.backbones.vision import timm_backbone
from ssl_zoo.cli import generate as verb
from ssl_zoo.compose import composition
from ssl_zoo.data.prompts import read_pairs, read_prompts
from ssl_zoo.data.tokenizer import Tokenizer, bytes_tokenizer
from ssl_zoo.transfer.generate import Choice, generate
from ssl_zoo.transfer.streaming import Stream

TOKENIZER = bytes_tokenizer()
CONTEXT = 48


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Makes the folder of a run whose backbone writes so."""
    made = {}

    def make(writes):
        if writes not in made:
            where = tmp_path_factory.mktemp("runs") / str(writes)
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                torch.manual_seed(0)
                backbone = TextTransformer(TOKENIZER.vocabulary, width=16, depth=2, heads=2)
                for parameter in backbone.parameters():
                    parameter.add_(0.3 * torch.randn_like(parameter))
            backbone.order, backbone.writes = "causal" if writes == "next" else "both", writes
            hub.save(backbone, where / "backbone")
            TOKENIZER.save(where / "tokenizer")
            OmegaConf.save({"context": CONTEXT}, where / "config.yaml")
            made[writes] = where
        return made[writes]

    return make


def expected(where, prompts, **options):
    """What the model in a folder writes, by the function underneath."""
    choice = options.pop("choice", Choice())
    found = generate(hub.load(where), TOKENIZER, prompts, length=CONTEXT, choice=choice, **options)
    return [one.text for one in found]


# From code


@pytest.mark.parametrize("writes", ["next", "prefix", "masks"])
def test_a_run_writes_as_it_was_pretrained_to(run, writes):
    where = run(writes)
    found = ssl_zoo.generate(where, "a dog", tokens=20, progress=False)
    assert found == expected(where, ["a dog"], tokens=20)
    assert found != ssl_zoo.generate(where, "a dog", tokens=20, seed=1, progress=False)
    several = ssl_zoo.generate(where, ["a", "bee"], tokens=9, samples=2, temperature=0.7, top_k=20)
    assert several == expected(
        where, ["a", "a", "bee", "bee"], tokens=9, choice=Choice(temperature=0.7, top_k=20)
    )
    assert len({*several}) == 4
    if writes == "masks":
        assert ssl_zoo.generate(where, "a dog", tokens=20, steps=3) == expected(
            where, ["a dog"], tokens=20, steps=3
        )


def test_many_texts_are_those_that_one_call_draws(run):
    heard: list[str] = []
    found = ssl_zoo.generate(run("next"), ["x"] * 40, tokens=4, progress=heard.append)
    assert found == expected(run("next"), ["x"] * 40, tokens=4)
    assert heard == ["0 of 40 texts are written", "32 of 40 texts are written"]


def test_a_prompt_that_is_too_long_is_cut_and_that_is_said(run):
    heard: list[str] = []
    long = "".join(chr(97 + i % 26) for i in range(60))
    found = ssl_zoo.generate(run("next"), long, tokens=5, progress=heard.append)
    assert heard == ["the prompt has 61 tokens, of which the last 48 are read (length=48)"]
    assert found == expected(run("next"), [long], tokens=5)
    ssl_zoo.generate(run("masks"), [long, "short"], tokens=40, progress=heard.append)
    assert heard[1:] == ["1 of 2 prompts have more than 8 tokens, of which the last 8 are read (length=48)"]
    assert ssl_zoo.generate(run("next"), long, tokens=5, length=64, progress=heard.append)
    assert len(heard) == 2


def test_what_cannot_be_is_refused_with_what_works(run, tmp_path, monkeypatch):
    model = run("next")
    for why, options in {
        "no folder nowhere: name a run": {"run": "nowhere"},
        "tokens=48 leaves no room; take tokens=24": {"run": run("masks"), "tokens": 48},
        "samples=2 with a temperature of 0": {"samples": 2, "temperature": 0},
        "temperature=-1 is too small; it takes 0 or more": {"temperature": -1},
        "temperature=inf is out of range": {"temperature": float("inf")},
        "top_p='x' is a text; it takes a number": {"top_p": "x"},
        r"prompt=\.\.\. and file=\.\.\. both say": {"prompt": "a", "file": "b.txt"},
        "no prompts are given": {"prompt": []},
        "is there already: name another file": {"out": str(model / "config.yaml")},
        "no key 'tokns'; did you mean 'tokens'": {"tokns": 3},
    }.items():
        with pytest.raises(ConfigError, match=why):
            ssl_zoo.generate(**{"run": model, **options})
    with pytest.raises(ValueError, match="top_p is above 0 and at most 1, not 0"):
        ssl_zoo.generate(model, top_p=0)
    with pytest.raises(DataError, match=r"not pretrained to write: .*next_token, prefix_lm, span_corruption"):
        ssl_zoo.generate(run(None), "a")
    images = tmp_path / "images"
    size = {"image_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
    hub.save(timm_backbone("vit_tiny_patch16_224", **size), images / "backbone")
    OmegaConf.save({"context": 1}, images / "config.yaml")
    with pytest.raises(
        DataError, match=r"reads images: only a text backbone writes text, with objective=next"
    ):
        ssl_zoo.generate(images, "a")
    with pytest.raises(DataError, match="is a list"):
        ssl_zoo.generate(model, file=file_of(tmp_path, "odd.jsonl", '{"prompt": [1]}\n'))
    monkeypatch.setattr(Tokenizer, "prefix", (), raising=False)
    real = Tokenizer.__init__

    def without(self, inner, vocabulary, prefix, *args, **options):
        real(self, inner, vocabulary, (), *args, **options)

    monkeypatch.setattr(Tokenizer, "__init__", without)
    with pytest.raises(ConfigError, match="no token that a text begins with"):
        ssl_zoo.generate(model)


# Files


def file_of(folder, name, text):
    path = folder / name
    path.write_text(text)
    return str(path)


def test_prompts_and_pairs_are_read_from_files(tmp_path):
    assert read_prompts(tmp_path / file_of(tmp_path, "a.txt", "one\n\n  two, it is \r\n")) == [
        "one",
        "  two, it is ",
    ]
    rows = '{"id": 1, "Question": "why", "Answer": "so"}\n{"id": 2, "Question": " ", "Answer": "x"}\n'
    table = tmp_path / file_of(tmp_path, "a.jsonl", rows)
    assert read_prompts(table) == ["why"]
    assert read_pairs(table) == [("why", "so")]
    assert read_pairs(table, "Answer", "Question") == [("so", "why")]
    assert read_prompts(tmp_path / file_of(tmp_path, "b.jsonl", '"one"\n"two"\n')) == ["one", "two"]
    sheet = tmp_path / file_of(tmp_path, "a.csv", 'output,input\n"yes, it is",ask\n')
    assert read_pairs(sheet) == [("ask", "yes, it is")]
    assert read_pairs(tmp_path / file_of(tmp_path, "a.tsv", "source\ttarget\nja\tyes\n")) == [("ja", "yes")]
    for name, text, why in (
        ("c.csv", "x,y\n1,2\n", "no column called prompt, input.*, but x, y: call one of them prompt"),
        ("c.jsonl", '{"prompt": "a"}\n{"text": "b"}\n', "line 2 has no 'prompt'"),
        ("d.jsonl", '{"prompt": 3}\n', "line 1, prompt, is a number"),
        ("e.jsonl", "[1]\n", "is no object with keys"),
        ("f.txt", "\n", "holds no prompt"),
    ):
        with pytest.raises(DataError, match=why):
            read_prompts(tmp_path / file_of(tmp_path, name, text))
    for name, text, why in (
        ("g.txt", "a\n", "are a .jsonl, .csv or .tsv file"),
        ("h.csv", "prompt,completion\na,\n", "no prompt with a completion"),
    ):
        with pytest.raises(DataError, match=why):
            read_pairs(tmp_path / file_of(tmp_path, name, text))
    with pytest.raises(DataError, match="no column 'asked', but output, input"):
        read_pairs(sheet, "asked")


# While it is written


def test_pieces_make_up_the_text_and_hold_whole_characters():
    text = "naïve — 語 🙂 end"
    stream, pieces = Stream(TOKENIZER), []
    ids = TOKENIZER.encode([text])[0].tolist()
    for one in ids:
        pieces.append(stream.add(one))
    assert "".join(pieces) == text
    assert pieces[2:4] == ["", "ï"]
    assert len(stream.ids) - stream.begin < 6, "and not the whole text is decoded for each of them"
    cut = Stream(TOKENIZER)
    assert [cut.add(one) for one in TOKENIZER.encode(["aï"])[0].tolist()[:2]] == ["a", ""]
    assert cut.open() == "\ufffd"


@pytest.mark.parametrize("writes", ["next", "masks"])
def test_a_terminal_shows_a_text_while_it_is_written(run, writes, monkeypatch):
    class Terminal(io.StringIO):
        """Counts what is written at once."""

        writes: int = 0

        def isatty(self):
            return True

        def flush(self):
            self.writes += 1

    def printed(terminal, *words):
        words = composition.settle("generate", [str(run(writes)), *words])
        monkeypatch.setattr(sys, "stdout", terminal)
        verb.run(composition.build("generate", words), {})
        monkeypatch.undo()
        return terminal.getvalue()

    live, still = Terminal(), io.StringIO()
    words = ("a dog", "tokens=20", "seed=3", "length=40")
    assert printed(live, *words) == printed(still, *words) != "\n"
    assert live.writes > 5 if writes == "next" else live.writes == 1
    several = printed(Terminal(), "a dog", "tokens=5", "samples=2")
    assert several.startswith("[1 of 2] ")
    assert "\n[2 of 2] " in several


# From the command line


@pytest.fixture(scope="module")
def spans(tmp_path_factory):
    """A run of span corruption, with the checkpoint that has its marks."""
    folder = tmp_path_factory.mktemp("spans")
    (folder / "text.txt").write_text("\n\n".join(f"document {i} speaks of {i * 7}" for i in range(200)))
    words = ("objective=span_corruption", "backbone=transformer_micro", "data=text.txt", "tokenizer=bytes")
    words += ("context=32", "batch_size=8", "budget.steps=2", "trainer=cpu", "run=run")
    code, printed = tiny.command(folder, folder / "cache", "pretrain", *words)
    assert code == 0, printed
    return folder


def test_the_verb_on_a_real_run(spans):
    def said(*words, code=0):
        found, printed = tiny.command(spans, spans / "cache", "generate", *words)
        assert found == code, printed
        assert "Traceback" not in printed
        return printed

    file_of(spans, "asked.txt", "document 3\ndocument 4\n")
    assert said("run", "document", "tokens=8", "seed=2").strip()
    assert "2 texts in out/new.jsonl" in said("run", "file=asked.txt", "out=out/new.jsonl", "tokens=4")
    rows = [json.loads(line) for line in (spans / "out/new.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == ["document 3", "document 4"]
    assert all(isinstance(row["completion"], str) and isinstance(row["ended"], bool) for row in rows)
    assert "is there already" in said("run", "file=asked.txt", "out=out/new.jsonl", code=1)
    assert "which model? ssl-zoo generate MODEL" in said(code=1)
    (spans / "run/checkpoints").rename(spans / "run/gone")
    assert "has no checkpoint, where the marks are" in said("run", "a", code=1)
    (spans / "run/gone").rename(spans / "run/checkpoints")


def test_a_prompt_may_come_from_the_standard_input(run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("a dog\n"))
    words = composition.settle("generate", [str(run("next")), "prompt=-", "tokens=20"])
    verb.run(composition.build("generate", words), {})
    assert capsys.readouterr().out == expected(run("next"), ["a dog"], tokens=20)[0] + "\n"


def test_words_without_a_key_are_model_and_prompt(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for prompt in ("To be, or", "2+2=4", "a: [b, {c", "x" * 300, "$HOME ${x}", "3.0", "it's \\n 'so'"):
        words = composition.settle("generate", ["runs/a=b", prompt, "tokens=5"])
        cfg = composition.build("generate", words)
        assert (cfg.model, cfg.prompt, cfg.tokens) == ("runs/a=b", prompt, 5)
        words = composition.settle("generate", ["runs/a", f"prompt={prompt}"])
        assert composition.build("generate", words).prompt == prompt
    cfg = composition.build("generate", composition.settle("generate", ["tokens=5", "a", "prompt=b"]))
    assert (cfg.model, cfg.prompt) == ("a", "b")
    with pytest.raises(ConfigError, match="'c' is not KEY=VALUE"):
        composition.settle("generate", ["a", "b", "c"])
