#!/usr/bin/env bash
# One fine-tuning stage, on whatever accelerators this machine has:
#   launch/train.sh RECIPE.gin MODEL_DIR [--gin.NAME=VALUE ...]
set -euo pipefail

recipe=${1:?a gin file, such as recipes/arith_base.gin}
model_dir=${2:?where to put checkpoints and metrics}
export TF_CPP_MIN_LOG_LEVEL=2

set -x
mathft train --gin_file="$recipe" --gin.MODEL_DIR="'$model_dir'" "${@:3}"
