"""Every fault of the table is injected by a test in this folder, and the page about them is current."""

import re

import table


def test_every_row_is_injected_here():
    assert table.SURVEYED == 31
    here = {one.row for one in table.injections() if one.test.startswith("tests/faults/")}
    assert here == set(table.ROWS)


def test_marks_name_rows_and_say_how():
    for one in table.injections():
        assert one.row in table.ROWS, one
        assert re.fullmatch(r"[^|\n]{8,160}", one.how), one


def test_marks_are_read_from_the_source(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "HERE", tmp_path)
    (tmp_path / "test_a.py").write_text(
        "import pytest\n\n@pytest.mark.fault('disk', how='a full disk')\n@pytest.mark.parametrize('a', [1])\n"
        "@pytest.mark.fault('kill', how='SIGKILL')\ndef test_it(a): ...\n\ndef test_other(): ...\n"
    )
    found = table.injections(tmp_path)
    assert found == [
        ("disk", "a full disk", "test_a.py::test_it"),
        ("kill", "SIGKILL", "test_a.py::test_it"),
    ]


def test_the_page_is_current():
    assert table.PAGE.read_text() == table.page(), "run python tests/faults/table.py"
