"""Configurations and models of strangers that name code, given to the command: none of it runs."""

from pathlib import Path

import pytest
import tiny

WORDS = ("objective=rotation", "backbone=resnet_micro", "budget.steps=1", "trainer=cpu", "run=run")
TRAPS = {
    "unlink": "_target_: pathlib.Path.unlink\n_args_: [{_target_: pathlib.Path, _args_: ['VICTIM']}]\n",
    "remove": "_target_: os.remove\n_args_: [VICTIM]\n",
    "through the library": "_target_: ssl_zoo.hub.Path.unlink\n_args_: [VICTIM]\n",
    "in a list": "_target_: ssl_zoo.data.images.ImageData\nname: x\nimage_size: 8\n"
    "train: [{_target_: os.remove, _args_: [VICTIM]}]\n",
    "an alias": "_target_: posix.unlink\n_args_: [VICTIM]\n",
}


@pytest.mark.fault(
    "target", how="a data YAML of --config-dir that names pathlib.Path.unlink, os.remove, aliases of them"
)
@pytest.mark.parametrize("name", list(TRAPS))
def test_a_yaml_file_cannot_run_code(tmp_path, name):
    victim, configs = tmp_path / "victim", tmp_path / "configs/data"
    victim.touch()
    configs.mkdir(parents=True)
    (configs / "trap.yaml").write_text(TRAPS[name].replace("VICTIM", str(victim)))
    words = ("pretrain", "--config-dir", str(configs.parent), *WORDS, "data=trap")
    code, said = tiny.command(tmp_path, tmp_path / "cache", *words)
    assert code == 1, said
    assert "Traceback" not in said
    assert "is not part of ssl_zoo" in said
    assert victim.exists()


@pytest.mark.fault(
    "target", how="a local transformers model whose config.json names code of its own (auto_map)"
)
def test_a_model_with_code_of_its_own(tmp_path):
    model, marker = tmp_path / "model", tmp_path / "marker"
    model.mkdir()
    (model / "config.json").write_text(
        '{"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModel": "mine.Mine"}}'
    )
    (model / "mine.py").write_text(f"open({str(marker)!r}, 'w')\nclass Mine: ...\n")
    (tmp_path / "text.txt").write_text("\n\n".join(f"document {i} speaks" for i in range(60)))
    words = ("objective=masked_lm", "backbone=hf", f"backbone.name={model}", "data=text_files")
    words += ("data.train=text.txt", "tokenizer=bytes", "context=16", "budget.steps=1", "trainer=cpu")
    code, said = tiny.command(tmp_path, tmp_path / "cache", "pretrain", *words)
    assert code == 1, said
    assert not marker.exists()
    assert not Path(tmp_path / "runs").exists()
