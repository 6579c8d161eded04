"""Tests of mathft_jax.data.generated."""

import itertools

import pytest

from mathft_jax.data import generated
from mathft_jax.sources import arithmetic, arithmetic_text


@pytest.mark.parametrize("style", arithmetic.STYLES)
def test_rows_are_those_of_the_source(style, monkeypatch):
  monkeypatch.setattr(
    generated, "NUM_ARITHMETIC", {"train": 9, "validation": 4, "test": 3}
  )
  generated._arithmetic_columns.cache_clear()
  source = generated.arithmetic_problems(style)
  assert source.num_input_examples("train") == 9
  rows = list(source.get_dataset("test", shuffle=False).as_numpy_iterator())
  expected = arithmetic.problems("test", style, num_problems=3)
  for row, solved in zip(rows, expected, strict=True):
    assert row["problem"].decode() == solved.problem.text
    assert row["solution"].decode() == solved.solution
    assert row["answer"].decode() == solved.problem.reference_answer
    assert row["problem_id"].decode() == solved.problem.problem_id
  generated._arithmetic_columns.cache_clear()


def _documents(split: str, num: int, **options) -> list[str]:
  source = generated.arithmetic_documents()
  dataset = source.get_dataset(split, shuffle=False, **options)
  rows = itertools.islice(dataset.as_numpy_iterator(), num)
  return [row["text"].decode() for row in rows]


def test_training_documents_never_take_the_seed_of_validation():
  validation = _documents("validation", 3000)
  assert validation == list(
    arithmetic_text.documents(seed=0, num_documents=2000)
  )
  for seed in (None, 0, 1):
    train = _documents("train", 300, seed=seed)
    assert train == list(
      arithmetic_text.documents(seed=(seed or 0) + 1, num_documents=300)
    )
    assert train[:20] != validation[:20]
