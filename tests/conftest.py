"""Fixtures that several parts of the suite need, and its stricter settings."""

import os
import pathlib
import re
import sys

import jaxtyping
import pytest

# From here on, functions of the modules that import jax check arguments and
# results against their annotations, array shapes included. The others do not:
# they check what they are given themselves, and their tests give them wrong
# things on purpose.
_ROOT = pathlib.Path(__file__).parents[1]
if any(name.startswith("mathft_jax.") for name in sys.modules):
  raise RuntimeError("mathft_jax was imported before tests/conftest.py")
jaxtyping.install_import_hook(
  [
    ".".join(path.relative_to(_ROOT).with_suffix("").parts)
    for path in _ROOT.glob("mathft_jax/**/*.py")
    if re.search(r"^(import|from) jax\b", path.read_text("utf-8"), re.M)
  ],
  "beartype.beartype",
)

# Set in the environment, so that nothing here imports jax. A [B] never meets a
# [B, 1] unnoticed. (Strict dtype promotion too would stop optax.)
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

_BESIDE_THE_CHECKOUT = _ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> pathlib.Path:
  """The folder with real data: $MATHFT_SHARED, else ../shared.

  Skips the test, naming the folder that it looked for, where there is none.
  """
  folder = pathlib.Path(
    os.environ.get("MATHFT_SHARED", _BESIDE_THE_CHECKOUT)
  ).resolve()
  if not (folder / "data").is_dir():
    pytest.skip(
      f"no real data: {folder / 'data'} is not a folder; set MATHFT_SHARED to"
      " the folder that holds data/"
    )
  return folder
