"""Tests of mathft_jax.inference.budgets."""

import collections

import numpy as np
import pytest
import scipy.stats

from mathft_jax import records
from mathft_jax.inference import budgets
from mathft_jax.rerank import stopping

_GREEDY = records.GREEDY_INDEX
_NUM = 24


def _candidate(index: int, answer: str | None) -> records.Candidate:
  return records.Candidate("p", index, "", answer, 10 + index, -1.0, "eos")


def _candidates(rng: np.random.Generator) -> dict[int, records.Candidate]:
  """A problem's, from easy to hopeless."""
  weights = rng.dirichlet(np.full(4, rng.choice([0.2, 1.0, 5.0])))
  answers = rng.choice(["7", "8", "9", None], size=_NUM, p=weights).tolist()
  found = {i: _candidate(i, answer) for i, answer in enumerate(answers)}
  return {_GREEDY: _candidate(_GREEDY, "8"), **found}


def _num_needed(candidates, threshold: float) -> int:
  """Counted anew at each length, with SciPy's Beta distribution."""
  for num in range(1, _NUM + 1):
    answers = [candidates[i].answer for i in range(num)]
    votes = collections.Counter(a for a in answers if a is not None)
    (_, first), (_, second) = [*votes.most_common(2), ("", 0), ("", 0)][:2]
    if scipy.stats.beta.sf(0.5, first + 1, second + 1) > threshold:
      return num
  return _NUM


def _draw(budget, candidates, rng, is_eager) -> set[int]:
  """Draws until nothing is left, ending what is underway in any order."""
  begun: set[int] = set()
  underway: list[int] = []
  while budget.num_left:
    while budget.has_to_begin or (is_eager and budget.may_begin):
      new = budget.begin()
      assert not begun.intersection(new)
      begun.update(new)
      underway += new
    ended = underway.pop(rng.integers(len(underway)))
    budget.add(candidates[ended])
    released = budget.release()
    assert set(released) <= set(underway)
    underway = [index for index in underway if index not in released]
  assert not underway
  return begun


@pytest.mark.parametrize("is_eager", [False, True])
@pytest.mark.parametrize("threshold", [0.85, 0.95])
def test_it_ends_with_the_first_that_settle_the_vote(threshold, is_eager):
  rng = np.random.default_rng(0)
  rule = stopping.BetaStopping(threshold)
  wave = budgets.wave_size(_NUM, rule)
  numbers = set()
  for _ in range(100):
    candidates = _candidates(rng)
    # What an earlier start has drawn.
    share = rng.choice([0, 0.5])
    given = {i: c for i, c in candidates.items() if rng.random() < share}
    budget = budgets.Budget(_NUM, rule, given)
    begun = _draw(budget, candidates, rng, is_eager)
    number = _num_needed(candidates, threshold)
    expected = [_GREEDY, *range(number)]
    assert budget.candidates() == {i: candidates[i] for i in expected}
    assert list(budget.candidates()) == expected
    assert not begun.intersection(given)
    assert budget.num_new_tokens == sum(
      candidates[i].num_tokens for i in expected if i not in given
    )
    # All but the last wave was wanted for sure.
    assert is_eager or len([i for i in begun if i >= number]) < wave
    numbers.add(number)
  assert len(numbers) > 6 and _NUM in numbers


def test_without_a_rule_all_are_begun_at_once():
  budget = budgets.Budget(3)
  assert budget.has_to_begin
  assert budget.begin() == [_GREEDY, 0, 1, 2]
  assert not budget.may_begin and budget.num_left == 4
  for index in (2, _GREEDY, 0):
    budget.add(_candidate(index, "7"))
    assert budget.release() == [] and budget.num_left > 0
  budget.add(_candidate(1, None))
  assert budget.num_left == 0
  assert list(budget.candidates()) == [_GREEDY, 0, 1, 2]


def test_the_greedy_candidate_alone_needs_no_vote():
  budget = budgets.Budget(0, stopping.BetaStopping(0.95))
  assert budget.has_to_begin and budget.begin() == [_GREEDY]
  budget.add(_candidate(_GREEDY, None))
  assert budget.num_left == 0 and list(budget.candidates()) == [_GREEDY]


def test_waves_are_what_can_settle_the_vote():
  budget = budgets.Budget(9, stopping.BetaStopping(0.95))
  assert budget.begin() == [_GREEDY, 0, 1, 2, 3]
  assert budget.may_begin and not budget.has_to_begin
  for index in (_GREEDY, 0, 1, 3):
    budget.add(_candidate(index, "7"))
    assert not budget.has_to_begin
  # Three votes to one, of which three more make six: P = 0.965.
  budget.add(_candidate(2, "8"))
  assert budget.has_to_begin
  assert budget.begin() == [4, 5, 6, 7]
  assert not budget.has_to_begin
  assert budget.begin() == [8]
  for index in (8, 4, 6):
    budget.add(_candidate(index, "7"))
    assert budget.release() == []
  budget.add(_candidate(5, "7"))
  assert budget.release() == [7]
  assert budget.num_left == 0
  assert list(budget.candidates()) == [_GREEDY, 0, 1, 2, 3, 4, 5, 6]


def test_a_problem_that_was_settled_before_lacks_its_greedy_candidate_only():
  drawn = {i: _candidate(i, "7") for i in range(5)}
  budget = budgets.Budget(9, stopping.BetaStopping(0.95), drawn)
  assert budget.num_left == 1
  assert budget.begin() == [_GREEDY]
  budget.add(_candidate(_GREEDY, "7"))
  assert list(budget.candidates()) == [_GREEDY, 0, 1, 2, 3]
