"""Weights of the Llama family: a folder of config.json and safetensors.

The layout is that of the transformers library, so that a folder written here
is read there, and the other way round.
"""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from mathft_jax import samples
from mathft_jax.models import attention, transformer

_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"

# Our parameters of a layer to theirs, and whether a matrix is transposed:
# theirs map rows to columns, [out, in].
_LAYER_NAMES = {
  ("attention", "query"): ("self_attn.q_proj.weight", True),
  ("attention", "key"): ("self_attn.k_proj.weight", True),
  ("attention", "value"): ("self_attn.v_proj.weight", True),
  ("attention", "output"): ("self_attn.o_proj.weight", True),
  ("mlp", "gate"): ("mlp.gate_proj.weight", True),
  ("mlp", "up"): ("mlp.up_proj.weight", True),
  ("mlp", "down"): ("mlp.down_proj.weight", True),
  ("attention_norm", "scale"): ("input_layernorm.weight", False),
  ("mlp_norm", "scale"): ("post_attention_layernorm.weight", False),
}

# What config.json may say beside the shape, to no effect on the logits.
_WITHOUT_EFFECT = {
  *("architectures", "model_type", "_name_or_path", "transformers_version"),
  *("torch_dtype", "dtype", "use_cache", "initializer_range"),
  *("max_position_embeddings", "attention_dropout", "pretraining_tp"),
  *("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"),
}
_REQUIRED = (
  *("vocab_size", "num_hidden_layers", "hidden_size", "intermediate_size"),
  *("num_attention_heads", "rms_norm_eps"),
)
# Keys that may have one value only.
_FIXED = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
_KNOWN = {
  *_WITHOUT_EFFECT,
  *_REQUIRED,
  *_FIXED,
  *("num_key_value_heads", "head_dim", "tie_word_embeddings"),
  *("rope_theta", "rope_scaling", "rope_parameters"),
}


def read(
  directory: str | pathlib.Path, param_dtype: Any = jnp.float32
) -> tuple[transformer.TransformerConfig, Any]:
  """(configuration, parameters as numpy arrays) of a folder.

  Raises FileNotFoundError if a file is missing, ValueError for a configuration
  that is not of this family or that has a key this reader does not know.
  """
  directory = pathlib.Path(directory)
  path = directory / _CONFIG
  if not path.is_file():
    raise FileNotFoundError(
      f"no {_CONFIG} in {directory}; give a folder with {_CONFIG} and"
      f" {_WEIGHTS}"
    )
  config = dataclasses.replace(
    config_from_json(samples.read_json(path), path), param_dtype=param_dtype
  )
  tensors = dict(_tensors(directory))
  return config, _to_params(tensors, config, directory)


def write(
  directory: str | pathlib.Path,
  config: transformer.TransformerConfig,
  params: Any,
) -> None:
  """Writes a folder that `read` and the transformers library read.

  Raises ValueError for a configuration that this family cannot express.
  """
  directory = pathlib.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  layers = params["layers"]
  tensors = {
    "model.embed_tokens.weight": params["embedding"],
    "model.norm.weight": params["final_norm"]["scale"],
  }
  if not config.tie_embeddings:
    tensors["lm_head.weight"] = np.asarray(params["head"]).T
  for (part, name), (theirs, transposed) in _LAYER_NAMES.items():
    for i in range(config.num_layers):
      value = np.asarray(layers[part][name][i])
      tensors[f"model.layers.{i}.{theirs}"] = value.T if transposed else value
  tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
  samples.write_json(directory / _CONFIG, config_to_json(config))
  temporary = directory / (_WEIGHTS + ".tmp")
  safetensors.numpy.save_file(tensors, temporary, metadata={"format": "pt"})
  # The library makes a file that only its owner may read.
  shutil.copymode(directory / _CONFIG, temporary)
  temporary.replace(directory / _WEIGHTS)


def config_from_json(
  row: Mapping[str, Any], where: pathlib.Path
) -> transformer.TransformerConfig:
  """The configuration of a Llama; ValueError names what is not understood."""
  if row.get("model_type") != "llama":
    raise ValueError(
      f"{where}: model_type is {row.get('model_type')!r}; only 'llama' is read"
    )
  missing = [key for key in _REQUIRED if key not in row]
  if missing:
    raise ValueError(f"{where}: {', '.join(missing)} is missing")
  unknown = sorted(row.keys() - _KNOWN)
  if unknown:
    raise ValueError(
      f"{where}: what {', '.join(unknown)} does to the model is not known here;"
      " remove what has no effect on the logits"
    )
  for key, expected in _FIXED.items():
    if row.get(key, expected) != expected:
      raise ValueError(
        f"{where}: {key} is {row[key]!r}; only {expected!r} is supported"
      )
  heads = row["num_attention_heads"]
  # Newer files have all of it in one place.
  rope = row.get("rope_parameters") or row.get("rope_scaling")
  theta = (rope or {}).get("rope_theta", row.get("rope_theta", 10_000.0))
  return transformer.TransformerConfig(
    vocab_size=row["vocab_size"],
    num_layers=row["num_hidden_layers"],
    model_dim=row["hidden_size"],
    mlp_dim=row["intermediate_size"],
    num_heads=heads,
    num_kv_heads=row.get("num_key_value_heads") or heads,
    head_dim=row.get("head_dim") or row["hidden_size"] // heads,
    rope_theta=float(theta),
    rope_scaling=_rope_scaling(rope, where),
    norm_epsilon=row["rms_norm_eps"],
    tie_embeddings=row.get("tie_word_embeddings", False),
  )


