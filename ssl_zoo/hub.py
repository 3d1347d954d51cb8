"""Save a backbone and open it again, without Hydra or Lightning: safetensors and JSON only.

backbone/
  config.json         version of the format, class, arguments, order, kind, width, SHA-256 of the weights;
                      and how it writes (`backbones._base.Writes`), where its order does not say it
  model.safetensors   the weights
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ssl_zoo.backbones._base import Backbone, TokenBackbone, Writes
from ssl_zoo.portable import memory
from ssl_zoo.untrusted import Bounded, Untrusted, read_json, refuse_odd_values

MAIN = "backbone"  # the name of the one that is measured
FORMAT = 2  # format 1 had `kind` for class, and `causal`, true or false, for order; it is still read
DIGEST = "sha256"  # the key in config.json for that of model.safetensors; files of earlier versions lack it
ORDINARY = ("next", "causal")  # how a backbone writes that reads in this order, which needs no saying
ORDERS: dict[Writes, set[str]] = {  # the orders that a backbone must honour to write so
    "next": {"causal"},
    "prefix": {"both", "causal"},
    "spans": {"both", "causal"},
    "masks": {"both"},
}
CLASSES = {  # the only classes a saved file may name
    "PatchDictionary": "ssl_zoo.backbones.patches",
    "TokenBag": "ssl_zoo.backbones.bag",
    "TextTransformer": "ssl_zoo.backbones.transformer",
    "TimmViT": "ssl_zoo.backbones.vision",
    "TimmCNN": "ssl_zoo.backbones.cnn",
    "HFBackbone": "ssl_zoo.backbones.hf",
}
# While it is built, a model may take ROOM times the bytes of its file, plus SLACK: weights may be stored in
# half precision, and parts may be dropped after they were made.
ROOM, SLACK = 4, 1 << 26


class HubError(RuntimeError):
    """A saved backbone could not be opened; says which file and why."""


def describe(backbone: Backbone) -> dict[str, Any]:
    """What config.json holds, as plain JSON values: what `build` needs (class, arguments, order, writes), and
    what people want to know (kind, width)."""
    about = {
        "format": FORMAT,
        "class": type(backbone).__name__,
        "config": backbone.config,
        "order": backbone.order if isinstance(backbone, TokenBackbone) else "both",
        "kind": backbone.kind,
        "dim": backbone.dim,
    }
    if isinstance(backbone, TokenBackbone) and (how := backbone.writes) and (how, backbone.order) != ORDINARY:
        about["writes"] = how
    return about


def renewed(about: dict[str, Any]) -> dict[str, Any]:
    """A description of format 1 as one of this format; any other as it is."""
    if about.get("format") != 1:
        return about
    words = (("both", False), ("causal", True))
    order = next((name for name, was in words if about.get("causal") is was), None)
    return about | {"format": FORMAT, "class": about.get("kind"), "order": order}


def build(about: dict[str, Any], limit: int | None = None) -> Backbone:
    """A freshly initialised backbone of this description, which may be a stranger's.

    Args:
        about: as `describe` gives it.
        limit: bytes that its weights may take; None = the memory of this machine.

    Raises:
        HubError: another format, a class or an argument that is not known, or a model that cannot be built.
    """
    about = renewed(about)
    if about.get("format") != FORMAT:
        raise HubError(
            f"backbone format {about.get('format')} is not {FORMAT}: use the ssl_zoo that wrote it"
        )
    title, config, order = about.get("class"), about.get("config"), about.get("order")
    if isinstance(config, dict) and isinstance(whose := config.get("of"), str):
        raise HubError(
            f"this backbone is a module of your own, {whose[:200]}: build one and call "
            "ssl_zoo.load(path, backbone=module)"
        )
    if not isinstance(title, str) or title not in CLASSES:
        raise HubError(
            f"backbone class {title!r} is not one of {sorted(CLASSES)}; for a class of your own, build it "
            "and call ssl_zoo.load(path, backbone=yours)"
        )
    if not isinstance(config, dict) or not isinstance(order, str) or order not in ("both", "causal"):
        raise HubError("the description of a backbone has config, an object, and order, both or causal")
    made: type[Backbone] = getattr(importlib.import_module(CLASSES[title]), title)
    if unknown := sorted(set(map(str, config)) - arguments(made, config)):
        raise HubError(f"a saved {title} has no {', '.join(unknown)}: such a description is not built")
    if limit is None:
        limit = memory()
    try:
        refuse_odd_values(config)
        with Bounded(limit):
            backbone = made(**config)
    except UNBUILT as error:
        raise HubError(f"the description of this {title} cannot be built: {error}") from error
    if isinstance(backbone, TokenBackbone):
        if order not in backbone.orders:
            raise HubError(f"this {title} cannot read in the order {order!r}, which its description names")
        backbone.order, backbone.writes = order, writing(about, backbone)
    return backbone


def writing(about: dict[str, Any], backbone: TokenBackbone) -> Writes | None:
    """How a backbone of this description writes; None where that follows from its order.

    Raises:
        HubError: in no way that is known, or that the backbone can.
    """
    how = about.get("writes")
    if how is None:
        return None
    if how not in get_args(Writes):
        raise HubError(f"a backbone writes in one of the ways {', '.join(ORDERS)}, not {how!r}")
    if lacking := ORDERS[how] - backbone.orders:
        raise HubError(
            f"this {type(backbone).__name__} cannot write {how!r}: it cannot read {min(lacking)!r}"
        )
    return how


# How a class answers to arguments that make no sense.
UNBUILT = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, AssertionError, RuntimeError,
           MemoryError)  # fmt: skip


def arguments(made: type[Backbone], config: dict[str, Any]) -> set[str]:
    """Which arguments a saved description of this class may name: what builds it, but no weights or files."""
    known = inspect.signature(made).parameters.values()
    open_ended = any(one.kind is one.VAR_KEYWORD for one in known)  # takes those of timm's model as well
    names = {one.name for one in known if one.kind is not one.VAR_KEYWORD} - {"pretrained"}
    if made.__name__ == "HFBackbone":
        return names - {"name"}  # its config says it all
    return names | _timm_arguments(config.get("name")) if open_ended else names


def _timm_arguments(name: Any) -> set[str]:
    from ssl_zoo.backbones import _timm  # loaded with the class already

    return _timm.takes(name) if isinstance(name, str) and _timm.is_known(name) else set()


def digest(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def replace(folder: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a new folder, and put that in the place of `folder`, which stays until then."""
    part, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{end}") for end in ("part", "old"))
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir(parents=True)
    write(part)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def save(backbone: Backbone, folder: str | Path, state: Mapping[str, Tensor] | None = None) -> Path:
    """Write the backbone to `folder`, replacing what is there; the old one stays until the new is whole.

    state: its weights and buffers by name, where the backbone itself has only a part of them."""

    def write(part: Path) -> None:
        held = backbone.state_dict() if state is None else state
        state_dict = {k: value.detach().cpu().contiguous().clone() for k, value in held.items()}
        save_file(state_dict, part / "model.safetensors")
        about = describe(backbone) | {DIGEST: digest(part / "model.safetensors")}
        (part / "config.json").write_text(json.dumps(about, indent=1) + "\n")
        # safetensors makes files that only their owner may read.
        shutil.copymode(part / "config.json", part / "model.safetensors")

    folder = Path(folder)
    replace(folder, write)
    return folder


