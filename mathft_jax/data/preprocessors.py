"""Steps from rows of text to tokens, as pure functions of tf.data.

A generator task: `generator_texts`, SeqIO's `tokenize` and `append_eos`,
`drop_too_long`. A task of graded candidates: `evaluator_texts`,
`evaluator_pairs`, `solution_pairs`, `multitask_texts` or `multitask_pairs`; the
step that tokenizes what it made; `drop_too_long`. Before the last one
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
    pairs = _draw_pairs(example, num_pairs, seed)  # [pairs, 2]
    inputs = tf.gather(_evaluator_prompts(example), pairs)
    return _groups(example, inputs, _pair_verdicts(inputs))

  return dataset.flat_map(split)


def solution_pairs(
  dataset: tf.data.Dataset, num_pairs: int = 10, seed: int = 0
) -> tf.data.Dataset:
  """Turns each graded problem into pairs of solutions, as generators see them.

  Examples have problem_id, `inputs` [2], twice the generator's prompt, and
  `targets` [2], the candidates of the pairs of `evaluator_pairs`.
  """

  def split(example: _Example) -> tf.data.Dataset:
    pairs = _draw_pairs(example, num_pairs, seed)  # [pairs, 2]
    inputs = tf.gather(_generator_prompts(example), pairs)
    return _groups(example, inputs, tf.gather(example["solutions"], pairs))

  return dataset.flat_map(split)


def multitask_texts(dataset: tf.data.Dataset) -> tf.data.Dataset:
  """Turns each graded problem into one group of texts for each candidate.

  Examples have problem_id, `inputs` [2] and `targets` [2]: those of
  `evaluator_texts`, then the problem with the candidate as its solution. The
  second are empty where the candidate is incorrect: nobody should write it.
  """

  def split(example: _Example) -> tf.data.Dataset:
    is_correct = example["is_correct"]  # [N]
    inputs = [
      _evaluator_prompts(example),
      tf.where(is_correct, _generator_prompts(example), ""),
    ]
    targets = [
      tf.where(is_correct, prompts.CORRECT, prompts.INCORRECT),
      tf.where(is_correct, example["solutions"], ""),
    ]
    return _groups(example, tf.stack(inputs, axis=1), tf.stack(targets, axis=1))

  return dataset.flat_map(split)


def multitask_pairs(
  dataset: tf.data.Dataset, num_pairs: int = 10, seed: int = 0
) -> tf.data.Dataset:
  """Adds to each pair of `evaluator_pairs` its correct candidate as a solution.

  Examples have problem_id, `inputs` [3] and `targets` [3]; the last are those
  of the generator.
  """

  def split(example: _Example) -> tf.data.Dataset:
    pairs = _draw_pairs(example, num_pairs, seed)  # [pairs, 2]
    judged = tf.gather(_evaluator_prompts(example), pairs)
    correct = pairs[:, 1:]
    problems = tf.gather(_generator_prompts(example), correct)
    solutions = tf.gather(example["solutions"], correct)
    return _groups(
      example,
      tf.concat([judged, problems], axis=1),
      tf.concat([_pair_verdicts(judged), solutions], axis=1),
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
  return _tokenize_groups(dataset, output_features, 2, 0)


def tokenize_solution_pairs(
  dataset: tf.data.Dataset, output_features: _Features
) -> tf.data.Dataset:
  """Tokenizes pairs of solutions as a generator's tasks do single ones.

  Their targets end in EOS. The shape is that of `tokenize_pairs`.
  """
  return _tokenize_groups(dataset, output_features, 0, 2)


def tokenize_multitask_texts(
  dataset: tf.data.Dataset, output_features: _Features
) -> tf.data.Dataset:
  """Tokenizes groups of a prompt with its verdict and a solution, [length, 2].

  A solution that is not there has no tokens.
  """
  return _tokenize_groups(dataset, output_features, 1, 1)


def tokenize_multitask_pairs(
  dataset: tf.data.Dataset, output_features: _Features
) -> tf.data.Dataset:
  """Tokenizes groups of a pair with verdicts and a solution, [length, 3]."""
  return _tokenize_groups(dataset, output_features, 2, 1)


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


def _generator_prompts(example: _Example) -> tf.Tensor:
  """Returns the prompt of the problem, once for each candidate."""
  problem = _fill(prompts.generator_inputs(_MARK), example["problem"])
  return tf.fill(tf.shape(example["solutions"]), problem)  # [N]


def _draw_pairs(example: _Example, num_pairs: int, seed: int) -> tf.Tensor:
  """Returns the candidates (incorrect, correct) of distinct pairs, [pairs, 2].

  A function of (seed, problem_id) and of the grades alone.
  """
  is_correct = example["is_correct"]
  incorrect = tf.where(tf.logical_not(is_correct))[:, 0]  # [I]
  correct = tf.where(is_correct)[:, 0]  # [C]
  num_correct = tf.size(correct)
  key = tf.stack([seed, _hash(example["problem_id"])])
  pairs = tf.random.experimental.stateless_shuffle(
    tf.range(tf.size(incorrect) * num_correct), seed=key
  )[:num_pairs]
  # Where there is no correct candidate there is no pair to divide either.
  num_correct = tf.maximum(num_correct, 1)
  return tf.stack(
    [
      tf.gather(incorrect, pairs // num_correct),
      tf.gather(correct, pairs % num_correct),
    ],
    axis=1,
  )


def _pair_verdicts(pairs: tf.Tensor) -> tf.Tensor:
  """Returns the verdicts of pairs [pairs, 2]."""
  verdicts = tf.constant([prompts.INCORRECT, prompts.CORRECT])
  return tf.broadcast_to(verdicts, tf.shape(pairs))


def _groups(
  example: _Example, inputs: tf.Tensor, targets: tf.Tensor
) -> tf.data.Dataset:
  """Returns the groups of a problem, of `inputs` and `targets` [groups, n]."""
  num_groups = tf.shape(inputs)[:1]
  return tf.data.Dataset.from_tensor_slices(
    {
      "problem_id": tf.fill(num_groups, example["problem_id"]),
      "inputs": inputs,
      "targets": targets,
    }
  )


def _tokenize_groups(
  dataset: tf.data.Dataset,
  output_features: _Features,
  num_verdicts: int,
  num_solutions: int,
) -> tf.data.Dataset:
  """Tokenizes groups of prompts with verdicts, then of problems and solutions.

  `inputs` and `targets` become [length, n], filled up at the end with
  `features.NO_TOKEN`.
  """
  vocabulary = output_features["targets"].vocabulary
  words = features.verdict_words(vocabulary)
  width = num_verdicts + num_solutions

  def sequence(place: int, inputs: tf.Tensor, targets: tf.Tensor):
    if place < num_verdicts:
      tokens = vocabulary.encode_tf(inputs + targets)
      return _parted(tokens, targets, words)
    tokens = tf.pad(
      vocabulary.encode_tf(targets),
      [[0, 1]],
      constant_values=vocabulary.eos_id,
    )
    # A prompt is never empty, so this is a solution that is not there.
    num_targets = tf.where(inputs == "", 0, tf.size(tokens))
    return vocabulary.encode_tf(inputs), tokens[:num_targets]

  def tokenize(example: _Example) -> _Example:
    sequences = [
      sequence(place, example["inputs"][place], example["targets"][place])
      for place in range(width)
    ]
    inputs, targets = (
      tf.transpose(tf.ragged.stack(sides).to_tensor(features.NO_TOKEN))
      for sides in zip(*sequences, strict=True)
    )
    return {
      **_pretokenized(example),
      "inputs": tf.ensure_shape(inputs, [None, width]),
      "targets": tf.ensure_shape(targets, [None, width]),
    }

  return dataset.map(tokenize, num_parallel_calls=_AUTOTUNE)


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
