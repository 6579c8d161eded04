"""Estimators equal counts over all subsets, pairs and resamples."""

import itertools

import numpy as np
import pytest

from mathft_jax.rerank import estimators


def test_pass_at_k_equals_the_share_of_subsets_with_a_correct_one():
  correct = [True, True, False, False, False]
  for k in range(1, 6):
    subsets = list(itertools.combinations(correct, k))
    share = sum(map(any, subsets)) / len(subsets)
    assert estimators.pass_at_k(num_candidates=5, num_correct=2, k=k) == share


def test_pass_at_k_of_no_correct_candidate_is_zero_and_of_all_is_one():
  assert estimators.pass_at_k(64, 0, 64) == 0
  assert estimators.pass_at_k(64, 64, 1) == 1
  assert estimators.pass_at_k(64, 1, 64) == 1


@pytest.mark.parametrize("correct, k", [(6, 1), (-1, 1), (2, 0), (2, 6)])
def test_pass_at_k_refuses_the_impossible(correct, k):
  with pytest.raises(ValueError):
    estimators.pass_at_k(5, correct, k)


def test_pass_at_k_curves_hold_each_problem_and_k():
  curves = estimators.pass_at_k_curves(4, [0, 3, 1])
  assert curves.shape == (3, 4)
  for problem, correct in enumerate([0, 3, 1]):
    for k in range(1, 5):
      expected = estimators.pass_at_k(4, correct, k)
      assert curves[problem, k - 1] == expected


def _majority_is_correct(labels, is_correct):
  answered = [label for label in labels if label >= 0]
  if not answered:
    return False
  leader = max(answered, key=lambda a: (answered.count(a), -answered.index(a)))
  return bool(is_correct[leader])


@pytest.mark.parametrize("seed", range(20))
def test_maj_at_k_approaches_the_mean_over_all_subsets(seed):
  rng = np.random.default_rng(seed)
  labels = rng.integers(-1, 3, size=7)
  is_correct = np.array([True, False, False])
  curve = estimators.maj_at_k_curve(
    labels, is_correct, seed, num_resamples=4000
  )
  for k in range(1, 8):
    votes = [
      _majority_is_correct(list(subset), is_correct)
      for subset in itertools.combinations(labels, k)
    ]
    # Five standard errors of 4,000 draws.
    assert curve[k - 1] == pytest.approx(np.mean(votes), abs=0.04)
  assert curve[-1] == _majority_is_correct(list(labels), is_correct)


def test_the_bootstrap_interval_of_a_mean_is_near_the_normal_one():
  values = (np.arange(400) % 4 == 0).astype(float)
  estimate = estimators.bootstrap(values)
  half = 1.96 * np.sqrt(0.25 * 0.75 / 400)
  assert estimate.value == 0.25
  assert estimate.num_problems == 400
  assert estimate.low == pytest.approx(0.25 - half, abs=0.004)
  assert estimate.high == pytest.approx(0.25 + half, abs=0.004)


def test_a_small_bootstrap_equals_the_enumeration_of_all_resamples():
  values = np.array([0.0, 1.0, 5.0])
  means = [np.mean(r) for r in itertools.product(values, repeat=3)]
  low, high = np.percentile(means, [2.5, 97.5], method="inverted_cdf")
  estimate = estimators.bootstrap(values, num_resamples=20_000)
  assert (estimate.low, estimate.high) == (low, high)


def test_columns_are_bootstrapped_with_the_same_resamples():
  rng = np.random.default_rng(0)
  values = rng.random((50, 3))
  together = estimators.bootstrap_columns(values, seed=5)
  for column, estimate in enumerate(together):
    alone = estimators.bootstrap(values[:, column], seed=5)
    assert estimate.low == pytest.approx(alone.low, abs=1e-12)
    assert estimate.high == pytest.approx(alone.high, abs=1e-12)


def test_a_paired_difference_sees_what_is_never_worse():
  rng = np.random.default_rng(0)
  hard = rng.random(300)
  first = (hard < 0.6).astype(float)
  second = (hard < 0.5).astype(float)  # Right wherever `first` is, mostly.
  paired = estimators.paired_difference(first, second)
  assert paired.value == pytest.approx(first.mean() - second.mean())
  assert paired.low > 0
  assert estimators.paired_difference(first, first).high == 0


def test_results_on_different_problems_cannot_be_paired():
  with pytest.raises(ValueError, match="cannot be paired"):
    estimators.paired_difference(np.zeros(3), np.zeros(4))


def test_no_problem_is_an_error():
  with pytest.raises(ValueError, match="no problem"):
    estimators.bootstrap(np.zeros(0))


def _auc_by_pairs(scores, is_correct):
  wins = [
    1.0 if good > bad else 0.5 if good == bad else 0.0
    for good in scores[is_correct]
    for bad in scores[~is_correct]
  ]
  return np.mean(wins)


def _random_scores(seed, num_problems):
  rng = np.random.default_rng(seed)
  scores = [rng.integers(-5, 0, size=6) / 2 for _ in range(num_problems)]
  is_correct = [rng.random(6) < rng.random() for _ in range(num_problems)]
  return scores, is_correct


@pytest.mark.parametrize("seed", range(20))
def test_auc_equals_the_share_of_pairs_in_order(seed):
  scores, is_correct = _random_scores(seed, 8)
  together = np.concatenate(scores), np.concatenate(is_correct)
  assert estimators.auc(*together) == pytest.approx(_auc_by_pairs(*together))
  overall = estimators.auc_over_candidates(
    scores, is_correct, num_resamples=200
  )
  assert overall is not None
  assert overall.value == pytest.approx(_auc_by_pairs(*together))
  assert overall.low <= overall.value <= overall.high


def test_the_interval_of_the_overall_auc_resamples_whole_problems():
  scores, is_correct = _random_scores(3, 4)
  aucs = []
  for drawn in itertools.product(range(4), repeat=4):
    s = np.concatenate([scores[p] for p in drawn])
    c = np.concatenate([is_correct[p] for p in drawn])
    if c.any() and not c.all():
      aucs.append(_auc_by_pairs(s, c))
  low, high = np.percentile(aucs, [2.5, 97.5])
  overall = estimators.auc_over_candidates(
    scores, is_correct, num_resamples=50_000
  )
  assert overall is not None
  assert overall.low == pytest.approx(low, abs=0.01)
  assert overall.high == pytest.approx(high, abs=0.01)


def test_an_evaluator_that_only_knows_easy_problems_is_blind_within_them():
  # Scores say how easy the problem is, and nothing about the candidate.
  scores = [np.full(4, -1.0), np.full(4, -3.0)]
  is_correct = [
    np.array([True, True, True, False]),
    np.array([True, False, False, False]),
  ]
  within = estimators.auc_within_problems(scores, is_correct)
  overall = estimators.auc_over_candidates(scores, is_correct)
  assert within is not None and overall is not None
  assert within.value == 0.5
  assert overall.value > 0.7


def test_problems_of_one_kind_have_no_auc_within():
  scores = [np.array([-1.0, -2.0])] * 3
  is_correct = [np.array([True, False]), np.array([True, True]),
                np.array([False, False])]  # fmt: skip
  within = estimators.auc_within_problems(scores, is_correct)
  assert within is not None
  assert (within.value, within.num_problems) == (1.0, 1)
  assert estimators.auc_within_problems(scores[1:], is_correct[1:]) is None
  assert estimators.auc_over_candidates(scores[1:2], is_correct[1:2]) is None
