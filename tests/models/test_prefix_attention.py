"""Packed rows behind a prefix, against a softmax over what each query sees."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mathft_jax.models import attention, prefix_attention

_FULL = attention.FULL_ATTENTION
_SCALE = 0.3


def _rows(rng, length, segments, prompts, lengths):
  """Arguments of `attend` from the lengths of each row's segments."""
  queries, keys, values = (
    rng.normal(size=(len(segments), num, length, 8)).astype(np.float32)
    for num in (4, 2, 2)
  )
  positions, segment_ids = np.zeros((2, len(segments), length), np.int32)
  for row, sizes in enumerate(segments):
    first = 0
    for segment, size in enumerate(sizes):
      own = slice(first, first + size)
      positions[row, own] = lengths[prompts[row]] + np.arange(size)
      segment_ids[row, own] = segment + 1
      first += size
  return queries, keys, values, positions, segment_ids


def _by_hand(queries, keys, values, positions, segment_ids, window, prefix,
             softcap):  # fmt: skip
  """Each query alone, in float64; NaN for padding."""
  mixed = np.full(queries.shape, np.nan)
  for row, head, place in np.ndindex(queries.shape[:3]):
    if not segment_ids[row, place]:
      continue
    prompt, of_head = prefix.prompts[row], head // 2
    at = positions[row, place]
    sees = [s for s in range(prefix.lengths[prompt]) if at - s < window]
    own = [
      s
      for s in range(place + 1)
      if segment_ids[row, s] == segment_ids[row, place]
      and at - positions[row, s] < window
    ]
    k, v = (
      np.concatenate([before[prompt, of_head, sees], x[row, of_head, own]])
      for before, x in ((prefix.keys, keys), (prefix.values, values))
    )
    scores = k.astype(np.float64) @ queries[row, head, place] * _SCALE
    if softcap:
      scores = softcap * np.tanh(scores / softcap)
    weights = np.exp(scores - scores.max())
    mixed[row, head, place] = weights / weights.sum() @ v
  return mixed


@pytest.fixture(scope="module", params=[(300, 640), (7, 20), (100, 384)])
def case(request):
  """Rows, and beginnings of which one is full and one has a single token."""
  longest, length = request.param
  rng = np.random.default_rng(0)
  room = longest + 84 if longest > 256 else longest + 1
  lengths, prompts = np.array([longest, 1, room]), np.array([0, 1, 2, 0])
  segments = [
    (length // 2, length // 3), (length,), (1, 2, length // 4, 3), (),
  ]  # fmt: skip
  rows = _rows(rng, length, segments, prompts, lengths)
  keys, values = rng.normal(size=(2, 3, 2, room, 8)).astype(np.float32)
  prefix = prefix_attention.Prefix(
    *map(jnp.asarray, (keys, values, lengths, prompts))
  )
  return tuple(map(jnp.asarray, rows)), prefix


@pytest.mark.parametrize(("window", "softcap"), [(_FULL, None), (9, 2.0)])
@pytest.mark.parametrize("way", ["_tiled", "_plain", "attend"])
def test_each_query_sees_its_prefix_and_its_segment(case, window, softcap, way):
  rows, prefix = case
  expected = _expected(rows, prefix, window, softcap)
  options = {"scale": _SCALE, "softcap": softcap}
  if way == "attend":
    options["places"] = None
  attend = functools.partial(getattr(prefix_attention, way), **options)
  found = np.asarray(jax.jit(attend)(*rows, jnp.asarray(window), prefix))
  assert np.all(np.isfinite(found))
  is_token = ~np.isnan(expected)
  np.testing.assert_allclose(found[is_token], expected[is_token], atol=2e-6)


_KNOWN = {}


def _expected(rows, prefix, window, softcap):
  key = rows[0].shape, window
  if key not in _KNOWN:
    arrays = map(np.asarray, rows)
    as_numpy = types.SimpleNamespace(
      **{name: np.asarray(x) for name, x in vars(prefix).items()}
    )
    _KNOWN[key] = _by_hand(*arrays, window, as_numpy, softcap)
  return _KNOWN[key]


def test_some_places_are_a_part_of_all(case):
  rows, prefix = case
  places = jnp.asarray([[3, 0], [19, 2], [1, 2], [0, 0]])
  options = {"scale": _SCALE, "softcap": None}
  plain = jax.jit(functools.partial(prefix_attention._plain, **options))
  every = plain(*rows, jnp.asarray(_FULL), prefix)
  queries = jnp.take_along_axis(rows[0], places[:, None, :, None], axis=2)
  attend = functools.partial(prefix_attention.attend, places=places, **options)
  some = attend(queries, *rows[1:], jnp.asarray(_FULL), prefix)
  expected = jnp.take_along_axis(every, places[:, None, :, None], axis=2)
  np.testing.assert_allclose(some[:3], expected[:3], atol=2e-6)


def test_bfloat16_follows_float32(case):
  rows, prefix = case
  options = {"scale": _SCALE, "softcap": None}
  plain = jax.jit(functools.partial(prefix_attention._plain, **options))
  wide = plain(*rows, jnp.asarray(_FULL), prefix)
  rows, prefix = jax.tree.map(
    lambda x: x.astype(jnp.bfloat16) if x.dtype == jnp.float32 else x,
    (rows, prefix),
  )
  tiled = jax.jit(functools.partial(prefix_attention._tiled, **options))
  small = tiled(*rows, jnp.asarray(_FULL), prefix)
  assert small.dtype == jnp.bfloat16
  is_token = (np.asarray(rows[4]) > 0)[:, None, :, None]
  np.testing.assert_allclose(
    np.asarray(small, np.float32) * is_token, wide * is_token, atol=0.05
  )
