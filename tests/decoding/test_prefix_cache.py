"""Tests of mathft_jax.decoding.prefix_cache."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mathft_jax.decoding import prefix_cache


def _cache(
  num_generated: int = 0, *, num_layers: int = 1, stacked: bool = True
) -> prefix_cache.PrefixCache:
  """Two prompts of 2 and 5 tokens, three rows each, up to four new tokens."""
  prefix = jnp.ones((num_layers, 2, 1, 5, 4))
  cache = prefix_cache.from_prompts(
    prefix,
    2 * prefix,
    jnp.array([2, 5]),
    rows_per_prompt=3,
    max_generated=4,
    stacked=stacked,
  )
  return cache.replace(num_generated=jnp.asarray(num_generated))


@pytest.mark.parametrize("stacked", [True, False])
def test_a_new_cache_holds_the_prompts_once_and_room_for_each_row(stacked):
  cache = _cache(num_layers=3, stacked=stacked)
  assert cache.rows_per_prompt == 3 and cache.max_generated == 4
  assert cache.positions().tolist() == [2, 2, 2, 5, 5, 5]
  for layer in range(3):
    of_layer = cache.of_layer(layer)
    assert of_layer.prefix_keys.tolist() == np.ones((2, 1, 5, 4)).tolist()
    assert of_layer.prefix_values.tolist() == np.full((2, 1, 5, 4), 2).tolist()
    for suffix in (of_layer.suffix_keys, of_layer.suffix_values):
      assert suffix.shape == (6, 1, 4, 4) and not suffix.any()


@pytest.mark.parametrize("window", [1, 2, 4, 100])
@pytest.mark.parametrize("num_generated", [0, 1, 3])
def test_masks_are_those_of_the_positions_in_the_sequence(
  window, num_generated
):
  cache = _cache(num_generated)
  prefix = cache.prefix_mask(jnp.asarray(window))
  suffix = cache.suffix_mask(jnp.asarray(window))
  for prompt, length in enumerate([2, 5]):
    now = length + num_generated
    seen = {position for position in range(now + 1) if now - position < window}
    expected = [position in seen and position < length for position in range(5)]
    assert prefix[prompt].tolist() == expected
    assert suffix.tolist() == [length + step in seen for step in range(4)]
  assert suffix[num_generated]  # A token sees itself.


@pytest.mark.parametrize("stacked", [True, False])
def test_one_step_of_one_layer_is_written(stacked):
  cache = _cache(2, num_layers=3, stacked=stacked)
  keys, values = jax.random.normal(jax.random.key(0), (2, 6, 1, 1, 4))
  written = cache.write_step(1, keys, values)
  assert int(written.num_generated) == 2
  for layer in range(3):
    for name, new in (("suffix_keys", keys), ("suffix_values", values)):
      expected = np.zeros((6, 1, 4, 4), np.float32)
      if layer == 1:
        expected[:, :, 2] = new[:, :, 0]
      np.testing.assert_array_equal(
        getattr(written.of_layer(layer), name), expected
      )