def config_to_json(config: transformer.TransformerConfig) -> dict[str, Any]:
  """The configuration as config.json has it."""
  plain = transformer.TransformerConfig(
    **{
      name: getattr(config, name)
      for name in (
        *("vocab_size", "num_layers", "model_dim", "mlp_dim", "num_heads"),
        *("num_kv_heads", "head_dim", "rope_theta", "rope_scaling"),
        *("norm_epsilon", "tie_embeddings"),
        *("dtype", "param_dtype", "scan_layers"),
      )
    }
  )
  if plain != config:
    differing = [
      field.name
      for field in dataclasses.fields(config)
      if getattr(plain, field.name) != getattr(config, field.name)
    ]
    raise ValueError(
      f"a Llama configuration cannot express {', '.join(differing)}"
    )
  row = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": config.vocab_size,
    "num_hidden_layers": config.num_layers,
    "hidden_size": config.model_dim,
    "intermediate_size": config.mlp_dim,
    "num_attention_heads": config.num_heads,
    "num_key_value_heads": config.num_kv_heads,
    "head_dim": config.head_dim,
    "hidden_act": "silu",
    "rope_theta": config.rope_theta,
    "rms_norm_eps": config.norm_epsilon,
    "tie_word_embeddings": config.tie_embeddings,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "torch_dtype": jnp.dtype(config.param_dtype).name,
  }
  scaling = config.rope_scaling
  if isinstance(scaling, attention.LlamaRopeScaling):
    row["rope_scaling"] = {
      "rope_type": "llama3",
      "factor": scaling.factor,
      "low_freq_factor": scaling.low_frequency_factor,
      "high_freq_factor": scaling.high_frequency_factor,
      "original_max_position_embeddings": scaling.original_length,
    }
  elif isinstance(scaling, attention.LinearRopeScaling):
    row["rope_scaling"] = {"rope_type": "linear", "factor": scaling.factor}
  return row


def _rope_scaling(
  row: Mapping[str, Any] | None, where: pathlib.Path
) -> attention.RopeScaling | None:
  if row is None:
    return None
  kind = row.get("rope_type", row.get("type"))
  if kind == "default":
    return None
  if kind == "linear":
    return attention.LinearRopeScaling(row["factor"])
  if kind == "llama3":
    return attention.LlamaRopeScaling(
      factor=row["factor"],
      low_frequency_factor=row["low_freq_factor"],
      high_frequency_factor=row["high_freq_factor"],
      original_length=row["original_max_position_embeddings"],
    )
  raise ValueError(
    f"{where}: rope_scaling of type {kind!r} is not supported; 'linear' and"
    " 'llama3' are"
  )


def _tensors(
  directory: pathlib.Path,
) -> Iterator[tuple[str, np.ndarray]]:
  """All tensors of a folder, of one file or of the index's shards."""
  index = directory / _INDEX
  names = [_WEIGHTS]
  if index.is_file():
    weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    names = sorted(set(weight_map.values()))
  for name in names:
    path = directory / name
    if not path.is_file():
      raise FileNotFoundError(f"no {name} in {directory}; is it complete?")
    yield from safetensors.numpy.load_file(path).items()


def _to_params(
  tensors: dict[str, np.ndarray],
  config: transformer.TransformerConfig,
  directory: pathlib.Path,
) -> Any:
  def take(name: str) -> np.ndarray:
    if name not in tensors:
      raise ValueError(f"{directory} has no tensor {name!r}; is it complete?")
    return tensors.pop(name)

  params: dict[str, Any] = {
    "embedding": take("model.embed_tokens.weight"),
    "final_norm": {"scale": take("model.norm.weight")},
    "layers": {},
  }
  if not config.tie_embeddings:
    params["head"] = take("lm_head.weight").T
  for (part, name), (theirs, transposed) in _LAYER_NAMES.items():
    stacked = [
      take(f"model.layers.{i}.{theirs}") for i in range(config.num_layers)
    ]
    stacked = [value.T if transposed else value for value in stacked]
    params["layers"].setdefault(part, {})[name] = np.stack(stacked)
  if tensors:
    raise ValueError(
      f"{directory} has tensors that a Llama does not: {sorted(tensors)[:5]}"
    )
  return jax.tree.map(
    lambda value: value.astype(jnp.dtype(config.param_dtype)), params
  )
