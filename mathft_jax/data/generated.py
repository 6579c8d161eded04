"""SeqIO data sources whose rows are generated, not read."""

import functools
from collections.abc import Iterator, Mapping

import seqio
import tensorflow as tf

from mathft_jax.sources import arithmetic, arithmetic_text

# The arithmetic problems that there are for one epoch of each split.
NUM_ARITHMETIC = {"train": 16_000, "validation": 1_000, "test": 1_000}

_FIELDS = ("problem_id", "problem", "solution", "answer", "level", "type")


def arithmetic_problems(style: str) -> seqio.DataSource:
  """Solved arithmetic problems, as examples of texts."""
  return seqio.FunctionDataSource(
    functools.partial(_arithmetic_dataset, style=style),
    splits=tuple(NUM_ARITHMETIC),
    num_input_examples=NUM_ARITHMETIC,
  )


def arithmetic_documents() -> seqio.DataSource:
  """Pre-training text, as examples with `text`; its train split has no end.

  The validation split holds 2,000 documents of another seed.
  """
  return seqio.FunctionDataSource(
    _documents_dataset, splits=("train", "validation")
  )


def _arithmetic_dataset(
  split: str, shuffle_files: bool, seed: int | None = None, *, style: str
) -> tf.data.Dataset:
  del shuffle_files, seed  # SeqIO's buffer shuffles.
  columns = _arithmetic_columns(split, style)
  return tf.data.Dataset.from_tensor_slices(
    {name: tf.constant(values) for name, values in columns.items()}
  )


@functools.lru_cache
def _arithmetic_columns(split: str, style: str) -> Mapping[str, list[str]]:
  rows = [
    row.to_json()
    for row in arithmetic.problems(
      split, style, num_problems=NUM_ARITHMETIC[split]
    )
  ]
  return {name: [row[name] for row in rows] for name in _FIELDS}


def _documents_dataset(
  split: str, shuffle_files: bool, seed: int | None = None
) -> tf.data.Dataset:
  del shuffle_files
  is_train = split == "train"

  def documents() -> Iterator[Mapping[str, str]]:
    drawn = arithmetic_text.documents(
      seed=(seed or 0) + 1 if is_train else 0,
      num_documents=None if is_train else 2_000,
    )
    for text in drawn:
      yield {"text": text}

  return tf.data.Dataset.from_generator(
    documents, output_signature={"text": tf.TensorSpec((), tf.string)}
  )
