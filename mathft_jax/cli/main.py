"""`mathft <command>`: imports a command's module only when it runs."""

import importlib
import sys
from collections.abc import Sequence

from mathft_jax.cli import errors, huge_pages

_COMMANDS = {
  "recipe": "runs all stages of a recipe, from the data to the report",
  "train": "fine-tunes a generator or an evaluator",
  "decode-and-rerank": "samples, grades, scores and re-ranks solutions",
  "fit": "tells whether a recipe fits a TPU slice, without one",
  "data": "prepares problems by split, shows what a model sees",
  "grade": "grades and clusters the answers of candidates",
  "report": "makes the tables and figures of finished runs",
  "convert": "exports a trained model as safetensors",
}
_COMPUTING = ("recipe", "train", "decode-and-rerank")


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command that `argv` names and returns its exit code.

  The default for `argv` is the command line. `mathft decode-and-rerank` is
  `mathft_jax.cli.decode_and_rerank.main`.
  """
  command, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
  if command in ("--help", "-h", "help"):
    print(_help())
    return 0
  if command == "--version":
    print(_version())
    return 0
  if command not in _COMMANDS:
    print(
      f"mathft: error: no command {command!r}"
      f"{errors.did_you_mean(command, _COMMANDS)} (see mathft --help)",
      file=sys.stderr,
    )
    return errors.USER_ERROR
  if argv is None and command in _COMPUTING:
    huge_pages.use()
  module = importlib.import_module(
    f"mathft_jax.cli.{command.replace('-', '_')}"
  )
  return module.main(rest)


def _help() -> str:
  width = max(map(len, _COMMANDS))
  commands = "\n".join(
    f"  {name:{width}}  {summary}" for name, summary in _COMMANDS.items()
  )
  return (
    "Fine-tunes language models to solve math problems.\n\n"
    f"Usage: mathft <command> [flags]\n\n{commands}\n\n"
    "`mathft <command> --help` tells a command's flags; `mathft --version`"
    " the version."
  )


def _version() -> str:
  from importlib import metadata

  return metadata.version("mathft-jax")


if __name__ == "__main__":
  sys.exit(main())
