#!/usr/bin/env bash
# Pretrain on CIFAR-10 with one objective, 3 seeds, one core each; then the linear probe of each, and the floors
# (3 random frozen backbones, raw pixels) once.
set -euo pipefail
objective=$1
for seed in ${SEEDS:-0 1 2}; do
  run="runs/cifar10-$objective-s$seed"
  ssl-zoo pretrain "experiment=cifar10_$objective" seed="$seed" threads=1 run="$run"
  ssl-zoo evaluate run="$run" data=cifar10 protocol=linear "seeds=[$seed]" threads=1
done
ssl-zoo evaluate run="runs/cifar10-$objective-s0" data=cifar10 protocol=linear "seeds=[0,1,2]" floors=true threads=1
