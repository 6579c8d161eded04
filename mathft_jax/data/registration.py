"""The two families of SeqIO tasks: generators' and evaluators'.

`seqio_cache_tasks` can keep their tokens, in the tasks' own vocabulary.
"""

# The type stubs of TensorFlow and SeqIO lack a part of what stands here.
# pyright: reportArgumentType=false

import difflib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

import seqio
import tensorflow as tf

from mathft_jax.data import (
  features,
  few_shot,
  metric_fns,
  prepared,
  preprocessors,
  vocabulary,
)

# A rate of a mixture, or what it is of a task.
_Rate = float | Callable[[seqio.Task], float]

# An evaluator's examples come 10 or 64 of a problem in a row, so they need a
# larger buffer than SeqIO's own to be mixed.
_EVALUATOR_SHUFFLE_BUFFER = 16_384


def add_generator_task(
  name: str,
  source: seqio.DataSource,
  vocabulary_name: str,
  shots: few_shot.Shots | None = None,
) -> None:
  """Registers a task of solutions to learn, with the accuracy as its metric.

  `source` gives examples of texts, such as `prepared.solved_problems`;
  `vocabulary_name` is a default, which a recipe may replace. With `shots`
  these solved problems stand before each problem.
  """
  texts = preprocessors.generator_texts
  if shots is not None:
    texts = functools.partial(preprocessors.few_shot_texts, shots=shots)
  seqio.TaskRegistry.add(
    name,
    source=source,
    preprocessors=[
      texts,
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


def add_mixture(
  name: str,
  tasks: Sequence[str] | Mapping[str, float],
  temperature: float = 1.0,
) -> None:
  """Registers a mixture of generators' or of evaluators' tasks.

  `tasks` are names, with the number of their training examples as their rates,
  or names with rates. Rates are taken to the power 1 / `temperature`: at 1
  each example counts the same, at infinity each task (T5's temperature
  mixing). Without repetition a mixture ends when the last of its tasks does.

  Raises ValueError for a rate or a temperature that is not positive.
  """
  if temperature <= 0:
    raise ValueError(f"temperature must be positive, not {temperature}")
  rates: dict[str, _Rate] = (
    {task: float(rate) for task, rate in tasks.items()}
    if isinstance(tasks, Mapping)
    else dict.fromkeys(tasks, _num_train_examples)
  )
  for task, rate in rates.items():
    if isinstance(rate, float) and rate <= 0:
      raise ValueError(f"the rate of {task} must be positive, not {rate}")
  seqio.MixtureRegistry.add(
    name,
    [
      (task, functools.partial(_tempered, rate=rate, temperature=temperature))
      for task, rate in rates.items()
    ],
    sample_fn=functools.partial(
      tf.data.Dataset.sample_from_datasets, stop_on_empty_dataset=False
    ),
  )


def add_evaluator_tasks(
  prefix: str, vocabulary_name: str, source: str = "evaluator"
) -> None:
  """Registers the tasks on graded candidates, one for each kind of loss.

  <prefix>_evaluate_xent has one verdict for each candidate, the others but one
  up to ten (incorrect, correct) pairs a problem, the same ones:
  <prefix>_evaluate_pairs as prompts with verdicts, <prefix>_contrast_pairs as
  solutions, <prefix>_multitask_pairs as prompts with verdicts and the correct
  one as a solution. <prefix>_multitask_xent has each candidate's verdict, and
  correct ones as solutions too.
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
  for name, texts, tokenize in (
    ("evaluate_pairs", _evaluator_pairs, preprocessors.tokenize_pairs),
    ("contrast_pairs", _solution_pairs, preprocessors.tokenize_solution_pairs),
    (
      "multitask_xent",
      preprocessors.multitask_texts,
      preprocessors.tokenize_multitask_texts,
    ),
    (
      "multitask_pairs",
      _multitask_pairs,
      preprocessors.tokenize_multitask_pairs,
    ),
  ):
    seqio.TaskRegistry.add(
      f"{prefix}_{name}",
      source=prepared.graded_candidates(source),
      preprocessors=[
        texts,
        tokenize,
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


def _tempered(task: seqio.Task, rate: _Rate, temperature: float) -> float:
  value = rate(task) if callable(rate) else rate
  return value ** (1 / temperature)


def _num_train_examples(task: seqio.Task) -> float:
  return float(task.num_input_examples("train") or 0)


# SeqIO warns of steps before its placeholder that have a seed; in these it is
# the same always.


def _evaluator_pairs(dataset: tf.data.Dataset) -> tf.data.Dataset:
  return preprocessors.evaluator_pairs(dataset)


def _solution_pairs(dataset: tf.data.Dataset) -> tf.data.Dataset:
  return preprocessors.solution_pairs(dataset)


def _multitask_pairs(dataset: tf.data.Dataset) -> tf.data.Dataset:
  return preprocessors.multitask_pairs(dataset)
