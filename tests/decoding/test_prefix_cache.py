"""Tests of mathft_jax.decoding.prefix_cache."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mathft_jax.decoding import prefix_cache

_BOTH_FORMS = pytest.mark.parametrize("stacked", [True, False])


def _cache(*, num_layers: int = 1, stacked: bool = True):
  """Two prompts of 2 and 5 tokens, three rows each, up to four new tokens."""
  prefix = jnp.ones((num_layers, 2, 1, 5, 4))
  return prefix_cache.from_prompts(
    prefix,
    2 * prefix,
    jnp.array([2, 5]),
    rows_per_prompt=3,
    max_generated=4,
    stacked=stacked,
  )


def _lanes(*, num_layers: int = 1, stacked: bool = True):
  """Two lanes with places for two prompts of 5 tokens, three rows each."""
  return prefix_cache.empty(
    num_layers=num_layers,
    num_kv_heads=2,
    head_dim=4,
    dtype=jnp.float32,
    num_lanes=2,
    num_places=2,
    prompt_capacity=5,
    rows_per_lane=3,
    max_generated=4,
    stacked=stacked,
  )


@_BOTH_FORMS
def test_a_new_cache_holds_the_prompts_once_and_room_for_each_row(stacked):
  cache = _cache(num_layers=3, stacked=stacked)
  assert cache.rows_per_lane == 3 and cache.max_generated == 4
  assert cache.prompt_capacity == 5
  assert cache.positions().tolist() == [2, 2, 2, 5, 5, 5]
  for layer in range(3):
    of_layer = cache.of_layer(layer)
    assert of_layer.prefix_keys.tolist() == np.ones((2, 1, 4, 5)).tolist()
    assert of_layer.prefix_values.tolist() == np.full((2, 1, 5, 4), 2).tolist()
    assert of_layer.suffix_keys.shape == (6, 1, 4, 4)
    assert not of_layer.suffix_keys.any() and not of_layer.suffix_values.any()


@pytest.mark.parametrize("window", [1, 2, 4, 100])
def test_masks_are_those_of_the_positions_in_the_sequence(window):
  lengths = np.array([[2, 5], [4, 0]])
  places = np.array([0, 1, 1, 1, 0, 0])
  num_generated = np.array([0, 1, 3, 2, 0, 3])
  cache = _lanes().replace(
    prefix_lengths=jnp.asarray(lengths),
    places=jnp.asarray(places),
    num_generated=jnp.asarray(num_generated),
  )
  prefix = np.asarray(cache.prefix_mask(jnp.asarray(window)))
  suffix = np.asarray(cache.suffix_mask(jnp.asarray(window)))
  for row in range(6):
    length = lengths[row // 3, places[row]]
    now = length + num_generated[row]
    assert cache.positions()[row] == now
    seen = {position for position in range(now + 1) if now - position < window}
    own = [position in seen and position < length for position in range(5)]
    others = [False] * 5
    expected = own + others if places[row] == 0 else others + own
    assert prefix[row].tolist() == expected
    assert suffix[row].tolist() == [length + step in seen for step in range(4)]
    assert suffix[row, num_generated[row]]  # A token sees itself.


@_BOTH_FORMS
def test_one_step_of_one_layer_is_written_where_each_row_is(stacked):
  steps = np.array([2, 0, 3, 3, 1, 2])
  cache = _lanes(num_layers=3, stacked=stacked).replace(
    num_generated=jnp.asarray(steps)
  )
  keys, values = jax.random.normal(jax.random.key(0), (2, 6, 2, 1, 4))
  written = cache.write_step(1, keys, values)
  assert written.num_generated.tolist() == steps.tolist()
  for layer in range(3):
    expected_keys = np.zeros((6, 2, 4, 4), np.float32)
    expected_values = np.zeros((6, 2, 4, 4), np.float32)
    if layer == 1:
      for row, step in enumerate(steps):
        expected_keys[row, :, :, step] = keys[row, :, 0]
        expected_values[row, :, step] = values[row, :, 0]
    of_layer = written.of_layer(layer)
    np.testing.assert_array_equal(of_layer.suffix_keys, expected_keys)
    np.testing.assert_array_equal(of_layer.suffix_values, expected_values)


@_BOTH_FORMS
def test_a_prompt_is_inserted_into_one_place(stacked):
  cache = _lanes(num_layers=3, stacked=stacked)
  keys, values = jax.random.normal(jax.random.key(0), (2, 3, 2, 3, 4))
  at = jnp.asarray(1), jnp.asarray(1)
  filled = cache.insert(keys, values, jnp.asarray(2), *at)
  assert filled.prefix_lengths.tolist() == [[0, 0], [0, 2]]
  for layer in range(3):
    expected_keys = np.zeros((2, 2, 4, 10), np.float32)
    expected_keys[1, :, :, 5:8] = keys[layer].swapaxes(-1, -2)
    expected_values = np.zeros((2, 2, 10, 4), np.float32)
    expected_values[1, :, 5:8] = values[layer]
    of_layer = filled.of_layer(layer)
    np.testing.assert_array_equal(of_layer.prefix_keys, expected_keys)
    np.testing.assert_array_equal(of_layer.prefix_values, expected_values)
    assert not of_layer.suffix_keys.any()
