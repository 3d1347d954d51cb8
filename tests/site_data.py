"""Small files of one's own with the names that the site's pages use: `write(FOLDER)`."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

from PIL import Image, ImageDraw

SHAPES = ("circle", "square")
OPINIONS = {"good": "bright warm kind fresh sharp", "bad": "dull cold rude stale blurry"}
REST = ["the", "screen", "of", "this", "phone", "and", "its", "box", "with", "a", "cable", "in", "it", "was"]


def shape(path: Path, kind: str, draw: random.Random) -> None:
    """An image of one shape in random colours, 32 to 35 pixels wide."""
    side = draw.randrange(32, 36)
    image = Image.new("RGB", (side, side), tuple(draw.randrange(256) for _ in range(3)))
    x, y, r = draw.randrange(2, side - 20), draw.randrange(2, side - 20), draw.randrange(10, 18)
    pen, colour = ImageDraw.Draw(image), tuple(draw.randrange(256) for _ in range(3))
    (pen.ellipse if kind == "circle" else pen.rectangle)([x, y, x + r, y + r], fill=colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def review(kind: str, draw: random.Random) -> str:
    """A text whose words tell its class."""
    return " ".join(draw.choices(REST, k=12) + draw.choices(OPINIONS[kind].split(), k=3))


def write(folder: Path) -> None:
    """Everything that the pages name. Always the same bytes."""
    draw = random.Random(0)
    for i in range(32):
        shape(folder / "photos" / f"{i:02}.png", SHAPES[i % 2], draw)
    shape(folder / "photos/beach.png", "circle", draw)
    shape(folder / "asked.png", "circle", draw)
    for i in range(80):
        shape(folder / "labelled" / SHAPES[i % 2] / f"{i:02}.png", SHAPES[i % 2], draw)
    for i in range(6):
        shape(folder / "new" / f"{i}.png", SHAPES[i % 2], draw)
    rows = [(review(kind, draw), kind) for kind in ("good", "bad") * 60]
    shapes = [(f"photos/{i:02}.png", SHAPES[i % 2]) for i in range(32)]
    for name, header, lines in (
        ("reviews.csv", ("text", "label"), rows),
        ("tickets.csv", ("subject", "queue"), rows),
        ("new.csv", ("text",), [(text,) for text, _ in rows[:6]]),
        ("pairs.csv", ("prompt", "completion"), [(text, f"It is {kind}.") for text, kind in rows]),
        ("captions.csv", ("image", "caption"), [(file, f"a {kind}") for file, kind in shapes]),
    ):
        with open(folder / name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *lines])
    lines = [json.dumps({"text": text, "label": kind}) + "\n" for text, kind in rows]
    (folder / "reviews.jsonl").write_text("".join(lines), encoding="utf-8")
    for i in range(40):
        file = folder / "notes" / f"{i:02}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(". ".join(review(draw.choice(tuple(OPINIONS)), draw) for _ in range(12)) + ".\n")
    (folder / "prompts.txt").write_text("The screen\nThe box\n")
