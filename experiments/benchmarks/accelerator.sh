#!/usr/bin/env bash
# Losses and training on this machine's accelerator, in under eight minutes: a table, and JSON.
#
#   experiments/benchmarks/accelerator.sh [--json=FILE] [--data_dir=FOLDER] [--toy]
#
# --help tells what is measured. PYTHON=... chooses the interpreter, CUDA_VISIBLE_DEVICES the card,
# by default the first.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-python}

if ! command -v "$python" >/dev/null; then
  echo "error: there is no '$python' here; name an interpreter by PYTHON=..." >&2
  exit 1
fi
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
# PyTorch and lightly are not asked for: without them the other parts go on.
if ! why=$("$python" -c 'import absl, flax, jax, optax, orbax.checkpoint, PIL, tensorboardX' 2>&1); then
  echo "error: $python cannot load all packages that training needs (${why##*$'\n'});" >&2
  echo "where they are missing: pip install -e '$root[bench]'" >&2
  exit 1
fi
# Memory is taken as it is needed, so that it can be measured; JAX and PyTorch use the same card.
export XLA_PYTHON_CLIENT_PREALLOCATE=false
export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES-0}
exec "$python" -m experiments.benchmarks.accelerator "$@"
