"""Words that are wrong, as a shell gives them to the command."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = str(Path(sys.executable).with_name("ssl-zoo"))
IMAGES = ("objective=mae_small", "backbone=vit_micro", "data=digits")


@pytest.mark.fault(
    "misspelt", how="a misspelt verb, key, group or value, and a value of another type, from a shell"
)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pretrian", *IMAGES), "did you mean 'pretrain'?"),
        (("pretrain", *IMAGES, "optimizer.lrr=1"), "no key 'optimizer.lrr'; did you mean 'optimizer.lr'?"),
        (("pretrain", *IMAGES, "bakcbone=vit_tiny"), "no key 'bakcbone'; did you mean 'backbone'?"),
        (
            ("pretrain", "objective=simcrl", *IMAGES[1:]),
            "objective=simcrl does not exist; did you mean 'simclr'?",
        ),
        (("pretrain", *IMAGES, "optimizer.lr=abc"), "optimizer.lr='abc' is a text; it takes a number"),
    ],
    ids=["verb", "key", "group", "value", "type"],
)
def test_misspelt_words(tmp_path, words, said):
    began = time.monotonic()
    ended = subprocess.run([SCRIPT, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stdout
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert time.monotonic() - began < 5  # about 1 on a quiet machine
    assert list(tmp_path.iterdir()) == []
