"""Tests of mathft_jax.pretrained.llama."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from mathft_jax import pretrained
from mathft_jax.models import attention, transformer
from mathft_jax.pretrained import llama

_SCALING = attention.LlamaRopeScaling(8.0, 1.0, 4.0, 64)


def _changes(name: str) -> dict:
  return {
    "tied": {},
    "untied_mqa": {"tie_embeddings": False, "num_kv_heads": 1},
    "llama3": {"rope_scaling": _SCALING, "rope_theta": 5e5},
    "linear": {"rope_scaling": attention.LinearRopeScaling(2.0)},
  }[name]


def _assert_same(tree, other):
  assert jax.tree.structure(tree) == jax.tree.structure(other)
  jax.tree.map(np.testing.assert_array_equal, tree, other)


def _edit(directory, **changes):
  path = directory / "config.json"
  row = {**json.loads(path.read_text()), **changes}
  path.write_text(json.dumps({k: v for k, v in row.items() if v != "gone"}))


@pytest.fixture
def written(make_config, make_params, tmp_path):
  config = make_config(tie_embeddings=False)
  params = make_params(config)
  llama.write(tmp_path, config, params)
  return tmp_path, config, params


@pytest.mark.parametrize("name", ["tied", "untied_mqa", "llama3", "linear"])
def test_what_is_written_is_read(make_config, make_params, tmp_path, name):
  config = make_config(**_changes(name))
  params = make_params(config)
  llama.write(tmp_path, config, params)
  read_config, read_params = llama.read(tmp_path)
  assert read_config == config
  _assert_same(read_params, params)


def test_matrices_are_stored_as_output_by_input(written):
  directory, config, params = written
  tensors = safetensors.numpy.load_file(directory / "model.safetensors")
  found = tensors["model.layers.1.self_attn.k_proj.weight"]
  assert found.shape == (config.num_kv_heads * config.head_dim, 16)
  np.testing.assert_array_equal(
    found.T, params["layers"]["attention"]["key"][1]
  )
  assert tensors["lm_head.weight"].shape == (31, 16)


def test_shards_and_bfloat16_are_read(written):
  directory, _, params = written
  tensors = safetensors.numpy.load_file(directory / "model.safetensors")
  (directory / "model.safetensors").unlink()
  small = {k: v.astype(jnp.bfloat16) for k, v in tensors.items()}
  names = sorted(small)
  weight_map = {}
  for i, part in enumerate([names[:7], names[7:]]):
    file = f"model-{i}.safetensors"
    safetensors.numpy.save_file({k: small[k] for k in part}, directory / file)
    weight_map.update(dict.fromkeys(part, file))
  index = directory / "model.safetensors.index.json"
  index.write_text(json.dumps({"weight_map": weight_map}))
  _, read = llama.read(directory)
  rounded = jax.tree.map(
    lambda x: x.astype(jnp.bfloat16).astype(np.float32), params
  )
  _assert_same(read, rounded)
  (directory / "model-1.safetensors").unlink()
  with pytest.raises(FileNotFoundError, match="no model-1.safetensors"):
    llama.read(directory)


def test_the_newer_place_of_rotary_settings_is_read(written):
  directory, config, _ = written
  row = {
    "rope_type": "linear",
    "factor": 4.0,
    "rope_theta": 123.0,
  }
  _edit(directory, rope_theta="gone", rope_parameters=row)
  expected = dataclasses.replace(
    config, rope_theta=123.0, rope_scaling=attention.LinearRopeScaling(4.0)
  )
  assert llama.read(directory)[0] == expected
  _edit(directory, rope_parameters={"rope_type": "default", "rope_theta": 9.0})
  expected = dataclasses.replace(config, rope_theta=9.0)
  assert llama.read(directory)[0] == expected


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"model_type": "gemma2"}, "model_type is 'gemma2'"),
    ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; only 'silu'"),
    ({"attention_bias": True}, "attention_bias is True"),
    ({"hidden_size": "gone"}, "config.json: hidden_size is missing"),
    ({"sliding_window": 64}, "what sliding_window does"),
    (
      {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
      "type 'yarn' is not supported",
    ),
  ],
)
def test_a_configuration_that_is_not_understood_is_an_error(
  written, changes, message
):
  directory, _, _ = written
  _edit(directory, **changes)
  with pytest.raises(ValueError, match=message):
    llama.read(directory)


def test_missing_files_and_tensors_are_named(written, tmp_path):
  directory, config, params = written
  with pytest.raises(FileNotFoundError, match="no config.json in"):
    llama.read(tmp_path / "none")
  _edit(directory, num_hidden_layers=3)
  with pytest.raises(ValueError, match="no tensor 'model.layers.2.self_attn"):
    llama.read(directory)
  _edit(directory, num_hidden_layers=1)
  with pytest.raises(ValueError, match="that a Llama does not: .*layers.1"):
    llama.read(directory)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"use_qk_norm": True, "logit_softcap": 3.0}, "use_qk_norm, logit_softcap"),
    ({"windows": (8, None)}, "cannot express windows"),
  ],
)
def test_what_a_llama_cannot_express_is_not_written(
  make_config, tmp_path, changes, message
):
  with pytest.raises(ValueError, match=message):
    llama.config_to_json(make_config(**changes))


def test_the_shipped_base_model_reads_its_vocabulary(arith_vocabulary):
  directory = pretrained.__path__[0]
  config, params = llama.read(f"{directory}/arith_base")
  assert config.vocab_size == arith_vocabulary.vocab_size
  size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
  assert size < 10e6


def test_logits_are_those_of_transformers(make_config, make_params, tmp_path):
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  config = make_config(tie_embeddings=False, rope_scaling=_SCALING)
  params = make_params(config)
  llama.write(tmp_path, config, params)
  theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
  tokens = np.random.default_rng(0).integers(0, 31, (2, 100))
  with torch.no_grad():
    expected = theirs(torch.tensor(tokens)).logits.numpy()
  logits = transformer.Transformer(config).apply(
    {"params": params}, jnp.asarray(tokens)
  )[0]
  np.testing.assert_allclose(logits, expected, atol=1e-4)
