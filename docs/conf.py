"""The documentation site: `make site` builds it into docs/_build, with warnings as errors.

The pages are the files of this folder as they lie here; none is copied. Tutorials (docs/tutorials) are
notebooks in Markdown, which are executed at each build and fail it where a cell fails.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

import ssl_zoo  # noqa: E402 (the checkout's, whatever is installed)

project = "ssl_zoo"
author = "the authors of ssl_zoo"
copyright = "MIT licence"
version = release = ssl_zoo.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.doctest"]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
html_theme = "furo"
html_title = "ssl_zoo"
html_show_copyright = False
html_show_sourcelink = False
nitpicky = False
# Whatever stands in single backticks of a docstring is code.
default_role = "code"
pygments_style = "friendly"

# Markdown. Headings become targets, so that links to a part of a page are checked.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]
# Addresses elsewhere are looked at by `make links` alone, which needs the network.
linkcheck_timeout = 20
linkcheck_retries = 2

# Tutorials. Each is executed in a folder of its own, which is thrown away.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 180
nb_merge_streams = True

# The public names, in the order of their files; types stand in the signature.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# What packages say of each other, and of a loader of one's own, would stand between cells with a path of the
# machine that built the site. The kernels of tutorials read it.
IGNORED = (
    "IProgress not found",
    "`isinstance(treespec",
    "the batches come from a loader",
    "The 'train_dataloader'",
)
os.environ["PYTHONWARNINGS"] = ",".join(f"ignore:{one}" for one in IGNORED)
# Their stores lie beside what they train, in the folder that is thrown away: what is printed of them names no
# folder of this machine.
os.environ["SSL_ZOO_CACHE"] = "cache"

PLAIN = re.compile(r"(`[^`]*`)")


def plain(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Take docstrings as plain text with code in backticks, as they are written: stars, bars and underscores
    of equations are no markup."""
    before: str = ""
    told: list[str] = []
    for line in lines:
        field = re.match(r"\s*:[^:`]+:", line)
        head, body = (field[0], line[field.end() :]) if field else ("", line)
        pieces = PLAIN.split(body)
        pieces[::2] = [re.sub(r"([*|_\\])", r"\\\1", piece) for piece in pieces[::2]]
        line = head + "".join(pieces)
        deeper = len(line) - len(line.lstrip()) > len(before) - len(before.lstrip())
        if line.strip() and before.strip() and deeper and not before.lstrip().startswith((":", "..")):
            told.append("")  # an equation, set in
        told.append(line)
        before = line
    lines[:] = told


def zoo(app: Any, page: str, source: list[str]) -> None:
    """Add every class of objectives/ to its page, so that a new objective is a file and no line here."""
    if page == "api/objectives":
        found = sorted(
            (home, name)
            for name, home in ssl_zoo._HOME.items()
            if re.fullmatch(r"objectives\.[a-z]\w+", home)
        )
        told = "".join(f".. autoclass:: ssl_zoo::{name}\n" for _, name in found)
        source[0] += f"```{{eval-rst}}\n{told}```\n"


def spread(app: Any, env: Any, pages: list[str]) -> None:
    """Deal the tutorials out: Sphinx gives its workers chunks of up to ten pages in order, and all tutorials,
    which take most of the time, would be one worker's."""
    tutorials = [page for page in pages if page.startswith("tutorials/")]
    others = [page for page in pages if page not in tutorials]
    share = len(others) // max(1, len(tutorials))
    pages[:] = []
    for number, tutorial in enumerate(tutorials):
        pages += [tutorial, *others[number * share : (number + 1) * share]]
    pages += others[len(tutorials) * share :]


def setup(app: Any) -> dict[str, Any]:
    from pygments.lexers.special import TextLexer

    app.connect("source-read", zoo)
    app.connect("env-before-read-docs", spread)
    app.connect("autodoc-process-docstring", plain)
    app.add_lexer(
        "mermaid", TextLexer
    )  # the picture of docs/architecture.md, which browsers need scripts for
    return {"parallel_read_safe": True, "parallel_write_safe": True}
