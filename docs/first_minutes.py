"""What a new user sees in the first minutes, typed into a real terminal (tmux) and written down line by line.

    python docs/first_minutes.py [FOLDER]    writes docs/first-minutes.md; some 20 minutes on 2 cores

In FOLDER (a temporary one) a fresh environment is made and the library installed from this checkout,
without development tools; then a folder of images and a table of texts are pretrained on, measured, exported
and asked whether it was worth it. Images are scikit-learn's digits, texts are docstrings of Python's standard
library.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs/first-minutes.md"
SESSION, PROMPT = "first-minutes", "new-user$"
WIDTH, HEIGHT = 118, 45

MAKE_DATA = """
import csv, importlib, inspect, pathlib
from PIL import Image
from sklearn.datasets import load_digits
digits = load_digits()
for i, (pixels, label) in enumerate(zip(digits.images, digits.target)):
    file = pathlib.Path("my photos") / f"digit {label}" / f"{i:04}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels * 15.9).astype("uint8")).resize((32, 32)).save(file)
with open("notes.csv", "w", newline="") as out:
    table = csv.writer(out)
    table.writerow(["note", "about"])
    seen = set()
    for name in "asyncio logging unittest decimal argparse tarfile zipfile pathlib".split():
        module = importlib.import_module(name)
        for owner in [module, *(one for _, one in inspect.getmembers(module, inspect.isclass))]:
            for _, one in inspect.getmembers(owner):
                text = inspect.getdoc(one) if callable(one) else None
                if text and len(text) > 60 and text not in seen:
                    seen.add(text)
                    table.writerow([" ".join(text.split()), name])
