"""Tests of mathft_jax.sources.prm800k."""

import json
import operator

import pytest

from mathft_jax.sources import hendrycks_math, prm800k, splits


def _raw(**changes) -> dict:
  row = {
    "solution_id": "s-0",
    "unique_id": "train/number_theory/7.json",
    "in_test500": False,
    "problem": "What is $1+1$?",
    "steps": ["One and one.", "So 2."],
    "ratings": [1, 0],
    "final_answer": "2",
    "ground_truth_answer": "2",
  }
  return {**row, **changes}


def _read(tmp_path, rows):
  path = tmp_path / "complete_solutions.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  dropped = []
  kept = list(prm800k.read(tmp_path, operator.eq, dropped.append))
  return kept, dropped


def test_a_correct_solution_is_its_steps_with_the_reference(tmp_path):
  ((row,), dropped) = _read(tmp_path, [_raw(in_test500=True)])
  assert row.solution == "One and one.\nSo 2."
  assert row.problem.reference_answer == "2"
  assert row.problem.type == "Number Theory"
  assert (row.split, row.source, dropped) == ("test", "prm800k", [])


@pytest.mark.parametrize(
  ("changes", "reason"),
  [
    ({"ratings": [1, -1]}, "rated -1"),
    ({"final_answer": None}, "no final answer"),
    ({"final_answer": "3"}, "'3', reference '2'"),
  ],
)
def test_a_solution_that_is_not_correct_is_dropped_and_told(
  tmp_path, changes, reason
):
  kept, (dropped,) = _read(tmp_path, [_raw(**changes)])
  assert not kept
  assert reason in dropped.reason
  assert dropped.solution_id == "s-0"


def test_unknown_ratings_are_no_reason_to_drop(tmp_path):
  kept, _ = _read(tmp_path, [_raw(ratings=None), _raw(ratings=[None, 1])])
  assert len(kept) == 2


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"steps": "one"}, "'steps' must be a list"),
    ({"in_test500": None}, "'in_test500' must be true or false"),
    ({"ground_truth_answer": 2}, "'ground_truth_answer' must be text"),
  ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, changes, message):
  with pytest.raises(ValueError, match=f"solutions.jsonl:2: .*{message}"):
    _read(tmp_path, [_raw(), _raw(**changes)])


def test_a_problem_has_the_same_split_as_in_math(shared_dir):
  math = {
    row.problem.problem_id: row
    for row in hendrycks_math.read(shared_dir / "data/math")
  }
  rows = list(prm800k.read(shared_dir / "data/prm800k", operator.eq))
  # 836 outside and 176 inside the 500 are equal as strings (its README); 3
  # of the 4 rows with a -1 are among these.
  assert len(rows) == 836 + 176 - 3
  for row in rows:
    assert row.split == math[row.problem.problem_id].split
    assert row.problem.type == math[row.problem.problem_id].problem.type
  _, leaks = splits.without_leaks([*math.values(), *rows])
  assert not [k for k in leaks if k.kind == "id"]
