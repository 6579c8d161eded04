"""Tests of mathft_jax.data.packing."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from mathft_jax.data import packing

_CAPACITY = 12
_LENGTHS = strategies.lists(
  strategies.integers(1, _CAPACITY), min_size=1, max_size=40
).map(np.array)
_thorough = hypothesis.settings(deadline=None)


def _parts(rows: packing.Rows) -> list[list[int]]:
  return [part.tolist() for part in np.split(rows.examples, rows.starts[1:-1])]


@_thorough
@hypothesis.given(_LENGTHS)
def test_packing_is_best_fit_decreasing(pack_by_hand, lengths):
  packed = packing.Packing(lengths, _CAPACITY)
  rows = _parts(packed.rows())
  assert rows == pack_by_hand(lengths.tolist(), _CAPACITY)
  assert packed.num_rows == len(rows)


@_thorough
@hypothesis.given(_LENGTHS, strategies.integers(0, 9), strategies.booleans())
def test_an_arrangement_has_each_example_once_and_no_row_too_full(
  lengths, seed, pack
):
  packed = packing.Packing(lengths, _CAPACITY, pack)
  rows = _parts(packed.rows(np.random.RandomState(seed)))
  assert len(rows) == packed.num_rows
  assert sorted(sum(rows, [])) == [*range(len(lengths))]
  assert all(lengths[row].sum() <= _CAPACITY for row in rows)
  if not pack:
    assert {len(row) for row in rows} == {1}


@_thorough
@hypothesis.given(_LENGTHS)
def test_at_most_one_row_is_half_empty(lengths):
  # Two such rows would have been one.
  rows = _parts(packing.Packing(lengths, _CAPACITY).rows())
  filled = [lengths[row].sum() for row in rows]
  assert sum(2 * tokens <= _CAPACITY for tokens in filled) <= 1


def test_without_packing_the_order_is_kept_or_drawn_uniformly():
  packed = packing.Packing(np.array([3, 5, 4]), _CAPACITY, pack=False)
  assert packed.rows().examples.tolist() == [0, 1, 2]
  random = np.random.RandomState(0)
  orders = [tuple(packed.rows(random).examples) for _ in range(6000)]
  counts = [orders.count(order) for order in set(orders)]
  assert len(counts) == 6 and 850 < min(counts) and max(counts) < 1150


def test_examples_of_a_length_change_places_between_arrangements():
  packed = packing.Packing(np.array([8, 8, 4, 4]), _CAPACITY)
  random = np.random.RandomState(0)
  pairs = {tuple(row) for _ in range(99) for row in _parts(packed.rows(random))}
  assert pairs == {(0, 2), (0, 3), (1, 2), (1, 3)}


def test_an_example_longer_than_a_row_is_an_error():
  with pytest.raises(ValueError, match="13 tokens does not fit .* 12"):
    packing.Packing(np.array([3, 13]), _CAPACITY)
