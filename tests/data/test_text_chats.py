"""Conversations, instructions with inputs, and .json files: what models are tuned on, as people have it."""

import json

import datasets
import pytest

from ssl_zoo.compose.composition import ConfigError
from ssl_zoo.compose.own_data import chosen
from ssl_zoo.data.prompts import read_pairs, read_prompts
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text_chats import is_chat, parted, turns, written
from ssl_zoo.data.text_formats import Table, Text
from ssl_zoo.data.text_tally import Tally

SYSTEM = {"role": "system", "content": "Be short."}
ASKED = {"role": "user", "content": "How far is it?"}
TOLD = {"role": "assistant", "content": "Two miles."}
AGAIN = {"role": "user", "content": "On foot?"}
SHARED = [{"from": "human", "value": "How far is it?"}, {"from": "gpt", "value": "Two miles."}]


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_what_is_a_conversation():
    for one in ([ASKED], SHARED, [ASKED | {"id": 3}, TOLD]):
        assert is_chat(one)
    for other in (
        [],
        "text",
        None,
        [1, 2],
        {"role": "user", "content": "x"},
        [ASKED, "x"],
        [{"role": "user"}],
    ):
        assert not is_chat(other)
    assert not is_chat([ASKED, SHARED[0]]), "two spellings in one"


def test_a_line_for_each_turn_and_a_single_turn_is_its_words():
    assert written(turns([SYSTEM, ASKED, TOLD], "x")) == (
        "system: Be short.\nuser: How far is it?\nassistant: Two miles."
    )
    assert written(turns(SHARED[:1], "x")) == "How far is it?"


def test_turns_in_parts_and_turns_in_which_nothing_is_said():
    parts = [{"type": "text", "text": "How far"}, {"type": "text", "text": "is it?"}]
    silent = [{"role": "assistant", "content": None}, {"role": "assistant", "tool_calls": []}]
    assert turns([{"role": "user", "content": parts}, *silent], "x") == [("user", "How far\nis it?")]
    pictures = [{"type": "image_url", "image_url": {"url": "x"}}]
    with pytest.raises(DataError, match=r"^a, turn 2: what is said is no text"):
        turns([ASKED, {"role": "user", "content": pictures}], "a")


def test_the_last_answer_is_the_completion():
    assert parted(turns(SHARED, "x")) == ("How far is it?", "Two miles.")
    assert parted(turns([SYSTEM, ASKED, TOLD, AGAIN], "x")) == (
        "system: Be short.\nuser: How far is it?",
        "Two miles.",
    )
    assert parted(turns([ASKED, TOLD, AGAIN, TOLD], "x"))[0].endswith("assistant: Two miles.\nuser: On foot?")
    assert parted(turns([ASKED], "x")) == ("How far is it?", "")


def test_formats_read_them_and_count_what_they_wrote(tmp_path):
    path = lines(
        tmp_path / "a.jsonl",
        [{"messages": [ASKED, TOLD]}, {"messages": None}, {"messages": []}, {"messages": SHARED}],
    )
    for form in (Table(text="messages"), Text(key="messages")):
        tally = Tally()
        texts = [sample.text for sample in form.samples(path, tally=tally)]
        assert texts == [
            "user: How far is it?\nassistant: Two miles.",
            "human: How far is it?\ngpt: Two miles.",
        ]
        assert tally.lines()[0] == (
            f"2 conversation(s) written as lines of WHO: WORDS (first: {path}, line 1: 'messages')"
        )
    other = lines(tmp_path / "b.jsonl", [{"messages": [1, 2]}])
    with pytest.raises(DataError, match=r"is a list .* and not a text"):
        list(Table(text="messages").samples(other))


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json"])
def test_one_word_reads_them(tmp_path, capsys, name):
    rows = [{"title": f"trip {i}", "messages": [ASKED, TOLD]} for i in range(8)]
    path = lines(tmp_path / name, rows)
    assert "+data.format.text='messages'" in chosen("pretrain", [f"data={path}"], [])
    assert "a table; text is column 'messages', no labels, of 'title', 'messages'" in capsys.readouterr().err
    if name == "a.json":
        path.write_text(json.dumps(rows, indent=1))
        assert "+data.format.text='messages'" in chosen("pretrain", [f"data={path}"], [])


def test_a_column_of_that_name_is_text_all_the_same(tmp_path):
    path = lines(tmp_path / "a.jsonl", [{"messages": [ASKED, TOLD], "text": "both, rendered"}])
    assert "+data.format.text='text'" in chosen("pretrain", [f"data={path}"], [])


def test_data_sets_of_the_hub(tmp_path, capsys):
    rows = [{"id": str(i), "messages": [ASKED, TOLD]} for i in range(6)]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "talks")
    words = chosen("pretrain", [f"data={tmp_path}/talks"], ["digits"])
    assert words[1] == f"data.train='hf:{tmp_path}/talks:train:messages'"
    assert "6 texts in column 'messages', no labels" in capsys.readouterr().err


def test_pairs_and_prompts(tmp_path, capsys):
    path = lines(
        tmp_path / "a.jsonl", [{"messages": SHARED}, {"messages": []}, {"messages": [ASKED, TOLD, AGAIN]}]
    )
    assert read_pairs(path) == [("How far is it?", "Two miles.")] * 2
    told = capsys.readouterr().err
    assert "in 'messages' the last answer is the completion (first prompt: 'How far is it?')" in told
    assert read_prompts(path)[0] == "How far is it?"
    assert read_prompts(path)[1].endswith("\nuser: On foot?"), "a question at the end waits for its answer"
    assert read_pairs(path, prompt="messages") == read_pairs(path)
    named = lines(tmp_path / "b.jsonl", [{"prompt": "p", "completion": "c", "messages": SHARED}])
    assert read_pairs(named) == [("p", "c")]
    mixed = lines(tmp_path / "c.jsonl", [{"messages": SHARED}, {"messages": "x"}])
    with pytest.raises(DataError, match=r"line 2: 'messages' is no conversation, and rows before hold one"):
        read_pairs(mixed)
    silent = lines(tmp_path / "d.jsonl", [{"messages": [ASKED]}])
    with pytest.raises(DataError, match="holds no prompt with a completion"):
        read_pairs(silent)


def test_an_instruction_and_its_input_are_one_prompt(tmp_path, capsys):
    rows = [
        {"instruction": "Add.", "input": "1 2", "output": "3"},
        {"instruction": "Sing.", "input": "", "output": "la"},
    ]
    path = tmp_path / "alpaca.json"
    path.write_text(json.dumps(rows))
    assert read_pairs(path) == [("Add.\n\n1 2", "3"), ("Sing.", "la")]
    assert "a prompt is instruction and input, with an empty line between" in capsys.readouterr().err
    assert read_prompts(path) == ["Add.\n\n1 2", "Sing."]
    assert read_pairs(path, prompt="instruction")[0] == ("Add.", "3")


def test_json_beside_other_files_is_not_read(tmp_path, capsys):
    for i in range(4):
        (tmp_path / f"{i}.txt").write_text(f"text number {i}, of some words")
        (tmp_path / f"{i}.json").write_text('{"shapes": []}')
    assert chosen("pretrain", [f"data={tmp_path}"], [])[0] == "data=text_files"
    assert "table" not in capsys.readouterr().err
    (tmp_path / "list.json").write_text("[[1], [2]]")
    with pytest.raises(ConfigError, match="its rows are no JSON objects, such as"):
        chosen("pretrain", [f"data={tmp_path}/list.json"], [])
