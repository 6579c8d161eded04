"""How much arithmetic a model takes, from its configuration.

Counted are the products of matrices, two operations for each multiplication
with its addition; norms, softmaxes and the optimizer are a percent or less of
any model worth planning for.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mathft_jax.models import decoder_model, evaluator, transformer


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
  per_token = 2 * config.num_layers * matrix_params_per_layer(config)
  head = 2 * config.model_dim * config.vocab_size
  attended = attended_positions(config, length)
  # Scores, then the mix of values.
  attending = 2 * 2 * config.num_heads * config.head_dim * attended
  logits = length if num_logits is None else num_logits
  return float(num_rows * (length * per_token + logits * head + attending))


def train(
  config: transformer.TransformerConfig,
  num_rows: int,
  length: int,
  num_logits: int | None = None,
) -> float:
  """FLOPs of one training step, the convention of MFU.

  Three times `forward`: each product has two gradients. What is computed again
  to save memory does not count.
  """
  return 3 * forward(config, num_rows, length, num_logits)


def train_step(
  model: decoder_model.DecoderModel, batch: Mapping[str, Any]
) -> float:
  """`train` of a batch, or of its shapes, with the logits that the loss wants.

  Rows count whole, padding too. Pairs of `cls_margin` want two logits a
  verdict, which is next to nothing; other losses those of all positions.
  """
  *rows, length = batch["decoder_input_tokens"].shape
  is_margin = isinstance(model, evaluator.MarginEvaluator)
  num_logits = 0 if is_margin else length
  return train(model.module.config, math.prod(rows), length, num_logits)


def sample(
  config: transformer.TransformerConfig,
  num_prompts: int,
  prompt_length: int,
  num_candidates: int,
  max_tokens: int,
) -> float:
  """FLOPs of drawing candidates that all are `max_tokens` long."""
  prompts = forward(config, num_prompts, prompt_length, num_logits=1)
  rows = num_prompts * num_candidates
  whole = forward(config, rows, prompt_length + max_tokens, max_tokens)
  return prompts + whole - forward(config, rows, prompt_length, 0)


def matrix_params_per_layer(config: transformer.TransformerConfig) -> int:
  """Parameters of one layer that are multiplied with every token."""
  heads = 2 * config.num_heads + 2 * config.num_kv_heads
  return config.model_dim * (heads * config.head_dim + 3 * config.mlp_dim)


def attended_positions(
  config: transformer.TransformerConfig, length: int
) -> int:
  """Pairs of a token and one that it attends to, in a row, over all layers."""
  seen = np.arange(1, length + 1)[None]  # [1, T]
  return int(np.minimum(seen, config.layer_windows()[:, None]).sum())
