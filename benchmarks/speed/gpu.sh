#!/usr/bin/env bash
# The GPU's figures, under 10 minutes on one card; needs lightly beside the library. Results: $OUT, else results/.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p "${OUT:=results}"
PYTHONPATH="../..:${PYTHONPATH:-}" "${PYTHON:-python3}" gpu.py --out "$OUT/gpu-$(date +%F).json" "$@"
