"""Tests that text survives where id 0 is an ordinary token, as in Llama 3.

In the vocabulary here 0 is "!", and the texts are full of it.
"""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from mathft_jax import prompts
from mathft_jax.data import converters, features, preprocessors

_PROBLEMS = ["!", "What is $3!$?", "!!! Is $0! = 1$?!"]
_SOLUTIONS = ["!!", "$3! = 6$!", "Yes!!"]
_LENGTHS = {"inputs": 90, "targets": 60}


@pytest.fixture(scope="module")
def generator_examples(byte_level_vocabulary) -> tf.data.Dataset:
  dataset = tf.data.Dataset.from_tensor_slices(
    {"problem": _PROBLEMS, "solution": _SOLUTIONS, "answer": ["!"] * 3}
  )
  output_features = features.output_features(byte_level_vocabulary)
  dataset = preprocessors.generator_texts(dataset)
  dataset = seqio.preprocessors.tokenize(dataset, output_features)
  dataset = seqio.preprocessors.append_eos(dataset, output_features)
  dataset = preprocessors.drop_too_long(dataset, output_features, _LENGTHS)
  names = ("inputs", "targets")
  return dataset.map(lambda row: {name: row[name] for name in names})


def _texts(row, mask, vocabulary) -> tuple[str, str]:
  """The prompt and the target of the tokens under a mask."""
  tokens = row["decoder_target_tokens"][mask]
  weights = row["decoder_loss_weights"][mask]
  return (
    vocabulary.decode(tokens[weights == 0].tolist()),
    vocabulary.decode(tokens[weights == 1].tolist()),
  )


@pytest.fixture(scope="module")
def expected() -> list[tuple[str, str]]:
  return [
    (prompts.generator_inputs(p), prompts.generator_targets(s, "!"))
    for p, s in zip(_PROBLEMS, _SOLUTIONS, strict=True)
  ]


def test_the_texts_have_zeros_where_padding_would_be(
  byte_level_vocabulary, generator_examples
):
  assert byte_level_vocabulary.encode("!") == [0]
  for example in generator_examples.as_numpy_iterator():
    assert np.count_nonzero(example["inputs"] == 0) >= 1
    assert example["targets"][-2] == 0


def test_single_examples_lose_nothing(
  byte_level_vocabulary, generator_examples, expected
):
  converter = converters.DecoderOnlyFeatureConverter(pack=False)
  rows = converter(generator_examples, _LENGTHS).as_numpy_iterator()
  examples = generator_examples.as_numpy_iterator()
  found = []
  for row, example in zip(rows, examples, strict=True):
    size = len(example["inputs"]) + len(example["targets"])
    is_token = np.arange(len(row["decoder_target_tokens"])) < size
    assert row["decoder_loss_weights"].sum() == len(example["targets"])
    found.append(_texts(row, is_token, byte_level_vocabulary))
  assert found == expected


def test_packed_examples_lose_nothing(
  byte_level_vocabulary, generator_examples, expected
):
  converter = converters.DecoderOnlyFeatureConverter(pack=True)
  rows = list(converter(generator_examples, _LENGTHS).as_numpy_iterator())
  assert len(rows) < len(expected)
  found = [
    _texts(row, row["decoder_segment_ids"] == i, byte_level_vocabulary)
    for row in rows
    for i in range(1, row["decoder_segment_ids"].max() + 1)
  ]
  assert sorted(found) == sorted(expected)  # Longer ones come first.


def test_pairs_lose_nothing(byte_level_vocabulary):
  solutions = ["!", "!!! Yes! It is $1!!$"]
  graded = tf.data.Dataset.from_tensors(
    {
      "problem_id": "a",
      "problem": "!",
      "solutions": solutions,
      "is_correct": [False, True],
    }
  )
  dataset = preprocessors.tokenize_pairs(
    preprocessors.evaluator_pairs(graded),
    features.pair_output_features(byte_level_vocabulary),
  )
  names = ("inputs", "targets")
  dataset = dataset.map(lambda row: {name: row[name] for name in names})
  converter = converters.PairFeatureConverter()
  (pair,) = converter(dataset, {"inputs": 120, "targets": 1})
  verdicts = features.verdict_token_ids(byte_level_vocabulary)
  for half, solution in enumerate(solutions):
    row = {name: value[half].numpy() for name, value in pair.items()}
    tokens = features.evaluator_input_tokens(
      byte_level_vocabulary, "!", solution
    )
    tokens.append(verdicts[1 - half])
    padding = 121 - len(tokens)
    assert row["decoder_target_tokens"].tolist() == tokens + [0] * padding
    assert row["decoder_loss_weights"].tolist() == (
      [0.0] * (len(tokens) - 1) + [1.0] + [0.0] * padding
    )


def test_a_sequence_starts_with_bos_else_with_padding(
  tmp_path, write_byte_level, arith_vocabulary
):
  from mathft_jax.data import vocabulary

  assert features.start_token_id(arith_vocabulary) == 0
  names = ("<|begin_of_text|>", "<|end_of_text|>", "<|pad|>")
  for folder, config, expected in (
    ("a", {"bos_token": names[0], "pad_token": names[2]}, names[0]),
    ("b", {"bos_token": None, "pad_token": names[2]}, names[2]),
    ("c", {"eos_token": names[1]}, names[1]),
  ):
    path = write_byte_level(tmp_path / folder, special=names, config=config)
    loaded = vocabulary.load_vocabulary(str(path))
    start = loaded.tokenizer.id_to_token(features.start_token_id(loaded))
    assert start == expected
