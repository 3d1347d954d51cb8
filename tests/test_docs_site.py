"""Every command on the documentation site runs, with a tiny budget, or stands in a table that says why not.

The pages of docs/ hold commands in fenced blocks. Those of a page run one after the other in a folder with
small files of the names that pages use (site_data.py), in processes of their own; what makes them small is
SMALLER in site_pages.py, and what is not run is NOT_RUN, whose words still have to compose.
"""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import site_data
import site_pages
import tiny
from site_pages import DOCS, NOT_RUN, REPOSITORY, SLOW, commands, fences, matching, name, own_words, smaller

import ssl_zoo
from ssl_zoo.compose import composition, places

PAGES = [
    name(file)
    for file in site_pages.pages()
    if f"docs/{name(file)}" not in site_pages.ELSEWHERE and commands(file)
]
VERBS = (
    "pretrain",
    "evaluate",
    "finetune",
    "predict",
    "embed",
    "generate",
    "report",
    "export",
    "scale",
    "look",
)
GROUPS = ("objective", "backbone", "tokenizer", "optimizer", "schedule", "guard", "trainer", "protocol")


def those(table, inside):
    """The pages with a command that the table has, or with one that it has not."""
    return [
        page for page in PAGES if any(bool(matching(table, one)) is inside for one in commands(DOCS / page))
    ]


def prepared(folder, page):
    """The files that the page's commands read."""
    site_data.write(folder)
    board = "benchmarks/leaderboard/digits"
    shutil.copytree(REPOSITORY / board, folder / board)
    for block in fences(DOCS / page):
        if written := re.match(r"%%writefile (\S+)\n(.*)", block.text, re.DOTALL):
            (folder / written[1]).write_text(written[2])
    shutil.copy(folder / "reviews.csv", folder / "documents.csv")  # which a tutorial makes


def command(folder, cache, words):
    """Exit code and output; of several processes, each of which is the command again, started as such."""
    if not {"trainer=ddp_cpu", "trainer=fsdp2_cpu"} & set(words):
        return tiny.command(folder, cache, *words)
    script = Path(sys.executable).with_name("ssl-zoo")
    done = subprocess.run(
        [script, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    return done.returncode, done.stdout + done.stderr


def run(page, folder, cache, slow):
    """Run the commands of a page; those of SLOW only if asked for."""
    folder.mkdir()
    prepared(folder, page)
    failed = []
    for line in (*site_pages.BEFORE.get(page, ()), *commands(DOCS / page)):
        if matching(NOT_RUN, line) or (matching(SLOW, line) and not slow):
            continue
        words = own_words(line)
        assert words is not None, f"docs/{page}: {line!r} is neither run nor in NOT_RUN, tests/site_pages.py"
        code, printed = command(folder, cache, smaller(words))
        if code:
            failed.append(f"docs/{page}: {line}\nran as ssl-zoo {shlex.join(smaller(words))}\n{printed}")
    assert not failed, "\n".join(failed)


# What their commands do, others' do as well, or the build of the site, which runs the tutorials.
SEEN = ("guide/choosing.md", "guide/protocols.md", "tutorials/")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page.startswith(SEEN) else [])
        for page in those(NOT_RUN, False)
    ],
)
def test_commands_run(page, cache, tmp_path):
    run(page, tmp_path / "here", cache, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", those(SLOW, True))
def test_commands_run_with_those_that_take_long(page, cache, tmp_path):
    run(page, tmp_path / "here", cache, slow=True)


@pytest.mark.parametrize("page", those({**NOT_RUN, **SLOW}, True))
def test_commands_that_do_not_run_here_compose(page, tmp_path, monkeypatch):
    site_data.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    for line in commands(DOCS / page):
        words = own_words(line)
        if words and words[0] in VERBS and matching({**NOT_RUN, **SLOW}, line):
            composition.check(words[0], [word for word in words[1:] if word != "-m"])


def test_the_tables_hold_nothing_that_is_not_on_the_site():
    every = [line for page in PAGES for line in commands(DOCS / page)]
    for table in (NOT_RUN, SLOW):
        used = {matching({pattern: ""}, line) for pattern in table for line in every}
        assert [pattern for pattern in table if pattern not in used] == []
    assert [page for page in site_pages.BEFORE if page not in PAGES] == []


def test_what_pages_include_is_tested_elsewhere():
    for file in site_pages.pages():
        for block in fences(file):
            if block.language.startswith("{include}"):
                there = (file.parent / block.language.removeprefix("{include}").strip()).resolve()
                assert there.is_file()
                assert there.relative_to(REPOSITORY).as_posix() in site_pages.ELSEWHERE, name(file)


def test_python_is_shown_in_cells_that_the_build_executes():
    """Python on pages is a cell of a notebook, or included from the README."""
    for file in site_pages.pages():
        plain = [one for one in fences(file) if one.language.startswith(("python", "py", "ipython"))]
        assert plain == [], name(file)


def test_names_on_the_pages_exist():
    there = {group: {*places.options(group)} for group in (*GROUPS, "experiment")}
    for file in (DOCS / "index.md", *sorted((DOCS / "guide").glob("*.md"))):
        text = file.read_text()
        for group, choice in re.findall(rf"(?<![\w.@])({'|'.join(there)})=([a-z]\w*)", text):
            assert choice in there[group], f"{name(file)}: {group}={choice}"
        for row in re.findall(r"`objective=\w+`((?:, `\w+`)+)", text):
            assert {*re.findall(r"\w+", row)} <= there["objective"], f"{name(file)}: {row}"


def test_peers_have_what_the_translation_says():
    lightly = pytest.importorskip("lightly")
    from lightly import loss, transforms
    from lightly.transforms import multi_view_transform

    assert lightly.__version__.startswith("1.6")
    part = (DOCS / "guide/coming_from.md").read_text().split("\n## ")[1]
    named = {*re.findall(r"`(\w+(?:Loss|Transform))\b", part)}
    known = {name for home in (loss, transforms, multi_view_transform) for name in dir(home)}
    assert len(named) > 10
    assert named <= known


def test_every_public_name_is_in_the_reference():
    told = "".join(file.read_text() for file in (DOCS / "api").glob("*.md"))
    homes = ssl_zoo._HOME
    zoo = {one for one in homes if re.fullmatch(r"objectives\.[a-z]\w+", homes[one])}  # added by docs/conf.py
    assert [one for one in ssl_zoo.__all__ if f"ssl_zoo::{one}\n" not in told and one not in zoo] == []


def test_what_is_read_of_a_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A\n\n```sh\n# first\nssl-zoo list   # all\n\nrm \\\n  -r x\n```\n\n```text\nno\n```\n")
    assert commands(page) == ["ssl-zoo list", "rm -r x"]
    assert own_words("srun -n 2 ssl-zoo list") == ["list"]
    assert own_words("rm -r x") is None
