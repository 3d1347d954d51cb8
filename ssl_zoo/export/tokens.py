"""A tokenizer of this library as one that transformers opens: the same ids, prefix and suffix for any text.

This library keeps special ids outside of the inner tokenizer, before its ids, and puts prefix and suffix
around documents itself. transformers wants all in one tokenizer.json: ids are moved up, special tokens get
names that are no token of the text, and a template does the rest.
"""

from __future__ import annotations

import json
from typing import Any

import tokenizers
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from ssl_zoo.data.tokenizer import SPECIAL, Tokenizer
from ssl_zoo.export._base import ExportError


def whole(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """One tokenizer of the `tokenizers` library with the ids of ours, without prefix and suffix.

    Raises:
        ExportError: special ids lie before those of a kind of tokenizer that this library does not train.
    """
    inner, offset = tokenizer._inner, tokenizer._offset
    if not offset:
        return tokenizers.Tokenizer.from_str(inner.to_str())
    layout = json.loads(inner.to_str())
    model = layout["model"]
    if model["type"] != "BPE" or layout["added_tokens"]:
        raise ExportError(f"ids of a {model['type']} tokenizer cannot be moved: take to=onnx or to=torch")
    names = [free(name, model["vocab"]) for name in SPECIAL]
    ids = {token: i + offset for token, i in model["vocab"].items()}
    model["vocab"] = {name: i for i, name in enumerate(names)} | ids
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    layout["added_tokens"] = [
        {"id": i, "content": name, **flags, "special": True} for i, name in enumerate(names)
    ]
    return tokenizers.Tokenizer.from_str(json.dumps(layout))


def free(name: str, taken: Any) -> str:
    """A name that no token has: this one, if it is free."""
    while name in taken:
        name = f"<{name}>"
    return name


def fast(tokenizer: Tokenizer, context: int) -> PreTrainedTokenizerFast:
    """The tokenizer as transformers has it; a text is cut to `context` tokens, prefix and suffix included."""
    made, known = whole(tokenizer), tokenizer.vocabulary
    prefix, suffix = ([str(made.id_to_token(i)) for i in ids] for ids in (tokenizer.prefix, tokenizer.suffix))
    around = {name: made.token_to_id(name) for name in (*prefix, *suffix)}
    one = [*prefix, "$A", *suffix]
    made.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single=one, pair=[*one, *prefix, "$B", *suffix], special_tokens=[*around.items()]
    )
    opens, closes = made.id_to_token(known.separator), (*suffix, *prefix)[0]
    named = {"pad_token": made.id_to_token(known.pad), "bos_token": opens, "cls_token": opens}
    named |= {"sep_token": closes, "eos_token": closes}
    if known.mask is not None:
        named["mask_token"] = made.id_to_token(known.mask)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_max_length=context,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,  # the letters <mask> in a text are text
        **named,
    )
