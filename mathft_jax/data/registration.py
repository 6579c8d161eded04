"""The two families of SeqIO tasks: generators' and evaluators'."""

# The type stubs of TensorFlow and SeqIO lack a part of what stands here.
# pyright: reportArgumentType=false

import difflib
import functools
from collections.abc import Iterable

import seqio
import tensorflow as tf

from mathft_jax.data import (
  features,
  metric_fns,
  prepared,
  preprocessors,
  vocabulary,
)

# An evaluator's examples come 10 or 64 of a problem in a row, so they need a
# larger buffer than SeqIO's own to be mixed.
_EVALUATOR_SHUFFLE_BUFFER = 16_384


def add_generator_task(
  name: str, source: seqio.DataSource, vocabulary_name: str
) -> None:
  """Registers a task of solutions to learn, with the accuracy as its metric.

  `source` gives examples of texts, such as `prepared.solved_problems`;
  `vocabulary_name` is a default, which a recipe may replace.
  """
  seqio.TaskRegistry.add(
    name,
    source=source,
    preprocessors=[
      preprocessors.generator_texts,
      seqio.preprocessors.tokenize,
      seqio.preprocessors.append_eos,
      seqio.CacheDatasetPlaceholder(),
      preprocessors.drop_too_long,
    ],
    output_features=features.output_features(
      vocabulary.load_vocabulary(vocabulary_name)
    ),
    postprocess_fn=metric_fns.answer,
    metric_fns=[metric_fns.accuracy],
  )


def add_generator_mixture(name: str, task_names: list[str]) -> None:
  """Registers a mixture in which each example of each task counts the same.

  Without repetition it ends when the last of its tasks does.
  """
  seqio.MixtureRegistry.add(
    name,
    [(task_name, _num_train_examples) for task_name in task_names],
    sample_fn=functools.partial(
      tf.data.Dataset.sample_from_datasets, stop_on_empty_dataset=False
    ),
  )


def add_evaluator_tasks(
  prefix: str, vocabulary_name: str, source: str = "evaluator"
) -> None:
  """Registers <prefix>_evaluate_xent and <prefix>_evaluate_pairs.

  The first has one verdict for each candidate, the second up to ten
  (incorrect, correct) pairs a problem.
  """
  loaded = vocabulary.load_vocabulary(vocabulary_name)
  seqio.TaskRegistry.add(
    f"{prefix}_evaluate_xent",
    source=prepared.graded_candidates(source),
    preprocessors=[
      preprocessors.evaluator_texts,
      preprocessors.tokenize_verdicts,
      seqio.CacheDatasetPlaceholder(),
      preprocessors.drop_too_long,
    ],
    output_features=features.output_features(loaded, add_eos=False),
    shuffle_buffer_size=_EVALUATOR_SHUFFLE_BUFFER,
  )
  seqio.TaskRegistry.add(
    f"{prefix}_evaluate_pairs",
    source=prepared.graded_candidates(source),
    preprocessors=[
      _pairs,
      preprocessors.tokenize_pairs,
      seqio.CacheDatasetPlaceholder(),
      preprocessors.drop_too_long,
    ],
    output_features=features.pair_output_features(loaded),
    shuffle_buffer_size=_EVALUATOR_SHUFFLE_BUFFER,
  )


def check_registered(names: Iterable[str]) -> None:
  """Raises ValueError for a name of no registered task or mixture."""
  known = {*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()}
  for name in names:
    if name not in known:
      near = difflib.get_close_matches(name, sorted(known), n=2)
      raise ValueError(
        f"no task or mixture {name!r} is registered"
        + (f"; did you mean {' or '.join(near)}?" if near else "")
        + f" (there are {', '.join(sorted(known)) or 'none'}; the modules that"
        " register tasks are TASK_MODULES)"
      )


def _num_train_examples(task: seqio.Task) -> float:
  return float(task.num_input_examples("train") or 0)


def _pairs(dataset: tf.data.Dataset) -> tf.data.Dataset:
  # SeqIO warns of steps before its placeholder that have a seed; here it is
  # the same always.
  return preprocessors.evaluator_pairs(dataset)
