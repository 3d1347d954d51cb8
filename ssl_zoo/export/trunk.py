"""This library's text transformer as one of transformers' own architectures: Qwen3, which has the same parts.

RMSNorm before each part, QK-norm, rotary positions by halves, grouped-query attention and a gated MLP without
biases are all there. What differs is a matter of names and of one identity:

    QK-norm without gains     gains of 1
    ReLU^2(u)                 ReLU(u) * u, a gated MLP whose gate has the weights of the other half
    both directions           is_causal = false, which transformers honours in masks and kernels
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import Qwen3Config

from ssl_zoo.backbones.transformer import TextTransformer


def architecture(backbone: TextTransformer, context: int) -> Qwen3Config:
    """transformers' configuration of a text transformer.

    Args:
        context: tokens of the longest text of pretraining.
    """
    about, known = backbone.config, backbone.vocabulary
    assert known is not None
    block = backbone.layers[0] if len(backbone.layers) else None
    swiglu = about["mlp"] == "swiglu"
    return Qwen3Config(
        vocab_size=known.size,
        hidden_size=backbone.dim,
        intermediate_size=backbone.dim if block is None else block.mlp.down.in_features,  # pyright: ignore
        num_hidden_layers=len(backbone.layers),
        num_attention_heads=about["heads"],
        num_key_value_heads=about["kv_heads"],
        head_dim=backbone.head,
        hidden_act="silu" if swiglu else "relu",
        rms_norm_eps=torch.finfo(torch.float32).eps,
        rope_parameters={"rope_type": "default", "rope_theta": float(backbone.rope_base)},
        max_position_embeddings=context,
        attention_dropout=about["dropout"],
        tie_word_embeddings=False,
        is_causal=backbone.order == "causal",  # pyright: ignore[reportCallIssue] (a key of all models)
        use_cache=False,
        pad_token_id=known.pad,
        bos_token_id=known.separator,
        eos_token_id=known.separator,
        architectures=["Qwen3Model"],
        dtype="float32",
    )


def weights(backbone: TextTransformer) -> dict[str, Tensor]:
    """The weights of a text transformer by the names of `Qwen3Model`."""
    about, head = backbone.config, backbone.head
    rows = [about["heads"] * head, about["kv_heads"] * head, about["kv_heads"] * head]
    found = {"embed_tokens.weight": backbone.words.weight, "norm.weight": backbone.norm.weight}
    for i, block in enumerate(backbone.layers):
        state, at = block.state_dict(), f"layers.{i}."
        q, k, v = state["attention.qkv.weight"].split(rows)  # (heads * head, D) each
        up = state["mlp.up.weight"]  # (2 * inner, D): gates first; or (inner, D)
        gate, up = up.chunk(2) if about["mlp"] == "swiglu" else (up, up)
        found |= {
            f"{at}input_layernorm.weight": state["attention_norm.weight"],
            f"{at}post_attention_layernorm.weight": state["mlp_norm.weight"],
            f"{at}self_attn.q_proj.weight": q,
            f"{at}self_attn.k_proj.weight": k,
            f"{at}self_attn.v_proj.weight": v,
            f"{at}self_attn.o_proj.weight": state["attention.out.weight"],
            f"{at}self_attn.q_norm.weight": torch.ones(head),
            f"{at}self_attn.k_norm.weight": torch.ones(head),
            f"{at}mlp.gate_proj.weight": gate,
            f"{at}mlp.up_proj.weight": up,
            f"{at}mlp.down_proj.weight": state["mlp.down.weight"],
        }
    return found
