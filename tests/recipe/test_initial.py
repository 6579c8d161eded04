"""Tests of mathft_jax.recipe.initial."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mathft_jax import checkpoint, partitioning
from mathft_jax.cli import convert
from mathft_jax.data import vocabulary
from mathft_jax.models import lora, transformer
from mathft_jax.pretrained import llama
from mathft_jax.recipe import initial
from mathft_jax.training import state


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
    config, scan_layers=False, dtype=jnp.bfloat16, remat="full"
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


_LORA = lora.LoraConfig(rank=2, alpha=6.0, targets=("value", "gate"))


@pytest.fixture
def adapted_run(make_config, make_params, tmp_path):
  """A training run's folder, the parameters in it and those merged by hand."""
  config = make_config(lora=_LORA, remat="dots")
  params = make_params(config)
  initial.write_config(tmp_path, config)
  with checkpoint.Checkpointer(tmp_path / "checkpoints") as checkpointer:
    saved = state.TrainState(np.int32(3), jax.tree.map(jnp.asarray, params), ())
    checkpointer.save(saved, {}, {checkpoint.BEST: 1.0})
  _, expected = lora.split(params)
  for part, name in (("attention", "value"), ("mlp", "gate")):
    leaves = params["layers"][part]
    product = leaves[f"{name}_lora_a"] @ leaves[f"{name}_lora_b"]
    expected["layers"][part][name] = leaves[name] + 3.0 * product
  return tmp_path, params, expected


def test_adapters_of_a_run_are_merged_where_it_is_read(
  adapted_run, make_config
):
  directory, _, expected = adapted_run
  for name in (directory, directory / "checkpoints" / "3"):
    model = initial.Pretrained(str(name))
    config, params = model()
    assert config == make_config() == model.read_config()
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    jax.tree.map(
      lambda found, by_hand: np.testing.assert_allclose(
        found, by_hand, rtol=1e-6, atol=1e-6
      ),
      params,
      expected,
    )


def test_parameters_lie_and_are_kept_as_asked(adapted_run):
  directory, _, merged = adapted_run
  mesh = partitioning.make_mesh({}, jax.devices()[:1])
  for name, expected in (
    (str(directory), merged),
    ("arith_base", initial.Pretrained("arith_base")()[1]),
  ):
    model = initial.Pretrained(name, dtype="bfloat16", param_dtype="bfloat16")
    config, params = model(mesh)
    assert config == model.read_config()
    assert (config.dtype, config.param_dtype) == ("bfloat16", "bfloat16")
    for found, given in zip(
      jax.tree.leaves(params), jax.tree.leaves(expected), strict=True
    ):
      assert found.dtype == jnp.bfloat16 and found.sharding.mesh == mesh
      # To the nearest of 8 bits.
      np.testing.assert_allclose(
        np.asarray(found, np.float32), given, rtol=2**-8, atol=1e-7
      )


def test_merged_weights_are_what_convert_writes(adapted_run, make_config):
  directory, _, expected = adapted_run
  output = directory / "merged"
  assert convert.main([str(directory), "--output", str(output)]) == 0
  config, params = llama.read(output)
  assert config == make_config()
  jax.tree.map(
    lambda found, by_hand: np.testing.assert_allclose(
      found, by_hand, rtol=1e-6, atol=1e-6
    ),
    params,
    expected,
  )
  assert "mathft_lora" not in json.loads((output / "config.json").read_text())


def test_the_folder_of_adapters_is_no_folder_of_weights(adapted_run):
  directory, *_ = adapted_run
  path = directory / "config.json"
  row = json.loads(path.read_text())
  assert row["mathft_lora"] == {
    **{"rank": 2, "alpha": 6.0, "targets": ["value", "gate"]}
  }
  with pytest.raises(ValueError, match="what mathft_lora does to the model"):
    llama.read(directory)
  path.write_text(json.dumps({**row, "mathft_lora": {"rank": 2, "beta": 1}}))
  with pytest.raises(ValueError, match="mathft_lora is not understood"):
    initial.Pretrained(str(directory))()


def test_a_base_without_adapters_is_the_same_model(make_config):
  initial.check_config("there", make_config(), make_config(lora=_LORA))
