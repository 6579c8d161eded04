"""Keys and values of decoding: a prompt's stored once, its samples' apart.

N candidates of one problem share the prompt's keys and values, so memory for
the prompt does not grow with N; each candidate keeps only what it generated.
"""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


@flax.struct.dataclass
class LayerCache:
  """What one layer keeps, or, with a first axis [L], what all layers keep."""

  prefix_keys: Float[Array, "*L P K S Dh"]
  prefix_values: Float[Array, "*L P K S Dh"]
  suffix_keys: Float[Array, "*L B K Sg Dh"]
  suffix_values: Float[Array, "*L B K Sg Dh"]


@flax.struct.dataclass
class PrefixCache:
  """P prompts, with R rows each; row b belongs to prompt b // R.

  The prefix is right-padded: only the first `prefix_lengths` positions hold
  keys. All rows have generated the same number of tokens, `num_generated`, so
  that one step writes one slice.

  `layers` is one stack, for a model that scans over its layers, or one cache a
  layer, for a model whose layers are written out. The second spares a CPU a
  copy of the layer's suffix in every step, which was half of the time.
  """

  layers: LayerCache | tuple[LayerCache, ...]
  prefix_lengths: Int[Array, " P"]
  num_generated: Int[Array, ""]

  def _any_layer(self) -> LayerCache:
    return self.layers[0] if isinstance(self.layers, tuple) else self.layers

  @property
  def is_stacked(self) -> bool:
    return isinstance(self.layers, LayerCache)

  @property
  def rows_per_prompt(self) -> int:
    num_rows = self._any_layer().suffix_keys.shape[-4]
    return num_rows // self.prefix_lengths.shape[0]

  @property
  def max_generated(self) -> int:
    """How many tokens a row has room for."""
    return self._any_layer().suffix_keys.shape[-2]

  def positions(self) -> Int[Array, " B"]:
    """The position in its sequence of the token that comes next."""
    next_position = self.prefix_lengths + self.num_generated
    return jnp.repeat(next_position, self.rows_per_prompt)

  def prefix_mask(self, window: Int[Array, ""]) -> Bool[Array, "P S"]:
    """Which prompt positions the next token may attend to."""
    positions = jnp.arange(self._any_layer().prefix_keys.shape[-2])[None]
    lengths = self.prefix_lengths[:, None]
    distance = lengths + self.num_generated - positions
    return (positions < lengths) & (distance < window)

  def suffix_mask(self, window: Int[Array, ""]) -> Bool[Array, " Sg"]:
    """Which generated positions the next token, itself included, may see."""
    distance = self.num_generated - jnp.arange(self.max_generated)
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
    have written.
    """
    if isinstance(self.layers, tuple):
      place = (0, 0, self.num_generated, 0)
      old = self.of_layer(layer)
    else:
      place = (layer, 0, 0, self.num_generated, 0)
      keys, values, old = keys[None], values[None], self.layers

    def write(buffer, new):
      new = new.astype(buffer.dtype)
      return jax.lax.dynamic_update_slice(buffer, new, place)

    new = dataclasses.replace(
      old,
      suffix_keys=write(old.suffix_keys, keys),
      suffix_values=write(old.suffix_values, values),
    )
    if isinstance(self.layers, tuple):
      new = tuple(new if i == layer else c for i, c in enumerate(self.layers))
    return dataclasses.replace(self, layers=new)


def from_prompts(
  keys: Float[Array, "L P K S Dh"],
  values: Float[Array, "L P K S Dh"],
  prompt_lengths: Int[Array, " P"],
  *,
  rows_per_prompt: int,
  max_generated: int,
  stacked: bool = True,
) -> PrefixCache:
  """A cache in which nothing has been generated yet.

  `stacked` says which of its two forms `PrefixCache.layers` has.
  """
  num_layers, prompts, heads, _, width = keys.shape
  shape = (num_layers, prompts * rows_per_prompt, heads, max_generated, width)
  stack = LayerCache(
    prefix_keys=keys,
    prefix_values=values,
    suffix_keys=jnp.zeros(shape, keys.dtype),
    suffix_values=jnp.zeros(shape, values.dtype),
  )
  each = tuple(
    jax.tree.map(lambda x, i=i: x[i], stack) for i in range(num_layers)
  )
  return PrefixCache(
    layers=stack if stacked else each,
    prefix_lengths=prompt_lengths,
    num_generated=jnp.zeros((), jnp.int32),
  )
