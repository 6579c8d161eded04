"""Attention of packed rows to themselves and to a beginning that rows share."""

import functools

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mathft_jax.models import attention

# Places of a row taken together, queries and keys: their scores, of all heads,
# stay in a CPU's cache. On rows of 1,024 tokens that took a third of the time.
_TILE = 256
_SMALL_TILE = 128

# Finite, so that a row which sees nothing gives numbers and not NaN.
_MASKED = -1e30


@flax.struct.dataclass
class Prefix:
  """Keys and values of P beginnings, computed once for all that follows.

  The first `lengths` positions of each hold keys. Row b of a batch goes on
  where beginning `prompts[b]` ends: its segments' positions start there, and
  each of them sees that beginning, of other segments nothing.
  """

  keys: Float[Array, "*L P K S Dh"]
  values: Float[Array, "*L P K S Dh"]
  lengths: Int[Array, " P"]
  prompts: Int[Array, " B"]

  def of_layer(self, layer: Int[Array, ""] | int) -> "Prefix":
    """What the layer attends to, without the first axis [L]."""
    keys, values = (
      jax.lax.dynamic_index_in_dim(stack, layer, keepdims=False)
      for stack in (self.keys, self.values)
    )
    return self.replace(keys=keys, values=values)  # pyright: ignore


def attend(
  queries: Float[Array, "B H Q Dh"],
  keys: Float[Array, "B K T Dh"],
  values: Float[Array, "B K T Dh"],
  positions: Int[Array, "B T"],
  segment_ids: Int[Array, "B T"],
  window: Int[Array, ""],
  prefix: Prefix,
  *,
  places: Int[Array, "B Q"] | None,
  scale: float,
  softcap: float | None,
) -> Float[Array, "B H Q Dh"]:
  """Attention to the row's beginning and causally to the own segment.

  The two are one softmax. Queries stand at `places` of their rows, at all of
  them without. Padding, segment 0, comes last in a row; it gives numbers that
  mean nothing. A CPU leaves out the keys of earlier segments, tile by tile;
  elsewhere, and on a mesh, they are masked.
  """
  options = {"scale": scale, "softcap": softcap}
  args = (queries, keys, values, positions, segment_ids, window, prefix)
  if places is not None:
    return _masked(*args, places, **options)
  plain = functools.partial(_plain, **options)
  is_meshed = not jax.sharding.get_abstract_mesh().empty
  # Short rows have little to leave out, and a loop its price.
  if is_meshed or queries.shape[2] < _TILE:
    return plain(*args)
  tiled = functools.partial(_tiled, **options)
  return jax.lax.platform_dependent(*args, default=plain, cpu=tiled)


def _plain(
  queries, keys, values, positions, segment_ids, window, prefix, **options
):
  """Tiles of queries, which see no place of the row behind their last one."""
  length = queries.shape[2]
  places = jnp.broadcast_to(jnp.arange(length), positions.shape)
  tiles = []
  for first in range(0, length, _TILE):
    last = min(first + _TILE, length)
    tiles.append(
      _masked(
        queries[:, :, first:last],
        keys[:, :, :last],
        values[:, :, :last],
        positions[:, :last],
        segment_ids[:, :last],
        window,
        prefix,
        places[:, first:last],
        **options,
      )
    )
  return tiles[0] if len(tiles) == 1 else jnp.concatenate(tiles, axis=2)


def _masked(
  queries,
  keys,
  values,
  positions,
  segment_ids,
  window,
  prefix,
  places,
  *,
  scale,
  softcap,
):
  """All scores at once, behind a mask."""
  of_rows = [x[prefix.prompts] for x in (prefix.keys, prefix.values)]
  lengths = prefix.lengths[prefix.prompts]  # [B]
  at, segments = (
    jnp.take_along_axis(x, places, axis=1)[:, :, None]
    for x in (positions, segment_ids)
  )
  before = jnp.arange(prefix.keys.shape[-2])[None, None]
  sees_prefix = (before < lengths[:, None, None]) & (at - before < window)
  sees_row = (
    (places[:, :, None] >= jnp.arange(keys.shape[2])[None, None])
    & (at - positions[:, None] < window)
    & (segments == segment_ids[:, None])
  )
  return attention.attend(
    queries,
    jnp.concatenate([of_rows[0], keys], axis=2),
    jnp.concatenate([of_rows[1], values], axis=2),
    jnp.concatenate([sees_prefix, sees_row], axis=2),
    scale=scale,
    softcap=softcap,
  )