def place(run: Path, name: str = MAIN) -> Path:
    """Where a run keeps a backbone that its objective exports: RUN/backbone is the one that is measured, and
    RUN/backbones/NAME are the others.

    Raises:
        ValueError: a name that is no identifier.
    """
    if not name.isidentifier():
        raise ValueError(f"an exported backbone has a name such as teacher or text, not {name!r}")
    return run / MAIN if name == MAIN else run / f"{MAIN}s" / name


def locate(path: str | Path, name: str = MAIN) -> Path:
    """The folder of a run's backbone; or the given folder, if it is one that `save` wrote.

    Raises:
        HubError: there is no backbone of this name.
    """
    path = Path(path)
    for folder in (place(path, name), *([path] if name == MAIN else ())):
        if (folder / "config.json").exists():
            return folder
    if not path.exists():
        raise HubError(f"there is no folder {path}; `ssl-zoo pretrain` says at its end where a run was saved")
    others = sorted(one.name for one in (path / f"{MAIN}s").glob("*") if (one / "config.json").exists())
    raise HubError(
        f"no {'' if name == MAIN else f'{name} '}backbone in {path}: expected config.json "
        + ("there or " if name == MAIN else "")
        + f"in {place(path, name)}; it is written when `ssl-zoo pretrain` ends (resume an unfinished run "
        "with resume=auto)" + (f". Besides {MAIN} there is {', '.join(others)}" if others else "")
    )


def load(path: str | Path, backbone: Backbone | nn.Module | None = None, *, name: str = MAIN) -> Backbone:
    """Open a saved backbone, on the CPU, in evaluation mode.

    Args:
        path: the folder of a run, or a folder that `save` wrote.
        backbone: an instance to fill, for classes outside this library; or the module that `ssl_zoo.backbone`
            was given, with any weights.
        name: which backbone of a run; "text" is the text tower of CLIP and SigLIP.

    Raises:
        HubError: there is none, a file is damaged, or the weights do not fit.
        ValueError: a name that is no identifier.
    """
    folder = locate(path, name)
    file = folder / "model.safetensors"
    try:
        about = read_json(folder / "config.json")
    except (OSError, Untrusted) as error:  # both name it
        raise HubError(str(error)) from error
    try:
        if backbone is None:
            backbone = build(about, SLACK + ROOM * file.stat().st_size)
        elif not isinstance(backbone, Backbone):
            backbone = around(backbone, about)
        if about.get(DIGEST, found := digest(file)) != found:
            raise OSError(
                "its bytes are not those that were saved (SHA-256 differs): copy or export it again"
            )
        how = writing(about, backbone) if isinstance(backbone, TokenBackbone) else None
        backbone.load_state_dict(load_file(file))
    except (HubError, Untrusted) as error:
        raise HubError(f"{folder / 'config.json'}: {error}") from error
    except (OSError, SafetensorError) as error:
        raise HubError(f"{file} cannot be read: {error}") from error
    except RuntimeError as error:
        raise HubError(f"{file} does not fit {type(backbone).__name__}: {error}") from error
    if isinstance(backbone, TokenBackbone) and (order := renewed(about).get("order")) in [*backbone.orders]:
        # Read as it was trained, by whomever it was built.
        backbone.order, backbone.writes = order, how
    return backbone.eval()


def around(module: nn.Module, about: dict[str, Any]) -> Backbone:
    """A backbone that reads images with this module, as this description says.

    Raises:
        HubError: a description of another kind of backbone, or a module that it does not fit.
    """
    from ssl_zoo.backbones import own  # loads timm

    config = about.get("config")
    if not isinstance(config, dict) or "of" not in config:
        raise HubError("it was not made of a module of your own, and opens without one")
    image = "patch_size" not in config  # a vision transformer of timm's has its own size
    keys = ("image_size", "features", "mean", "std") if image else ("mean", "std")
    try:
        return own.backbone(module, **{key: config.get(key) for key in keys})
    except (ValueError, TypeError) as error:
        raise HubError(f"it does not fit this {type(module).__name__}: {error}") from error
