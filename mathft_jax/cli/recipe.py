"""`mathft recipe`: the paper's recipe, from data to report.

Runs the stages of a recipe in order in MODEL_DIR; a second start with the same
command skips what is finished and goes on with the rest.

Example: mathft recipe --gin_file=recipes/arith_cpu.gin \\
  --gin.MODEL_DIR='"runs/mine"'
"""

import sys
from collections.abc import Sequence

from mathft_jax.cli import gin_flags, huge_pages


def main(argv: Sequence[str]) -> int:
  """Runs `mathft recipe`; returns the exit code."""
  return gin_flags.run(
    "mathft recipe",
    argv,
    "mathft_jax.recipe.paper.run",
    usage=__doc__ or "",
    on_start=gin_flags.write_operative_config,
  )


if __name__ == "__main__":
  huge_pages.use()
  sys.exit(main(sys.argv[1:]))
