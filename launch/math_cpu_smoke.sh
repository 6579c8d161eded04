#!/usr/bin/env bash
# The stages of the recipe on real MATH and PRM800K rows, with a tiny model; its
# accuracies mean nothing:
#   launch/math_cpu_smoke.sh MODEL_DIR MATH_DIR PRM800K_DIR [--gin.NAME=VALUE ...]
set -euo pipefail

model_dir=${1:?where to put the run}
math_dir=${2:?the folder of the files of MATH}
prm800k_dir=${3:?the folder of the files of PRM800K}
export JAX_PLATFORMS=cpu TF_CPP_MIN_LOG_LEVEL=2

set -x
mathft recipe --gin_file=recipes/math_cpu_smoke.gin \
  --gin.MODEL_DIR="'$model_dir'" \
  --gin.MATH_DIR="'$math_dir'" \
  --gin.PRM800K_DIR="'$prm800k_dir'" "${@:4}"
