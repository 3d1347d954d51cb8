#!/usr/bin/env bash
# Pretrain on Wikipedia and books with one objective; then fine-tune on AG News with 25 labels a class, 5 seeds.
# THREADS: the cores of pretraining, whose budget is in minutes (docs/log.md: next_token with 1, masked_lm with 2).
set -euo pipefail
objective=$1
run="runs/text-$objective"
ssl-zoo pretrain "experiment=text_$objective" threads="${THREADS:-2}" run="$run"
ssl-zoo evaluate run="$run" data=ag_news protocol=finetune labels=25 "seeds=[0,1,2,3,4]" floors=true threads=1 \
  length=64 protocol.head_start=probe protocol.steps=80 protocol.batch_size=32 protocol.layer_decay=1.0 "protocol.lrs=[1e-3,3e-3]"
