"""`mathft decode-and-rerank`: samples, grades, scores and re-ranks solutions.

Draws candidates from a generator (or takes over given ones), grades them,
scores them with an evaluator and makes the report, in MODEL_DIR. STAGES chooses
among decode, grade, score and report; a second start goes on with the rest.
Several processes take a share of the problems each (--multiprocess).

Example: mathft decode-and-rerank \\
  --gin_file=recipes/arith_decode_and_rerank.gin \\
  --gin.MODEL_DIR='"runs/mine"' \\
  --gin.GENERATOR_CHECKPOINT='"runs/arith_cpu/generator_both"' \\
  --gin.EVALUATOR_CHECKPOINT='"runs/arith_cpu/evaluator_xent"'
"""

import sys
from collections.abc import Sequence

from mathft_jax.cli import gin_flags, huge_pages


def main(argv: Sequence[str]) -> int:
  """Runs `mathft decode-and-rerank`; returns the exit code."""
  return gin_flags.run(
    "mathft decode-and-rerank",
    argv,
    "mathft_jax.recipe.decode_and_rerank.run",
    usage=__doc__ or "",
    may_have_processes=True,
    on_start=gin_flags.write_operative_config,
  )


if __name__ == "__main__":
  huge_pages.use()
  sys.exit(main(sys.argv[1:]))
