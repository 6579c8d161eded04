"""A restartable stream of batches for one host."""

import collections
import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from mathft_jax.data import features

Batch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ExampleCounts:
  """How long the examples of a split are; lengths are means in tokens.

  The means are over all examples, those that are too long included.
  """

  num_examples: int
  num_too_long: int
  input_tokens: float
  target_tokens: float


@dataclasses.dataclass(frozen=True)
class StreamConfig:
  """What decides the batches of a stream, all of it.

  `task_or_mixture` is a registered name. `feature_lengths` are T5X's
  TASK_FEATURE_LENGTHS: the most tokens of inputs and of targets; longer
  examples are dropped. `batch_size` is this host's. `num_epochs` None repeats
  for ever; else the last batch may be short, unless `drop_remainder`.
  `vocabulary` replaces the task's own.
  """

  task_or_mixture: str
  split: str
  feature_lengths: Mapping[str, int]
  batch_size: int
  feature_converter: seqio.FeatureConverter
  vocabulary: seqio.Vocabulary | None = None
  shuffle: bool = True
  seed: int = 0
  num_epochs: int | None = None
  drop_remainder: bool = True
  shard_index: int = 0
  num_shards: int = 1

  def __post_init__(self):
    if self.batch_size < 1:
      raise ValueError(f"batch_size must be positive, not {self.batch_size}")
    if not 0 <= self.shard_index < self.num_shards:
      raise ValueError(
        f"shard_index {self.shard_index} is not in 0 ... num_shards - 1 ="
        f" {self.num_shards - 1}"
      )


class BatchStream(Iterator[Batch]):
  """Numpy batches {feature: [B, ...]}, a function of the config alone.

  `state()` after any batch, given to `restore` of a stream with the same
  config and data, makes it go on with the next batch. Restoring reads past
  the earlier batches, at the speed of the pipeline.
  """

  def __init__(self, config: StreamConfig):
    """Raises ValueError if the split has no example that is short enough."""
    self._config = config
    _check_something_fits(config)
    self._start(num_batches=0)

  def __next__(self) -> Batch:
    # The stubs know no data sets of dictionaries.
    batch = typing.cast(Batch, next(self._batches))
    self._num_batches += 1
    return batch

  def state(self) -> Mapping[str, Any]:
    """Returns where the stream stands, as plain JSON values."""
    return {"num_batches": self._num_batches, **_identity(self._config)}

  def restore(self, state: Mapping[str, Any]) -> None:
    """Goes to where `state()` was taken; ValueError if the config differs."""
    identity = _identity(self._config)
    differing = [
      f"{name} {state.get(name)!r} there, {value!r} here"
      for name, value in identity.items()
      if state.get(name) != value
    ]
    if differing:
      raise ValueError(
        "the saved state is of another stream: "
        + "; ".join(differing)
        + "; set these back, or start a new MODEL_DIR"
      )
    self._start(state["num_batches"])

  def _start(self, num_batches: int) -> None:
    dataset = make_dataset(self._config)
    self._num_batches = num_batches
    self._batches = iter(dataset.skip(num_batches).as_numpy_iterator())


def make_dataset(config: StreamConfig) -> tf.data.Dataset:
  """Returns the batches of a stream as a tf.data.Dataset."""
  dataset = _provider(config).get_dataset(
    sequence_length=config.feature_lengths,
    split=config.split,
    shuffle=config.shuffle,
    seed=config.seed,
    shard_info=seqio.ShardInfo(config.shard_index, config.num_shards),
    num_epochs=config.num_epochs,
    # What is too long must never be cut: a task drops it, and where one does
    # not, the converter complains.
    trim_output_features=False,
    try_in_mem_cache=False,  # The sources hold their rows in memory already.
  )
  dataset = config.feature_converter(
    dataset, task_feature_lengths=config.feature_lengths
  )
  dataset = dataset.batch(
    config.batch_size, drop_remainder=config.drop_remainder
  )
  options = tf.data.Options()
  options.deterministic = True
  # tf.data's tuner may hold up the end of a stream for as long as it ran: it
  # sleeps for ever longer between two looks, and is not woken to stop.
  options.autotune.enabled = False
  # Most of the machine is the model's.
  options.threading.max_intra_op_parallelism = 1
  return dataset.with_options(options).prefetch(tf.data.AUTOTUNE)


def count_examples(config: StreamConfig) -> ExampleCounts:
  """Reads a split once and tells how many examples are dropped as too long.

  Of the config, only the task, split, lengths and vocabulary matter.
  """
  totals = collections.Counter()
  # A mixture's data set may end before all of its tasks do.
  for task in seqio.get_subtasks(_provider(config)):
    if config.split in task.splits:
      totals.update(_count_task(task, config))
  num_examples = totals["examples"]
  return ExampleCounts(
    num_examples=num_examples,
    num_too_long=totals["too_long"],
    input_tokens=totals["inputs"] / max(num_examples, 1),
    target_tokens=totals["targets"] / max(num_examples, 1),
  )


def _count_task(task: seqio.Task, config: StreamConfig) -> Mapping[str, int]:
  dataset = task.get_dataset(
    sequence_length=None, split=config.split, shuffle=False, num_epochs=1
  )
  dataset = dataset.map(
    lambda example: {
      name: tf.shape(example[name])[0] for name in config.feature_lengths
    },
    num_parallel_calls=tf.data.AUTOTUNE,
  )
  totals = collections.Counter()
  for lengths in dataset.batch(1024).as_numpy_iterator():
    too_long = np.any(
      [lengths[k] > limit for k, limit in config.feature_lengths.items()],
      axis=0,
    )
    totals["examples"] += len(too_long)
    totals["too_long"] += int(too_long.sum())
    for name, values in lengths.items():
      totals[name] += int(values.sum())
  return totals


def _provider(config: StreamConfig) -> seqio.Task | seqio.Mixture:
  provider = seqio.get_mixture_or_task(config.task_or_mixture)
  if config.split not in provider.splits:
    raise ValueError(
      f"{config.task_or_mixture} has no split {config.split!r}, only"
      f" {', '.join(sorted(provider.splits))}"
    )
  if config.vocabulary is None:
    return provider
  return features.with_vocabulary(provider, config.vocabulary)


def _identity(config: StreamConfig) -> Mapping[str, Any]:
  """Returns what must be the same for a saved state to mean the same."""
  return {
    "task_or_mixture": config.task_or_mixture,
    "split": config.split,
    "feature_lengths": dict(config.feature_lengths),
    "batch_size": config.batch_size,
    "pack": config.feature_converter.pack,
    "shuffle": config.shuffle,
    "seed": config.seed,
    "num_epochs": config.num_epochs,
    "shard_index": config.shard_index,
    "num_shards": config.num_shards,
  }


def _check_something_fits(config: StreamConfig) -> None:
  """Raises ValueError where a stream would look for an example for ever."""
  for task in seqio.get_subtasks(_provider(config)):
    if config.split not in task.splits:
      continue
    dataset = task.get_dataset(
      sequence_length=config.feature_lengths,
      split=config.split,
      shuffle=False,
      num_epochs=1,
      try_in_mem_cache=False,
    )
    if not any(True for _ in dataset.take(1)):
      raise ValueError(
        f"{task.name} gives no example from split {config.split!r}: either"
        " there is none (pairs need a correct and an incorrect candidate of"
        " the same problem), or all are longer than"
        f" {dict(config.feature_lengths)} tokens; then raise"
        " TASK_FEATURE_LENGTHS"
      )
