"""Tests of mathft_jax.rerank.stopping."""

import collections
import itertools
import math

import numpy as np
import pytest

from mathft_jax.rerank import clusters, rerankers, stopping


@pytest.mark.parametrize(
  ("first", "second"), [(1, 0), (1, 1), (4, 0), (9, 3), (20, 12), (64, 0)]
)
def test_the_lead_is_the_integral_of_the_beta_density(first, second):
  size = 400_000
  x = (np.arange(size) + 0.5) / size  # The middles of as many intervals.
  log_density = first * np.log(x) + second * np.log1p(-x)
  log_norm = (
    math.lgamma(first + second + 2)
    - math.lgamma(first + 1)
    - math.lgamma(second + 1)
  )
  density = np.exp(log_density + log_norm)
  assert density.mean() == pytest.approx(1, abs=1e-8)
  expected = density[x > 0.5].mean() / 2
  found = stopping.lead_probability(first, second)
  assert found == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(
  ("threshold", "num"), [(0.95, 4), (0.99, 6), (0.999, 9)]
)
def test_answers_that_agree_settle_the_vote_after(threshold, num):
  rule = stopping.BetaStopping(threshold)
  assert rule.num_needed(["7"] * 64) == num
  assert rule.num_needed(["7"] * (num - 1)) is None


@pytest.mark.parametrize("threshold", [0.49, 1.0, float("nan")])
def test_a_threshold_that_settles_nothing_or_ties_is_an_error(threshold):
  with pytest.raises(ValueError, match="threshold"):
    stopping.BetaStopping(threshold)


def test_no_answer_counts_and_votes_for_nothing():
  rule = stopping.BetaStopping()
  answers = [None, "7", "7", " ", "7", None, "7", "8"]
  assert rule.num_needed(answers) == 7
  assert rule.num_needed([None] * 64) is None
  assert rule.num_needed([]) is None


def test_equivalent_answers_vote_together():
  rule = stopping.BetaStopping()
  answers = ["1/2", "0.5", "3", r"\frac{1}{2}", "0.50"]
  assert rule.num_needed(answers) is None
  assert rule.num_needed([*answers, "2/4", ".5"]) == 7
  # Equal as text alone, no two of them are.
  assert rule.num_needed([*answers, "2/4", ".5"], str.__eq__) is None


def test_a_vote_that_is_over_stays_so():
  vote = stopping.Vote(stopping.BetaStopping())
  found = []
  for answer in ["1", "1", "2", "1", "1", "1", "2", "2", "2", "2"]:
    vote.add(answer)
    found.append(vote.num_needed)
  # P at 4 : 1 is 57/64 = 0.89, at 5 : 1 it is 120/128 = 0.94, so it stays open.
  assert found == [None] * 10
  for _ in range(20):
    vote.add("2")
    found.append(vote.num_needed)
  assert found[-1] is not None and found[-1] == found[found[-1] - 1]


def _drawn(seed: int) -> list[list[str | None]]:
  """Answers of problems from easy to hopeless, some without any answer."""
  rng = np.random.default_rng(seed)
  problems: list[list[str | None]] = [[None] * 30]
  for _ in range(60):
    weights = rng.dirichlet(np.full(5, rng.choice([0.2, 1.0, 5.0])))
    drawn = rng.choice(5, size=30, p=weights)
    problems.append([None if i == 4 else str(i) for i in drawn.tolist()])
  return problems


def _slow_num_needed(answers, threshold):
  """Counts anew at each length; the probability by adding up densities."""
  for num in range(1, len(answers) + 1):
    votes = collections.Counter(a for a in answers[:num] if a is not None)
    (_, first), (_, second) = [*votes.most_common(2), (None, 0), (None, 0)][:2]
    x = (np.arange(10_000) + 0.5) / 10_000
    density = x**first * (1 - x) ** second
    if density[5_000:].sum() / density.sum() > threshold:
      return num
  return None


