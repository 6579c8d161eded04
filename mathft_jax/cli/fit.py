"""`mathft fit`: whether a recipe fits a topology, by compiling it for that.

Takes any gin file of `mathft train`, `mathft recipe` or `mathft
decode-and-rerank`, and compiles their steps for devices that need not be
there: TPUs ("v5e:4x4", "v5p:4x4x8", "v6e:8x8"; needs libtpu, of the extra tpu),
a number of GPUs ("h100:8") or of CPU devices ("cpu:8"). Prints memory by kind,
the bound of the step's time, and the largest batch that fits. The exit code is
0 if everything fits, 1 if not, 2 for an error.

MODEL_DIR, VOCABULARY, INITIAL_CHECKPOINT_PATH and folders of data need not be
set: they change no shape. MAX_TRIALS (6) compilations look for the largest
batch, FIT_OUTPUT names a file for the numbers as JSON.

Example: mathft fit --gin_file=recipes/gemma_2_2b_v5e_16.gin \\
  --gin.TOPOLOGY='"v5e:4x4"'
"""

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import gin

from mathft_jax.cli import (
  errors,
  gin_bindings,
  gin_flags,
  third_party_logs,
)

_FIT_FILE = "runs/fit.gin"

# What the files of a command configure, and what of it `fit` compiles.
_COMMANDS = {
  "single_run": "parts_of_training",
  "paper": "parts_of_paper",
  "decode_and_rerank": "parts_of_decoding",
}

# Macros that change no shape, and what stands for them where nothing is set.
# Any vocabulary does: the width of the logits is the model's.
_NOT_NEEDED = {
  "MODEL_DIR": "''",
  "VOCABULARY": "'math_2k'",
  "INITIAL_CHECKPOINT_PATH": "None",
  "MATH_DATA": "''",
  "MATH_DIR": "''",
  "PRM800K_DIR": "''",
}


def main(argv: Sequence[str]) -> int:
  """Runs `mathft fit`; returns the exit code."""

  def command() -> int:
    flags = gin_flags.read_flags("mathft fit", argv, __doc__ or "")
    if flags is None:
      return 0
    if not flags.gin_files:
      raise errors.ConfigError("give the --gin_file of a recipe")
    # Nothing is computed here, and a GPU's memory is not taken.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    third_party_logs.import_tensorflow()
    return _fit(flags)

  return errors.exit_code("mathft fit", command)


def _fit(flags: gin_flags.Flags) -> int:
  from mathft_jax.recipe import fit

  runs = {
    name: importlib.import_module(f"mathft_jax.recipe.{name}").run
    for name in _COMMANDS
  }
  flags = flags._replace(gin_files=[*flags.gin_files, _FIT_FILE])
  found = gin_bindings.read(
    flags.gin_files,
    flags.bindings,
    gin_flags.search_paths(flags.search_paths),
    [fit.Fit, *runs.values()],
  ).bindings
  configured = [
    n for n, run in runs.items() if run in {b.target for b in found}
  ]
  if len(configured) != 1:
    raise errors.ConfigError(
      f"{', '.join(flags.gin_files[:-1])} configure"
      f" {' and '.join(configured) or 'no run'}; give the files of one of"
      " `mathft train`, `mathft recipe` and `mathft decode-and-rerank`"
    )
  last = {b.name: b for b in found if b.target is None}
  missing = [n for n, b in last.items() if b.is_required and n in _NOT_NEEDED]
  flags = flags._replace(
    bindings=[
      *(f"{name}={_NOT_NEEDED[name]}" for name in missing),
      *flags.bindings,
    ]
  )
  name = configured[0]
  make_fit, _ = gin_flags.parse(flags, fit.Fit, runs[name])
  make_parts = getattr(fit, _COMMANDS[name])
  parts = make_parts(**_arguments(runs[name]))
  with third_party_logs.of_libtpu_held_back():
    return make_fit().run(parts)


def _arguments(function: Callable[..., Any]) -> dict[str, Any]:
  """What gin would call the function with, defaults included."""
  defaults = {
    name: parameter.default
    for name, parameter in inspect.signature(function).parameters.items()
    if parameter.default is not parameter.empty
  }
  return defaults | gin.get_bindings(function)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
