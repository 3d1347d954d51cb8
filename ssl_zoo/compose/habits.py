"""What other libraries call the keys: a word of theirs is answered with the key that means it here.

Names are those of Hugging Face's TrainingArguments and model configurations, Lightning, timm, solo-learn,
lightly, nanoGPT and fairseq.
"""

from __future__ import annotations

# Key -> what others call it. One word may mean several keys: those that a verb has are named.
ELSEWHERE = {
    "run": "model checkpoint ckpt ckpt_path model_path model_name_or_path",
    "model": "run checkpoint ckpt ckpt_path model_path model_name_or_path weights",
    "init": "checkpoint ckpt ckpt_path weights pretrained init_from finetune_from model_path",
    "resume": "resume_from resume_from_checkpoint resume_checkpoint auto_resume ckpt_path",
    "data_dir": "root data_root dataset_dir",
    "data": "dataset datasets data_path dataset_name train_file train_data",
    "objective": "method loss task algorithm algo pretext",
    "backbone": "model arch architecture network encoder net model_name",
    "experiment": "recipe preset",
    "optimizer": "optim",
    "schedule": "scheduler lr_scheduler lr_scheduler_type lr_schedule",
    "protocol": "method task probe eval_type",
    "optimizer.lr": "learning_rate base_lr blr max_lr",
    "optimizer.weight_decay": "wd",
    "protocol.lrs": "lr learning_rate base_lr",
    "protocol.ks": "k neighbours neighbors n_neighbors knn_k",
    "protocol.weight_decays": "weight_decay wd c",
    "schedule.warmup": "warmup_steps warmup_ratio warmup_epochs num_warmup_steps warmup_iters",
    "budget.steps": "max_steps num_steps total_steps train_steps max_iters iterations num_iterations",
    "budget.epochs": "max_epochs num_epochs n_epochs num_train_epochs total_epochs",
    "budget.minutes": "max_time time minutes hours",
    "budget.samples": "max_samples num_samples",
    "budget.tokens": "max_tokens num_tokens",
    "batch_size": "bs per_device_train_batch_size train_batch_size global_batch_size per_gpu_batch_size",
    "context": "block_size max_length max_len max_seq_length max_seq_len seq_len seq_length "
    "sequence_length context_length length",
    "length": "block_size max_length max_len max_seq_length max_seq_len seq_len seq_length "
    "sequence_length context",
    "data.image_size": "image_size img_size input_size resolution crop_size size",
    "tokens": "max_new_tokens max_tokens num_tokens max_length new_tokens",
    "steps": "epochs num_epochs num_train_epochs max_steps",
    "samples": "num_return_sequences n num_samples",
    "to": "format target",
    "out": "output out_file output_file output_dir save_to",
    "seed": "random_seed random_state seed_everything manual_seed",
    "seeds": "seed random_seed random_state",
    "labels": "shots n_shot few_shot num_labels train_percent label_fraction",
    "workers": "num_workers dataloader_num_workers n_workers",
    "clip": "clip_grad grad_clip max_grad_norm gradient_clip clip_grad_norm",
    "compile": "torch_compile use_compile",
    "recompute": "gradient_checkpointing activation_checkpointing grad_checkpointing checkpointing",
    "log_every": "logging_steps log_interval log_freq log_every_n_steps print_freq",
    "evaluate_every": "eval_steps eval_interval eval_every val_every val_check_interval eval_freq "
    "check_val_every_n_epoch",
    "save_every": "save_steps save_interval save_freq checkpoint_every every_n_train_steps",
    "keep": "save_total_limit save_top_k keep_last",
    "wandb": "project wandb_project use_wandb report_to",
    "trainer.devices": "gpus num_gpus n_gpus ngpus nproc_per_node world_size",
    "trainer.accelerator": "device gpu cuda",
    "device": "accelerator gpu cuda",
    "trainer.precision": "fp16 bf16 amp mixed_precision dtype use_amp",
    "trainer.accumulate_grad_batches": "gradient_accumulation_steps grad_accum accum_iter accumulation_steps",
    "trainer.num_nodes": "nnodes nodes",
    "tokenizer.size": "vocab_size vocabulary_size n_vocab",
    "tokenizer.lowercase": "do_lower_case lower uncased",
    "backbone.width": "hidden_size hidden_dim hidden d_model embed_dim n_embd dim embedding_dim",
    "backbone.depth": "num_layers n_layer n_layers num_hidden_layers layers",
    "backbone.heads": "num_heads n_head n_heads num_attention_heads nhead",
    "backbone.kv_heads": "num_key_value_heads n_kv_heads num_kv_heads",
    "backbone.patch_size": "patch_size patch",
    "backbone.drop_path": "drop_path_rate stochastic_depth",
    "backbone.dropout": "dropout_prob hidden_dropout_prob",
    "objective.temperature": "tau temp",
    "objective.masked": "mask_ratio mask_rate mask_prob masking_ratio mask_probability",
    "objective.mask.rate": "mask_ratio mask_rate mlm_probability mask_prob masking_ratio mask_probability",
    "objective.view": "augmentation augmentations transform transforms aug",
}

# The folder that training writes, which is the run.
WRITTEN = (
    "output output_dir outdir out out_dir save_dir log_dir logdir exp_dir work_dir default_root_dir "
    "checkpoint_dir ckpt_dir run_dir"
)


def keys_here(verb: str, word: str) -> list[str]:
    """The keys that mean here what `word`, or its last part, means elsewhere; the verb may lack them."""
    name = word.rpartition(".")[2].lower()
    found = [key for key, others in ELSEWHERE.items() if name in others.split()]
    if verb in ("pretrain", "scale"):  # whose run is not read but written
        return ["run"] if name in WRITTEN.split() else [key for key in found if key != "run"]
    return found
