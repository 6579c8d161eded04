"""The six strategies equal a brute force over single candidates."""

import math
import random

import pytest

from mathft_jax import records
from mathft_jax.rerank import clusters, rerankers, sweeps

# A few scores only, so that ties of every kind happen all the time.
_SCORES = [math.log(s) for s in (0.25, 0.5, 0.75)]


def _random_problem(seed: int):
  rng = random.Random(seed)
  num_candidates = rng.randint(1, 12)
  answers = [rng.choice("abcd") for _ in range(num_candidates)]
  scores = [rng.choice(_SCORES) for _ in range(num_candidates)]
  found = clusters.cluster(answers, str.__eq__)
  return answers, scores, clusters.with_scores(found, dict(enumerate(scores)))


# The brute force: it sees candidates only, and tries every answer.


def _first(answers, answer):
  return answers.index(answer)


def _top_answers(answers, k):
  by_size = sorted(
    set(answers), key=lambda a: (-answers.count(a), _first(answers, a))
  )
  return set(by_size[:k])


def _best_single(answers, scores, allowed):
  ranked = [
    (-s, i)
    for i, (a, s) in enumerate(zip(answers, scores, strict=True))
    if a in allowed
  ]
  return answers[min(ranked)[1]]


def _best_sum(answers, scores, allowed):
  def weight(answer):
    return sum(
      round(4 * math.exp(s))
      for a, s in zip(answers, scores, strict=True)
      if a == answer
    )

  return min(allowed, key=lambda a: (-weight(a), _first(answers, a)))


def _vote_of_best(answers, scores, n):
  order = sorted(range(len(answers)), key=lambda i: (-scores[i], i))[:n]
  kept = [answers[i] for i in order]

  def rank(answer):
    best = max(scores[i] for i in order if answers[i] == answer)
    return (-kept.count(answer), -best)

  # The tie rule of last resort is the first member that was kept.
  return min(
    set(kept),
    key=lambda a: (*rank(a), min(i for i in order if answers[i] == a)),
  )


def _brute_force(answers, scores, k):
  everything = set(answers)
  top = _top_answers(answers, k)
  return {
    "best_of_n": _best_single(answers, scores, everything),
    "best_of_top_clusters": _best_single(answers, scores, top),
    "weighted_vote": _best_sum(answers, scores, everything),
    "weighted_vote_top_clusters": _best_sum(answers, scores, top),
    "majority_vote": min(_top_answers(answers, 1)),
    "majority_vote_top_n": _vote_of_best(answers, scores, k),
  }


@pytest.mark.parametrize("seed", range(300))
def test_every_reranker_equals_the_brute_force(seed):
  answers, scores, found = _random_problem(seed)
  for k in range(1, len(answers) + 2):
    assert {
      **{name: pick(found) for name, pick in sweeps.FIXED.items()},
      **{name: pick(found, k) for name, pick in sweeps.SWEPT.items()},
    } == _brute_force(answers, scores, k)


@pytest.mark.parametrize("seed", range(100))
def test_the_order_of_clusters_decides_nothing(seed):
  _, _, found = _random_problem(seed)
  shuffled = random.Random(seed).sample(found, len(found))
  for pick in sweeps.FIXED.values():
    assert pick(shuffled) == pick(found)
  for pick in sweeps.SWEPT.values():
    assert pick(shuffled, 3) == pick(found, 3)


@pytest.mark.parametrize("seed", range(100))
def test_sweeps_equal_one_call_for_each_k(seed):
  answers, _, found = _random_problem(seed)
  swept = sweeps.swept_picks(found, len(answers))
  assert swept == {
    name: [pick(found, k) for k in range(1, len(answers) + 1)]
    for name, pick in sweeps.SWEPT.items()
  }
  scored = [
    sum(len(c.members) for c in rerankers.top_clusters(found, k))
    for k in range(1, len(answers) + 1)
  ]
  assert sweeps.num_scored(found, len(answers)) == scored


@pytest.mark.parametrize("seed", range(100))
def test_a_tie_is_where_the_order_of_candidates_decides(seed):
  answers, scores, found = _random_problem(seed)

  def picks(order):
    reordered = clusters.cluster([answers[i] for i in order], str.__eq__)
    scored = clusters.with_scores(
      reordered, {j: scores[i] for j, i in enumerate(order)}
    )
    return sweeps.fixed_picks(scored)

  orders = [random.Random(n).sample(range(len(answers)), len(answers))
            for n in range(200)]  # fmt: skip
  seen = [picks(order) for order in orders]
  ties = sweeps.is_tied(found, num_clusters=8, num_candidates=8)
  for name in sweeps.FIXED:
    assert ties[name] == (len({pick[name] for pick in seen}) > 1)


def test_a_problem_without_a_cluster_has_no_pick_and_no_tie():
  assert set(sweeps.fixed_picks([]).values()) == {None}
  assert sweeps.swept_picks([], 2) == {
    name: [None, None] for name in sweeps.SWEPT
  }
  assert sweeps.num_scored([], 2) == [0, 0]
  assert not any(sweeps.is_tied([], 8, 8).values())


@pytest.mark.parametrize("pick", sweeps.FIXED.values())
def test_no_cluster_is_an_error(pick):
  with pytest.raises(ValueError, match="no cluster to choose from"):
    pick([])


@pytest.mark.parametrize(
  "pick",
  [
    rerankers.best_of_n,
    rerankers.weighted_vote,
    rerankers.majority_vote_top_n,
    rerankers.weighted_vote_top_clusters,
  ],
)
def test_a_missing_score_is_an_error(pick):
  with pytest.raises(ValueError, match="has no scores"):
    pick([records.Cluster("a", (0, 1))])


@pytest.mark.parametrize("pick", sweeps.SWEPT.values())
def test_keeping_nothing_is_an_error(pick):
  with pytest.raises(ValueError, match="at least 1"):
    pick([records.Cluster("a", (0,), (-1.0,))], 0)


def test_weighted_vote_sums_probabilities_and_not_their_logarithms():
  found = [
    records.Cluster("sure", (0,), (math.log(0.9),)),
    records.Cluster("often", (1, 2), (math.log(0.5), math.log(0.5))),
  ]
  assert rerankers.weighted_vote(found) == "often"


def test_scores_that_underflow_still_rank_single_candidates():
  found = [
    records.Cluster("a", (0,), (-2000.0,)),
    records.Cluster("b", (1,), (-1000.0,)),
  ]
  assert rerankers.best_of_n(found) == "b"
