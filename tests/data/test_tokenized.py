"""Tests of mathft_jax.data.tokenized; its rows are those of test_converters."""

import numpy as np
import pytest

from mathft_jax.data import features, packing, tokenized

_NONE = features.NO_TOKEN


def _feature(*values: list) -> tokenized.Feature:
  return tokenized.Feature(
    np.concatenate([np.array(v, np.int32) for v in values]),
    np.array([len(v) for v in values]),
  )


@pytest.fixture(scope="module")
def singles() -> tokenized.Examples:
  return tokenized.join(
    _feature([3, 4], [5], [6, 7, 8]), _feature([9], [2, 1], [1])
  )


@pytest.fixture(scope="module")
def pairs() -> tokenized.Examples:
  """The first half of the first pair is shorter, the second of the second."""
  return tokenized.join(
    _feature([[3, 5], [_NONE, 6]], [[4, 7], [4, _NONE], [4, _NONE]]),
    _feature([[2, 1]], [[2, 1]]),
  )


def test_inputs_and_targets_are_joined(singles):
  assert singles.tokens.tolist() == [3, 4, 9, 5, 2, 1, 6, 7, 8, 1]
  assert singles.starts.tolist() == [0, 3, 6, 10]
  assert singles.num_inputs.tolist() == [2, 1, 3]
  assert len(singles) == 3
  assert singles.lengths().tolist() == [3, 3, 4]


def test_halves_of_a_pair_are_sequences_without_padding(pairs):
  parts = np.split(pairs.tokens, pairs.starts[1:-1])
  assert [part.tolist() for part in parts] == [
    [3, 2], [5, 6, 1], [4, 4, 4, 2], [7, 1],
  ]  # fmt: skip
  assert pairs.num_inputs.tolist() == [1, 2, 3, 1]
  assert len(pairs) == 2


def test_a_pair_is_as_long_as_its_longer_half(pairs):
  assert pairs.lengths().tolist() == [3, 4]
  lengths = pairs.feature_lengths()
  assert lengths["inputs"].tolist() == [2, 3]
  assert lengths["targets"].tolist() == [1, 1]


def test_parts_are_one_behind_the_other(pairs):
  whole = tokenized.concatenate([pairs, pairs], width=2)
  assert len(whole) == 4
  assert whole.tokens.tolist() == pairs.tokens.tolist() * 2
  assert whole.lengths().tolist() == pairs.lengths().tolist() * 2
  assert whole.num_inputs.tolist() == pairs.num_inputs.tolist() * 2
  assert len(tokenized.concatenate([], width=2)) == 0


def test_the_halves_of_a_pair_stand_in_the_same_segment(pairs):
  rows = packing.Rows(np.array([1, 0]), np.array([0, 2]))
  laid_out = tokenized.lay_out(pairs, rows, tokenized.Layout(8))
  assert laid_out["decoder_target_tokens"].tolist() == [
    [[4, 4, 4, 2, 3, 2, 0, 0], [7, 1, 5, 6, 1, 0, 0, 0]]
  ]
  assert laid_out["decoder_segment_ids"].tolist() == [
    [[1, 1, 1, 1, 2, 2, 0, 0], [1, 1, 2, 2, 2, 0, 0, 0]]
  ]
  assert laid_out["decoder_input_tokens"].tolist() == [
    [[0, 4, 4, 4, 0, 3, 0, 0], [0, 7, 0, 5, 6, 0, 0, 0]]
  ]
  assert laid_out["decoder_positions"].tolist() == [
    [[0, 1, 2, 3, 0, 1, 0, 0], [0, 1, 0, 1, 2, 0, 0, 0]]
  ]
  assert laid_out["decoder_loss_weights"].tolist() == [
    [[0, 0, 0, 1, 0, 1, 0, 0], [0, 1, 0, 0, 1, 0, 0, 0]]
  ]
