#!/usr/bin/env bash
# Samples solutions, grades, scores and re-ranks them:
#   launch/decode_and_rerank.sh RECIPE.gin MODEL_DIR [--gin.NAME=VALUE ...]
set -euo pipefail

recipe=${1:?a gin file}
model_dir=${2:?where to put candidates, grades and scores}
export TF_CPP_MIN_LOG_LEVEL=2

set -x
mathft decode-and-rerank --gin_file="$recipe" \
  --gin.MODEL_DIR="'$model_dir'" "${@:3}"
