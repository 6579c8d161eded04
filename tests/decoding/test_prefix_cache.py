"""Tests of mathft_jax.decoding.prefix_cache."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mathft_jax.decoding import prefix_cache


def _cache(num_generated: int = 0) -> prefix_cache.PrefixCache:
  """Two prompts of 2 and 5 tokens, three rows each, up to four new tokens."""
  prefix = jnp.ones((1, 2, 1, 5, 4))
  cache = prefix_cache.from_prompts(
    prefix,
    2 * prefix,
    jnp.array([2, 5]),
    rows_per_prompt=3,
    max_generated=4,
  )
  return cache.replace(num_generated=jnp.asarray(num_generated))


def test_a_new_cache_holds_the_prompts_once_and_room_for_each_row():
  cache = _cache()
  assert cache.rows_per_prompt == 3
  assert cache.prefix_keys.shape == (1, 2, 1, 5, 4)
  assert cache.suffix_keys.shape == cache.suffix_values.shape == (1, 6, 1, 4, 4)
  assert cache.positions().tolist() == [2, 2, 2, 5, 5, 5]


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


def test_one_step_of_one_layer_is_written():
  buffer = jnp.zeros((3, 2, 2, 4, 5))
  new = jax.random.normal(jax.random.key(0), (2, 2, 1, 5))
  written = prefix_cache.write_step(buffer, jnp.array(1), jnp.array(2), new)
  expected = np.zeros(buffer.shape, np.float32)
  expected[1, :, :, 2] = new[:, :, 0]
  np.testing.assert_array_equal(written, expected)
