"""`mathft convert`: exports a trained model as a folder of safetensors."""

import argparse
import sys
from collections.abc import Sequence

from mathft_jax.cli import errors, third_party_logs

_PROGRAM = "mathft convert"


def main(argv: Sequence[str] | None = None) -> int:
  """Writes config.json and model.safetensors; returns an exit code."""
  args = _parser().parse_args(argv)
  return errors.exit_code(_PROGRAM, lambda: _convert(args))


def _convert(args: argparse.Namespace) -> int:
  # Here, so that --help need not wait for JAX.
  third_party_logs.import_tensorflow()
  from mathft_jax.pretrained import llama
  from mathft_jax.recipe import initial

  config, params = initial.Pretrained(args.checkpoint)()
  llama.write(args.output, config, params)
  print(f"Wrote {args.output}")
  return 0


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(prog=_PROGRAM, description=__doc__)
  parser.add_argument(
    "checkpoint",
    metavar="CHECKPOINT",
    help=(
      "the MODEL_DIR of a `mathft train` run or a training stage's folder in"
      " that of `mathft recipe` (its best checkpoint is taken), or"
      " checkpoints/STEP in one of these"
    ),
  )
  parser.add_argument(
    "--output",
    required=True,
    metavar="DIR",
    help="where config.json and model.safetensors are written",
  )
  return parser


if __name__ == "__main__":
  sys.exit(main())
