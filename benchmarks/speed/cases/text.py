"""Text pretraining: the library's trainer against transformers' Trainer, on the very same ids."""

from __future__ import annotations

import tempfile
from functools import partial
from typing import Any

import numpy as np
from duel import Case, Gate

from cases.material import TEXT, Recipe, note_share, recipe, train

WIDTH, DEPTH, HEADS, IDS = 256, 4, 4, 16_384
CONTEXT, ROWS = 512, 8
DOCUMENTS = 4000  # that the peers draw from: many more than they get through

DATA = (f"data={TEXT}", f"tokenizer.size={IDS}", f"context={CONTEXT}", f"batch_size={ROWS}")
TRUNK = (
    "backbone=transformer_mini",
    f"backbone.width={WIDTH}",
    f"backbone.depth={DEPTH}",
    f"backbone.heads={HEADS}",
    "backbone.mlp=relu2",  # two matrices with a hidden width of 4, as in BERT and GPT-2
)
STEPS = {name: (f"objective={name}", *TRUNK, *DATA) for name in ("masked_lm", "next_token")}  # of our sides
BERT = (
    "backbone=hf_bert",
    f"backbone.config.hidden_size={WIDTH}",
    f"backbone.config.num_hidden_layers={DEPTH}",
    f"backbone.config.num_attention_heads={HEADS}",
    f"backbone.config.intermediate_size={4 * WIDTH}",
    "+backbone.config.hidden_dropout_prob=0.0",
    "+backbone.config.attention_probs_dropout_prob=0.0",
)


def ours(words: tuple[str, ...], gate: Gate) -> None:
    parts = recipe(*words, *DATA)
    note_share(parts, gate)
    train(parts, gate, ROWS * CONTEXT)  # packed rows: no position is padding


def documents(parts: Recipe) -> list[np.ndarray]:
    """Some of the training documents as ids, each with its separator in front."""
    assert parts.tokenizer is not None
    texts = parts.data.documents("train")  # pyright: ignore
    few = np.random.default_rng(0).permutation(len(texts))[:DOCUMENTS]
    ids = parts.tokenizer.encode([texts[i] for i in few])
    return [np.concatenate([parts.tokenizer.prefix, row]) for row in ids]


