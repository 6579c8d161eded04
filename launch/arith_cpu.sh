#!/usr/bin/env bash
# The whole recipe on generated arithmetic, on one CPU:
#   launch/arith_cpu.sh [MODEL_DIR] [--gin.NAME=VALUE ...]
set -euo pipefail

model_dir=${1:-runs/arith_cpu}
export JAX_PLATFORMS=cpu TF_CPP_MIN_LOG_LEVEL=2

set -x
mathft recipe --gin_file=recipes/arith_cpu.gin \
  --gin.MODEL_DIR="'$model_dir'" "${@:2}"
