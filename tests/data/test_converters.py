"""Tests of mathft_jax.data.converters."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from mathft_jax.data import converters, features

_LENGTHS = {"inputs": 7, "targets": 5}
_LENGTH = 12


def _examples(num_examples: int, least: int = 0) -> list[tuple[list, list]]:
  """Made-up examples with many zeros, an ordinary token in most vocabularies.

  `least` is their lowest token.
  """
  rng = np.random.default_rng(0)

  def tokens(most: int) -> list:
    return rng.integers(least, 4, rng.integers(1, most + 1)).tolist()

  return [
    (tokens(_LENGTHS["inputs"]), tokens(_LENGTHS["targets"]))
    for _ in range(num_examples)
  ]


def _dataset(examples) -> tf.data.Dataset:
  return tf.data.Dataset.from_generator(
    lambda: ({"inputs": i, "targets": t} for i, t in examples),
    output_signature={
      name: tf.TensorSpec([None], tf.int32) for name in _LENGTHS
    },
  )


def _convert(converter, examples) -> list[dict[str, np.ndarray]]:
  dataset = converter(_dataset(examples), task_feature_lengths=_LENGTHS)
  return list(dataset.as_numpy_iterator())


def _expected(inputs: list, targets: list, bos_id: int = 0) -> dict:
  """An example by hand, unpadded."""
  tokens = inputs + targets
  return {
    "decoder_input_tokens": [bos_id] + tokens[:-1],
    "decoder_target_tokens": tokens,
    "decoder_loss_weights": [0.0] * len(inputs) + [1.0] * len(targets),
  }


def test_unpacked_examples_are_those_made_by_hand():
  examples = _examples(20)
  rows = _convert(
    converters.DecoderOnlyFeatureConverter(pack=False, bos_id=3), examples
  )
  for row, example in zip(rows, examples, strict=True):
    expected = _expected(*example, bos_id=3)
    assert set(row) == set(expected)
    for name, values in expected.items():
      padded = values + [0] * (_LENGTH - len(values))
      np.testing.assert_array_equal(row[name], padded)


def test_dtypes_of_a_batch():
  (row, *_) = _convert(
    converters.DecoderOnlyFeatureConverter(pack=True), _examples(4)
  )
  assert {name: value.dtype.name for name, value in row.items()} == {
    "decoder_input_tokens": "int32",
    "decoder_target_tokens": "int32",
    "decoder_loss_weights": "float32",
    "decoder_segment_ids": "int32",
    "decoder_positions": "int32",
  }


@pytest.mark.parametrize("num_examples", [1, 7, 60])
def test_packing_is_best_fit_and_changes_no_example(num_examples, pack_by_hand):
  examples = _examples(num_examples)
  rows = _convert(
    converters.DecoderOnlyFeatureConverter(pack=True, bos_id=3), examples
  )
  by_hand = pack_by_hand([len(i) + len(t) for i, t in examples], _LENGTH)
  assert len(rows) == len(by_hand)
  for row, numbers in zip(rows, by_hand, strict=True):
    expected = {name: [] for name in row}
    for segment, number in enumerate(numbers, start=1):
      example = _expected(*examples[number], bos_id=3)
      size = len(example["decoder_target_tokens"])
      example["decoder_segment_ids"] = [segment] * size
      example["decoder_positions"] = list(range(size))
      for name, values in example.items():
        expected[name] += values
    for name, values in expected.items():
      padded = values + [0] * (_LENGTH - len(values))
      np.testing.assert_array_equal(row[name], padded, err_msg=name)


def test_packing_loses_no_example_across_windows(monkeypatch):
  monkeypatch.setattr(converters, "_PACKING_WINDOW", 8)
  examples = _examples(50)
  rows = _convert(converters.DecoderOnlyFeatureConverter(pack=True), examples)
  found = []
  for row in rows:
    for segment in range(1, row["decoder_segment_ids"].max() + 1):
      mask = row["decoder_segment_ids"] == segment
      found.append(row["decoder_target_tokens"][mask].tolist())
  assert sorted(found) == sorted(i + t for i, t in examples)


def test_the_batch_agrees_with_seqios_own_converter():
  # SeqIO's takes each 0 for padding.
  examples = _examples(20, least=1)
  ours = _convert(converters.DecoderOnlyFeatureConverter(pack=False), examples)
  theirs = _convert(
    seqio.DecoderFeatureConverter(pack=False, loss_on_targets_only=True),
    examples,
  )
  for our_row, their_row in zip(ours, theirs, strict=True):
    # SeqIO puts the last target into the first place of the padding too.
    is_token = our_row["decoder_target_tokens"] != 0
    for name in our_row:
      np.testing.assert_array_equal(
        our_row[name], np.where(is_token, their_row[name], 0)
      )


@pytest.mark.parametrize("pack", [False, True])
def test_a_saved_iterator_goes_on_where_it_was(pack, tmp_path):
  # T5X saves its iterators with the model.
  examples = _examples(40)
  features = {
    name: tf.ragged.constant([e[i] for e in examples], dtype=tf.int32)
    for i, name in enumerate(_LENGTHS)
  }
  dataset = converters.DecoderOnlyFeatureConverter(pack=pack)(
    tf.data.Dataset.from_tensor_slices(features).map(
      lambda example: {name: example[name] for name in _LENGTHS}
    ),
    task_feature_lengths=_LENGTHS,
  )
  iterator = iter(dataset)
  for _ in range(5):
    next(iterator)
  path = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "saved"))
  expected = next(iterator)
  restored = iter(dataset)
  tf.train.Checkpoint(iterator=restored).restore(path)
  for name, value in next(restored).items():
    np.testing.assert_array_equal(value, expected[name])


@pytest.mark.parametrize("pack", [False, True])
def test_an_example_that_is_too_long_is_an_error(pack):
  converter = converters.DecoderOnlyFeatureConverter(pack=pack)
  with pytest.raises(tf.errors.InvalidArgumentError, match="targets"):
    _convert(converter, [([1], [2] * 6)])


def test_each_half_of_a_pair_is_converted_like_a_single_example():
  incorrect, correct = ([5, 0, 7, 0], [9]), ([0, 0], [4])
  none = features.NO_TOKEN
  pair = {
    "inputs": [[5, 0], [0, 0], [7, none], [0, none]],
    "targets": [[9, 4]],
  }
  dataset = tf.data.Dataset.from_tensors(
    {name: tf.constant(value, tf.int32) for name, value in pair.items()}
  )
  lengths = {"inputs": 6, "targets": 1}
  (rows,) = converters.PairFeatureConverter()(
    dataset, task_feature_lengths=lengths
  ).as_numpy_iterator()
  for half, example in enumerate((incorrect, correct)):
    for name, values in _expected(*example).items():
      padded = values + [0] * (7 - len(values))
      np.testing.assert_array_equal(rows[name][half], padded)
  assert rows["decoder_loss_weights"].sum() == 2


def _pairs(num_pairs: int) -> list[dict[str, np.ndarray]]:
  """Pairs of halves of different lengths, with one target each."""
  rng = np.random.default_rng(0)
  pairs = []
  for sizes in rng.integers(1, 7, (num_pairs, 2)):
    inputs = rng.integers(1, 100, (sizes.max(), 2))
    inputs[np.arange(sizes.max())[:, None] >= sizes] = features.NO_TOKEN
    pairs.append({"inputs": inputs, "targets": rng.integers(1, 100, (1, 2))})
  return pairs


def test_packed_pairs_stay_together_in_one_segment():
  pairs = _pairs(30)
  lengths = {"inputs": 11, "targets": 1}
  dataset = tf.data.Dataset.from_generator(
    lambda: iter(pairs),
    output_signature={
      name: tf.TensorSpec([None, 2], tf.int32) for name in lengths
    },
  )
  packed, alone = (
    list(
      converters.PairFeatureConverter(pack=pack)(
        dataset, task_feature_lengths=lengths
      ).as_numpy_iterator()
    )
    for pack in (True, False)
  )
  assert len(packed) < len(alone) / 1.5
  found = []
  for row in packed:
    segments = row["decoder_segment_ids"]
    assert segments[0].max() == segments[1].max()
    for segment in range(1, segments.max() + 1):
      halves = []
      for half in range(2):
        mask = segments[half] == segment
        positions = row["decoder_positions"][half][mask]
        assert positions.tolist() == [*range(mask.sum())]
        halves.append(
          [
            row[name][half][mask].tolist()
            for name in converters.PairFeatureConverter.MODEL_FEATURES
          ]
        )
      found.append(halves)
  expected = []
  for row in alone:
    sizes = (row["decoder_target_tokens"] != 0).sum(axis=1)
    expected.append(
      [
        [row[name][half][:size].tolist() for name in row]
        for half, size in enumerate(sizes)
      ]
    )
  assert sorted(found) == sorted(expected)
