"""CoNLL-style files: what is a sentence, which column is the tag, and what is refused by its line."""

import pytest

from ssl_zoo import DataError
from ssl_zoo.data.conll import looks_like_conll, one_word_a_line, read_conll, read_sentences


def written(tmp_path, text, name="a.conll"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_sentences_documents_comments_and_runs_of_blank_lines(tmp_path):
    text = "-DOCSTART- -X- O O\n\n\n# sent_id = 1\nAnna NNP B-NP B-PER\nsleeps VB O O\n \n\n\n# NN O O\n\n"
    found = read_conll(written(tmp_path, text))
    assert [(one.row, one.input, one.target) for one in found] == [
        (0, ("Anna", "sleeps"), ("B-PER", "O")),
        (1, ("#",), ("O",)),  # a token, and no comment
    ]
    assert found[0].where.endswith("a.conll, row 0")


def test_the_column_of_tags_can_be_named(tmp_path):
    file = written(tmp_path, "Anna NNP B-PER\nsleeps VB O\n")
    assert read_conll(file, 1)[0].target == ("NNP", "VB")
    assert read_conll(file, 2) == read_conll(file)
    with pytest.raises(DataError, match="line 1 has 3 columns, and tag=3 is wanted"):
        read_conll(file, 3)
    with pytest.raises(DataError, match="column 0 is the token; tag= is another one, 1 to 2"):
        read_conll(file, 0)


def test_tabs_part_cells_that_hold_spaces(tmp_path):
    assert read_conll(written(tmp_path, "New York\tB-LOC\nis\tO\n"))[0].input == ("New York", "is")


def test_a_column_of_words_has_no_tags(tmp_path):
    file = written(tmp_path, "Anna\nsleeps\n\nBert\n")
    assert [one.target for one in read_conll(file)] == [None, None]
    assert one_word_a_line(file)
    assert not looks_like_conll(file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Anna B-PER\nsleeps VB O\n", "line 2 has 3 columns, and the first one has 2"),
        ("Anna B-PER\nsleeps\n", "line 2 has 1 columns, and the first one has 2"),
        ("Anna\t\nsleeps\tO\n", "line 1 has an empty cell"),
        ("\tO\n", "line 1 has an empty cell"),
        ("\n\n-DOCSTART- O\n\n", "holds no sentence"),
        ("", "holds no sentence"),
    ],
)
def test_what_is_no_file_of_tags_is_refused(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        read_conll(written(tmp_path, text))


def test_which_texts_are_files_of_tags(tmp_path):
    assert looks_like_conll(written(tmp_path, "-DOCSTART- O\n\nAnna B-PER\nsleeps O\n", "a.txt"))
    assert not looks_like_conll(written(tmp_path, "two words\nof running text\n", "a.txt"))
    assert not looks_like_conll(written(tmp_path, "Anna DT\nB-PER O\n", "a.txt"))
    assert not one_word_a_line(written(tmp_path, "one\ntwo\n", "a.txt"))
    found = read_sentences(written(tmp_path, "Anna  sleeps .\n\nso does Bert\n", "a.txt"))
    assert [one.input for one in found] == [("Anna", "sleeps", "."), ("so", "does", "Bert")]
