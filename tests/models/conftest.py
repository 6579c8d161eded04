"""Batches and a language model that the tests of models share."""

import types

import numpy as np
import pytest


@pytest.fixture(scope="session")
def stub_vocabulary():
  """All that a generator reads of its vocabulary."""
  return types.SimpleNamespace(pad_id=0, eos_id=1, bos_id=None)


@pytest.fixture(scope="session")
def converted():
  """Batches as the real converter makes them, of the same made-up examples.

  `converted(pack)` is one batch of all rows; lengths are 7 and 5 tokens.
  """
  import tensorflow as tf

  from mathft_jax.data import converters

  lengths = {"inputs": 7, "targets": 5}
  rng = np.random.default_rng(0)
  examples = [
    {
      name: rng.integers(2, 31, rng.integers(1, most + 1)).astype(np.int32)
      for name, most in lengths.items()
    }
    for _ in range(9)
  ]

  def convert(pack: bool) -> dict[str, np.ndarray]:
    dataset = tf.data.Dataset.from_generator(
      lambda: iter(examples),
      output_signature={
        name: tf.TensorSpec([None], tf.int32) for name in lengths
      },
    )
    converter = converters.DecoderOnlyFeatureConverter(pack=pack)
    dataset = converter(dataset, task_feature_lengths=lengths)
    rows = list(dataset.as_numpy_iterator())
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

  return convert
