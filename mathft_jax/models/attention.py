"""Attention with grouped heads, rotary positions and a key/value cache."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mathft_jax.decoding import prefix_cache

# A window no sequence reaches: the layer attends to all that came before.
FULL_ATTENTION = 2**30


@dataclasses.dataclass(frozen=True)
class LlamaRopeScaling:
  """Llama 3.1's stretch of the slow rotary frequencies.

  Wave lengths beyond `original_length / low_frequency_factor` are stretched by
  `factor`, those below `original_length / high_frequency_factor` are kept, and
  those between are blended.
  """

  factor: float
  low_frequency_factor: float
  high_frequency_factor: float
  original_length: int

  def __call__(self, frequencies: np.ndarray) -> np.ndarray:
    turns = self.original_length * frequencies / (2 * math.pi)
    span = self.high_frequency_factor - self.low_frequency_factor
    keep = np.clip((turns - self.low_frequency_factor) / span, 0.0, 1.0)
    return frequencies * (keep + (1 - keep) / self.factor)


@dataclasses.dataclass(frozen=True)
class LinearRopeScaling:
  """All positions divided by `factor` (Gemma 3's global layers)."""

  factor: float

  def __call__(self, frequencies: np.ndarray) -> np.ndarray:
    return frequencies / self.factor


RopeScaling = LlamaRopeScaling | LinearRopeScaling


def rotary_frequencies(
  head_dim: int, theta: float, scaling: RopeScaling | None = None
) -> np.ndarray:
  """Radians per position of each pair of head dimensions, [Dh / 2]."""
  exponents = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
  frequencies = theta**-exponents
  return scaling(frequencies) if scaling else frequencies


def rotate(
  x: Float[Array, "B heads T Dh"],
  positions: Int[Array, "B T"],
  frequencies: Float[Array, " half"],
) -> Float[Array, "B heads T Dh"]:
  """Rotary position embedding, the halves of a head paired (as in Llama).

  Angles and products are float32 whatever the dtype of `x`.
  """
  angles = positions[:, None, :, None] * frequencies[None, None, None]
  sin, cos = jnp.sin(angles), jnp.cos(angles)  # [B, 1, T, Dh / 2]
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  rotated = [first * cos - second * sin, second * cos + first * sin]
  return jnp.concatenate(rotated, axis=-1).astype(x.dtype)


def attention_mask(
  positions: Int[Array, "B T"],
  segment_ids: Int[Array, "B T"] | None,
  window: Int[Array, ""],
) -> Bool[Array, "B T S"]:
  """True where position T may see position S: causal, windowed, one segment.

  Padding has segment 0 and sees only padding; its outputs carry no loss.
  """
  steps = jnp.arange(positions.shape[1])
  mask = (steps[:, None] >= steps[None, :])[None]
  distance = positions[:, :, None] - positions[:, None, :]  # [B, T, S]
  mask = mask & (distance < window)
  if segment_ids is not None:
    mask = mask & (segment_ids[:, :, None] == segment_ids[:, None, :])
  return mask


def attend(
  queries: Float[Array, "B H T Dh"],
  keys: Float[Array, "B K S Dh"],
  values: Float[Array, "B K S Dh"],
  mask: Bool[Array, "B T S"],
  *,
  scale: float,
  softcap: float | None,
) -> Float[Array, "B H T Dh"]:
  """Softmax attention; heads come first, which is twice as fast on CPUs."""
  rows, heads, length, width = queries.shape
  groups = heads // keys.shape[1]
  grouped = (rows, keys.shape[1], groups * length, width)
  scores = jnp.matmul(
    queries.reshape(grouped),
    keys.swapaxes(-1, -2),
    preferred_element_type=jnp.float32,
  ).reshape(rows, heads, length, -1)  # [B, H, T, S]
  scores = _capped(scores * scale, softcap)
  scores = jnp.where(mask[:, None], scores, _MASKED)
  weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
  mixed = jnp.matmul(
    weights.reshape(rows, keys.shape[1], groups * length, -1), values
  )
  return mixed.reshape(queries.shape)


def attend_with_cache(
  queries: Float[Array, "B H 1 Dh"],
  cache: prefix_cache.PrefixCache,
  layer: Int[Array, ""] | int,
  window: Int[Array, ""],
  *,
  scale: float,
  softcap: float | None,
) -> Float[Array, "B H 1 Dh"]:
  """One step's attention to the shared prompt and to the row's own suffix.

  The two parts are one softmax. `cache` already holds this step's keys.
  """
  of_layer = cache.of_layer(layer)
  rows, heads, _, width = queries.shape
  prompts, kv_heads = of_layer.prefix_keys.shape[:2]
  per_prompt = cache.rows_per_prompt
  groups = heads // kv_heads

  # All rows of a prompt stand in one matrix, so its keys are read once.
  shape = (prompts, per_prompt, kv_heads, groups, width)
  by_prompt = queries.reshape(shape).swapaxes(1, 2)
  by_prompt = by_prompt.reshape(prompts, kv_heads, per_prompt * groups, width)
  prefix_scores = jnp.matmul(
    by_prompt,
    of_layer.prefix_keys.swapaxes(-1, -2),
    preferred_element_type=jnp.float32,
  )  # [P, K, R * G, S]
  prefix_scores = _capped(prefix_scores * scale, softcap)
  seen = cache.prefix_mask(window)[:, None, None]
  prefix_scores = jnp.where(seen, prefix_scores, _MASKED)

  by_row = queries.reshape(rows, kv_heads, groups, width)
  suffix_scores = jnp.matmul(
    by_row,
    of_layer.suffix_keys.swapaxes(-1, -2),
    preferred_element_type=jnp.float32,
  )  # [B, K, G, Sg]
  suffix_scores = _capped(suffix_scores * scale, softcap)
  seen = cache.suffix_mask(window)[None, None, None]
  suffix_scores = jnp.where(seen, suffix_scores, _MASKED)

  def to_rows(x):  # [P, K, R * G, n] -> [B, K, G, n]
    x = x.reshape(prompts, kv_heads, per_prompt, groups, -1).swapaxes(1, 2)
    return x.reshape(rows, kv_heads, groups, -1)

  def to_prompts(x):  # [B, K, G, n] -> [P, K, R * G, n]
    x = x.reshape(prompts, per_prompt, kv_heads, groups, -1).swapaxes(1, 2)
    return x.reshape(prompts, kv_heads, per_prompt * groups, -1)

  prefix_scores = to_rows(prefix_scores)
  scores = jnp.concatenate([prefix_scores, suffix_scores], axis=-1)
  weights = jax.nn.softmax(scores, axis=-1).astype(queries.dtype)
  split = prefix_scores.shape[-1]
  from_prefix = jnp.matmul(
    to_prompts(weights[..., :split]), of_layer.prefix_values
  )
  from_suffix = jnp.matmul(weights[..., split:], of_layer.suffix_values)
  return (to_rows(from_prefix) + from_suffix).reshape(queries.shape)


# Finite, so that a row which sees nothing gives numbers and not NaN.
_MASKED = -1e30


def _capped(scores: Array, softcap: float | None) -> Array:
  """Gemma 2's soft cap: scores stay within plus or minus `softcap`."""
  return scores if softcap is None else softcap * jnp.tanh(scores / softcap)
