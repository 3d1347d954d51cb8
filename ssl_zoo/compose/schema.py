"""The types of the keys of each verb: what a value may be, null among it, and the least that makes sense.

Defaults and meanings stand in configs/VERB.yaml alone; the classes here say the types of these keys, and a
test holds the two together. Keys of groups have the types of the arguments of what they build.

OmegaConf could check the same from such classes, but it turns texts into numbers where it can, and says less
of what it refuses.
"""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, ListConfig

Natural = Annotated[int, 0]  # with the least that makes sense
Count = Annotated[int, 1]
Share = Annotated[float, 0]


@dataclass
class BudgetKeys:
    steps: int | None
    epochs: float | None
    samples: int | None
    tokens: int | None
    minutes: float | None


@dataclass
class TrainerKeys:
    accelerator: str
    devices: int | str | list[int]
    num_nodes: Count
    strategy: str
    precision: str
    gradient_clip_val: float | None
    accumulate_grad_batches: Count


@dataclass
class BackboneKeys:
    pretrained: bool | str  # many backbones take it, and some only within their **KWARGS


@dataclass
class GuardKeys:
    figure: Literal["knn", "effective_rank"] | None
    head_start: Share
    margin: Share
    patience: Count | None


@dataclass
class PretrainKeys:
    data_dir: str
    run: str | None
    init: str | None
    seed: Natural
    batch_size: Count
    context: Count
    templates: list[str] | None
    budget: BudgetKeys
    workers: Natural
    threads: Count | None
    clip: Share | None
    compile: bool
    recompute: bool
    resume: str
    log_every: Natural
    optimized_metric: str | None
    evaluate_every: Natural
    save_every: Natural
    save_async: bool
    keep: int
    validation_limit: Count | None
    wandb: str | None
    guard: GuardKeys
    trainer: TrainerKeys
    backbone: BackboneKeys


@dataclass
class ScaleKeys(PretrainKeys):
    widths: list[int] | None
    ladder: Any
    steps: int | list[int]
    seeds: int | list[int]
    budget: BudgetKeys | None  # pyright: ignore[reportIncompatibleVariableOverride]
    resamples: Count


@dataclass
class EvaluateKeys:
    data_dir: str
    run: str
    labels: int | float | list[int | float | None] | None
    steps: int | list[int | None] | None
    seeds: list[int]
    metric: str
    score: Literal["test", "validation"]
    validation_limit: Count | None
    floors: bool | list[Literal["scratch", "random", "simple"]]
    length: Count | None
    device: str
    threads: Count | None


@dataclass
class LookKeys:
    data_dir: str
    run: str | None
    page: str | None
    limit: Count | None


@dataclass
class WorthKeys:
    data_dir: str
    labelled: str | None
    minutes: Share
    out: str | None
    lines: list[str] | None
    public: str | None
    labels: int | float | list[int | float | None] | None
    seeds: list[int]
    seed: Natural
    length: Count | None
    device: str
    threads: Count | None


@dataclass
class EmbedKeys:
    data_dir: str
    run: str
    out: str | None
    split: Literal["train", "validation", "test"]
    depth: Natural | None
    normalise: bool
    query: str | None
    nearest: Count
    page: str | None
    length: Count | None
    device: str
    threads: Count | None


@dataclass
class FinetuneKeys:
    data_dir: str
    run: str
    out: str | None
    labels: int | float | None
    steps: Count | None
    seed: Natural
    task: Literal["classes", "labels", "regression", "tags", "masks"] | None
    input: str | int | None
    label: str | int | list[str] | None
    tag: Natural | None
    head: Literal["linear", "conv"]
    prompt: str | None
    completion: str | None
    metric: Literal["accuracy", "macro_f1", "matthews"]
    length: Count | None
    device: str
    threads: Count | None


@dataclass
class PredictKeys:
    data_dir: str
    model: str
    text: str | None
    out: str | None
    split: Literal["train", "validation", "test"]
    show: Natural
    device: str
    threads: Count | None


@dataclass
class ReportKeys:
    data_dir: str
    run: str
    out: str | None
    limit: int
    threads: Count | None


@dataclass
class GenerateKeys:
    model: str
    prompt: str | None
    file: str | None
    out: str | None
    tokens: Natural | None
    temperature: Share | None
    top_k: Count | None
    top_p: Share
    samples: Count
    seed: Natural
    length: Count | None
    steps: Count | None
    device: str
    threads: Count | None


