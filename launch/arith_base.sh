#!/usr/bin/env bash
# Makes the demo's base model anew: trains it, exports it, prints its hash:
#   launch/arith_base.sh [RUN_DIR] [OUTPUT_DIR] [--gin.NAME=VALUE ...]
set -euo pipefail

run_dir=${1:-runs/arith_base}
output_dir=${2:-mathft_jax/pretrained/arith_base}
export JAX_PLATFORMS=cpu TF_CPP_MIN_LOG_LEVEL=2

set -x
mathft train --gin_file=recipes/arith_base.gin \
  --gin.MODEL_DIR="'$run_dir'" "${@:3}"
mathft convert "$run_dir" --output "$output_dir"
sha256sum "$output_dir/model.safetensors"
