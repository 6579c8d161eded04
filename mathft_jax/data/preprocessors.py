"""Steps from rows of text to tokens, as pure functions of tf.data.

A generator task: `generator_texts`, SeqIO's `tokenize` and `append_eos`,
`drop_too_long`. An evaluator task: `evaluator_texts` or `evaluator_pairs`,
`tokenize_verdicts` or `tokenize_pairs`, `drop_too_long`. Before the last one
stands SeqIO's CacheDatasetPlaceholder, since the tokens so far are the same in
each epoch (see `token_cache`). Texts are those of `prompts`.
"""

# The type stubs of TensorFlow and SeqIO lack a part of what stands here.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

from collections.abc import Mapping

import seqio
import tensorflow as tf

from mathft_jax import prompts
from mathft_jax.data import features, few_shot

_AUTOTUNE = tf.data.AUTOTUNE

# What stands in for a text while a prompt is taken apart; no prompt holds it.
_MARK = "\0"

_Example = Mapping[str, tf.Tensor]
_Features = Mapping[str, seqio.Feature]


def generator_texts(dataset: tf.data.Dataset) -> tf.data.Dataset:
  """Adds `inputs` and `targets` to examples with problem, solution, answer."""

  def add(example: _Example) -> _Example:
    return {
      **example,
      "inputs": _fill(prompts.generator_inputs(_MARK), example["problem"]),
      "targets": _fill(
        prompts.generator_targets(_MARK, _MARK),
        example["solution"],
        example["answer"],
      ),
    }

  return dataset.map(add, num_parallel_calls=_AUTOTUNE)


def few_shot_texts(
  dataset: tf.data.Dataset, shots: few_shot.Shots
) -> tf.data.Dataset:
  """Does what `generator_texts` does, with solved problems in front.

  Examples of these problems themselves are left out.
  """
  solved = shots()
  template = prompts.few_shot_inputs([shot.texts for shot in solved], _MARK)
  shown = tf.constant([shot.problem.problem_id for shot in solved])

  def is_new(example: _Example) -> tf.Tensor:
    return tf.reduce_all(example["problem_id"] != shown)

  def add(example: _Example) -> _Example:
    return {**example, "inputs": _fill(template, example["problem"])}

  texts = generator_texts(dataset.filter(is_new))
  return texts.map(add, num_parallel_calls=_AUTOTUNE)


def plain_text(dataset: tf.data.Dataset) -> tf.data.Dataset:
  """Turns examples with `text` into targets without a prompt."""
  return dataset.map(
    lambda example: {"inputs": tf.constant(""), "targets": example["text"]},
    num_parallel_calls=_AUTOTUNE,
  )


def evaluator_texts(dataset: tf.data.Dataset) -> tf.data.Dataset:
  """Turns each graded problem into one example for each candidate.

  Examples have problem_id, `inputs` (the prompt) and `targets` (the verdict).
  """

  def split(example: _Example) -> tf.data.Dataset:
    texts = _evaluator_prompts(example)  # [N]
    return tf.data.Dataset.from_tensor_slices(
      {
        "problem_id": tf.fill(tf.shape(texts), example["problem_id"]),
        "inputs": texts,
        "targets": tf.where(
          example["is_correct"], prompts.CORRECT, prompts.INCORRECT
        ),
      }
    )

  return dataset.flat_map(split)


