#!/usr/bin/env bash
# The stages of the recipe on real MATH and PRM800K rows, with a tiny model; its
# accuracies mean nothing:
#   launch/math_cpu_smoke.sh MODEL_DIR [--gin.NAME=VALUE ...]
set -euo pipefail

model_dir=${1:?where to put the run}
export JAX_PLATFORMS=cpu TF_CPP_MIN_LOG_LEVEL=2

set -x
mathft recipe --gin_file=recipes/math_cpu_smoke.gin \
  --gin.MODEL_DIR="'$model_dir'" "${@:2}"
