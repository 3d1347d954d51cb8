"""docs/sequences.md: its commands, on a file as the one that it names."""

import random
import re
import shlex
import subprocess
import sys
from pathlib import Path

import tiny

PAGE = Path(__file__).parents[1] / "docs/sequences.md"


def promoters(seed=0):
    """Lines in the form of UCI's promoters.data; what makes a promoter here is a motif."""
    draw = random.Random(seed)
    for number in range(106):
        bases = draw.choices("acgt", k=57)
        if number % 2:
            bases[30:36] = "tataat"
        yield f"{'-+'[number % 2]},S{number},\t\t{''.join(bases)}\n"


def test_the_commands_of_the_page(tmp_path):
    (tmp_path / "promoters.data").write_text("".join(promoters()))
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    prepare, train, evaluate = block.strip().splitlines()
    subprocess.run([sys.executable, *shlex.split(prepare)[1:]], cwd=tmp_path, check=True)
    table = (tmp_path / "promoters.csv").read_text().split()
    assert table[0] == "label,text"
    assert re.fullmatch(r"other,[acgt]{57}", table[1])
    words = shlex.split(train)[1:]
    words[words.index("budget.steps=300")] = "budget.steps=20"
    code, printed = tiny.command(tmp_path, tmp_path / "cache", *words)
    assert code == 0, printed
    code, printed = tiny.command(tmp_path, tmp_path / "cache", *shlex.split(evaluate)[1:])
    assert code == 0, printed
    assert "layers" in printed
    for name in ("pretrained", "random, frozen", "TF-IDF"):
        assert re.search(rf"{name} +\w+ +5 +accuracy +\d+\.\d ± \d", printed), printed
