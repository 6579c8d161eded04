"""Tests of mathft_jax.models.attention beyond those of the transformer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mathft_jax.models import attention


def test_rotated_products_depend_on_distances_alone():
  rng = np.random.default_rng(0)
  x, y = jnp.asarray(rng.normal(size=(2, 1, 1, 1, 8)), jnp.float32)
  frequencies = jnp.asarray(attention.rotary_frequencies(8, 100.0), jnp.float32)

  def product(position_x, position_y):
    rotated = [
      attention.rotate(value, jnp.full((1, 1), position), frequencies)
      for value, position in ((x, position_x), (y, position_y))
    ]
    return float(jnp.sum(rotated[0] * rotated[1]))

  assert product(7, 3) == pytest.approx(product(104, 100), abs=1e-4)
  assert product(7, 3) != pytest.approx(product(8, 3), abs=1e-2)
  unturned = float(jnp.sum(x * y))
  assert product(5, 5) == pytest.approx(unturned, abs=1e-5)


def test_llama_scaling_keeps_fast_turns_and_stretches_slow_ones():
  scaling = attention.LlamaRopeScaling(8.0, 1.0, 4.0, 8192)
  plain = attention.rotary_frequencies(128, 500_000.0)
  scaled = attention.rotary_frequencies(128, 500_000.0, scaling)
  lengths = 2 * np.pi / plain
  short, long = lengths < 8192 / 4, lengths > 8192
  np.testing.assert_array_equal(scaled[short], plain[short])
  np.testing.assert_allclose(scaled[long], plain[long] / 8)
  assert np.all(np.diff(scaled) < 0)
  assert 0 < short.sum() < 64 and 0 < long.sum() < 64


def test_masks_are_causal_windowed_and_within_a_segment():
  positions = np.array([[0, 1, 2, 0, 1, 0]])
  segments = np.array([[1, 1, 1, 2, 2, 0]])
  mask = attention.attention_mask(
    jnp.asarray(positions), jnp.asarray(segments), jnp.asarray(2)
  )
  for t in range(6):
    for s in range(6):
      expected = (
        s <= t
        and segments[0, s] == segments[0, t]
        and positions[0, t] - positions[0, s] < 2
      )
      assert bool(mask[0, t, s]) == expected


def test_a_position_that_sees_nothing_gives_numbers_and_gradients():
  rng = jax.random.key(0)
  x = jax.random.normal(rng, (1, 2, 3, 4))
  mask = jnp.zeros((1, 3, 3), bool)

  def total(x):
    mixed = attention.attend(x, x, x, mask, scale=0.5, softcap=None)
    return jnp.sum(mixed**2)

  value, gradient = jax.value_and_grad(total)(x)
  assert np.isfinite(value) and np.all(np.isfinite(gradient))
