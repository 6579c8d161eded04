"""Tests of the solved problems that stand before a problem."""

import json

import pytest

from mathft_jax import prompts
from mathft_jax.data import few_shot, locations
from mathft_jax.records import Problem, SolvedProblem


def _row(problem_id: str, text: str, solution: str, kind: str) -> dict:
  return {
    "problem_id": problem_id,
    "problem": text,
    "solution": solution,
    "answer": "1",
    "level": "1",
    "type": kind,
    "source": "made up",
    "split": "train",
  }


@pytest.fixture
def sources(tmp_path):
  """Problems a to d of "plain", of which "fine" has others' solutions."""
  plain = [
    _row("a", "Find x plus one.", "plain a", "Algebra"),
    _row("b", "Find the area of a square.", "plain b", "Geometry"),
    _row("c", "How many cats?", "plain c", "Counting"),
  ]
  fine = [
    _row("a", "Find x plus one.", "fine a", "Algebra"),
    _row("a", "Find x plus one.", "fine a again", "Algebra"),
    _row("e", "Find the area of a big square.", "fine e", "Geometry"),
    _row("f", "Find the area of a square today.", "fine f", "Algebra"),
  ]
  for name, rows in (("plain", plain), ("fine", fine)):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "train.jsonl").write_text(
      "".join(json.dumps(row) + "\n" for row in rows)
    )
    (folder / "validation.jsonl").write_text("")
    test = _row("t", "A test problem.", "no", "Algebra") | {"split": "test"}
    (folder / "test.jsonl").write_text(json.dumps(test) + "\n")
  locations.bind({name: tmp_path / name for name in ("plain", "fine")})
  return tmp_path


def _solutions(*args) -> list[str]:
  return [shot.solution for shot in few_shot.Shots(*args)()]


def test_shots_come_in_the_order_in_which_they_are_named(sources):
  assert _solutions("plain", ("b", "a")) == ["plain b", "plain a"]
  assert _solutions(str(sources / "plain"), ("c",)) == ["plain c"]


def test_the_first_solution_of_a_problem_is_taken(sources):
  assert _solutions("fine", ("a",), "plain") == ["fine a"]


def test_a_problem_without_a_solution_gives_way_to_the_most_alike(sources):
  # f shares more words with b than e does, but e is of b's type.
  assert _solutions("fine", ("a", "b"), "plain") == ["fine a", "fine e"]


def test_no_replacement_stands_twice(sources):
  found = _solutions("fine", ("b", "e"), "plain")
  assert found == ["fine f", "fine e"]


def test_a_test_problem_is_no_shot(sources):
  with pytest.raises(ValueError, match="'t' is in no training or validation"):
    few_shot.Shots("plain", ("t",))()


def test_the_prompt_is_solved_problems_and_the_problem():
  shot = SolvedProblem(Problem("a", "P1", "4"), "S1", "made up", "train")
  assert prompts.few_shot_inputs([], "P") == prompts.generator_inputs("P")
  assert prompts.few_shot_inputs([shot.texts], "P2") == (
    "# Problem\n\nP1\n\n# Solution\n\nS1\n\n# Answer\n\n4\n\n"
    "# Problem\n\nP2\n\n# Solution\n\n"
  )


def test_the_four_problems_are_those_of_the_literature(shared_dir):
  """By the texts that Lewkowycz et al. print, and their published answers."""
  from mathft_jax.sources import hendrycks_math

  rows = {
    row.problem.problem_id: row
    for row in hendrycks_math.read(shared_dir / "data" / "math")
  }
  found = [rows[problem_id] for problem_id in few_shot.MATH_PROBLEMS]
  begins = ["Find the domain", "If $\\det", "Terrell usually", "If the system"]
  answers = ["[2,5)", "24", "16", "-\\frac{2}{3}"]
  for row, begin, answer in zip(found, begins, answers, strict=True):
    assert row.problem.text.startswith(begin)
    assert row.problem.reference_answer == answer
    assert row.split in ("train", "validation")


def test_what_replaces_a_shot_is_named_in_a_warning(sources, caplog):
  few_shot._warn_once.cache_clear()
  for _ in range(2):
    few_shot.Shots("fine", ("a", "b"), "plain")()
  (warning,) = caplog.messages
  assert "'fine' has no solution of 'b'; in its place 'e'" in warning


def test_the_fingerprint_is_that_of_the_solutions_shown(sources):
  shots = few_shot.Shots("plain", ("b", "a"))
  before = shots.fingerprint()
  assert few_shot.Shots("plain", ("a", "b")).fingerprint() != before
  path = sources / "plain" / "train.jsonl"
  path.write_text(path.read_text().replace("plain c", "other c"))
  assert shots.fingerprint() == before
  path.write_text(path.read_text().replace("plain b", "other b"))
  assert shots.fingerprint() != before
