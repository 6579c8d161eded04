"""Tests of mathft_jax.sources.prm800k."""

import gzip
import json
import operator

import pytest

from mathft_jax import jsonl
from mathft_jax.records import Problem, SolvedProblem
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
  raws = [_raw(ratings=None), _raw(ratings=[None, 1], steps=["2", "b"])]
  kept, _ = _read(tmp_path, raws)
  assert len(kept) == 2


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"steps": "one"}, "'steps' must be a list"),
    ({"in_test500": None}, "'in_test500' must be true or false"),
    ({"ground_truth_answer": 2}, "'ground_truth_answer' must be text"),
    ({"ratings": 1}, "'ratings' must be a list"),
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
  dropped = []
  rows = list(
    prm800k.read(shared_dir / "data/prm800k", operator.eq, dropped.append)
  )
  # 836 outside and 176 inside the 500 are equal as strings (its README); 3
  # of the 4 rows with a -1 are among these.
  num_twice = sum(solution.kind == "duplicate" for solution in dropped)
  assert len(rows) == 836 + 176 - 3 - num_twice
  assert len(rows) == len({(r.problem.problem_id, r.solution) for r in rows})
  for row in rows:
    assert row.split == math[row.problem.problem_id].split
    assert row.problem.type == math[row.problem.problem_id].problem.type
  _, leaks = splits.without_leaks([*math.values(), *rows])
  assert not [k for k in leaks if k.kind == "id"]


_PROBLEM = Problem(
  "test/algebra/1.json", "What is\n$1+1$?", "2", "3", "Algebra"
)
_MATH = [SolvedProblem(_PROBLEM, "It is $\\boxed{2}$.", "math", "test")]


def _step(*completions, chosen=0, human=None) -> dict:
  """A step with (text, rating) completions."""
  return {
    "completions": [
      {"text": text, "rating": rating, "flagged": None}
      for text, rating in completions
    ],
    "human_completion": human and {"text": human, "rating": None},
    "chosen_completion": chosen,
  }


def _labelled(*steps, finish_reason="solution", problem="What is  $1+1$?\n"):
  """A line of the release, with the fields of its README."""
  return {
    "labeler": "340d89bc-f5b7-45e9-b272-909ba68ee363",
    "timestamp": "2023-01-22T04:34:27.052924",
    "generation": None,
    "is_quality_control_question": False,
    "is_initial_screening_question": False,
    "question": {
      "problem": problem,
      "ground_truth_solution": "It is $\\boxed{2}$.",
      "ground_truth_answer": "2",
    },
    "label": {
      "steps": list(steps),
      "total_time": 1278,
      "finish_reason": finish_reason,
    },
  }


_LAST = _step(("So 2.\n\n# Answer\n\n2", 1))


def _read_labelled(directory, raws, math=_MATH):
  directory.mkdir(parents=True, exist_ok=True)
  lines = "".join(json.dumps(raw) + "\n" for raw in raws)
  (directory / "phase1_train.jsonl").write_text(lines)
  dropped = []
  read = prm800k.read(directory, operator.eq, dropped.append, math=math)
  return list(read), dropped


def test_a_labelled_solution_is_its_chosen_steps_with_maths_problem(tmp_path):
  raw = _labelled(
    _step(("No.", -1), ("One and one.", 0), chosen=1),
    _step(("Wrong.", -1), chosen=None, human="Count them."),
    _LAST,
  )
  ((row,), dropped) = _read_labelled(tmp_path, [raw])
  assert row.solution == "One and one.\nCount them.\nSo 2."
  assert row.problem == _PROBLEM
  assert (row.split, row.source, dropped) == ("test", "prm800k", [])


def test_an_answer_in_a_step_of_its_own_leaves_no_empty_line(tmp_path):
  raw = _labelled(_step(("So 2.", 1)), _step(("# Answer\n\n2", 1)))
  ((row,), _) = _read_labelled(tmp_path, [raw])
  assert row.solution == "So 2."


@pytest.mark.parametrize(
  ("raw", "reason"),
  [
    (_labelled(_LAST, finish_reason="found_error"), "its end: found_error"),
    (_labelled(_LAST, finish_reason="give_up"), "its end: give_up"),
    (_labelled(_step(("No.", -1)), _LAST), "a step is rated -1"),
    (_labelled(_step(("No.", None)), _LAST), "a step is not rated"),
    (_labelled(_LAST, _step(("x", 1), chosen=None)), "without a chosen"),
    (_labelled(_LAST, _step(("So it is 2.", 1))), "no final answer"),
    (_labelled(_step(("So # Answer\n", 1))), "no final answer"),
    (_labelled(), "no final answer"),
    (_labelled(_step(("# Answer\n\n3", 1))), "answer '3', reference '2'"),
  ],
)
def test_a_labelled_solution_that_is_not_correct_is_dropped(
  tmp_path, raw, reason
):
  kept, (dropped,) = _read_labelled(tmp_path, [raw])
  assert not kept
  assert (dropped.kind, dropped.problem_id) == (
    "incorrect",
    _PROBLEM.problem_id,
  )
  assert reason in dropped.reason


def test_a_solution_that_stands_there_twice_is_taken_over_once(tmp_path):
  spaced = _step(("So  2.\n\n# Answer\n\n2", 0))
  kept, (dropped,) = _read_labelled(
    tmp_path, [_labelled(_LAST), _labelled(spaced)]
  )
  assert len(kept) == 1
  assert dropped.solution_id == "phase1_train/2"
  assert (dropped.kind, dropped.reason) == (
    "duplicate",
    "the same as phase1_train/1",
  )


