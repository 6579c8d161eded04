"""Fixtures that several parts of the suite need, and its stricter settings."""

import functools
import json
import os
import pathlib
import re
import subprocess
import sys
from typing import Any

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
def run_on_eight_devices():
  """Runs a script on eight simulated devices, in a process of its own.

  Devices are chosen when jax starts. `run(script)` returns the JSON that the
  script prints last, and what stands on stderr.
  """

  def run(script: str) -> tuple[Any, str]:
    ran = subprocess.run(
      [sys.executable, "-c", script],
      env={
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
      },
      capture_output=True,
      text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1]), ran.stderr

  return run


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


@pytest.fixture(
  scope="session",
  params=["plain", "llama", "biased_mqa", "capped_gemma", "normed_gemma"],
)
def family_config(request, make_config):
  """What the open families differ in, each at least once.

  Windows of 3 are much shorter than the rows of any test.
  """
  import jax

  from mathft_jax.models import attention

  changes = {
    "plain": {},
    "llama": {
      "tie_embeddings": False,
      "rope_theta": 500.0,
      "rope_scaling": attention.LlamaRopeScaling(
        factor=4.0,
        low_frequency_factor=1.0,
        high_frequency_factor=4.0,
        original_length=64,
      ),
      "norm_epsilon": 1e-2,
    },
    "biased_mqa": {"num_kv_heads": 1, "use_qkv_bias": True, "windows": (3,)},
    "capped_gemma": {
      "num_layers": 3,
      "num_kv_heads": 4,
      "activation": functools.partial(jax.nn.gelu, approximate=True),
      "windows": (3, None),
      "norm_offset": 1.0,
      "use_post_norms": True,
      "scale_embeddings": True,
      "query_scale": 0.2,
      "attention_softcap": 2.0,
      "logit_softcap": 3.0,
    },
    "normed_gemma": {
      "num_layers": 3,
      "windows": (3, 5, None),
      "rope_theta": 1000.0,
      "local_rope_theta": 50.0,
      "rope_scaling": attention.LinearRopeScaling(2.0),
      "use_qk_norm": True,
      "norm_offset": 1.0,
    },
  }
  return make_config(**changes[request.param])


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


@pytest.fixture(scope="session")
def write_byte_level():
  """Writes a tokenizer.json like those of Llama 3 and Qwen 2.5.

  Its first ids are bytes, "!" being 0, and its last ids are special tokens.
  `write(directory, texts, ...)` returns the path; `config` becomes a
  tokenizer_config.json beside it.
  """
  import tokenizers
  from tokenizers import decoders, models, pre_tokenizers, trainers

  def write(
    directory: pathlib.Path,
    texts=("No, that is incorrect! Is it correct? Is it incorrect?",) * 9,
    *,
    special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    normalizer=None,
    config=None,
  ) -> pathlib.Path:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
      [
        pre_tokenizers.Split(tokenizers.Regex(_WORDS), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
      ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
      texts,
      trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
      ),
    )
    tokenizer.normalizer = normalizer
    tokenizer.add_special_tokens(list(special))
    directory.mkdir(exist_ok=True)
    path = directory / "tokenizer.json"
    tokenizer.save(str(path))
    if config is not None:
      file = directory / "tokenizer_config.json"
      file.write_text(json.dumps(config), "utf-8")
    return path

  return write


# How Llama 3 and Qwen 2.5 split a text into words.
_WORDS = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
  r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.fixture(scope="session")
def byte_level_vocabulary(write_byte_level, tmp_path_factory):
  """A vocabulary in which id 0 is an ordinary token, "!".

  "correct" and "incorrect" are one token each. It has no BOS.
  """
  from mathft_jax.data import vocabulary

  path = write_byte_level(tmp_path_factory.mktemp("byte_level"))
  return vocabulary.load_vocabulary(str(path))


@pytest.fixture(scope="session")
def long_verdicts_vocabulary(write_byte_level, tmp_path_factory):
  """A vocabulary in which the verdicts are words of several tokens."""
  from mathft_jax.data import vocabulary

  texts = ["The solution is incomplete, the other is in place. A core!"] * 9
  path = write_byte_level(tmp_path_factory.mktemp("long_verdicts"), texts)
  return vocabulary.load_vocabulary(str(path))
