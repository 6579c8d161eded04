"""Tests of mathft_jax.decoding.generate with a model that is a table."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mathft_jax.decoding import generate, prefix_cache, sampling, slots

_EOS = 1
_MAX_TOKENS = 5
# Logits of the next token after each token; EOS is likely after 2.
_TABLE = np.random.default_rng(0).normal(size=(5, 5)).astype(np.float32)
_TABLE[2, _EOS] = 1.0
_RULES = [sampling.Greedy(), sampling.Temperature(), sampling.Nucleus()]


def _decode_step(tokens, cache):
  logits = jnp.asarray(_TABLE)[tokens[:, 0]][:, None]
  return logits, cache.replace(num_generated=cache.num_generated + 1)


@functools.partial(jax.jit, static_argnames="next_token")
def _generate(last_tokens, keys, next_token) -> generate.Generated:
  num_prompts = last_tokens.shape[0]
  prefix = jnp.zeros((1, num_prompts, 1, 1, 2))
  cache = prefix_cache.from_prompts(
    prefix,
    prefix,
    jnp.ones(num_prompts, jnp.int32),
    rows_per_prompt=keys.shape[0] // num_prompts,
    max_generated=_MAX_TOKENS,
  )
  return generate.generate(
    _decode_step, cache, last_tokens, keys, next_token=next_token, eos_id=_EOS
  )


def _by_hand(
  token, key, next_token, max_tokens=_MAX_TOKENS
) -> tuple[list[int], list[float]]:
  """The tokens behind a token, EOS included, and their log-probabilities."""
  draw = jax.jit(next_token)
  tokens, log_probs = [], []
  for step in range(max_tokens):
    logits = _TABLE[token]
    step_key = jax.random.fold_in(key, step)[None]
    token = int(draw(jnp.asarray(logits)[None], step_key)[0])
    tokens.append(token)
    shares = np.exp(logits.astype(np.float64))
    log_probs.append(np.log(shares[token] / shares.sum()))
    if token == _EOS:
      break
  return tokens, log_probs


@pytest.fixture(scope="module")
def keys():
  return jax.random.split(jax.random.key(0), 20)


@pytest.mark.parametrize("rule", _RULES)
def test_rows_are_those_drawn_one_by_one(keys, rule):
  last_tokens = [3, 4]
  found = _generate(jnp.array(last_tokens), keys, next_token=rule)
  num_early = 0
  for row in range(20):
    tokens, log_probs = _by_hand(last_tokens[row // 10], keys[row], rule)
    padding = [0] * (_MAX_TOKENS - len(tokens))
    assert found.tokens[row].tolist() == tokens + padding
    assert found.num_tokens[row] == len(tokens)
    assert found.has_ended[row] == (tokens[-1] == _EOS)
    assert float(found.log_probs[row]) == pytest.approx(
      sum(log_probs), abs=1e-5
    )
    num_early += bool(padding)
  if not isinstance(rule, sampling.Greedy):
    assert 0 < num_early < 20


def test_rows_do_not_depend_on_the_rows_beside_them(keys):
  rule = sampling.Temperature()
  together = _generate(jnp.array([3, 4]), keys, next_token=rule)
  alone = _generate(jnp.array([4]), keys[10:14], next_token=rule)
  np.testing.assert_array_equal(alone.tokens, together.tokens[10:14])
  np.testing.assert_array_equal(alone.log_probs, together.log_probs[10:14])


# Slots of two lanes with two places and three rows each ----------------------

_NUM_REQUESTS = 8
_LIMITS = np.array([[[5, 1, 4, 2, 5, 3, 5, 5]] * 2] * 2)


@pytest.fixture
def empty() -> slots.Slots:
  cache = prefix_cache.empty(
    num_layers=1,
    num_kv_heads=1,
    head_dim=2,
    dtype=jnp.float32,
    num_lanes=2,
    num_places=2,
    prompt_capacity=1,
    rows_per_lane=3,
    max_generated=_MAX_TOKENS,
    stacked=True,
  )
  return slots.empty(cache, _NUM_REQUESTS)


def _key(lane: int, place: int, request: int):
  of_place = jax.random.fold_in(jax.random.key(5), 2 * lane + place)
  return jax.random.fold_in(of_place, request)


def _submit(state, lane, place, last_token, number, order=0) -> slots.Slots:
  of_requests = [_key(lane, place, i) for i in range(_NUM_REQUESTS)]
  return slots.submit(
    state,
    jnp.asarray(lane),
    jnp.asarray(place),
    last_token=jnp.asarray(last_token),
    number=jnp.asarray(number),
    order=jnp.asarray(order),
    keys=jax.random.key_data(jnp.stack(of_requests)),
    is_greedy=jnp.arange(_NUM_REQUESTS) == 2,
    max_tokens=jnp.asarray(_LIMITS[lane, place]),
  )


@functools.partial(jax.jit, static_argnames="num_steps")
def _advance(state, num_steps):
  return generate.advance(
    _decode_step,
    state,
    next_token=sampling.Temperature(),
    eos_id=_EOS,
    num_steps=num_steps,
  )


def _check(results: slots.Results, lane, place, last_token, request) -> int:
  rule = sampling.Greedy() if request == 2 else sampling.Temperature()
  limit = _LIMITS[lane, place, request]
  key = _key(lane, place, request)
  tokens, log_probs = _by_hand(last_token, key, rule, limit)
  at = lane, place, request
  assert results.num_tokens[at] == len(tokens)
  assert results.has_ended[at] == (tokens[-1] == _EOS)
  assert results.tokens[at][: len(tokens)].tolist() == tokens
  np.testing.assert_allclose(
    results.log_probs[at][: len(tokens)], log_probs, atol=1e-5
  )
  return len(tokens)


@pytest.mark.parametrize("num_steps", [1, 3, 100])
def test_each_request_is_drawn_as_if_it_were_alone(empty, num_steps):
  prompts = {(0, 0): (3, 8), (0, 1): (4, 7), (1, 1): (2, 8)}
  state = empty
  for (lane, place), (last_token, number) in prompts.items():
    state = _submit(state, lane, place, last_token, number)
  total_steps = total_tokens = 0
  while state.has_work():
    state, (steps, tokens) = _advance(state, num_steps)
    assert 0 < steps <= num_steps
    total_steps, total_tokens = total_steps + steps, total_tokens + tokens
  num_tokens = {
    at: sum(
      _check(state.results, *at, last_token, request)
      for request in range(number)
    )
    for at, (last_token, number) in prompts.items()
  }
  assert total_tokens == sum(num_tokens.values())
  # Three rows a lane are busy all the time but for the last requests' ends.
  fewest = -(-max(num_tokens[0, 0] + num_tokens[0, 1], num_tokens[1, 1]) // 3)
  assert fewest <= total_steps <= fewest + _MAX_TOKENS


def test_places_are_served_in_their_order(empty):
  state = _submit(empty, 0, 0, 3, 4, order=9)
  state = _submit(state, 0, 1, 3, 2, order=4)
  state = slots.refill(state)
  assert state.requests.taken[0].tolist() == [1, 2]
  assert state.cache.places.tolist()[:3] == [1, 1, 0]
  assert state.request.tolist() == [0, 1, 0, -1, -1, -1]


def test_cancelled_requests_end_and_do_not_begin(empty):
  state = _submit(_submit(empty, 0, 0, 3, 6), 1, 0, 4, 2)
  state = slots.refill(state)
  unwanted = np.zeros((2, 2, _NUM_REQUESTS), bool)
  unwanted[0, 0, [1, 3, 4, 5]] = True  # One runs, the others wait.
  state = slots.cancel(state, jnp.asarray(unwanted))
  assert state.request.tolist() == [0, -1, 2, 0, 1, -1]
  while state.has_work():
    state, _ = _advance(state, 2)
  assert (state.results.num_tokens[0, 0] > 0).tolist() == [
    *(True, False, True),
    *[False] * 5,
  ]
  for at in ((0, 0, 3, 0), (0, 0, 3, 2), (1, 0, 4, 0), (1, 0, 4, 1)):
    _check(state.results, *at)


def test_requests_go_on_whatever_becomes_of_the_number_of_rows(empty):
  prompts = {(0, 0): (3, 8), (0, 1): (4, 7), (1, 1): (2, 8)}
  state = empty
  for (lane, place), (last_token, number) in prompts.items():
    state = _submit(state, lane, place, last_token, number)
  for rows_per_lane in (5, 9, 4, 1, 2, 3):
    state, _ = _advance(state, 2)
    active = state.is_active.reshape(2, -1).sum(axis=1)
    rows_per_lane = max(rows_per_lane, int(active.max()))
    state = slots.resize(state, rows_per_lane)
    assert state.cache.rows_per_lane == rows_per_lane
    assert state.cache._any_layer().suffix_values.shape[1] == 2 * rows_per_lane
    assert (state.is_active.reshape(2, -1).sum(axis=1) == active).all()
  while state.has_work():
    state, _ = _advance(state, 2)
  for at, (last_token, number) in prompts.items():
    for request in range(number):
      _check(state.results, *at, last_token, request)


def test_a_row_takes_its_keys_and_values_along(empty):
  rows = jnp.arange(6.0)[None, :, None, None, None]
  cache = empty.cache
  cache = cache.replace(
    layers=cache.layers.replace(
      suffix_keys=cache.layers.suffix_keys + rows,
      suffix_values=cache.layers.suffix_values - rows,
    ),
    num_generated=jnp.arange(6),
  )
  request = jnp.array([-1, 4, -1, 2, -1, 7])
  state = slots.resize(empty.replace(cache=cache, request=request), 2)
  assert state.request.tolist() == [4, -1, 2, 7]
  assert state.cache.num_generated.tolist() == [1, 0, 3, 5]
  layers = state.cache.layers
  assert layers.suffix_keys[0, :, 0, 1, 1].tolist() == [1, 0, 3, 5]
  assert layers.suffix_values[0, :, 0, 1, 1].tolist() == [-1, 0, -3, -5]


def test_a_place_takes_new_requests_once_its_old_are_done(empty):
  state = _submit(empty, 0, 0, 3, 8)
  while state.has_work():
    state, _ = _advance(state, 4)
  state = _submit(state, 0, 0, 2, 5)
  assert not state.results.num_tokens[0, 0].any()
  while state.has_work():
    state, _ = _advance(state, 4)
  for request in range(5):
    _check(state.results, 0, 0, 2, request)
  assert state.results.num_tokens[0, 0, 5:].tolist() == [0, 0, 0]


def test_the_loop_stops_when_all_requests_have_ended(empty):
  calls = []

  def decode_step(tokens, cache):
    jax.debug.callback(lambda: calls.append(1))
    logits, cache = _decode_step(tokens, cache)
    return logits.at[:, :, _EOS].set(9.0), cache

  state = _submit(empty, 0, 0, 3, 3)
  greedy = dataclasses.replace(
    state.requests, is_greedy=jnp.ones_like(state.requests.is_greedy)
  )
  state, counts = generate.advance(
    decode_step,
    dataclasses.replace(state, requests=greedy),
    next_token=sampling.Greedy(),
    eos_id=_EOS,
    num_steps=50,
  )
  jax.effects_barrier()
  assert state.results.num_tokens[0, 0].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
  assert counts.tolist() == [1, 3] and len(calls) == 1
