"""The decoding loop: one compiled program that refills rows as they end."""

import dataclasses
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from mathft_jax.decoding import prefix_cache, sampling
from mathft_jax.decoding import slots as slots_lib

# (tokens [B, 1], cache) -> (logits [B, 1, V], the cache one token longer)
DecodeStep = Callable[
  [Array, prefix_cache.PrefixCache], tuple[Array, prefix_cache.PrefixCache]
]


def advance(
  decode_step: DecodeStep,
  slots: slots_lib.Slots,
  *,
  next_token: sampling.NextToken,
  eos_id: int,
  num_steps: int,
) -> tuple[slots_lib.Slots, Int[Array, " 2"]]:
  """Up to `num_steps` tokens for each row; a row that ends takes a request.

  Returns early once nothing runs or waits. The token of step t of a request is
  drawn with fold_in(its key, t), so that it depends on the prompt and the key,
  not on the row, nor on the rows beside it.

  Also returns how many steps were made, and how many tokens they gave.
  """

  def goes_on(carry) -> Array:
    slots, (num_done, _) = carry
    return (num_done < num_steps) & slots.has_work()

  def advance_once(carry):
    slots, (num_done, num_tokens) = carry
    slots = slots_lib.refill(slots)
    logits, cache = decode_step(slots.tokens[:, None], slots.cache)
    logits = logits[:, 0]
    keys = jax.random.wrap_key_data(slots.keys)
    keys = jax.vmap(jax.random.fold_in)(keys, slots.cache.num_generated)
    drawn = next_token(logits, keys).astype(jnp.int32)
    best = jax.lax.cond(
      jnp.any(slots.is_greedy & slots.is_active),
      lambda logits, drawn: jnp.argmax(logits, axis=-1).astype(drawn.dtype),
      lambda logits, drawn: drawn,
      logits,
      drawn,
    )
    drawn = jnp.where(slots.is_greedy, best, drawn)
    log_probs = _log_prob(logits, drawn)
    num_tokens = num_tokens + jnp.sum(slots.is_active)
    # `record` counts what has been generated.
    cache = dataclasses.replace(cache, num_generated=slots.cache.num_generated)
    slots = dataclasses.replace(slots, cache=cache)
    slots = slots_lib.record(slots, drawn, log_probs, eos_id=eos_id)
    return slots, (num_done + 1, num_tokens)

  none = jnp.zeros((), jnp.int32)
  slots, counts = jax.lax.while_loop(
    goes_on, advance_once, (slots, (none, none))
  )
  return slots, jnp.stack(counts)


@flax.struct.dataclass
class Generated:
  """What a batch of rows generated.

  `tokens` holds EOS where a row ended, then padding; `num_tokens` counts EOS;
  `log_probs` are summed over those tokens, in nats, under the model itself.
  """

  tokens: Int[Array, "B S"]
  num_tokens: Int[Array, " B"]
  log_probs: Float[Array, " B"]
  has_ended: Bool[Array, " B"]


def generate(
  decode_step: DecodeStep,
  cache: prefix_cache.PrefixCache,
  last_tokens: Int[Array, " P"],
  keys: Key[Array, " B"],
  *,
  next_token: sampling.NextToken,
  eos_id: int,
) -> Generated:
  """Continues each prompt in R = B / P rows until EOS or a full cache.

  `cache` holds all of a prompt but its last token.
  """
  lanes, per_lane = cache.num_lanes, cache.rows_per_lane
  slots = slots_lib.empty(cache, per_lane)
  requests = dataclasses.replace(
    slots.requests,
    last_tokens=last_tokens[:, None],
    number=jnp.full((lanes, 1), per_lane),
    keys=jax.random.key_data(keys).reshape(lanes, 1, per_lane, 2),
    max_tokens=jnp.full((lanes, 1, per_lane), cache.max_generated),
  )
  slots, _ = advance(
    decode_step,
    dataclasses.replace(slots, requests=requests),
    next_token=next_token,
    eos_id=eos_id,
    num_steps=cache.max_generated,
  )
  results = slots.results
  return Generated(
    tokens=results.tokens.reshape(keys.shape[0], -1),
    num_tokens=results.num_tokens.reshape(-1),
    log_probs=jnp.sum(results.log_probs, axis=-1).reshape(-1),
    has_ended=results.has_ended.reshape(-1),
  )


def _log_prob(
  logits: Float[Array, "B V"], tokens: Int[Array, " B"]
) -> Float[Array, " B"]:
  """In nats, without a softmax of all words being kept."""
  chosen = jnp.take_along_axis(logits, tokens[:, None], axis=1)[:, 0]
  return chosen - jax.nn.logsumexp(logits, axis=-1)