@dataclass
class ExportKeys:
    run: str
    to: Literal["timm", "transformers", "sentence-transformers", "onnx", "torch"]
    out: str | None
    part: str
    license: str | None
    push: str | None
    private: bool
    threads: Count | None


@dataclass
class ReproduceKeys:
    data_dir: str
    file: str
    out: str | None
    threads: Count | None


VERBS = {
    "pretrain": PretrainKeys,
    "scale": ScaleKeys,
    "evaluate": EvaluateKeys,
    "look": LookKeys,
    "worth": WorthKeys,
    "finetune": FinetuneKeys,
    "predict": PredictKeys,
    "embed": EmbedKeys,
    "generate": GenerateKeys,
    "report": ReportKeys,
    "export": ExportKeys,
    "reproduce": ReproduceKeys,
}


@functools.cache
def types_of(verb: str) -> dict[str, Any]:
    """Full key -> its type, of the keys of a verb that are no groups."""
    return dict(flat(VERBS[verb]))


def flat(made: type, prefix: str = "") -> list[tuple[str, Any]]:
    """Full key and type of the fields of a dataclass and of those within it."""
    found = []
    for name, hint in get_type_hints(made, include_extras=True).items():
        inner = [
            one
            for one in alternatives(hint)
            if isinstance(one, type) and hasattr(one, "__dataclass_fields__")
        ]
        found += flat(inner[0], f"{prefix}{name}.") if inner else [(f"{prefix}{name}", hint)]
    return found


# Types as they stand in a source


def parse_annotation(annotation: str) -> Any:
    """The type that an annotation means; None where it is no plain one."""
    try:
        return meaning(ast.parse(annotation, mode="eval").body)
    except (SyntaxError, LookupError, ValueError):
        return None


PLAIN = {"int": int, "float": float, "bool": bool, "str": str}
LISTS = ("list", "tuple", "Sequence", "Iterable")


def meaning(node: ast.expr) -> Any:
    """The type that a syntax tree means. Raises LookupError or ValueError for what is no plain type."""
    match node:
        case ast.Constant(value=None):
            return None
        case ast.Name(id=name):
            return PLAIN[name]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return Union[meaning(left), meaning(right)]  # noqa: UP007
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inside):
            return Literal[ast.literal_eval(inside)]
        case ast.Subscript(value=ast.Name(id=name), slice=inside) if name in LISTS:
            first = inside.elts[0] if isinstance(inside, ast.Tuple) else inside
            return list[meaning(first)]
    raise ValueError(f"{ast.unparse(node)} is no plain type")


# Values


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The types of which a value may be any."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def bare(hint: Any) -> Any:
    """The type without the least that makes sense."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


TAKES = {bool: bool, int: int, float: (int, float), str: (int, str)}  # a text may look like a number


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type. Where a text stands beside true and false, a number is a slip."""
    some = [bare(one) for one in alternatives(hint)]
    if bool in some and str in some and int not in some and type(value) is int:
        return False
    return any(fits_one(value, one) for one in some)


def fits_one(value: Any, one: Any) -> bool:
    """Whether a value is of a type that is no union. A truth value is no number and no text here."""
    if one in (Any, None, NoneType):
        return one is Any or value is None
    if get_origin(one) is Literal:
        return value in get_args(one)
    if get_origin(one) is list:
        return isinstance(value, ListConfig) and all(fits(item, get_args(one)[0]) for item in value)
    return one is bool if isinstance(value, bool) else isinstance(value, TAKES[one])


def least(hint: Any) -> float | None:
    """The least that makes sense; None where every number does."""
    return next((get_args(one)[1] for one in alternatives(hint) if get_origin(one) is Annotated), None)


NAMES = {bool: "a truth value (true or false)", int: "a whole number", float: "a number", str: "a text"}


def name_type(hint: Any) -> str:
    """What people call a type: "a whole number, or null"."""
    found = []
    for one in map(bare, alternatives(hint)):
        if get_origin(one) is Literal:
            found += [str(value) for value in get_args(one)]
        elif get_origin(one) is list:
            found.append("a list")
        else:
            found.append("null" if one in (None, NoneType) else NAMES.get(one, "anything"))
    if "a number" in found and "a whole number" in found:
        found.remove("a whole number")
    return found[0] if len(found) == 1 else ", ".join(found[:-1]) + f", or {found[-1]}"


def kind(value: Any) -> str:
    """What people call a value of this type."""
    if isinstance(value, ListConfig):
        return "a list"
    names = (name for made, name in NAMES.items() if isinstance(value, made))
    return "keys of its own" if isinstance(value, DictConfig) else next(names, f"a {type(value).__name__}")
