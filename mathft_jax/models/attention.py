"""Attention with grouped heads, rotary positions and a key/value cache."""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mathft_jax.decoding import prefix_cache

# Up to so many queries have their products with keys computed one by one.
_FEW_QUERIES = 4
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
  """One step's attention to its prompt, shared, and to the row's own suffix.

  The two parts are joined to one softmax. `cache` holds this step's keys.
  """
  of_layer = cache.of_layer(layer)
  rows, heads, _, width = queries.shape
  lanes, kv_heads = of_layer.prefix_values.shape[:2]
  per_lane, groups = cache.rows_per_lane, heads // kv_heads

  def to_rows(x):  # [P, K, R * G, n] -> [B, K, G, n]
    x = x.reshape(lanes, kv_heads, per_lane, groups, -1).swapaxes(1, 2)
    return x.reshape(rows, kv_heads, groups, -1)

  # All rows of a lane stand in one matrix, so its prompts' keys are read once.
  shape = (lanes, per_lane, kv_heads, groups, width)
  by_lane = queries.reshape(shape).swapaxes(1, 2)
  by_lane = by_lane.reshape(lanes, kv_heads, per_lane * groups, width)
  seen = cache.prefix_mask(window).reshape(lanes, 1, per_lane, 1, -1)
  seen = jnp.broadcast_to(seen, (lanes, 1, per_lane, groups, seen.shape[-1]))
  from_prefix = _partial_attention(
    by_lane,
    of_layer.prefix_keys,
    of_layer.prefix_values,
    seen.reshape(lanes, 1, per_lane * groups, -1),
    scale=scale,
    softcap=softcap,
  )
  from_suffix = _partial_attention(
    queries.reshape(rows, kv_heads, groups, width),
    of_layer.suffix_keys,
    of_layer.suffix_values,
    cache.suffix_mask(window)[:, None, None],
    scale=scale,
    softcap=softcap,
  )
  mixed = _joined([to_rows(x) for x in from_prefix], from_suffix)
  return mixed.astype(queries.dtype).reshape(queries.shape)


def _partial_attention(
  queries: Float[Array, "B K n Dh"],
  keys: Float[Array, "B K Dh S"],
  values: Float[Array, "B K S Dh"],
  seen: Bool[Array, "B _ _ S"],
  *,
  scale: float,
  softcap: float | None,
) -> tuple[Array, Array, Array]:
  """What a part of the keys adds to a softmax: largest score, weight, sum.

  Weights are relative to the largest score, [B, K, n, 1] as the score is, and
  the sum over values is [B, K, n, Dh], all in float32.
  """
  scores = _product(queries, keys)
  scores = jnp.where(seen, _capped(scores * scale, softcap), _MASKED)
  largest = jnp.max(scores, axis=-1, keepdims=True)
  weights = jnp.exp(scores - largest)
  total = jnp.sum(weights, axis=-1, keepdims=True)
  return largest, total, _product(weights.astype(values.dtype), values)


def _product(
  x: Float[Array, "B K n i"], y: Float[Array, "B K i j"]
) -> Float[Array, "B K n j"]:
  """x @ y in float32.

  For two to four queries a CPU has no fast product: sums of products over the
  whole, which XLA makes one loop of, read `y` at the speed of memory and took
  two thirds of the time (128 rows of 512 positions). With one query that loop
  is very slow.
  """

  def matmul(x, y):
    return jnp.matmul(x, y, preferred_element_type=jnp.float32)

  def sum_of_products(x, y):
    wide = x[..., None].astype(jnp.float32) * y[:, :, None].astype(jnp.float32)
    return jnp.sum(wide, axis=3)

  if 1 < x.shape[2] <= _FEW_QUERIES:
    return jax.lax.platform_dependent(x, y, cpu=sum_of_products, default=matmul)
  return matmul(x, y)


def _joined(
  one: Sequence[Float[Array, "B K G _"]],
  other: Sequence[Float[Array, "B K G _"]],
) -> Float[Array, "B K G Dh"]:
  """The softmax over both parts' keys, of which one part may see none."""
  largest = jnp.maximum(one[0], other[0])
  shares = [jnp.exp(part[0] - largest) for part in (one, other)]
  total = shares[0] * one[1] + shares[1] * other[1]
  return (shares[0] * one[2] + shares[1] * other[2]) / total


# Finite, so that a row which sees nothing gives numbers and not NaN.
_MASKED = -1e30


def _capped(scores: Array, softcap: float | None) -> Array:
  """Gemma 2's soft cap: scores stay within plus or minus `softcap`."""
  return scores if softcap is None else softcap * jnp.tanh(scores / softcap)
