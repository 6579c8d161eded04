"""`mathft report`: makes the tables and figures of finished runs."""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from mathft_jax.cli import errors

_PROGRAM = "mathft report"


def main(argv: Sequence[str] | None = None) -> int:
  """Writes index.html, report.md and report.json; returns an exit code."""
  args = _parser().parse_args(argv)
  return errors.exit_code(_PROGRAM, lambda: _report(args))


def _report(args: argparse.Namespace) -> int:
  # Here, so that --help need not wait for the plotting library.
  from mathft_jax.report import build, render

  if args.output is None and len(args.run_dir) > 1:
    raise ValueError(
      "several runs need a folder for their common report: add --output DIR"
    )
  output = args.output or args.run_dir[0] / "report"
  report = build.build(args.run_dir)
  page = render.write(report, output)
  for warning in report.warnings:
    print(warning)
  for table in report.headlines:
    print()
    print(render.text_table(table))
  print(f"\nReport: {page}")
  return 0


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(prog=_PROGRAM, description=__doc__)
  parser.add_argument(
    "run_dir",
    nargs="+",
    type=pathlib.Path,
    metavar="RUN_DIR",
    help="the MODEL_DIR of a `mathft recipe` run",
  )
  parser.add_argument(
    "--output",
    type=pathlib.Path,
    metavar="DIR",
    help="where to write the report (default: RUN_DIR/report)",
  )
  return parser


if __name__ == "__main__":
  sys.exit(main())
