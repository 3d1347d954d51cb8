"""Whether every link within the built site leads to a file, and to a place in it: python docs/links.py FOLDER

Sphinx looks at the links of the sources; this looks at what a browser would follow. Addresses elsewhere are
asked by `make links`. No page may name a folder of the machine that built it, as warnings in tutorials do.
"""

from __future__ import annotations

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page links to, and the places in it that can be linked to."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name in ("id", "name") and value:
                self.places.add(value)


@cache
def read(file: Path) -> Page:
    return Page(file.read_text(encoding="utf-8"))


def broken(folder: Path) -> list[str]:
    """A line for each link that leads nowhere."""
    found = []
    for file in sorted(folder.rglob("*.html")):
        for place in (sys.prefix, str(folder.resolve().parents[2])):
            if place in file.read_text(encoding="utf-8"):
                found.append(f"{file.relative_to(folder)}: names {place}, a folder of this machine")
        for link in dict.fromkeys(read(file).links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            place = unquote(parts.fragment)
            there = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not there.exists():
                found.append(f"{file.relative_to(folder)}: {link}: there is no such file")
            elif place and there.suffix == ".html" and place not in read(there).places:
                found.append(f"{file.relative_to(folder)}: {link}: there is no such place")
    return found


if __name__ == "__main__":
    if lines := broken(Path(sys.argv[1])):
        sys.exit("\n".join(lines))
