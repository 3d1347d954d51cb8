"""A browser for pages that must load nothing: the fixture `page`, for `from browser import page`.

It fails at teardown on an error of the console, an exception of a script, and any request but to file:, data:
and blob:.
"""

import os
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
ARGS += ["--disable-sync", "--no-first-run"]


def absent(reason):
    """Skip, but fail where CI promises a browser."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser():
    """Debian's chromium, headless, one for a file of tests."""
    if not CHROMIUM.exists():
        absent(f"no browser at {CHROMIUM}: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent("no playwright: make install")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser):
    """An empty page, 1280 x 900; `show(page, file)` opens one."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    faults = []
    opened.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    opened.on("pageerror", lambda error: faults.append(f"script: {error}"))
    opened.on("request", lambda asked: faults.append(f"request: {asked.url}") if leaves(asked.url) else None)
    yield opened
    opened.close()
    assert not faults, "\n".join(faults)


def leaves(url):
    """Whether a request for it would leave the file."""
    return not url.startswith(("file:", "data:", "blob:"))


def show(page, file):
    """Open a file, and wait until its charts are drawn."""
    page.goto(Path(file).resolve().as_uri())
    page.evaluate("window.ready")
