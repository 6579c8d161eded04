"""Tests of mathft_jax.recipe.initial."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mathft_jax.data import vocabulary
from mathft_jax.models import transformer
from mathft_jax.recipe import initial


def _logits(model: initial.Pretrained) -> np.ndarray:
  config, params = model()
  tokens = jnp.arange(24).reshape(2, 12)
  apply = jax.jit(transformer.Transformer(config).apply)
  return np.asarray(apply({"params": params}, tokens)[0])


def test_the_shipped_model_fits_its_vocabulary_and_runs_either_way():
  config, _ = initial.Pretrained("arith_base")()
  words = vocabulary.load_vocabulary("arith")
  initial.check_vocabulary(config, words)
  assert config.vocab_size == words.vocab_size and config.scan_layers
  written_out = initial.Pretrained("arith_base", scan_layers=False)
  assert not written_out()[0].scan_layers
  np.testing.assert_allclose(
    _logits(written_out), _logits(initial.Pretrained("arith_base")), atol=1e-4
  )


def test_models_that_differ_in_more_than_how_they_run_are_told_apart():
  config, _ = initial.Pretrained("arith_base")()
  otherwise_run = dataclasses.replace(
    config, scan_layers=False, dtype=jnp.bfloat16
  )
  initial.check_config("there", otherwise_run, config)
  with pytest.raises(ValueError, match="there holds another model than MODEL"):
    initial.check_config(
      "there", dataclasses.replace(config, rope_theta=5.0), config
    )


def test_a_configuration_is_read_without_parameters(tmp_path, monkeypatch):
  model = initial.Pretrained("arith_base", scan_layers=False)
  expected, _ = model()
  monkeypatch.delattr(initial.llama, "read")
  assert model.read_config() == expected
  assert initial.NewModel(expected).read_config() == expected
  with pytest.raises(FileNotFoundError, match="no model in"):
    initial.Pretrained(str(tmp_path)).read_config()