def evaluator_pairs(
  dataset: tf.data.Dataset, num_pairs: int = 10, seed: int = 0
) -> tf.data.Dataset:
  """Turns each graded problem into up to `num_pairs` distinct pairs.

  Examples have problem_id, `inputs` [2] and `targets` [2]: the incorrect
  candidate, then the correct one. Which pairs is a function of (seed,
  problem_id) alone; a problem without both kinds gives none.
  """

  def split(example: _Example) -> tf.data.Dataset:
    texts = _evaluator_prompts(example)  # [N]
    incorrect = tf.boolean_mask(
      texts, tf.logical_not(example["is_correct"])
    )  # [I]
    correct = tf.boolean_mask(texts, example["is_correct"])  # [C]
    num_correct = tf.size(correct)
    key = tf.stack([seed, _hash(example["problem_id"])])
    pairs = tf.random.experimental.stateless_shuffle(
      tf.range(tf.size(incorrect) * num_correct), seed=key
    )[:num_pairs]
    # Where there is no correct candidate there is no pair to divide either.
    num_correct = tf.maximum(num_correct, 1)
    inputs = tf.stack(
      [
        tf.gather(incorrect, pairs // num_correct),
        tf.gather(correct, pairs % num_correct),
      ],
      axis=1,
    )  # [pairs, 2]
    verdicts = tf.constant([prompts.INCORRECT, prompts.CORRECT])
    return tf.data.Dataset.from_tensor_slices(
      {
        "problem_id": tf.fill(tf.shape(pairs), example["problem_id"]),
        "inputs": inputs,
        "targets": tf.broadcast_to(verdicts, tf.shape(inputs)),
      }
    )

  return dataset.flat_map(split)


def tokenize_verdicts(
  dataset: tf.data.Dataset, output_features: _Features
) -> tf.data.Dataset:
  """Tokenizes prompts with verdicts: the verdict's tokens are the targets.

  The whole text is tokenized at once, as a vocabulary may put the prompt's
  last blank into the verdict's token. Other features pass.
  """
  vocabulary = output_features["targets"].vocabulary
  words = features.verdict_words(vocabulary)

  def tokenize(example: _Example) -> _Example:
    verdict = example["targets"]
    tokens = vocabulary.encode_tf(example["inputs"] + verdict)
    inputs, targets = _parted(tokens, verdict, words)
    return {**_pretokenized(example), "inputs": inputs, "targets": targets}

  return dataset.map(tokenize, num_parallel_calls=_AUTOTUNE)


def tokenize_pairs(
  dataset: tf.data.Dataset, output_features: _Features
) -> tf.data.Dataset:
  """Does for pairs what `tokenize_verdicts` does for single texts.

  `inputs` and `targets` become [length, 2], filled up at the end with
  `features.NO_TOKEN`.
  """
  vocabulary = output_features["targets"].vocabulary
  words = features.verdict_words(vocabulary)

  def tokenize(example: _Example) -> _Example:
    verdicts = example["targets"]  # [2]
    tokens = vocabulary.encode_tf(example["inputs"] + verdicts)  # [2, T]
    halves = [_parted(tokens[i], verdicts[i], words) for i in range(2)]
    inputs, targets = (
      tf.transpose(tf.ragged.stack(sides).to_tensor(features.NO_TOKEN))
      for sides in zip(*halves, strict=True)
    )
    return {**_pretokenized(example), "inputs": inputs, "targets": targets}

  return dataset.map(tokenize, num_parallel_calls=_AUTOTUNE)


def drop_too_long(
  dataset: tf.data.Dataset,
  output_features: _Features,
  sequence_length: Mapping[str, int] | None = None,
) -> tf.data.Dataset:
  """Drops examples with a feature longer than `sequence_length` allows.

  SeqIO would cut them, and a solution without its end teaches not to stop.
  `stream.count_by_task` tells how many are dropped.
  """
  limits = {
    name: limit
    for name, limit in (sequence_length or {}).items()
    if name in output_features and limit is not None
  }

  def fits(example: _Example) -> tf.Tensor:
    return tf.reduce_all(
      [tf.shape(example[name])[0] <= limit for name, limit in limits.items()]
    )

  return dataset.filter(fits) if limits else dataset


def _evaluator_prompts(example: _Example) -> tf.Tensor:
  solutions = example["solutions"]  # [N]
  problem = tf.fill(tf.shape(solutions), example["problem"])  # [N]
  return _fill(prompts.evaluator_inputs(_MARK, _MARK), problem, solutions)


def _fill(template: str, *texts: tf.Tensor) -> tf.Tensor:
  """Returns the template with its marks replaced by texts, elementwise."""
  first, *others = template.split(_MARK)
  filled = tf.constant(first)
  for text, literal in zip(texts, others, strict=True):
    filled = filled + text + literal
  return filled


def _parted(
  tokens: tf.Tensor, verdict: tf.Tensor, words: features.Words
) -> tuple[tf.Tensor, tf.Tensor]:
  """Parts the tokens of a text [T] before those of the verdict at its end."""
  correct, incorrect = words
  is_correct = tf.equal(verdict, prompts.CORRECT)
  num_tokens = tf.where(is_correct, len(correct), len(incorrect))
  return tokens[:-num_tokens], tokens[-num_tokens:]


def _hash(text: tf.Tensor) -> tf.Tensor:
  bucket = tf.strings.to_hash_bucket_fast(text, 2**31 - 1)
  return tf.cast(bucket, tf.int32)


def _pretokenized(example: _Example) -> _Example:
  """Keeps a copy of the texts, under the names that SeqIO gives them."""
  return {
    **example,
    "inputs_pretokenized": example["inputs"],
    "targets_pretokenized": example["targets"],
  }
