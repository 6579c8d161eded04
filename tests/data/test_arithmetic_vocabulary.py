"""Tests of mathft_jax.data.arithmetic_vocabulary."""

import re

import pytest

from mathft_jax import prompts
from mathft_jax.data import arithmetic_vocabulary, features
from mathft_jax.sources import arithmetic, arithmetic_text


def _texts() -> list[str]:
  texts = list(arithmetic_text.documents(seed=9, num_documents=100))
  for style in arithmetic.STYLES:
    for row in arithmetic.problems("test", style, num_problems=50):
      texts += [
        prompts.generator_inputs(row.problem.text)
        + prompts.generator_targets(row.solution, row.problem.reference_answer),
        prompts.evaluator_inputs(row.problem.text, row.solution)
        + prompts.CORRECT,
      ]
  return texts


def test_the_shipped_vocabulary_can_be_made_again():
  shipped = arithmetic_vocabulary.PATH.read_bytes()
  assert arithmetic_vocabulary.train() == shipped


@pytest.mark.parametrize(
  "text", [*_texts()[::25], "", "  é\t\n\n中 😀", "123456", "incorrectly"]
)
def test_text_comes_back_byte_for_byte(arith_vocabulary, text):
  assert arith_vocabulary.decode(arith_vocabulary.encode(text)) == text


def test_every_number_is_one_token_and_no_text_is_unknown(arith_vocabulary):
  for text in _texts():
    tokens = arith_vocabulary.encode(text)
    assert arith_vocabulary.unk_id not in tokens
    assert arith_vocabulary.decode(tokens) == text
    pieces = [arith_vocabulary.decode([token]) for token in tokens]
    numbers = [piece for piece in pieces if re.search(r"\d", piece)]
    assert numbers == re.findall(r"\d+", text)


def test_verdicts_are_single_tokens(arith_vocabulary):
  correct, incorrect = features.verdict_token_ids(arith_vocabulary)
  assert arith_vocabulary.decode([correct]) == prompts.CORRECT
  assert arith_vocabulary.decode([incorrect]) == prompts.INCORRECT
  assert arith_vocabulary.encode("true")[-1] not in (correct, incorrect)
