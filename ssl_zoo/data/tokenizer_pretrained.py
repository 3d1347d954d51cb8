"""Tokenizers that exist already: a `tokenizer.json` here, or a name on the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import tokenizers
from tokenizers import decoders

from ssl_zoo.backbones._base import Vocabulary
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.tokenizer import Tokenizer, opens_word, plain, read


def pretrained(texts: Iterable[str] = (), *, name: str) -> Tokenizer:
    """A tokenizer that exists: a tokenizer.json, a folder that holds one, or a name on the Hugging Face hub.

    Special ids are found by their usual names (BERT, RoBERTa, GPT-2, Llama, ModernBERT). Without a padding
    id, the end-of-text id pads; without a mask id, `vocabulary.mask` is None. Text is never read as special
    tokens. A folder that `Tokenizer.save` wrote is loaded as it was.

    Raises:
        DataError: nothing under that name, no network, or no id that could open a document.
    """
    path = Path(name).expanduser()
    if (path / "vocabulary.json").is_file():
        return Tokenizer.load(path)
    if path.is_dir() and not (path / "tokenizer.json").is_file():
        raise DataError(
            f"the folder {path} holds no tokenizer.json; transformers' AutoTokenizer writes one there by "
            "`save_pretrained`"
        )
    inner = read(path / "tokenizer.json" if path.is_dir() else path) if path.exists() else _fetch(name)
    layout = json.loads(inner.to_str())
    ids = inner.get_vocab(with_added_tokens=True)
    added = {token["id"] for token in layout["added_tokens"] if token["special"]}

    def find(*names: str) -> int | None:
        return next((ids[n] for n in names if n in ids), None)

    end = find("</s>", "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<eos>")
    start = find("[CLS]", "<s>", "<|begin_of_text|>", "<bos>")
    close = find("[SEP]", "</s>") if start is not None else None
    start = end if start is None else start
    if start is None:
        raise DataError(
            f"tokenizer {name} has no special token that could open a document: none of [CLS], <s>, <bos>, "
            f"<|endoftext|> and their like is among its {len(ids)} tokens"
        )
    pad = find("[PAD]", "<pad>", "<|padding|>", "<|finetune_right_pad_id|>")
    pad = next(i for i in (pad, end, start) if i is not None)
    mask = find("[MASK]", "<mask>")
    special = added | {i for i in (pad, start, close, mask) if i is not None}
    continues = tuple(sorted(_inner_ids(ids, "ByteLevel" in json.dumps(layout["decoder"])) - special))
    vocabulary = Vocabulary(max(ids.values()) + 1, pad, start, mask, tuple(sorted(special)), continues)
    before = layout["pre_tokenizer"] or {}
    divisible = before.get("type") == "BertPreTokenizer" or (
        before.get("type") == "ByteLevel" and before["use_regex"] and not before["add_prefix_space"]
    )
    return Tokenizer(inner, vocabulary, (start,), () if close is None else (close,), divisible=divisible)


def _inner_ids(ids: dict[str, int], byte_level: bool) -> set[int]:
    """Ids that continue a word: WordPiece's ##, else by `opens_word`; none if words leave no mark."""
    if any(token.startswith("##") for token in ids):
        return {i for token, i in ids.items() if token.startswith("##")}
    if byte_level:
        decoder = decoders.ByteLevel()
        return {i for token, i in ids.items() if not opens_word(decoder.decode([token]))}
    if any(token.startswith("\u2581") for token in ids):  # SentencePiece's mark of a space
        return {i for token, i in ids.items() if not opens_word(token)}
    return set()


def _fetch(name: str) -> tokenizers.Tokenizer:
    try:
        return plain(tokenizers.Tokenizer.from_pretrained(name))
    except Exception as error:  # the library raises bare Exception
        raise DataError(
            f"tokenizer {name} is neither a file here nor to be had from the Hugging Face hub ({error}); "
            "without a network, give the path of a tokenizer.json"
        ) from error
