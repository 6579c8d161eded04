"""Clusters partition the candidates that have an answer."""

import random

import pytest

from mathft_jax import records
from mathft_jax.grading import grader
from mathft_jax.rerank import clusters


def _same_length(first: str, second: str) -> bool:
  return len(first) == len(second)


def test_equivalent_answers_share_a_cluster_in_order_of_first_member():
  assert clusters.cluster(["a", "bb", "c", None, "dd"], _same_length) == [
    records.Cluster("a", (0, 2)),
    records.Cluster("bb", (1, 4)),
  ]


def test_no_answer_makes_no_cluster():
  assert clusters.cluster([None, "", " "], _same_length) == []
  assert clusters.cluster([], _same_length) == []


def test_an_answer_is_compared_with_first_members_only():
  # 1 ~ 2 and 2 ~ 3, but not 1 ~ 3: 3 joins no cluster through 2.
  def is_near(first: str, second: str) -> bool:
    return abs(int(first) - int(second)) <= 1

  found = clusters.cluster(["1", "2", "3", "2"], is_near)
  assert found == [records.Cluster("1", (0, 1, 3)), records.Cluster("3", (2,))]


def test_the_same_text_is_in_one_cluster_even_if_nothing_is_equivalent():
  def never(first: str, second: str) -> bool:
    return False

  found = clusters.cluster(["x", "y", "x"], never)
  assert [c.members for c in found] == [(0, 2), (1,)]


_ANSWERS = (
  "1/2",
  "0.5",
  "\\frac{1}{2}",
  "2/4 cm",
  "x = 1/2",
  "0.50",
  "1/3",
  "3",
  "4",
  "three",
  "\\sqrt{9}",
  "x+1",
  "1+x",
  "(1,2)",
  "(1, 2)",
  "(2,1)",
  "1,2",
  "2 and 1",
)


def test_clusters_by_keys_are_those_of_comparing_each_with_each():
  found = clusters.cluster(_ANSWERS)
  assert found == clusters.cluster(_ANSWERS, grader.is_same)
  assert {_ANSWERS[c.members[0]]: len(c.members) for c in found} == {
    "1/2": 6,
    "1/3": 1,
    "3": 3,
    "4": 1,
    "x+1": 2,
    "(1,2)": 2,
    "(2,1)": 1,
    "1,2": 2,
  }


def test_the_order_of_the_answers_does_not_matter():
  def parts(answers):
    return {
      frozenset(answers[i] for i in c.members)
      for c in clusters.cluster(answers)
    }

  assert clusters.intransitive_triples(_ANSWERS) == []
  shuffled = list(_ANSWERS)
  for seed in range(20):
    random.Random(seed).shuffle(shuffled)
    assert parts(shuffled) == parts(_ANSWERS)


def test_numbers_are_told_apart_without_a_comparison(monkeypatch):
  compared = []

  def is_same(first: str, second: str) -> bool:
    compared.append((first, second))
    return False

  monkeypatch.setattr(grader, "is_same", is_same)
  clusters.cluster([str(i) for i in range(50)] + ["7.0", "14/2"])
  assert compared == []
  clusters.cluster(["1", "x", "2", "x+0y", "x"])
  assert compared == [
    ("1", "x"),
    ("x", "2"),
    ("1", "x+0y"),
    ("x", "x+0y"),
    ("2", "x+0y"),
  ]


def test_an_audit_compares_only_what_keys_leave_open(monkeypatch):
  compared = []

  def is_same(first: str, second: str) -> bool:
    compared.append((first, second))
    return False

  monkeypatch.setattr(grader, "is_same", is_same)
  assert clusters.intransitive_triples(["1", "x", "2", "1.0", "6/2"]) == []
  assert compared == [("1.0", "x"), ("2", "x"), ("6/2", "x")]


def test_triples_that_are_not_transitive_are_shown():
  # 50 % is 0.5, and 50 where somebody left the sign out.
  assert clusters.intransitive_triples(["50", "0.5", "50\\%", None, "7"]) == [
    clusters.IntransitiveTriple("0.5", "50\\%", "50")
  ]

  def is_near(first: str, second: str) -> bool:
    return abs(int(first) - int(second)) <= 1

  found = clusters.intransitive_triples(["1", "2", "3", "4", "2"], is_near)
  assert [(t.first, t.middle, t.second) for t in found] == [
    ("1", "2", "3"),
    ("2", "3", "4"),
  ]


def _sampled(answers: dict[int, str | None], greedy: str | None):
  def candidate(index: int, answer: str | None):
    return records.Candidate("p", index, "text", answer, 1, -1.0, "eos")

  return records.SampledProblem(
    problem=records.Problem("p", "1 + 1", "2"),
    greedy=candidate(records.GREEDY_INDEX, greedy),
    candidates=tuple(candidate(i, a) for i, a in answers.items()),
    generator="generator",
    sampling={},
  )


def test_grade_problem_grades_every_candidate_and_clusters_the_sampled():
  graded = clusters.grade_problem(
    _sampled({0: "3", 1: "2", 2: None, 3: "2"}, greedy="2")
  )
  assert {i: g.is_correct for i, g in graded.grades.items()} == {
    -1: True,
    0: False,
    1: True,
    2: False,
    3: True,
  }
  assert graded.grades[2].decided_by == "no_answer"
  assert graded.clusters == (
    records.Cluster("3", (0,)),
    records.Cluster("2", (1, 3)),
  )
  assert records.GradedProblem.from_json(graded.to_json()) == graded


def test_members_are_candidate_indices_even_where_some_are_absent():
  graded = clusters.grade_problem(_sampled({7: "2", 4: "3", 5: "2"}, "2"))
  assert graded.clusters == (
    records.Cluster("3", (4,)),
    records.Cluster("2", (5, 7)),
  )


def test_scores_follow_their_members():
  found = clusters.with_scores(
    [records.Cluster("a", (0, 2)), records.Cluster("b", (1,))],
    {0: -1.0, 1: -2.0, 2: -3.0, 3: -4.0},
  )
  assert [c.scores for c in found] == [(-1.0, -3.0), (-2.0,)]


def test_a_member_without_a_score_is_named():
  with pytest.raises(ValueError, match=r"candidates \[2\] have no score"):
    clusters.with_scores([records.Cluster("a", (0, 2))], {0: -1.0})


def test_processes_grade_as_one_does(monkeypatch):
  monkeypatch.setattr(clusters, "_FEW_PROBLEMS", 2)
  sampled = [
    records.SampledProblem(
      records.Problem(str(i), "?", str(i)),
      None,
      tuple(
        records.Candidate(str(i), j, "", str(i * j), 1, -1.0, "eos")
        for j in range(3)
      ),
      "generator",
      {},
    )
    for i in range(40)
  ]
  alone = list(map(clusters.grade_problem, sampled))

  def not_here(sampled):
    raise AssertionError("graded in this process")

  monkeypatch.setattr(clusters.grader, "grade", not_here)
  assert list(clusters.grade_problems(sampled, num_workers=2)) == alone
