"""Tests of rows that a generator made itself."""

import pytest

from mathft_jax import records, samples
from mathft_jax.data import self_generated
from mathft_jax.grading import grader
from mathft_jax.rerank import clusters

_SOLUTIONS = [
  ("2 + 2 = 4\n\n# Answer\n\n4", "4", "eos"),
  ("2 + 2 = 5\n\n# Answer\n\n5", "5", "eos"),
  ("2 +  2 =\n4\n\n# Answer\n\n4", "4", "eos"),  # The first in white space.
  ("It is \\boxed{4}.", "4", "eos"),
  ("1 + 3 = 4\n\n# Answer\n\n4", "4", "length"),
  ("4 = 2 + 2\n\n# Answer\n\n4.0", "4.0", "eos"),
]


@pytest.fixture
def folder(tmp_path):
  sampled = records.SampledProblem(
    records.Problem("p", "2 + 2", "4", level="1", type="sum"),
    records.Candidate("p", -1, "greedy\n\n# Answer\n\n4", "4", 1, -1.0, "eos"),
    tuple(
      records.Candidate("p", i, solution, answer, 1, -1.0, reason)
      for i, (solution, answer, reason) in enumerate(_SOLUTIONS)
    ),
    "generator",
    {},
  )
  with samples.JsonLinesStore(tmp_path / samples.shard_name(0, 1)) as store:
    store.append(sampled.to_json())
  grades = tmp_path / samples.grades_name(grader.GRADER)
  with samples.JsonLinesStore(grades) as store:
    store.append(clusters.grade_problem(sampled).to_json())
  return tmp_path


def test_correct_whole_and_different_solutions_become_rows(folder):
  rows = list(self_generated.read(folder, max_per_problem=10))
  assert [row.solution for row in rows] == [
    "2 + 2 = 4",
    "It is \\boxed{4}.",
    "4 = 2 + 2",
  ]
  assert {row.split for row in rows} == {"train"}
  assert {row.problem for row in rows} == {
    records.Problem("p", "2 + 2", "4", level="1", type="sum")
  }


def test_at_most_so_many_a_problem(folder):
  rows = list(self_generated.read(folder, max_per_problem=2))
  assert [row.solution for row in rows] == ["2 + 2 = 4", "It is \\boxed{4}."]


def test_candidates_that_changed_since_they_were_graded_are_refused(folder):
  path = folder / samples.shard_name(0, 1)
  path.write_text(path.read_text().replace('"answer": "5"', '"answer": "4"'))
  with pytest.raises(ValueError, match="'p' has other answers"):
    list(self_generated.read(folder, 1))


def test_candidates_without_grades_say_what_grades_them(folder):
  path = folder / samples.grades_name(grader.GRADER)
  path.write_text("")
  with pytest.raises(ValueError, match="p is not graded; `mathft grade"):
    list(self_generated.read(folder, 1))
  path.unlink()
  with pytest.raises(FileNotFoundError, match="`mathft grade .*` writes it"):
    list(self_generated.read(folder, 1))