def test_a_problem_that_is_not_in_math_is_dropped_and_named(tmp_path):
  raw = _labelled(_LAST, problem="What is $2+0$?")
  kept, (dropped,) = _read_labelled(tmp_path, [raw])
  assert not kept
  assert (dropped.kind, dropped.problem_id) == ("not in MATH", "")
  assert "What is $2+0$?" in dropped.reason


@pytest.mark.parametrize("order", [1, -1])
def test_a_text_in_two_splits_of_math_is_held_out(tmp_path, order):
  other = Problem("train/algebra/2.json", "What is $1+1$?", "2")
  math = [*_MATH, SolvedProblem(other, "s", "math", "train")][::order]
  ((row,), _) = _read_labelled(tmp_path, [_labelled(_LAST)], math)
  assert (row.split, row.problem) == ("test", _PROBLEM)


def test_a_clone_is_read_with_its_own_math_splits(tmp_path):
  data, lists = tmp_path / "prm800k/data", tmp_path / "prm800k/math_splits"
  data.mkdir(parents=True)
  lists.mkdir()
  lines = json.dumps(_labelled(_LAST)) + "\n"
  (data / "phase2_test.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
  (lists / "train.jsonl").write_text("")
  math = {
    "unique_id": "test/algebra/1.json",
    "problem": "What is $1+1$?",
    "solution": "Two.",
    "answer": "2",
    "subject": "Algebra",
    "level": 1,
  }
  (lists / "test.jsonl").write_text(json.dumps(math) + "\n")
  (row,) = prm800k.read(tmp_path, operator.eq)
  assert (row.split, row.problem.problem_id) == ("test", "test/algebra/1.json")


def test_the_release_without_math_is_an_error_that_asks_for_it(tmp_path):
  with pytest.raises(FileNotFoundError, match="give MATH too"):
    _read_labelled(tmp_path, [_labelled(_LAST)], math=None)


def test_an_unknown_layout_is_an_error_that_names_the_known_ones(tmp_path):
  with pytest.raises(FileNotFoundError) as error:
    list(prm800k.read(tmp_path, operator.eq))
  assert "phase1_train.jsonl" in str(error.value)
  assert "complete_solutions.jsonl" in str(error.value)


@pytest.mark.parametrize(
  ("raw", "message"),
  [
    ({**_labelled(), "question": None}, "'question' must be an object"),
    (_labelled(problem=None), "'problem' must be text"),
    ({**_labelled(), "label": []}, "'label' must be an object"),
    (_labelled(finish_reason=None), "'finish_reason' must be text"),
    (_labelled("So 2."), "a step must be an object"),
    (_labelled(_step(("x", 1), chosen=1)), "none of the step's 1 completions"),
    (_labelled(_step(("x", 2))), "'rating' must be 1, 0, -1 or null"),
    (_labelled(_step((None, 1))), "'text' must be text"),
    (_labelled({**_step(chosen=None), "human_completion": 3}), "an object"),
    (_labelled({**_step(), "completions": [3]}), "a completion must be"),
  ],
)
def test_a_bad_labelled_row_is_named_by_file_and_line(tmp_path, raw, message):
  with pytest.raises(ValueError, match=f"phase1_train.jsonl:2: .*{message}"):
    _read_labelled(tmp_path, [_labelled(_LAST), raw])


def test_a_bad_labelled_row_is_told_and_passed_over_when_asked(tmp_path):
  lines = [json.dumps(_labelled(_LAST)), "{}", json.dumps(_labelled())]
  (tmp_path / "phase2_train.jsonl").write_text("\n".join(lines))
  dropped, told = [], []
  (row,) = prm800k.read(
    tmp_path, operator.eq, dropped.append, math=_MATH, on_bad_row=told.append
  )
  assert row.problem == _PROBLEM
  # The place of a row names it, whatever was passed over before.
  assert [solution.solution_id for solution in dropped] == ["phase2_train/3"]
  assert [(bad_row.line, bad_row.reason) for bad_row in told] == [
    (2, "field 'question' must be an object but is None")
  ]


def test_real_solutions_read_the_same_in_both_layouts(shared_dir, tmp_path):
  directory = shared_dir / "data/prm800k"
  raws = [
    row
    for _, row in jsonl.read(directory / "complete_solutions.jsonl.gz")
    # The others have unknown ratings or steps that were changed.
    if row["source"] == "enhancing-prm800k"
  ]
  labelled = []
  for raw in raws:
    texts = [*raw["steps"]]
    texts[-1] += f"\n\n# Answer\n\n{raw['final_answer']}"
    steps = [
      _step(chosen=None, human=text) if by_person else _step((text, rating))
      for text, rating, by_person in zip(
        texts, raw["ratings"], raw["human_written_steps"], strict=True
      )
    ]
    labelled.append(_labelled(*steps, problem=raw["problem"]))
  math = hendrycks_math.read(shared_dir / "data/math")
  kept, dropped = _read_labelled(tmp_path / "labelled", labelled, math)
  complete = tmp_path / "complete"
  complete.mkdir()
  expected, expected_dropped = _read(complete, raws)
  # MATH's problem has a level, that of the other layout has none.
  assert [(r.problem.problem_id, r.solution, r.split) for r in kept] == [
    (r.problem.problem_id, r.solution.rstrip(), r.split) for r in expected
  ]
  assert [(d.problem_id, d.kind) for d in dropped] == [
    (d.problem_id, d.kind) for d in expected_dropped
  ]
  # Equal as strings with no -1, recounted from the file's own marks.
  is_right = [r["answer_equal"] and -1 not in r["ratings"] for r in raws]
  num_twice = sum(d.kind == "duplicate" for d in dropped)
  assert len(kept) == sum(is_right) - num_twice > 700
