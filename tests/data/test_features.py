"""Tests of mathft_jax.data.features."""

import pytest
import seqio
from tokenizers import normalizers

from mathft_jax import prompts
from mathft_jax.data import features, vocabulary


def test_verdicts_are_the_last_token_of_the_whole_text(math_vocabulary):
  correct, incorrect = features.verdict_token_ids(math_vocabulary)
  prompt = prompts.evaluator_inputs("$x$?", "It is 3.\n\n# Answer\n\n3")
  assert math_vocabulary.encode(prompt + "correct")[-1] == correct
  assert math_vocabulary.encode(prompt + "incorrect")[-1] == incorrect
  assert math_vocabulary.decode([correct]) == "correct"
  assert math_vocabulary.decode([incorrect]) == "incorrect"


@pytest.mark.parametrize("verdict", [prompts.CORRECT, prompts.INCORRECT])
def test_evaluator_inputs_and_a_verdict_are_the_tokens_of_the_text(
  math_vocabulary, verdict
):
  ids = dict(
    zip(
      (prompts.CORRECT, prompts.INCORRECT),
      features.verdict_token_ids(math_vocabulary),
      strict=True,
    )
  )
  inputs = features.evaluator_input_tokens(math_vocabulary, "p", "x")
  text = prompts.evaluator_inputs("p", "x") + verdict
  assert [*inputs, ids[verdict]] == list(math_vocabulary.encode(text))


def test_a_vocabulary_without_verdicts_says_which_words_would_do(
  plain_vocabulary,
):
  with pytest.raises(ValueError) as error:
    features.verdict_token_ids(plain_vocabulary)
  assert "'yes'/'no'" in str(error.value)
  assert "'true'/'false'" not in str(error.value)


def test_words_with_a_common_first_token_are_not_single_tokens():
  # Bytes: "correct" and "incorrect" end in the same token, and "+" and "-"
  # are one byte each.
  with pytest.raises(ValueError, match=r"'1'/'0', '\+'/'-'"):
    features.verdict_token_ids(seqio.ByteVocabulary())


def test_verdicts_of_several_tokens_follow_what_both_texts_begin_with(
  long_verdicts_vocabulary,
):
  vocabulary = long_verdicts_vocabulary
  inputs, words = features.evaluator_tokens(vocabulary, "p", "x!")
  assert words == features.verdict_words(vocabulary)
  assert len(words[0]) != len(words[1]) and min(map(len, words)) > 1
  assert words[0][0] != words[1][0]
  for word, verdict in zip(
    words, (prompts.CORRECT, prompts.INCORRECT), strict=True
  ):
    text = prompts.evaluator_inputs("p", "x!") + verdict
    assert [*inputs, *word] == vocabulary.encode(text)


def test_verdicts_of_one_token_follow_the_evaluators_inputs(math_vocabulary):
  inputs, words = features.evaluator_tokens(math_vocabulary, "p", "x")
  assert inputs == features.evaluator_input_tokens(math_vocabulary, "p", "x")
  ids = features.verdict_token_ids(math_vocabulary)
  assert (
    words
    == features.verdict_words(math_vocabulary)
    == tuple((token,) for token in ids)
  )


def test_verdicts_longer_than_allowed_are_an_error_that_says_the_length(
  long_verdicts_vocabulary,
):
  longest = max(map(len, features.verdict_words(long_verdicts_vocabulary)))
  features.verdict_words(long_verdicts_vocabulary, max_tokens=longest)
  with pytest.raises(ValueError, match=f"or allow {longest} target tokens"):
    features.verdict_words(long_verdicts_vocabulary, max_tokens=longest - 1)


def test_a_vocabulary_that_cannot_spell_the_verdicts_is_an_error(
  tmp_path, write_byte_level
):
  path = write_byte_level(tmp_path, normalizer=normalizers.Replace("o", "O"))
  with pytest.raises(ValueError, match="in .*'O.*; take another") as error:
    features.verdict_words(vocabulary.load_vocabulary(str(path)))
  assert "target tokens" not in str(error.value)


def test_only_targets_of_generators_end_in_eos(math_vocabulary):
  generator = features.output_features(math_vocabulary)
  evaluator = features.output_features(math_vocabulary, add_eos=False)
  pairs = features.pair_output_features(math_vocabulary)
  assert [f.add_eos for f in generator.values()] == [False, True]
  assert not any(f.add_eos for f in [*evaluator.values(), *pairs.values()])
