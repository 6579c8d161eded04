"""`mathft data`: prepares rows for training and shows what a model sees."""

import argparse
import sys
from collections.abc import Sequence

from mathft_jax.cli import data_prepare, data_show, errors


def main(argv: Sequence[str]) -> int:
  """Runs `mathft data prepare` or `mathft data show`."""
  args = _parser().parse_args(argv)
  return errors.exit_code("mathft data", lambda: args.run(args))


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser("mathft data", description=__doc__)
  commands = parser.add_subparsers(required=True)
  data_prepare.add_flags(
    commands.add_parser(
      "prepare", help="writes train, validation and test.jsonl of a source"
    )
  )
  data_show.add_flags(
    commands.add_parser(
      "show", help="prints examples of a task as a model sees them"
    )
  )
  return parser


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