"""

STEPS = (
    ("Install", [
        "python3 -m venv env && . env/bin/activate",
        "pip install -q '{repository}[cpu,pages,parquet,onnx]'",
    ]),
    ("Look around", ["ssl-zoo --help", "ssl-zoo list simclr | head -20"]),
    ("A folder of images", [
        "ssl-zoo look 'my photos'",
        "ssl-zoo pretrain objective=simclr_small backbone=resnet_micro data='my photos' batch_size=128 "
        "budget.minutes=1 run=runs/photos",
        "ssl-zoo evaluate runs/photos 'my photos' labels=[5,25] floors=true",
        "ssl-zoo finetune runs/photos 'my photos' out=classifier protocol=linear",
        "ssl-zoo predict classifier 'my photos/digit 3' out=predictions.csv && head -3 predictions.csv",
        "ssl-zoo embed runs/photos 'my photos' out=vectors.parquet",
        "ssl-zoo embed runs/photos 'my photos' query='my photos/digit 3/0003.png' nearest=5",
        "ssl-zoo export runs/photos to=onnx",
    ]),
    ("A table of texts", [
        "ssl-zoo look notes.csv",
        "ssl-zoo pretrain objective=crops backbone=bag data=notes.csv tokenizer.size=2000 batch_size=64 "
        "budget.steps=2000 run=runs/notes",
        "ssl-zoo evaluate runs/notes notes.csv labels=[5,10] floors=true",
        "ssl-zoo embed runs/notes notes.csv query='close the connection' nearest=3",
    ]),
    ("Is it worth it?", ["ssl-zoo worth 'my photos' minutes=3", "ssl-zoo worth notes.csv minutes=3"]),
    ("What is typed wrong", [
        "ssl-zoo pretrain objective=simclear backbone=resnet_micro data='my photos'",
        "ssl-zoo pretrain objective=simclr_small backbone=resnet_micro data='my photos' learning_rate=1e-3",
        "ssl-zoo evaluate runs/photo 'my photos'",
        "ssl-zoo evaluate runs/photos 'my photos' backbone=vit_tiny",
        "ssl-zoo embed runs/photos notes.csv",
    ]),
)  # fmt: skip


def tmux(*words: str) -> str:
    """What a command of tmux prints."""
    return subprocess.run(["tmux", *words], check=True, capture_output=True, text=True).stdout


def screen() -> list[str]:
    """All lines of the terminal so far; those that were wrapped are joined, trailing space is gone."""
    lines = tmux("capture-pane", "-p", "-J", "-S", "-", "-t", SESSION).splitlines()
    return [line.rstrip() for line in lines]


def typed(command: str, limit: float = 1500) -> tuple[list[str], float]:
    """Type a command; the lines that it printed, and its seconds.

    Raises:
        TimeoutError: it does not end.
    """
    tmux("send-keys", "-t", SESSION, "C-l")  # draws the prompt anew, at the top
    time.sleep(0.5)
    tmux("clear-history", "-t", SESSION)
    tmux("send-keys", "-t", SESSION, "-l", command)
    began = time.monotonic()
    tmux("send-keys", "-t", SESSION, "Enter")
    time.sleep(0.3)
    while time.monotonic() - began < limit:
        lines = screen()
        ended = [line for line in lines if line]
        if len(ended) > 1 and ended[-1] == PROMPT:
            at = max(i for i, line in enumerate(lines) if line == PROMPT)
            start = next(i for i, line in enumerate(lines) if line.startswith(f"{PROMPT} "))
            return lines[start + 1 : at], time.monotonic() - began
        time.sleep(0.3)
    raise TimeoutError(f"{command} did not end within {limit:.0f} s; the terminal shows {screen()[-5:]}")


def shown(lines: list[str], folder: Path) -> list[str]:
    """Lines for the page: paths of this machine are shortened, what pip says of its index goes, and of many
    lines the middle is left out."""
    lines = [line for line in lines if not re.match(r"WARNING: Location '|\.$", line)]  # of the package index
    text = "\n".join(lines).replace(str(REPOSITORY), "ssl_zoo").replace(str(folder), "~")
    text = re.sub(r"/tmp/[\w.-]+", "/tmp/...", text).strip("\n")
    kept = text.splitlines()
    if len(kept) > 60:
        kept = [*kept[:40], f"... ({len(kept) - 55} lines are left out here)", *kept[-15:]]
    return kept


def main(folder: Path) -> None:
    """Type everything, and write the page."""
    subprocess.run([sys.executable, "-c", MAKE_DATA], cwd=folder, check=True)
    size = ("-x", str(WIDTH), "-y", str(HEIGHT))
    clean = {
        "HOME": str(folder),
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "VIRTUAL_ENV_DISABLE_PROMPT": "1",
    }
    clean["PATH"] = f"{Path(sys.base_prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    clean |= {key: value for key, value in os.environ.items() if re.search("^PIP_|^UV_|CERT|_CA_", key)}
    if (config := Path.home() / ".config/pip/pip.conf").exists():
        clean.setdefault("PIP_CONFIG_FILE", str(config))
    words = [f"{key}={value}" for key, value in clean.items()]
    shell = ["env", "-i", *words, f"PS1={PROMPT} ", "bash", "--norc", "--noprofile"]
    tmux("new-session", "-d", "-s", SESSION, *size, "-c", str(folder), *shell)
    tmux("set-option", "-t", SESSION, "history-limit", "20000")
    parts, busy = [], os.getloadavg()[0]
    try:
        time.sleep(1)
        for title, commands in STEPS:
            parts.append(f"## {title}\n")
            for command in commands:
                line = command.format(repository=REPOSITORY)
                print(line, flush=True)
                lines, seconds = typed(line)
                told = command.format(repository="path/of/the/checkout")
                body = "\n".join([f"$ {told}", *shown(lines, folder)])
                parts.append(f"```text\n{body}\n```\n\n{seconds:.1f} s\n")
    finally:
        tmux("kill-session", "-t", SESSION)
    about = (
        f"Typed by `docs/first_minutes.py` into tmux ({WIDTH} columns) on {time.strftime('%Y-%m-%d')}: "
        f"{os.cpu_count()} cores, Python {platform.python_version()}, a fresh environment without "
        f"development tools, {busy:.1f} processes at work before it."
    )
    PAGE.write_text(f"# The first minutes of a new user\n\n{about}\n\n" + "\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
        main(Path(sys.argv[1]).resolve())
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