@pytest.mark.parametrize("threshold", [0.5, 0.83, 0.96])
def test_the_number_needed_is_that_of_counting_anew(threshold):
  rule = stopping.BetaStopping(threshold)
  found = [rule.num_needed(answers) for answers in _drawn(0)]
  expected = [_slow_num_needed(answers, threshold) for answers in _drawn(0)]
  assert found == expected
  assert len(set(found)) > 4


@pytest.mark.parametrize("threshold", [0.7, 0.83])
def test_the_least_that_can_be_needed_is_that_of_the_best_of_all_ends(
  threshold,
):
  """Ends of up to five answers, each of them one of four."""
  rule = stopping.BetaStopping(threshold)
  for answers in ([], ["1"], ["1", "2"], [None], ["1", "1", "2", "2"]):
    vote = stopping.Vote(rule, str.__eq__)
    for answer in answers:
      vote.add(answer)
    found = [
      rule.num_needed([*answers, *end], str.__eq__)
      for end in itertools.product(["1", "2", "3", None], repeat=5)
    ]
    expected = min(number for number in found if number is not None)
    assert vote.least_needed == expected
    assert expected > len(answers) or vote.num_needed == expected


def _as_arrays(problems):
  """Labels [P, N], which clusters are correct [P, C]; "1" is."""
  size = max(len(answers) for answers in problems)
  labels = np.full((len(problems), size), -1)
  is_correct = np.zeros((len(problems), size), bool)
  for row, answers in enumerate(problems):
    for label, cluster in enumerate(clusters.cluster(answers, str.__eq__)):
      labels[row, list(cluster.members)] = label
      is_correct[row, label] = cluster.answer == "1"
  return labels, is_correct


@pytest.mark.parametrize("threshold", [0.5, 0.83, 0.96])
def test_a_replay_is_a_loop_over_problems_and_lengths(threshold):
  problems = _drawn(1)
  rule = stopping.BetaStopping(threshold)
  found = stopping.replay(stopping.tallies(*_as_arrays(problems)), rule)
  for row, answers in enumerate(problems):
    num = rule.num_needed(answers) or len(answers)
    assert found.num_samples[row] == num
    used = clusters.cluster(answers[:num], str.__eq__)
    is_correct = bool(used) and rerankers.majority_vote(used) == "1"
    assert found.is_correct[row] == is_correct
    is_settled = rule.num_needed(answers) is not None
    assert found.is_settled[row] == is_settled


def test_a_replay_of_problems_of_several_sizes_ends_with_their_candidates():
  rng = np.random.default_rng(3)
  problems = [answers[: rng.integers(1, 31)] for answers in _drawn(3)]
  rule = stopping.BetaStopping(0.9)
  votes = stopping.tallies(*_as_arrays(problems))
  sizes = np.array([len(answers) for answers in problems])
  found = stopping.replay(votes, rule, sizes)
  for row, answers in enumerate(problems):
    num = rule.num_needed(answers)
    assert found.is_settled[row] == (num is not None)
    assert found.num_samples[row] == (num or len(answers))
    used = clusters.cluster(answers[:num], str.__eq__)
    is_correct = bool(used) and rerankers.majority_vote(used) == "1"
    assert found.is_correct[row] == is_correct


def test_tallies_are_those_of_clusters_at_each_length():
  problems = _drawn(2)
  found = stopping.tallies(*_as_arrays(problems))
  for row, answers in enumerate(problems):
    for num in range(1, len(answers) + 1):
      used = clusters.cluster(answers[:num], str.__eq__)
      sizes = sorted([*map(rerankers.size, used), 0, 0])[::-1]
      assert found.first[row, num - 1] == sizes[0]
      assert found.second[row, num - 1] == sizes[1]
      leader = found.leader[row, num - 1]
      if not used:
        assert leader == -1
      else:
        assert used[leader].answer == rerankers.majority_vote(used)
