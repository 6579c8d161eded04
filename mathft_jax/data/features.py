"""Output features of tasks and what they ask of a vocabulary."""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import seqio

from mathft_jax import prompts

# Fills up a feature of several sequences. No token has this id, while 0, with
# which batches are filled up, is an ordinary token of many vocabularies.
NO_TOKEN = -1

# The tokens of the words (correct, incorrect).
Words = tuple[tuple[int, ...], tuple[int, ...]]

# Any problem and solution: the tokens of a verdict depend on the end of the
# prompt alone.
_EXAMPLE = ("What is $1+1$?", "It is 2.")

# Where a run says how long its targets may be.
_WHERE = "(TASK_FEATURE_LENGTHS, of a recipe EVALUATOR_LENGTHS)"

# Pairs of words that could stand for `prompts.CORRECT` and `INCORRECT`.
_OTHER_VERDICTS = (
  ("true", "false"),
  ("True", "False"),
  ("yes", "no"),
  ("Yes", "No"),
  ("right", "wrong"),
  ("good", "bad"),
  ("1", "0"),
  ("+", "-"),
)


def output_features(
  vocabulary: seqio.Vocabulary, add_eos: bool = True
) -> Mapping[str, seqio.Feature]:
  """Returns the features of a task of sequences: `inputs` and `targets`.

  `add_eos` is for targets; evaluators' targets, one verdict, have none.
  """
  return {
    "inputs": seqio.Feature(vocabulary, add_eos=False),
    "targets": seqio.Feature(vocabulary, add_eos=add_eos),
  }


def pair_output_features(
  vocabulary: seqio.Vocabulary,
) -> Mapping[str, seqio.Feature]:
  """Returns the features of a task of pairs, or of larger groups.

  They are of shape [length, 2] (or more), since SeqIO trims and pads the
  first axis.
  """
  return {
    "inputs": seqio.Feature(vocabulary, add_eos=False, rank=2),
    "targets": seqio.Feature(vocabulary, add_eos=False, rank=2),
  }


def with_vocabulary(
  task_or_mixture: seqio.Task | seqio.Mixture, vocabulary: seqio.Vocabulary
) -> seqio.Task | seqio.Mixture:
  """Returns an unregistered copy that tokenizes with another vocabulary.

  A recipe chooses its vocabulary; the registered task's is only a default.
  """
  if isinstance(task_or_mixture, seqio.Task):
    return task_or_mixture.replace(
      output_features={
        name: dataclasses.replace(feature, vocabulary=vocabulary)
        for name, feature in task_or_mixture.output_features.items()
      }
    )
  return seqio.Mixture(
    task_or_mixture.name,
    [
      (with_vocabulary(task, vocabulary), task_or_mixture.get_rate(task))
      for task in task_or_mixture.tasks
    ],
    # SeqIO gives a mixture no way to copy itself.
    sample_fn=task_or_mixture._sample_fn,
  )


def start_token_id(vocabulary: seqio.Vocabulary) -> int:
  """Returns the token before the first of each sequence.

  BOS where the vocabulary has one, as open models were trained; else the one
  for padding, which is 0 in this project's own.
  """
  bos = vocabulary.bos_id
  return vocabulary.pad_id if bos is None or bos < 0 else bos


def generator_input_tokens(
  vocabulary: seqio.Vocabulary, problem: str
) -> list[int]:
  """Returns the tokens after which a generator samples a solution."""
  return list(vocabulary.encode(prompts.generator_inputs(problem)))


def evaluator_input_tokens(
  vocabulary: seqio.Vocabulary, problem: str, solution: str
) -> list[int]:
  """Returns the tokens after which an evaluator gives its one-token verdict.

  They are those of the whole text with a verdict, less the last one: a
  vocabulary may put the prompt's last blank into the verdict's own token.
  """
  text = prompts.evaluator_inputs(problem, solution) + prompts.CORRECT
  return list(vocabulary.encode(text))[:-1]


def evaluator_tokens(
  vocabulary: seqio.Vocabulary, problem: str, solution: str
) -> tuple[list[int], Words]:
  """Returns what `evaluator_input_tokens` does, and the tokens of the verdicts.

  For verdicts of any length: the first are all tokens that both whole texts
  begin with, the second what is left of each, (correct, incorrect).
  """
  prompt = prompts.evaluator_inputs(problem, solution)
  correct, incorrect = (
    tuple(vocabulary.encode(prompt + word))
    for word in (prompts.CORRECT, prompts.INCORRECT)
  )
  num_common = len(os.path.commonprefix([correct, incorrect]))
  words = (correct[num_common:], incorrect[num_common:])
  return list(correct[:num_common]), words


def verdict_words(
  vocabulary: seqio.Vocabulary, max_tokens: int | None = None
) -> Words:
  """Returns the tokens of the words (correct, incorrect) after the prompt.

  Raises ValueError, which names words that would do, if the vocabulary takes
  more than `max_tokens` tokens for one of the two, or cannot spell it.
  """
  _, words = evaluator_tokens(vocabulary, *_EXAMPLE)
  spelled = tuple(vocabulary.decode(word).strip() for word in words)
  can_spell = spelled == (prompts.CORRECT, prompts.INCORRECT)
  longest = max(map(len, words))
  if can_spell and (max_tokens is None or longest <= max_tokens):
    return words
  correct, incorrect = (
    [vocabulary.decode([token]) for token in word] for word in words
  )
  raise ValueError(
    f"the verdicts {prompts.CORRECT!r} and {prompts.INCORRECT!r} must be one"
    " token each after the evaluator's prompt, but this vocabulary of"
    f" {vocabulary.vocab_size} pieces ends them in {correct} and {incorrect};"
    " take another vocabulary, or words that are one token each in this one:"
    f" {single_words(vocabulary)}"
    + (f"; or allow {longest} target tokens {_WHERE}" if can_spell else "")
  )


def verdict_token_ids(vocabulary: seqio.Vocabulary) -> tuple[int, int]:
  """Returns the ids of the words (correct, incorrect) after the prompt.

  Raises ValueError, which names words that would do, if one of the two is
  not exactly one token, or if they do not follow the same tokens.
  """
  (correct,), (incorrect,) = verdict_words(vocabulary, max_tokens=1)
  return correct, incorrect


def single_words(vocabulary: seqio.Vocabulary) -> str:
  """Returns pairs of words, as text, that could be one-token verdicts."""
  pairs = [
    f"{yes!r}/{no!r}"
    for yes, no in _OTHER_VERDICTS
    if _single_tokens(vocabulary, yes, no) is not None
  ]
  return ", ".join(pairs) or "none of those known here"


def _single_tokens(
  vocabulary: seqio.Vocabulary, first: str, second: str
) -> tuple[int, int] | None:
  """Returns the words' ids if each is one token after the same others."""
  first_ids = _prompted(vocabulary, first)
  second_ids = _prompted(vocabulary, second)
  if first_ids[:-1] != second_ids[:-1] or first_ids[-1] == second_ids[-1]:
    return None
  last = (first_ids[-1], second_ids[-1])
  texts = tuple(vocabulary.decode([token]).strip() for token in last)
  return last if texts == (first, second) else None


def _prompted(vocabulary: seqio.Vocabulary, word: str) -> Sequence[int]:
  return vocabulary.encode(prompts.evaluator_inputs(*_EXAMPLE) + word)
