"""SeqIO data sources whose rows are generated, not read."""

# The type stubs of TensorFlow lack a part of what stands here.
# pyright: reportArgumentType=false

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import seqio
import tensorflow as tf

from mathft_jax.sources import arithmetic, arithmetic_text

# The arithmetic problems that there are for one epoch of each split.
NUM_ARITHMETIC = {"train": 16_000, "validation": 1_000, "test": 1_000}

_FIELDS = ("problem_id", "problem", "solution", "answer", "level", "type")


class _Generated(seqio.DataSource):
  """Rows that `make_dataset(split, seed)` generates, in an order of its own.

  SeqIO's `FunctionDataSource` would warn at each start that nothing but the
  shuffle buffer shuffles. Rows that are drawn at random do not need more.
  """

  def __init__(
    self,
    make_dataset: Callable[[str, int], tf.data.Dataset],
    splits: Sequence[str],
    num_examples: Mapping[str, int] | None = None,
  ):
    super().__init__(splits=splits, num_input_examples=num_examples)
    self._make_dataset = make_dataset

  @property
  def supports_arbitrary_sharding(self) -> bool:
    return False  # SeqIO then takes every n-th row for each of n shards.

  def list_shards(self, split: str) -> Sequence[str]:
    return [split]

  def get_dataset(
    self,
    split: str = "train",
    shuffle: bool = True,
    seed: int | None = None,
    shard_info: seqio.ShardInfo | None = None,
    **unused_kwargs,
  ) -> tf.data.Dataset:
    del shuffle
    if shard_info and shard_info.num_shards > 1:
      raise ValueError("generated rows are one shard; shard the data set")
    return self._make_dataset(split, seed or 0)


def arithmetic_problems(style: str) -> seqio.DataSource:
  """Solved arithmetic problems, as examples of texts."""
  return _Generated(
    functools.partial(_arithmetic_dataset, style=style),
    splits=tuple(NUM_ARITHMETIC),
    num_examples=NUM_ARITHMETIC,
  )


def arithmetic_documents() -> seqio.DataSource:
  """Pre-training text, as examples with `text`; its train split has no end.

  The validation split holds 2,000 documents of another seed.
  """
  return _Generated(_documents_dataset, splits=("train", "validation"))


def _arithmetic_dataset(
  split: str, seed: int, *, style: str
) -> tf.data.Dataset:
  del seed  # SeqIO's buffer shuffles.
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


def _documents_dataset(split: str, seed: int) -> tf.data.Dataset:
  is_train = split == "train"

  def documents() -> Iterator[Mapping[str, str]]:
    drawn = arithmetic_text.documents(
      seed=seed + 1 if is_train else 0,
      num_documents=None if is_train else 2_000,
    )
    for text in drawn:
      yield {"text": text}

  return tf.data.Dataset.from_generator(
    documents, output_signature={"text": tf.TensorSpec((), tf.string)}
  )
