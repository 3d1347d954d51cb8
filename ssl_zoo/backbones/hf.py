"""Text encoders and decoders of transformers, run from embeddings with an explicit attention mask.

A 4-D mask keeps packed documents apart, never position ids alone: transformers ignores those as soon as there
is a cache or another mask. What a model honours is tried out when it is built (`_tryout`).
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import inspect
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import (
    Features,
    Layers,
    Order,
    TokenBackbone,
    Vocabulary,
    attention_mask,
    check_ids,
    check_positions,
    pool,
    segment_positions,
)
from ssl_zoo.backbones._tryout import try_out


def _transformers() -> Any:
    """The library itself, imported when it is needed.

    Raises:
        ImportError: it is not installed; the message says how to install it.
    """
    try:
        import transformers
        from transformers import AutoConfig, AutoModel  # noqa: F401  (loaded lazily: fails here, or never)
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise ImportError("HFBackbone needs transformers: pip install 'ssl-zoo[hf]'") from error
    return transformers


def _from_fields(fields: Mapping[str, Any], vocabulary: Vocabulary | None) -> Any:
    """A transformers config from its fields, `model_type` among them, fitted to the vocabulary.

    Raises:
        ValueError: a `model_type` or a field that is not known.
    """
    fields = dict(fields)
    kind = fields.pop("model_type", None)
    kinds = _transformers().CONFIG_MAPPING.keys()
    if kind not in kinds:
        near = difflib.get_close_matches(str(kind), kinds, n=4) or ["bert", "roberta", "gpt2", "llama"]
        raise ValueError(
            f"model_type {kind!r} is not known to transformers; take one such as {', '.join(near)}"
        )
    fields = {key: value for key, value in fields.items() if key not in _VOLATILE}
    if unknown := sorted(set(fields) - _known(kind)):
        raise ValueError(f"transformers' {kind} has no field {', '.join(unknown)}")
    if vocabulary is not None:  # what the fields say wins: a rebuilt model may have more ids than are used
        fields = _ids(vocabulary) | fields
    return _transformers().AutoConfig.for_model(kind, **fields)


def _known(kind: str) -> set[str]:
    """The fields that say what a text model of this `model_type` is.

    Other fields name code of a repository to run, kernels to fetch, or how to unpack the weights.

    Raises:
        ValueError: it is no text model.
    """
    auto = _transformers().models.auto.modeling_auto
    groups = ("CAUSAL_LM", "MASKED_LM", "TEXT_ENCODING", "SEQ_TO_SEQ_CAUSAL_LM")
    if not any(kind in getattr(auto, f"MODEL_FOR_{group}_MAPPING_NAMES") for group in groups):
        raise ValueError(f"model_type {kind!r} is no text model of transformers")
    made = _transformers().CONFIG_MAPPING[kind]
    found = {one.name for one in dataclasses.fields(made)} | set(made.attribute_map) | _ROPE
    return {key for key in found - set(made.sub_configs) if not _RUNS.search(key)}


def _ids(vocabulary: Vocabulary) -> dict[str, int | None]:
    """The ids of a transformers config, whose defaults belong to another tokenizer and may not exist here."""
    separator = vocabulary.separator
    return {
        "vocab_size": vocabulary.size,
        "pad_token_id": vocabulary.pad,
        "mask_token_id": vocabulary.mask,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), separator),
    }


def _fields(made: Any) -> dict[str, Any]:
    """What a config says of the model, as plain JSON values."""
    kept = {"model_type", *_known(made.model_type)} - _VOLATILE
    return {k: v for k, v in json.loads(made.to_json_string(use_diff=False)).items() if k in kept}


# Fields of a config that say how it was made or run, not what the model is.
_VOLATILE = {"transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype", "use_cache"}
_ROPE = {"output_attentions", "rope_theta", "rope_scaling", "partial_rotary_factor"}  # older spellings
_RUNS = re.compile(r"implementation|use_\w*kernels|quantization|backbone|remote|auto_map")

_POSITION_TABLES = ("position_embeddings", "embed_positions", "wpe")


class HFBackbone(TokenBackbone):
    """An encoder or decoder of transformers without its head; encoder-decoders are refused.

    Its kind is "decoder" where the model by itself reads causally, else "encoder", which is tried out.

    Args:
        name: hub name or local folder; None = build from `config`.
        config: `model_type` and fields of a transformers config; None = that of `name`.
        pretrained: load the weights of `name` (safetensors) instead of drawing new ones. Their ids mean what
            their own tokenizer says; "weights" is for those who give them another one on purpose.
        vocabulary: what the ids mean; a model with new weights takes its size and special ids from it.
        attention: transformers' implementation. Both take the mask; "sdpa" is the fast one.

    Raises:
        ImportError: transformers is not installed.
        ValueError: arguments that do not go together, or a model that cannot be run from embeddings, cannot
            keep documents apart or cannot take the vocabulary.
    """

    kind: Literal["encoder", "decoder"]

    def __init__(
        self,
        name: str | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        pretrained: bool | Literal["weights"] = False,
        vocabulary: Vocabulary | Sequence | None = None,
        attention: Literal["sdpa", "eager"] = "sdpa",
    ):
        hf = _transformers()
        if (name is None) == (config is None):
            raise ValueError("give either name (hub name or folder) or config (model_type and fields)")
        if attention not in ("sdpa", "eager"):
            raise ValueError(f"attention {attention!r} takes no mask of documents; choose sdpa or eager")
        if pretrained not in (False, True, "weights"):
            raise ValueError(f"pretrained={pretrained!r}: take true, weights or false; name=FOLDER")
        if pretrained and name is None:
            raise ValueError("pretrained=True needs the name of the weights")
        if vocabulary is not None:
            vocabulary = Vocabulary.of(vocabulary)
        if config is not None:
            made = _from_fields(config, vocabulary)
            name = made.model_type
        else:
            made = hf.AutoConfig.from_pretrained(name, trust_remote_code=False)
            made = _from_fields(_fields(made), None)
            if vocabulary is not None and not pretrained:
                made.update(_ids(vocabulary))
        if getattr(made, "is_encoder_decoder", False):
            raise ValueError(
                f"{made.model_type} is an encoder-decoder, which has no single row of tokens; take an "
                "encoder (bert, roberta, modernbert) or a decoder (gpt2, llama, qwen3)"
            )
        if vocabulary is not None and vocabulary.size > made.vocab_size:
            raise ValueError(
                f"the vocabulary has {vocabulary.size} ids, but {name} has {made.vocab_size} embeddings; "
                "use its own tokenizer, or leave out pretrained and vocab_size"
            )
        made.use_cache = False  # a cache changes how transformers builds masks
        options = {"attn_implementation": attention, "trust_remote_code": False, "dtype": torch.float32}
        if pretrained:
            model = hf.AutoModel.from_pretrained(name, config=made, use_safetensors=True, **options)
        else:
            model = hf.AutoModel.from_config(made, **options)
        if "add_pooling_layer" in inspect.signature(type(model).__init__).parameters:
            model.pooler = None  # it reads the class token only: its weights would never see a gradient
        fields = _fields(made)
        again = json.loads(_from_fields(fields, None).to_json_string(use_diff=False))
        if changed := [key for key in fields if again.get(key) != fields[key]]:
            raise ValueError(f"the config of {name} changes when it is read again: {changed}")
        super().__init__(
            {
                "config": fields,
                "vocabulary": vocabulary and vocabulary.plain(),
                "attention": attention,
            }
        )
        self.model, self.vocabulary, self.dim = model, vocabulary, made.hidden_size
        self._read_layout()
        self.eval()
        self.orders, self.order = try_out(self)
        self.kind = "decoder" if self.order == "causal" else "encoder"  # pyright: ignore
        self.train()

    def _read_layout(self) -> None:
        """Find out from config, signature and modules what the model does with masks and positions.

        Raises:
            ValueError: it takes no embeddings, mask or positions, or has parts that cannot be used.
        """
        made, title = self.model.config, type(self.model).__name__
        words, takes = self.word_embedding(), inspect.signature(self.model.forward).parameters
        if lacking := {"inputs_embeds", "attention_mask", "position_ids"} - set(takes):
            raise ValueError(f"{title} cannot be used: it does not take {', '.join(sorted(lacking))}")
        if words.embedding_dim != self.dim:
            raise ValueError(
                f"{title} cannot be used: its embeddings are {words.embedding_dim} wide and its trunk "
                f"{self.dim}; take one without a factorised embedding"
            )
        self.window: int | None = getattr(made, "sliding_window", None)
        self.reach = 0  # set by try_out
        kinds = getattr(made, "layer_types", None)
        if kinds is None:  # older models have one kind of layer, with a window if the config names one
            kinds = ["full_attention" if self.window is None else "sliding_attention"]
        if unknown := set(kinds) - {"full_attention", "sliding_attention"}:
            raise ValueError(f"{title} cannot be used: documents cannot be kept apart in {sorted(unknown)}")
        self.kinds: tuple[str, ...] = tuple(sorted(set(kinds)))
        # RoBERTa counts positions from padding_idx + 1; the rows of its table before that are for padding.
        self.offset, self.max_length = 0, None
        for key, table in self.model.named_modules():
            if isinstance(table, nn.Embedding) and key.rsplit(".", 1)[-1] in _POSITION_TABLES:
                self.offset = 0 if table.padding_idx is None else table.padding_idx + 1
                self.max_length = min(table.num_embeddings, made.max_position_embeddings) - self.offset

    def embed(self, x: Tensor) -> Tensor:
        """Ids (B, T) int64 -> their embeddings (B, T, D)."""
        words = self.word_embedding()
        check_ids(x, words.num_embeddings)
        return words(x)

    def encode(
        self,
        tokens: Tensor,
        at: Tensor | None = None,
        segments: Tensor | None = None,
        *,
        order: Order = "both",
        grid: tuple[int, int] | None = None,
        layers: Layers | None = None,
    ) -> Features:
        self.refuse(order)
        if segments is None:
            documents = torch.zeros(tokens.shape[:2], dtype=torch.long, device=tokens.device)
        else:
            documents = segments
        title = type(self.model).__name__
        if at is not None and self.max_length is not None:
            check_positions(at, self.max_length, title)
        if at is None:
            at = segment_positions(documents)
            if self.max_length is not None and tokens.shape[1] > self.max_length:
                # Only here may a document be too long, and only here is a device waited for.
                at = at.masked_fill(documents < 0, 0)  # padding needs no positions of its own
                if (longest := int(at.max()) + 1) > self.max_length:
                    raise ValueError(
                        f"{longest} tokens in a document, but {title} has only {self.max_length} positions: "
                        f"cut rows to {self.max_length} tokens (context={self.max_length}), or take a model "
                        "with more positions, or one with rotary positions, which do not run out"
                    )
        out = self.model(
            inputs_embeds=tokens,
            attention_mask=self._masks(documents, order, tokens.dtype),
            position_ids=at + self.offset,
            output_hidden_states=layers is not None,
        )
        x = out.last_hidden_state
        after = () if layers is None else out.hidden_states[1:]
        if layers == "pooled":
            after = (pool(state, segments) for state in after)
        return Features(x, pool(x, segments), tuple(after))

    def _masks(self, segments: Tensor, order: Order, dtype: torch.dtype) -> Any:
        """The mask in the form the model reads: one (B, 1, T, T), or one for each kind of layer."""
        full = attention_mask(segments, order)
        masks = {"full_attention": full, "sliding_attention": full}
        if "sliding_attention" in self.kinds and self.window is not None:
            index = torch.arange(segments.shape[1], device=segments.device)
            near = (index[:, None] - index).abs() <= self.window + self.reach
            masks["sliding_attention"] = full & near
        if self.model.config._attn_implementation == "eager":
            lowest = torch.finfo(dtype).min
            masks = {k: torch.zeros_like(m, dtype=dtype).masked_fill(~m, lowest) for k, m in masks.items()}
        return masks[self.kinds[0]] if len(self.kinds) == 1 else {kind: masks[kind] for kind in self.kinds}

    def word_embedding(self) -> nn.Embedding:
        return self.model.get_input_embeddings()

    def smaller(self, fraction: float = 1.0, depth: int | None = None) -> HFBackbone:
        made = copy.deepcopy(self.model.config)
        made.num_hidden_layers = depth or made.num_hidden_layers
        heads = max(1, round(made.num_attention_heads * fraction))
        width = 2 * heads * max(1, round(made.hidden_size * fraction / (2 * heads)))
        before = made.num_attention_heads
        groups = before // (getattr(made, "num_key_value_heads", None) or before)
        sizes = {"hidden_size": width, "embedding_size": width, "num_attention_heads": heads}
        sizes |= {"head_dim": width // heads, "num_key_value_heads": heads // math.gcd(heads, groups)}
        sizes["intermediate_size"] = max(1, round((getattr(made, "intermediate_size", None) or 0) * fraction))
        for key, size in sizes.items():
            if getattr(made, key, None) is not None:  # a config that leaves a size out derives it
                setattr(made, key, size)
        attention = self.model.config._attn_implementation
        return HFBackbone(config=_fields(made), vocabulary=self.vocabulary, attention=attention)

    def blocks(self) -> Sequence[nn.Module]:
        count = self.model.config.num_hidden_layers
        lists = (module for module in self.model.modules() if isinstance(module, nn.ModuleList))
        return list(next(module for module in lists if len(module) == count))
