"""The blocks of "From code" run as they are written, one after the other."""

import re
import warnings
from pathlib import Path

import ssl_zoo

BLOCKS = re.findall(r"```python\n(.*?)```", (Path(__file__).parent / "from_code.md").read_text(), re.DOTALL)


def test_blocks_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSL_ZOO_CACHE", str(tmp_path / "cache"))
    names: dict = {}
    with warnings.catch_warnings():
        # Lightning's own advice, and its use of torch's pytree, are not ours.
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*treespec.*")
        warnings.filterwarnings("ignore", message=".*a loader of your own.*")
        for code in BLOCKS:
            exec(compile(code, "from_code.md", "exec"), names)
    assert [row.labels for row in names["table"].rows] == [25, 25, 25, 5, 5, 5]
    assert names["run"].summary["steps"] == 20
    assert names["run"].summary["backbone"] == "Own"
    assert 1 < names["trainer"].current_epoch <= 3
    assert "train/loss" in names["trainer"].callback_metrics
    again = ssl_zoo.load("runs/trainer", backbone=names["mine"])
    assert again.dim == 64
    assert {"runs/digits", "runs/mine", "runs/trainer"} <= {
        str(one.relative_to(tmp_path)) for one in (tmp_path / "runs").iterdir()
    }
