"""Keys and values of decoding: a prompt's stored once, its samples' apart.

N candidates of one problem share the prompt's keys and values, so memory for
the prompt does not grow with N; each candidate keeps only what it generated.
"""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


@flax.struct.dataclass
class PrefixCache:
  """P prompts, with R rows each; row b belongs to prompt b // R.

  The prefix is right-padded: only the first `prefix_lengths` positions hold
  keys. All rows have generated the same number of tokens, `num_generated`, so
  that one step writes one slice.
  """

  prefix_keys: Float[Array, "L P K S Dh"]
  prefix_values: Float[Array, "L P K S Dh"]
  prefix_lengths: Int[Array, " P"]
  suffix_keys: Float[Array, "L B K Sg Dh"]
  suffix_values: Float[Array, "L B K Sg Dh"]
  num_generated: Int[Array, ""]

  @property
  def rows_per_prompt(self) -> int:
    return self.suffix_keys.shape[1] // self.prefix_keys.shape[1]

  def positions(self) -> Int[Array, " B"]:
    """The position in its sequence of the token that comes next."""
    next_position = self.prefix_lengths + self.num_generated
    return jnp.repeat(next_position, self.rows_per_prompt)

  def prefix_mask(self, window: Int[Array, ""]) -> Bool[Array, "P S"]:
    """Which prompt positions the next token may attend to."""
    positions = jnp.arange(self.prefix_keys.shape[3])[None]
    lengths = self.prefix_lengths[:, None]
    distance = lengths + self.num_generated - positions
    return (positions < lengths) & (distance < window)

  def suffix_mask(self, window: Int[Array, ""]) -> Bool[Array, " Sg"]:
    """Which generated positions the next token, itself included, may see."""
    steps = jnp.arange(self.suffix_keys.shape[3])
    distance = self.num_generated - steps
    return (distance >= 0) & (distance < window)


def from_prompts(
  keys: Float[Array, "L P K S Dh"],
  values: Float[Array, "L P K S Dh"],
  prompt_lengths: Int[Array, " P"],
  *,
  rows_per_prompt: int,
  max_generated: int,
) -> PrefixCache:
  """A cache in which nothing has been generated yet."""
  layers, prompts, heads, _, width = keys.shape
  shape = (layers, prompts * rows_per_prompt, heads, max_generated, width)
  return PrefixCache(
    prefix_keys=keys,
    prefix_values=values,
    prefix_lengths=prompt_lengths,
    suffix_keys=jnp.zeros(shape, keys.dtype),
    suffix_values=jnp.zeros(shape, values.dtype),
    num_generated=jnp.zeros((), jnp.int32),
  )


def write_step(
  buffer: Float[Array, "L B K Sg Dh"],
  layer: Int[Array, ""],
  step: Int[Array, ""],
  new: Float[Array, "B K 1 Dh"],
) -> Float[Array, "L B K Sg Dh"]:
  """`buffer` with one step of one layer written, in place where XLA can."""
  zero = jnp.zeros((), jnp.int32)
  return jax.lax.dynamic_update_slice(
    buffer, new[None].astype(buffer.dtype), (layer, zero, zero, step, zero)
  )
