"""Generation: one prefilled prompt, then one compiled loop over steps."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from mathft_jax.decoding import prefix_cache, sampling

# (tokens [B, 1], cache) -> (logits [B, 1, V], the cache one token longer)
DecodeStep = Callable[
  [Array, prefix_cache.PrefixCache], tuple[Array, prefix_cache.PrefixCache]
]


@flax.struct.dataclass
class Generated:
  """What a batch of rows generated.

  `tokens` holds EOS where a row ended, then padding; `num_tokens` counts EOS;
  `log_probs` are summed over those tokens, in nats, under the model itself.
  """

  # Any, since this also holds numpy arrays, once fetched from the device.
  tokens: Any  # int32 [B, S]
  num_tokens: Any  # int32 [B]
  log_probs: Any  # float32 [B]
  has_ended: Any  # int32 [B], 0 or 1


@flax.struct.dataclass
class _Loop:
  step: Array
  logits: Array  # [B, V], of the token that comes next
  cache: prefix_cache.PrefixCache
  generated: Generated


def generate(
  decode_step: DecodeStep,
  first_logits: Float[Array, "P V"],
  cache: prefix_cache.PrefixCache,
  keys: Key[Array, " B"],
  *,
  next_token: sampling.NextToken,
  eos_id: int,
) -> Generated:
  """Continues each prompt in R = B / P rows until EOS or a full cache.

  The token of step t in row b is drawn with fold_in(keys[b], t): a row's
  tokens depend on its prompt and its key, not on the rows beside it.
  """
  rows = keys.shape[0]
  max_tokens = cache.max_generated

  def is_running(loop: _Loop) -> Array:
    all_ended = jnp.all(loop.generated.has_ended > 0)
    return (loop.step < max_tokens) & ~all_ended

  def advance(loop: _Loop) -> _Loop:
    step, so_far = loop.step, loop.generated
    step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, step)
    drawn = next_token(loop.logits, step_keys).astype(jnp.int32)
    alive = so_far.has_ended == 0
    drawn = jnp.where(alive, drawn, 0)
    log_probs = jax.nn.log_softmax(loop.logits)
    log_probs = jnp.take_along_axis(log_probs, drawn[:, None], axis=1)[:, 0]
    generated = Generated(
      tokens=jax.lax.dynamic_update_slice(
        so_far.tokens, drawn[:, None], (jnp.zeros_like(step), step)
      ),
      num_tokens=so_far.num_tokens + alive,
      log_probs=so_far.log_probs + jnp.where(alive, log_probs, 0.0),
      has_ended=so_far.has_ended | (alive & (drawn == eos_id)),
    )
    logits, cache = decode_step(drawn[:, None], loop.cache)
    return _Loop(step + 1, logits[:, 0], cache, generated)

  empty = Generated(
    tokens=jnp.zeros((rows, max_tokens), jnp.int32),
    num_tokens=jnp.zeros((rows,), jnp.int32),
    log_probs=jnp.zeros((rows,), jnp.float32),
    has_ended=jnp.zeros((rows,), jnp.int32),
  )
  logits = jnp.repeat(first_logits, cache.rows_per_prompt, axis=0)
  start = _Loop(jnp.zeros((), jnp.int32), logits, cache, empty)
  return jax.lax.while_loop(is_running, advance, start).generated
