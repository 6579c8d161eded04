"""Kernels give what plain products give; run by Pallas's interpreter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mathft_jax.models import attention, fused_attention

_LENGTH = 256


@pytest.fixture(scope="module")
def packed():
  """(queries, keys, values, positions, segment_ids); 2 rows, 3 examples."""
  rng = np.random.default_rng(0)
  heads = [
    jnp.asarray(rng.normal(size=(2, num, _LENGTH, 64)), jnp.float32)
    for num in (4, 2, 2)
  ]
  segment_ids = np.zeros((2, _LENGTH), np.int32)
  positions = np.zeros_like(segment_ids)
  for row, start, stop, segment in ((0, 0, 100, 1), (0, 100, 230, 2),
                                    (1, 0, 256, 1)):  # fmt: skip
    segment_ids[row, start:stop] = segment
    positions[row, start:stop] = np.arange(stop - start)
  return (*heads, jnp.asarray(positions), jnp.asarray(segment_ids))


@pytest.mark.parametrize(
  ("windows", "window", "softcap"),
  [
    ((None,), attention.FULL_ATTENTION, None),
    ((32, None), 32, None),
    ((32, None), attention.FULL_ATTENTION, 5.0),
  ],
)
def test_splash_attention_and_its_gradients_are_those_of_plain_products(
  packed, windows, window, softcap
):
  *heads, positions, segment_ids = packed
  is_token = (segment_ids > 0)[:, None, :, None]
  options = {"scale": 0.125, "softcap": softcap}

  def total(attend, *heads):
    mixed = attend(*heads, positions, segment_ids, jnp.asarray(window))
    return jnp.sum(jnp.sin(mixed) * is_token)

  found, expected = (
    jax.value_and_grad(functools.partial(total, attend), argnums=(0, 1, 2))(
      *heads
    )
    for attend in (
      functools.partial(
        fused_attention._splash, windows=windows, interpret=True, **options
      ),
      functools.partial(fused_attention._plain, **options),
    )
  )
  assert abs(float(expected[0])) > 1
  np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
  for ours, theirs in zip(found[1], expected[1], strict=True):
    assert np.abs(theirs).max() > 0.1
    np.testing.assert_allclose(ours, theirs, atol=5e-6)


def test_without_segments_a_row_is_one_example(packed):
  *heads, _, _ = packed
  positions = jnp.broadcast_to(jnp.arange(_LENGTH), (2, _LENGTH))
  args = (*heads, positions, None, jnp.asarray(attention.FULL_ATTENTION))
  found = fused_attention._splash(
    *args, windows=(None,), scale=0.125, softcap=None, interpret=True
  )
  expected = fused_attention._plain(*args, scale=0.125, softcap=None)
  np.testing.assert_allclose(found, expected, atol=5e-6)


# Devices are chosen when jax starts, so this runs in a process of its own.
_ON_EIGHT_DEVICES = """
import functools, json
import jax, jax.numpy as jnp, numpy as np
from mathft_jax import partitioning
from mathft_jax.models import attention, fused_attention

rng = np.random.default_rng(0)
heads = [
  jnp.asarray(rng.normal(size=(4, num, 128, 64)), jnp.float32)
  for num in (4, 2, 2)
]
ids = jnp.asarray(np.repeat([[1, 2]], [64, 64], axis=1).repeat(4, axis=0))
positions = jnp.asarray(np.tile(np.arange(64), (4, 2)))
args = (*heads, positions, ids, jnp.asarray(attention.FULL_ATTENTION))
options = {"scale": 0.125, "softcap": None}
expected = fused_attention._plain(*args, **options)
errors = {}
for shape in ({"fsdp": 4, "tensor": 2}, {"data": 2, "tensor": 4}):
  mesh = partitioning.make_mesh(shape)

  @jax.jit
  def attend(*args):
    with partitioning.activation_rules(mesh, partitioning.STANDARD_RULES):
      return fused_attention._splash(
        *args, windows=(None,), interpret=True, **options
      )

  args = jax.device_put(args, partitioning.replicated(mesh))
  found = attend(*args)
  errors[str(shape)] = [
    float(np.abs(np.asarray(found) - np.asarray(expected)).max()),
    list(found.sharding.shard_shape(found.shape)),
  ]
print(json.dumps(errors))
"""


def test_each_device_has_its_rows_and_heads(run_on_eight_devices):
  """With 4 devices to the 4 query heads, the 2 key heads are repeated."""
  found, _ = run_on_eight_devices(_ON_EIGHT_DEVICES)
  assert [shape for _, shape in found.values()] == [
    [1, 2, 128, 64],
    [2, 1, 128, 64],
  ]
  assert all(error < 5e-6 for error, _ in found.values())


@pytest.mark.parametrize("length", [256, 300, 768])
@pytest.mark.parametrize("window", [100, attention.FULL_ATTENTION])
def test_plain_products_in_blocks_are_those_of_the_whole_row(length, window):
  rng = np.random.default_rng(length)
  queries, keys, values = (
    jnp.asarray(rng.normal(size=(2, num, length, 16)), jnp.float32)
    for num in (4, 2, 2)
  )
  # Each row: examples of random lengths, then padding.
  ends = np.sort(rng.integers(1, length, (2, 5)))
  steps = np.arange(length)
  segment_ids = (steps[None, :, None] >= ends[:, None]).sum(-1) + 1
  segment_ids = np.where(segment_ids == 6, 0, segment_ids)
  starts = np.concatenate([np.zeros((2, 1), int), ends], axis=1)
  began = np.where(
    segment_ids > 0, np.take_along_axis(starts, segment_ids - 1, 1), 0
  )
  positions = jnp.asarray(steps - began)
  segment_ids = jnp.asarray(segment_ids)
  args = queries, keys, values, positions, segment_ids, jnp.asarray(window)

  def total(attend, *heads):
    mixed = attend(*heads)
    return jnp.sum(jnp.sin(mixed) * (segment_ids > 0)[:, None, :, None])

  def whole(queries, keys, values):
    mask = attention.attention_mask(positions, segment_ids, args[-1])
    return attention.attend(
      queries, keys, values, mask, scale=0.25, softcap=None
    )

  def in_blocks(*heads):
    return fused_attention._plain(*heads, *args[3:], scale=0.25, softcap=None)

  found, expected = (
    jax.jit(
      jax.value_and_grad(functools.partial(total, attend), argnums=(0, 1, 2))
    )(*args[:3])
    for attend in (in_blocks, whole)
  )
  assert abs(float(expected[0])) > 1
  np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
  for ours, theirs in zip(found[1], expected[1], strict=True):
    np.testing.assert_allclose(ours, theirs, atol=5e-6)
