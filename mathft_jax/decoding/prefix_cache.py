"""Keys and values of decoding: a prompt's stored once, its samples' apart.

N candidates of one problem share the prompt's keys and values, so memory for
the prompt does not grow with N; each candidate keeps only what it generated.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# On a device, or on the host, or only a shape.
AnyArray = Any


@flax.struct.dataclass
class LayerCache:
  """What one layer keeps, or, with a first axis [L], what all layers keep.

  Keys are stored with their positions last, as the product with a query reads
  them: on a CPU that product takes a quarter of the time where several query
  heads share a key.
  """

  prefix_keys: Float[AnyArray, "*L P K Dh CS"]
  prefix_values: Float[AnyArray, "*L P K CS Dh"]
  suffix_keys: Float[AnyArray, "*L B K Dh Sg"]
  suffix_values: Float[AnyArray, "*L B K Sg Dh"]


@flax.struct.dataclass
class PrefixCache:
  """P lanes with C prompts and R rows each; row b belongs to lane b // R.

  Each row continues one of the prompts of its lane, the one at `places[b]`, and
  has generated `num_generated[b]` tokens. Prompts are right-padded: of the S
  positions of a prompt the first `prefix_lengths` hold keys.

  `layers` is one stack, for a model that scans over its layers, or one cache a
  layer, for a model whose layers are written out. The second spares a CPU a
  copy of the layer's suffix in every step, which was half of the time.
  """

  layers: LayerCache | tuple[LayerCache, ...]
  prefix_lengths: Int[AnyArray, "P C"]
  places: Int[AnyArray, " B"]
  num_generated: Int[AnyArray, " B"]

  def _any_layer(self) -> LayerCache:
    return self.layers[0] if isinstance(self.layers, tuple) else self.layers

  @property
  def is_stacked(self) -> bool:
    return isinstance(self.layers, LayerCache)

  @property
  def num_lanes(self) -> int:
    return self.prefix_lengths.shape[0]

  @property
  def rows_per_lane(self) -> int:
    return self.places.shape[0] // self.num_lanes

  @property
  def prompt_capacity(self) -> int:
    """How many tokens a prompt has room for."""
    num_positions = self._any_layer().prefix_values.shape[-2]
    return num_positions // self.prefix_lengths.shape[1]

  @property
  def max_generated(self) -> int:
    """How many tokens a row has room for."""
    return self._any_layer().suffix_values.shape[-2]

  def _row_lengths(self) -> Int[Array, " B"]:
    """The length of each row's prompt."""
    places = self.places.reshape(self.num_lanes, -1)
    return jnp.take_along_axis(self.prefix_lengths, places, axis=1).reshape(-1)

  def positions(self) -> Int[Array, " B"]:
    """The position in its sequence of the token that comes next."""
    return self._row_lengths() + self.num_generated

  def prefix_mask(self, window: Int[Array, ""]) -> Bool[Array, "B CS"]:
    """Which positions of its lane's prompts a row's next token may see."""
    capacity = self.prompt_capacity
    column = jnp.arange(self.prefix_lengths.shape[1] * capacity)
    place, position = column // capacity, column % capacity
    lengths = self._row_lengths()[:, None]
    distance = lengths + self.num_generated[:, None] - position[None]
    is_own = place[None] == self.places[:, None]
    return is_own & (position[None] < lengths) & (distance < window)

  def suffix_mask(self, window: Int[Array, ""]) -> Bool[Array, "B Sg"]:
    """Which generated positions the next token, itself included, may see."""
    steps = jnp.arange(self.max_generated)[None]
    distance = self.num_generated[:, None] - steps
    return (distance >= 0) & (distance < window)

  def of_layer(self, layer: Int[Array, ""] | int) -> LayerCache:
    """One layer's cache; `layer` is an int where `layers` is a tuple."""
    if isinstance(self.layers, tuple):
      return self.layers[layer]  # pyright: ignore[reportArgumentType]
    return jax.tree.map(
      lambda stack: jax.lax.dynamic_index_in_dim(stack, layer, keepdims=False),
      self.layers,
    )

  def write_step(
    self,
    layer: Int[Array, ""] | int,
    keys: Float[Array, "B K 1 Dh"],
    values: Float[Array, "B K 1 Dh"],
  ) -> "PrefixCache":
    """The cache with the next token's keys and values in one layer.

    In place where XLA can. `num_generated` stays: it moves on once all layers
    have written. A row without room for more writes over its last.
    """
    if isinstance(self.layers, tuple):
      in_stack, old = (), self.of_layer(layer)
    else:
      in_stack, old = (layer,), self.layers

    def write(buffer, new, place):
      """`place(step)` is where a row's new entry stands in its buffer."""

      def write_row(row, new, step):
        start = *in_stack, *place(step)
        return jax.lax.dynamic_update_slice(row, new, start)

      rows = len(in_stack)  # The axis of rows.
      new = jnp.expand_dims(new.astype(buffer.dtype), range(1, 1 + rows))
      return jax.vmap(write_row, (rows, 0, 0), rows)(
        buffer, new, self.num_generated
      )

    new = dataclasses.replace(
      old,
      suffix_keys=write(
        old.suffix_keys, keys.swapaxes(2, 3), lambda step: (0, 0, step)
      ),
      suffix_values=write(old.suffix_values, values, lambda step: (0, step, 0)),
    )
    if isinstance(self.layers, tuple):
      new = tuple(new if i == layer else c for i, c in enumerate(self.layers))
    return dataclasses.replace(self, layers=new)

  def map_rows(self, function: Callable[[Array], Array]) -> "PrefixCache":
    """The cache with function(array [B, ...]) for all that rows have."""
    over_layers = jax.vmap(function, 0) if self.is_stacked else function

    def of_layer(layer: LayerCache) -> LayerCache:
      return dataclasses.replace(
        layer,
        suffix_keys=over_layers(layer.suffix_keys),
        suffix_values=over_layers(layer.suffix_values),
      )

    return dataclasses.replace(
      self,
      layers=jax.tree.map(
        of_layer, self.layers, is_leaf=lambda x: isinstance(x, LayerCache)
      ),
      places=function(self.places),
      num_generated=function(self.num_generated),
    )

  def insert(
    self,
    keys: Float[Array, "L K T Dh"],
    values: Float[Array, "L K T Dh"],
    length: Int[Array, ""],
    lane: Int[Array, ""],
    place: Int[Array, ""],
  ) -> "PrefixCache":
    """The cache with a prompt in one of a lane's places; T is at most S."""
    first = place * self.prompt_capacity

    def put(of_layer: LayerCache, keys, values, *in_stack):
      def write(buffer, new, *start):
        new = jnp.expand_dims(new.astype(buffer.dtype), len(in_stack))
        return jax.lax.dynamic_update_slice(
          buffer, new, (*in_stack, lane, *start)
        )

      return dataclasses.replace(
        of_layer,
        prefix_keys=write(
          of_layer.prefix_keys, keys.swapaxes(-1, -2), 0, 0, first
        ),
        prefix_values=write(of_layer.prefix_values, values, 0, first, 0),
      )

    layers = (
      put(self.layers, keys, values, 0)
      if isinstance(self.layers, LayerCache)
      else tuple(
        put(each, keys[i], values[i]) for i, each in enumerate(self.layers)
      )
    )
    return dataclasses.replace(
      self,
      layers=layers,
      prefix_lengths=self.prefix_lengths.at[lane, place].set(length),
    )


