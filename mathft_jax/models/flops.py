"""How much arithmetic a model takes, from its configuration.

Counted are the products of matrices, two operations for each multiplication
with its addition; norms, softmaxes and the optimizer are a percent or less of
any model worth planning for.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mathft_jax.models import (
  decoder_model,
  evaluator,
  multitask,
  transformer,
)


def forward(
  config: transformer.TransformerConfig,
  num_rows: int,
  length: int,
  num_logits: int | None = None,
) -> float:
  """FLOPs of one pass over rows of `length` tokens.

  `num_logits` is at how many positions of a row the vocabulary's logits are
  wanted; all of them by default. Attention is counted as the model needs it:
  a token attends to itself and those before it, within the layer's window.
  What is computed and then masked does not count, so that attention that skips
  it (about half, without a window) is no less work by this count.
  """
  parts = _forward_parts(config, num_rows, length, num_logits)
  return float(sum(parts))


def train(
  config: transformer.TransformerConfig,
  num_rows: int,
  length: int,
  num_logits: int | None = None,
) -> float:
  """FLOPs of one training step, the convention of MFU.

  Three times `forward`: each product has two gradients. With adapters the
  model's own matrices, the head among them, have no gradient, so that theirs
  count twice. What is computed again to save memory does not count.
  """
  parts = _forward_parts(config, num_rows, length, num_logits)
  times = 3 if config.lora is None else 2
  return float(times * parts.matrices + 3 * (parts.adapters + parts.attending))


def train_step(
  model: decoder_model.DecoderModel, batch: Mapping[str, Any]
) -> float:
  """`train` of a batch, or of its shapes, with the logits that the loss wants.

  Rows count whole, padding too, and losses of solutions want logits of all
  positions, prompts too. Verdicts want those of one position an example, or two
  numbers, which is next to nothing and left out.
  """
  *rows, length = batch["decoder_input_tokens"].shape
  num_rows = math.prod(rows)
  if isinstance(model, multitask.MultitaskEvaluator):
    of_solutions = num_rows // 2
  elif isinstance(model, multitask.MultitaskMarginEvaluator):
    of_solutions = num_rows // 3
  elif isinstance(model, evaluator.Evaluator):
    of_solutions = 0
  else:
    of_solutions = num_rows
  config = model.module.config
  return train(config, of_solutions, length) + train(
    config, num_rows - of_solutions, length, num_logits=0
  )


def decode(
  config: transformer.TransformerConfig,
  num_rows: int,
  num_steps: int,
  length: int,
) -> float:
  """FLOPs of steps of decoding, a token a row each behind length - 1 others."""
  whole = forward(config, num_rows, length, num_logits=1)
  return num_steps * (whole - forward(config, num_rows, length - 1, 0))


def matrix_params_per_layer(config: transformer.TransformerConfig) -> int:
  """Parameters of one layer that are multiplied with every token."""
  heads = 2 * config.num_heads + 2 * config.num_kv_heads
  return config.model_dim * (heads * config.head_dim + 3 * config.mlp_dim)


def adapter_params_per_layer(config: transformer.TransformerConfig) -> int:
  """Parameters of the adapters of one layer; 0 without any."""
  if config.lora is None:
    return 0
  queries = config.num_heads * config.head_dim
  keys = config.num_kv_heads * config.head_dim
  inner_widths = {
    **{"query": queries, "key": keys, "value": keys, "output": queries},
    **dict.fromkeys(("gate", "up", "down"), config.mlp_dim),
  }
  # Each matrix has the model's width on one of its sides.
  return config.lora.rank * sum(
    config.model_dim + inner_widths[name] for name in config.lora.targets
  )


def attended_positions(
  config: transformer.TransformerConfig, length: int
) -> int:
  """Pairs of a token and one that it attends to, in a row, over all layers."""
  seen = np.arange(1, length + 1)[None]  # [1, T]
  return int(np.minimum(seen, config.layer_windows()[:, None]).sum())


class _Parts(NamedTuple):
  """FLOPs of a forward pass: of the matrices, of adapters, and of attention."""

  matrices: int
  adapters: int
  attending: int


def _forward_parts(
  config: transformer.TransformerConfig,
  num_rows: int,
  length: int,
  num_logits: int | None,
) -> _Parts:
  tokens = num_rows * length
  logits = num_rows * (length if num_logits is None else num_logits)
  layers = 2 * tokens * config.num_layers
  head = 2 * logits * config.model_dim * config.vocab_size
  attended = num_rows * attended_positions(config, length)
  return _Parts(
    matrices=layers * matrix_params_per_layer(config) + head,
    adapters=layers * adapter_params_per_layer(config),
    # Scores, then the mix of values.
    attending=2 * 2 * config.num_heads * config.head_dim * attended,
  )
