"""Tokens a second while writing: python benchmarks/speed/generate.py [--tokens 64 256 1024] [--rounds 5]

One text after a prompt of 16 ids, greedily, on one thread, in float32, with random weights: our transformer
with its cache, the same without, transformers' Llama behind our interface with its cache, and transformers'
own `generate` on the same Llama. Width, depth, heads, inner width and vocabulary are the same. The sides take
turns within one process, round after round. A side that has taken longer than --patience seconds takes no
further turn; how many it took is in brackets. Seconds are those of the processor, which a busy machine
lengthens less than those of the clock. No text ends early, and windows hold all of it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
import transformers

from ssl_zoo.backbones._base import TokenBackbone, Vocabulary
from ssl_zoo.backbones.hf import HFBackbone
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.transfer import reading
from ssl_zoo.transfer.generate import Choice, follow

PROMPT = [1, *range(100, 115)]
Side = Callable[[int], object]


def sides(width: int, depth: int, heads: int, ids: int) -> dict[str, Side]:
    """Name -> a function that writes so many tokens."""
    vocabulary = Vocabulary(ids)
    torch.manual_seed(0)
    own = TextTransformer(vocabulary, width=width, depth=depth, heads=heads)
    inner = own.layers[0].mlp.down.in_features  # pyright: ignore
    fields = {
        **{"model_type": "llama", "hidden_size": width, "num_hidden_layers": depth},
        **{"num_attention_heads": heads, "intermediate_size": inner, "tie_word_embeddings": True},
        "max_position_embeddings": 4096,
    }
    ours = HFBackbone(config=fields, vocabulary=vocabulary)
    for one in (own, ours):
        one.order, one.writes = "causal", "next"
    about: Any = transformers.AutoConfig.for_model(
        **fields, vocab_size=ids, pad_token_id=0, eos_token_id=None
    )
    llama = transformers.AutoModelForCausalLM.from_config(about).eval()

    def written(backbone: TokenBackbone, tokens: int) -> None:
        follow(backbone, [PROMPT], tokens, 4096, Choice(temperature=0), end=-1)

    def again(tokens: int) -> None:
        kept = reading.steps_of
        reading.steps_of = lambda *_: None  # pyright: ignore
        try:
            written(own, tokens)
        finally:
            reading.steps_of = kept

    def theirs(tokens: int) -> None:
        x = torch.tensor([PROMPT])
        found = llama.generate(
            x, attention_mask=torch.ones_like(x), max_new_tokens=tokens, do_sample=False, use_cache=True
        )
        assert found.shape[1] == len(PROMPT) + tokens

    return {
        "ssl_zoo": lambda tokens: written(own, tokens),
        "ssl_zoo, read again": again,
        "ssl_zoo, Llama": lambda tokens: written(ours, tokens),
        "transformers generate, Llama": theirs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--patience", type=float, default=40.0)
    for name, size in (("width", 256), ("depth", 6), ("heads", 4), ("ids", 8192)):
        parser.add_argument(f"--{name}", type=int, default=size)
    options = parser.parse_args()
    torch.set_num_threads(1)
    made = sides(options.width, options.depth, options.heads, options.ids)
    for write in made.values():
        write(8)
    seconds: dict[tuple[str, int], list[float]] = {(side, n): [] for side in made for n in options.tokens}
    for turn in range(options.rounds):
        for (side, n), found in seconds.items():
            if turn and max(found) > options.patience:
                continue
            began = time.process_time()
            made[side](n)
            found.append(time.process_time() - began)
    print(f"width {options.width}, depth {options.depth}, {options.heads} heads, {options.ids:,} ids; "
          f"torch {torch.__version__}, transformers {transformers.__version__}")  # fmt: skip
    print(
        f"{'tokens a second (median of turns)':34}"
        + "".join(f"{n:>16,}" for n in options.tokens)
        + "    cost grows"
    )
    for side in made:
        cells = [f"{n / median(seconds[side, n]):>12,.1f} ({len(seconds[side, n])})" for n in options.tokens]
        growth = ", ".join(
            f"x{median(seconds[side, b]) / median(seconds[side, a]):.2f} from {a:,} to {b:,}"
            for a, b in zip(options.tokens, options.tokens[1:], strict=False)
        )
        print(f"{side:34}" + "".join(cells) + f"    {growth}")


if __name__ == "__main__":
    main()
