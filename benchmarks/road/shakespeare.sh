#!/usr/bin/env bash
# tinyshakespeare in nanoGPT's CPU budget, both cores. With NANOGPT set to a checkout whose data/shakespeare_char
# is prepared, nanoGPT's CPU config runs for 2,000 steps before each seed, without its evaluations. Each command
# is timed as a whole, start-up included.
set -euo pipefail
export OMP_NUM_THREADS=2
nanogpt() {
  cd "$NANOGPT"
  python train.py config/train_shakespeare_char.py --device=cpu --compile=False --eval_interval=100000 \
    --eval_iters=1 --log_interval=500 --block_size=64 --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 \
    --max_iters=2000 --lr_decay_iters=2000 --dropout=0.0 | grep -E "^(step|iter)"
}
for seed in ${SEEDS:-0 1 2}; do
  if [ -n "${NANOGPT:-}" ]; then
    echo "nanoGPT"
    time (nanogpt)
  fi
  echo "ssl-zoo, seed $seed"
  time ssl-zoo pretrain experiment=shakespeare seed="$seed" threads=2 run="runs/shakespeare-s$seed"
done