def _tiled(
  queries,
  keys,
  values,
  positions,
  segment_ids,
  window,
  prefix,
  *,
  scale,
  softcap,
):
  """Each tile of queries in turn, and for it each tile of keys that it sees.

  Softmaxes are added up from tile to tile (Milakov and Gimelshein, 2018,
  arXiv:1805.02867).
  """
  rows, heads, length, width = queries.shape
  kv_heads = keys.shape[1]
  groups = heads // kv_heads
  tile = _tile(length)
  prefix_tile = _tile(prefix.keys.shape[-2])
  tiles_a_row = -(-length // tile)

  def add(tile_queries, sums, keys, values, mask):
    top, total, mixed = sums
    scores = jnp.matmul(
      tile_queries, keys.swapaxes(-1, -2), preferred_element_type=jnp.float32
    ).reshape(kv_heads, groups, tile, -1)
    scores = scores * scale
    if softcap is not None:
      scores = softcap * jnp.tanh(scores / softcap)
    scores = jnp.where(mask[None, None], scores, _MASKED)
    new_top = jnp.maximum(top, jnp.max(scores, axis=-1))
    weights = jnp.exp(scores - new_top[..., None])
    faded = jnp.exp(top - new_top)
    total = total * faded + jnp.sum(weights, axis=-1)
    added = jnp.matmul(
      weights.reshape(kv_heads, groups * tile, -1).astype(values.dtype),
      values,
      preferred_element_type=jnp.float32,
    ).reshape(mixed.shape)
    return new_top, total, mixed * faded[..., None] + added

  def attend_tile(number, output):
    row, first = number // tiles_a_row, number % tiles_a_row * tile

    def cut(x, start, size):
      """[K, size, Dh] of the row's own heads."""
      return jax.lax.dynamic_slice_in_dim(x[row], start, size, axis=1)

    def cut_row(x, start, size):
      return jax.lax.dynamic_slice_in_dim(x[row], start, size)

    tile_queries = cut(queries, first, tile)
    tile_queries = tile_queries.reshape(kv_heads, groups * tile, width)
    places = first + jnp.arange(tile)
    at = cut_row(positions, first, tile)[:, None]
    segments = cut_row(segment_ids, first, tile)[:, None]
    prompt = prefix.prompts[row]
    num_before = prefix.lengths[prompt]
    is_padding = segments[0, 0] == 0

    def add_prefix(i, sums):
      start = i * prefix_tile
      before = start + jnp.arange(prefix_tile)[None]
      mask = (before < num_before) & (at - before < window)
      keys, values = (
        jax.lax.dynamic_slice_in_dim(x[prompt], start, prefix_tile, axis=1)
        for x in (prefix.keys, prefix.values)
      )
      return add(tile_queries, sums, keys, values, mask)

    def add_row(i, sums):
      start = i * tile
      mask = (
        (places[:, None] >= start + jnp.arange(tile)[None])
        & (at - cut_row(positions, start, tile)[None] < window)
        & (segments == cut_row(segment_ids, start, tile)[None])
      )
      part = cut(keys, start, tile), cut(values, start, tile)
      return add(tile_queries, sums, *part, mask)

    shape = (kv_heads, groups, tile)
    sums = (
      jnp.full(shape, _MASKED, jnp.float32),
      jnp.zeros(shape, jnp.float32),
      jnp.zeros((*shape, width), jnp.float32),
    )
    num_tiles = jnp.where(is_padding, 0, -(-num_before // prefix_tile))
    sums = jax.lax.fori_loop(0, num_tiles, add_prefix, sums)
    # The first query's segment began here, and its window not before that.
    num_own = jnp.minimum(at[0, 0] - num_before, window - 1)
    start = jnp.where(is_padding, first + tile, first - num_own)
    _, total, mixed = jax.lax.fori_loop(
      start // tile, first // tile + 1, add_row, sums
    )
    mixed = mixed / jnp.maximum(total, 1e-30)[..., None]
    mixed = mixed.reshape(1, heads, tile, width).astype(output.dtype)
    return jax.lax.dynamic_update_slice(output, mixed, (row, 0, first, 0))

  return jax.lax.fori_loop(
    0, rows * tiles_a_row, attend_tile, jnp.zeros_like(queries)
  )


def _tile(length: int) -> int:
  """The largest tile that divides the length; all of it if none does."""
  for tile in (_TILE, _SMALL_TILE):
    if length % tile == 0:
      return tile
  return length