def tokenizer_of(ids: int) -> Any:
    """What transformers' collators ask of a tokenizer: the number of ids, and the special ones."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<sep>", "<mask>"]
    names += [f"id{i}" for i in range(len(names), ids)]
    inner = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "<pad>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", sep_token="<sep>", mask_token="<mask>"
    )


def fit(model: Any, rows: Any, collator: Any, gate: Gate, units: float | None = None, **options: Any) -> None:
    """transformers' Trainer on rows of ids; what is counted are the positions that are not padding.

    units: what a step counts; None: what the model is given, for which a GPU would be waited for.
    """
    from transformers import Trainer, TrainerCallback, TrainingArguments

    seen = 0

    def count(_module: Any, _args: Any, inputs: dict[str, Any]) -> None:
        nonlocal seen
        mask = inputs.get("attention_mask")
        seen += inputs["input_ids"].numel() if mask is None else int(mask.sum())

    class Passing(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            nonlocal seen
            gate(seen if units is None else units)
            seen = 0

    if units is None:
        model.register_forward_pre_hook(count, with_kwargs=True)
    settings = {"use_cpu": True, "per_device_train_batch_size": ROWS, "dataloader_pin_memory": False}
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=10**6,
            optim="adamw_torch_fused",
            max_grad_norm=0.0,  # ours does not clip either
            dataloader_drop_last=True,
            remove_unused_columns=False,  # keeps special_tokens_mask, which spares the collator a slow search
            disable_tqdm=True,
            logging_steps=1000,
            report_to="none",
            save_strategy="no",
            **settings | options,
        )
        Trainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            data_collator=collator,
            callbacks=[Passing()],
        ).train()


def bert(gate: Gate, packed: bool = False, **options: Any) -> None:
    """As run_mlm with --line_by_line: a document a row, padded to the longest; `packed`: as without it."""
    from transformers import AutoModelForMaskedLM, BertConfig, DataCollatorForLanguageModeling

    parts = recipe("objective=masked_lm", *BERT, *DATA)
    words = documents(parts)
    cut = chunks(np.concatenate(words)) if packed else [row[:CONTEXT] for row in words]
    rows = [{"input_ids": row.tolist(), "special_tokens_mask": (row < 3).astype(int).tolist()} for row in cut]
    model = AutoModelForMaskedLM.from_config(
        BertConfig.from_dict(parts.objective.backbone.model.config.to_dict()),  # pyright: ignore
        attn_implementation="sdpa",
    )
    assert parts.tokenizer is not None
    collator = DataCollatorForLanguageModeling(tokenizer_of(parts.tokenizer.vocabulary.size))
    fit(model, rows, collator, gate, **options)


def gpt2(gate: Gate) -> None:
    """As run_clm: documents end to end, cut into full rows, and the labels are the ids."""
    from transformers import GPT2Config, GPT2LMHeadModel, default_data_collator

    parts = recipe("objective=next_token", *TRUNK, *DATA)
    rows = [
        {"input_ids": row.tolist(), "labels": row.tolist()}
        for row in chunks(np.concatenate(documents(parts)))
    ]
    config = GPT2Config(
        vocab_size=parts.tokenizer.vocabulary.size,  # pyright: ignore[reportOptionalMemberAccess]
        n_embd=WIDTH,
        n_layer=DEPTH,
        n_head=HEADS,
        n_positions=1024,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=1,
        eos_token_id=1,
        use_cache=False,
    )
    config._attn_implementation = "sdpa"
    fit(GPT2LMHeadModel(config), rows, default_data_collator, gate)


def chunks(ids: np.ndarray) -> list[np.ndarray]:
    count = len(ids) // CONTEXT
    return np.split(ids[: count * CONTEXT], count)


def masked_lm() -> Case:
    asides = {
        "ssl_zoo, the same BERT": partial(ours, ("objective=masked_lm", *BERT)),
        "transformers, by length": partial(bert, train_sampling_strategy="group_by_length"),
        "transformers, packed": partial(bert, packed=True),
    }
    return Case(
        title=f"masked-LM training, width {WIDTH}, {DEPTH} layers, {IDS:,} ids, {ROWS} x {CONTEXT} tokens, 2 "
        "cores",
        unit="tokens/s",
        against="transformers' Trainer, BertForMaskedLM, a document a row (run_mlm --line_by_line)",
        sides={
            "ssl_zoo": partial(ours, ("objective=masked_lm", *TRUNK)),
            "transformers": bert,
            **asides,
        },
        asides=tuple(asides),
        bar=2.5,
        same="documents, ids, width, layers, heads, hidden width of the MLP, vocabulary, rows x context, 15 "
        "% masked 80/10/10, fused AdamW, no dropout, no clipping; fp32. Only tokens that are not padding "
        "count",
        differs="ours packs documents into full rows and keeps them apart by a mask, scores the masked "
        "tokens alone, and has its own transformer (rotary positions, RMSNorm, ReLU^2, no biases); "
        "transformers pads to the longest document of the batch and scores every position. Asides: BERT "
        "itself in our trainer; transformers with documents of like length together; transformers with "
        "documents packed, which then see each other",
        threads=2,
        seconds=4.0,
        rounds=3,
    )


def next_token() -> Case:
    return Case(
        title=f"next-token training, width {WIDTH}, {DEPTH} layers, {IDS:,} ids, {ROWS} x {CONTEXT} tokens, "
        "2 cores",
        unit="tokens/s",
        against="transformers' Trainer, GPT-2, packed rows (run_clm)",
        sides={
            "ssl_zoo": partial(ours, ("objective=next_token", *TRUNK)),
            "transformers": gpt2,
        },
        bar=1.3,
        same="documents, ids, width, layers, heads, hidden width of the MLP, vocabulary, rows x context, "
        "tied output matrix, fused AdamW, no dropout, no clipping; fp32",
        differs="ours keeps the documents of a row apart by a mask and has its own transformer (rotary "
        "positions, RMSNorm, ReLU^2, no biases); GPT-2's tokens see the documents before, with the faster "
        "causal attention",
        threads=2,
        seconds=4.0,
        rounds=3,
    )


CASES = {"masked_lm": masked_lm, "next_token": next_token}
