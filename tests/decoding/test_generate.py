"""Tests of mathft_jax.decoding.generate with a model that is a table."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mathft_jax.decoding import generate, prefix_cache, sampling

_EOS = 1
_MAX_TOKENS = 5
_VOCAB_SIZE = 5
# Logits of the next token after each token; EOS is likely after 2.
_TABLE = np.random.default_rng(0).normal(size=(5, 5)).astype(np.float32)
_TABLE[2, _EOS] = 1.0
_FIRST = np.random.default_rng(1).normal(size=(2, 5)).astype(np.float32)


def _decode_step(tokens, cache):
  logits = jnp.asarray(_TABLE)[tokens[:, 0]][:, None]
  return logits, cache.replace(num_generated=cache.num_generated + 1)


@functools.partial(jax.jit, static_argnames="next_token")
def _run(first_logits, keys, next_token) -> generate.Generated:
  num_prompts = first_logits.shape[0]
  prefix = jnp.zeros((1, num_prompts, 1, 1, 2))
  cache = prefix_cache.from_prompts(
    prefix,
    prefix,
    jnp.ones(num_prompts, jnp.int32),
    rows_per_prompt=keys.shape[0] // num_prompts,
    max_generated=_MAX_TOKENS,
  )
  return generate.generate(
    _decode_step, first_logits, cache, keys, next_token=next_token, eos_id=_EOS
  )


def _by_hand(first_logits, key, next_token) -> tuple[list[int], float]:
  """A row's tokens, EOS included, and their log-probability."""
  draw = jax.jit(next_token)
  logits, tokens, log_prob = first_logits, [], 0.0
  for step in range(_MAX_TOKENS):
    step_key = jax.random.fold_in(key, step)[None]
    token = int(draw(jnp.asarray(logits)[None], step_key)[0])
    tokens.append(token)
    shares = np.exp(logits.astype(np.float64))
    log_prob += np.log(shares[token] / shares.sum())
    if token == _EOS:
      break
    logits = _TABLE[token]
  return tokens, log_prob


@pytest.fixture(scope="module")
def keys():
  return jax.random.split(jax.random.key(0), 20)


@pytest.mark.parametrize(
  "rule", [sampling.Greedy(), sampling.Temperature(), sampling.Nucleus()]
)
def test_rows_are_those_drawn_one_by_one(keys, rule):
  found = _run(jnp.asarray(_FIRST), keys, next_token=rule)
  num_early = 0
  for row in range(20):
    tokens, log_prob = _by_hand(_FIRST[row // 10], keys[row], rule)
    padding = [0] * (_MAX_TOKENS - len(tokens))
    assert found.tokens[row].tolist() == tokens + padding
    assert found.num_tokens[row] == len(tokens)
    assert found.has_ended[row] == (tokens[-1] == _EOS)
    assert float(found.log_probs[row]) == pytest.approx(log_prob, abs=1e-5)
    num_early += bool(padding)
  if not isinstance(rule, sampling.Greedy):
    assert 0 < num_early < 20


def test_rows_do_not_depend_on_the_rows_beside_them(keys):
  rule = sampling.Temperature()
  together = _run(jnp.asarray(_FIRST), keys, next_token=rule)
  alone = _run(jnp.asarray(_FIRST[1:]), keys[10:14], next_token=rule)
  np.testing.assert_array_equal(alone.tokens, together.tokens[10:14])
  np.testing.assert_array_equal(alone.log_probs, together.log_probs[10:14])


def test_the_loop_stops_when_all_rows_have_ended(keys):
  calls = []

  def decode_step(tokens, cache):
    jax.debug.callback(lambda: calls.append(1))
    return _decode_step(tokens, cache)

  prefix = jnp.zeros((1, 1, 1, 1, 2))
  cache = prefix_cache.from_prompts(
    prefix,
    prefix,
    jnp.ones(1, jnp.int32),
    rows_per_prompt=2,
    max_generated=_MAX_TOKENS,
  )
  first = jnp.zeros((1, _VOCAB_SIZE)).at[0, _EOS].set(9.0)
  found = generate.generate(
    decode_step,
    first,
    cache,
    keys[:2],
    next_token=sampling.Greedy(),
    eos_id=_EOS,
  )
  jax.effects_barrier()
  assert found.num_tokens.tolist() == [1, 1]
  assert len(calls) == 1