def empty(
  *,
  num_layers: int,
  num_kv_heads: int,
  head_dim: int,
  dtype: Any,
  num_lanes: int,
  num_places: int,
  prompt_capacity: int,
  rows_per_lane: int,
  max_generated: int,
  stacked: bool,
) -> PrefixCache:
  """A cache of prompts without tokens, in which nothing has been generated.

  `stacked` says which of its two forms `PrefixCache.layers` has.
  """
  rows, positions = num_lanes * rows_per_lane, num_places * prompt_capacity

  def zeros(*shape: int) -> Array:
    return jnp.zeros((num_layers,) * stacked + shape, dtype)

  def layer() -> LayerCache:
    return LayerCache(
      prefix_keys=zeros(num_lanes, num_kv_heads, head_dim, positions),
      prefix_values=zeros(num_lanes, num_kv_heads, positions, head_dim),
      suffix_keys=zeros(rows, num_kv_heads, head_dim, max_generated),
      suffix_values=zeros(rows, num_kv_heads, max_generated, head_dim),
    )

  return PrefixCache(
    layers=layer() if stacked else tuple(layer() for _ in range(num_layers)),
    prefix_lengths=jnp.zeros((num_lanes, num_places), jnp.int32),
    places=jnp.zeros(rows, jnp.int32),
    num_generated=jnp.zeros(rows, jnp.int32),
  )


def from_prompts(
  keys: Float[Array, "L P K S Dh"],
  values: Float[Array, "L P K S Dh"],
  prompt_lengths: Int[Array, " P"],
  *,
  rows_per_prompt: int,
  max_generated: int,
  stacked: bool = True,
) -> PrefixCache:
  """A cache with a lane for each prompt, in which nothing has been generated.

  `stacked` says which of its two forms `PrefixCache.layers` has.
  """
  num_layers, prompts, num_kv_heads, capacity, head_dim = keys.shape
  cache = empty(
    num_layers=num_layers,
    num_kv_heads=num_kv_heads,
    head_dim=head_dim,
    dtype=keys.dtype,
    num_lanes=prompts,
    num_places=1,
    prompt_capacity=capacity,
    rows_per_lane=rows_per_prompt,
    max_generated=max_generated,
    stacked=stacked,
  )
  keys = keys.swapaxes(-1, -2)
  layers = (
    dataclasses.replace(cache.layers, prefix_keys=keys, prefix_values=values)
    if isinstance(cache.layers, LayerCache)
    else tuple(
      dataclasses.replace(each, prefix_keys=keys[i], prefix_values=values[i])
      for i, each in enumerate(cache.layers)
    )
  )
  return dataclasses.replace(
    cache, layers=layers, prefix_lengths=prompt_lengths[:, None]
  )
