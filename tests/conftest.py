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


@pytest.fixture(scope="session")
def make_config():
  """Configurations that compile in a second; changes go by name."""
  from mathft_jax.models import transformer

  def make(**changes) -> transformer.TransformerConfig:
    return transformer.TransformerConfig(
      **{
        "vocab_size": 31,
        "num_layers": 2,
        "model_dim": 16,
        "mlp_dim": 24,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 8,
        **changes,
      }
    )

  return make


@pytest.fixture(scope="session")
def make_params():
  """Parameters of a configuration in which biases and scales count too."""
  import jax
  import numpy as np

  from mathft_jax.models import transformer

  def make(config, seed: int = 0):
    tokens = jax.ShapeDtypeStruct((1, 2), np.int32)
    module = transformer.Transformer(config)
    shapes = jax.eval_shape(module.init, jax.random.key(0), tokens)["params"]
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
      name = path[-1].key
      is_vector = name == "scale" or name.endswith("_bias")
      size = 4 if is_vector or name == "embedding" else leaf.shape[-2]
      values = rng.normal(size=leaf.shape) / np.sqrt(size)
      if name == "scale":
        values += 1 - config.norm_offset
      return values.astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)

  return make


@pytest.fixture(scope="session")
def arith_vocabulary():
  """The shipped vocabulary of the arithmetic demo."""
  from mathft_jax.data import vocabulary

  return vocabulary.load_vocabulary("arith")
