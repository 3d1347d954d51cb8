"""The pretraining of an export once more, from the receipt in its files: are the weights the same?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from ssl_zoo import hub
from ssl_zoo.compose.composition import ConfigError, as_config_errors
from ssl_zoo.compose.exporting import DATA, code_of, fingerprint_of, rows_of
from ssl_zoo.compose.gate import refuse_unknown_targets
from ssl_zoo.compose.pretraining import pretrain_from
from ssl_zoo.compose.refusals import refuse_unread, refuse_values
from ssl_zoo.export import receipt
from ssl_zoo.export._base import ExportError
from ssl_zoo.leaderboard.code import differs
from ssl_zoo.messages import note
from ssl_zoo.pretrain.environment import environment

COMPUTE = ("python", "torch", "timm", "transformers", "numpy", "tokenizers")  # whose versions may change bits


PARTS = ("objective", "backbone", "data", "optimizer", "budget", "trainer")  # of every recipe


class Reproduced(NamedTuple):
    """What came of it.

    Attributes:
        where: the folder of the new run.
        before, now: SHA-256 of the weights that were exported, and of the new ones.
        reasons: what differs between then and now, and may explain a difference; a sentence each.
    """

    where: Path
    before: str
    now: str
    reasons: list[str]

    @property
    def same(self) -> bool:
        return self.before == self.now


def reproduce_from(cfg: DictConfig) -> Reproduced:
    """Run the pretraining of a receipt again.

    Raises:
        ConfigError: there is no receipt, its recipe names what may not be built, or the data are others.
        DataError, RunError, ...: as `pretrain_from`.
    """
    if OmegaConf.is_missing(cfg, "file"):
        raise ConfigError("which file? ssl-zoo reproduce FILE")
    try:
        found = receipt.read(Path(cfg.file))
    except ExportError as error:
        raise ConfigError(str(error)) from error
    config = configuration(found, cfg.data_dir)
    where = Path("runs") / f"reproduced-{found['weights'][:8]}" if cfg.out is None else Path(cfg.out)
    config.run, config.threads = str(where), cfg.threads or config.threads or found.get("threads")
    refuse_other_data(found, config)
    reasons = changed(found, config)
    for reason in reasons:
        note(f"note: {reason}")
    done = pretrain_from(config, {})
    if done.summary["stopped"]:
        raise ConfigError(f"a signal stopped training; the same command goes on in {where}")
    before, now = (found.get("data") or {}).get("rows"), rows_of(where)
    if before is not None and before != now:
        reasons.append(f"it was trained on other rows ({before}) than were read here ({now})")
    file = hub.locate(where, found["backbone"]) / "model.safetensors"
    return Reproduced(where, found["weights"], hub.digest(file), reasons)


def configuration(found: dict[str, Any], data_dir: str) -> DictConfig:
    """The configuration of a receipt, for the folder of data sets on this machine.

    Raises:
        ConfigError: it is none of this version of `ssl-zoo pretrain`, or names what may not be built.
    """
    if wrong := [key for key in PARTS if not isinstance(found["config"].get(key), dict)]:
        raise ConfigError(f"the recipe of this receipt is damaged: it has no keys of {', '.join(wrong)}")
    folder = json.dumps(f"{data_dir}/").removesuffix('"')
    made = json.loads(json.dumps(found["config"]).replace(f'"{DATA}/', folder))
    with as_config_errors():
        config = OmegaConf.create(made | {"data_dir": data_dir, "resume": "auto", "wandb": None, "run": None})
        assert isinstance(config, DictConfig)
        refuse_unknown_targets(config)
        refuse_unread("pretrain", config)
        refuse_values("pretrain", {}, config)
    return config


def refuse_other_data(found: dict[str, Any], config: DictConfig) -> None:
    """Raise ConfigError where the data here are not those of the receipt, DataError where there are none."""
    before = (found.get("data") or {}).get("fingerprint")
    if before is None:
        note("note: the receipt does not say which data it was, so that nothing can be compared")
        return
    if (now := fingerprint_of(config)) != before:
        raise ConfigError(
            f"the data {config.data.get('name')} here have the fingerprint {now}, and those of the receipt "
            f"{before}: other data give other weights. Name the folder of the right ones, data_dir=..."
        )


def changed(found: dict[str, Any], config: DictConfig) -> list[str]:
    """What differs between the run of a receipt and this machine; a sentence each."""
    here, reasons = environment(), []
    now = {"python": here["python"], **here["versions"]}
    for name, before in (found.get("versions") or {}).items():
        if name in COMPUTE and now.get(name) != before:
            reasons.append(f"{name} was {before}, and is {now.get(name)} here")
    if found.get("processor") != here["processor"]:
        reasons.append(f"it ran on {found.get('processor')}, and this is {here['processor']}")
    if config.threads != found.get("threads"):
        reasons.append(f"it ran in {found.get('threads')} threads, and this in {config.threads}")
    before = found.get("code") or {}
    for part, current in code_of(config).items() if before else ():
        if how := differs(before.get(part), current):
            reasons.append(f"the code of {part} {how}")
    if config.budget.get("minutes") is not None:
        reasons.append("its budget is in minutes, in which another number of steps may be made")
    return reasons
