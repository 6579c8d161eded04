"""Tests of mathft_jax.sources.hendrycks_math."""

import collections
import json

import pytest

from mathft_jax import jsonl
from mathft_jax.sources import hendrycks_math, splits


def _raw(**changes) -> dict:
  row = {
    "problem": "What is $1+1$?",
    "level": "Level 3",
    "type": "Algebra",
    "solution": "It is $\\boxed{2}$.",
  }
  return {**row, **changes}


def _write_lines(path, rows) -> None:
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_all_three_layouts_give_the_same_rows(tmp_path):
  raws = {
    "train/algebra/0.json": _raw(problem="a"),
    "test/geometry/1.json": _raw(problem="b", level="Level ?"),
    "test/geometry/2.json": _raw(problem="c", solution="\\fbox{\\frac{1}{2}}"),
  }
  test_id = "test/geometry/2.json"
  named = [{"unique_id": i, **raw} for i, raw in raws.items()]
  flat, release, lists = (
    tmp_path / name for name in ("flat", "release", "lists")
  )
  for directory in (flat, release, lists):
    directory.mkdir()

  _write_lines(flat / "math_train.jsonl", named[:1])
  _write_lines(flat / "math_test.jsonl", named[1:])
  _write_lines(
    flat / "lightman_split.jsonl",
    [{"unique_id": i, "split": "test" if i == test_id else "train"}
     for i in raws],
  )  # fmt: skip

  for unique_id, raw in raws.items():
    path = release / unique_id
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(raw))
  _write_lines(release / "test.jsonl", [{"unique_id": test_id}])

  _write_lines(lists / "train.jsonl", named[:2])
  _write_lines(
    lists / "test.jsonl",
    [{"unique_id": test_id, "problem": "c", "subject": "Algebra", "level": 3,
      "solution": "\\fbox{\\frac{1}{2}}", "answer": "\\frac{1}{2}"}],
  )  # fmt: skip

  def rows(directory):
    read = hendrycks_math.read(directory)
    return sorted(read, key=lambda row: row.problem.problem_id)

  assert rows(flat) == rows(release) == rows(lists)
  by_id = {row.problem.problem_id: row for row in rows(flat)}
  assert by_id[test_id].split == "test"
  assert by_id[test_id].problem.reference_answer == "\\frac{1}{2}"
  assert by_id[test_id].problem.level == "3"
  other = by_id["test/geometry/1.json"]
  assert other.split == splits.train_or_validation("test/geometry/1.json")
  assert other.problem.level == ""


@pytest.mark.parametrize(
  ("solution", "answer"),
  [
    (r"so \boxed{1} and then \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
    (r"is $\boxed 9$ mugs", "9"),
    (r"\fbox{x}", "x"),
    (r"empty \boxed{}", ""),
    (r"\boxed{\{1,2\}}", r"\{1,2\}"),
    ("none", None),
    (r"unclosed \boxed{1", None),
    (r"\boxed", None),
    (r"\boxedword{3}", None),
  ],
)
def test_the_last_box_is_the_answer(solution, answer):
  assert hendrycks_math.last_box(solution) == answer


def test_a_solution_without_a_box_is_named_by_file_and_line(tmp_path):
  _write_lines(
    tmp_path / "train.jsonl", [{"unique_id": "a", **_raw(solution="2")}]
  )
  _write_lines(tmp_path / "test.jsonl", [])
  with pytest.raises(ValueError, match="train.jsonl:1: .*no closed"):
    list(hendrycks_math.read(tmp_path))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"solution": "2"}, "no closed"),
    ({"problem": None}, "'problem' must be text"),
    ({"answer": 2}, "'answer' must be text"),
    ({"type": ["Algebra"]}, "'type' must be text"),
    ({"level": [3]}, "'level' must be text"),
  ],
)
def test_a_bad_row_is_told_and_passed_over_when_asked(
  tmp_path, changes, message
):
  good, bad = {"unique_id": "a", **_raw()}, {"unique_id": "b", **_raw()}
  _write_lines(tmp_path / "train.jsonl", [good, {**bad, **changes}])
  _write_lines(tmp_path / "test.jsonl", [{**good, "unique_id": "c"}])
  with pytest.raises(ValueError, match=f"train.jsonl:2: .*{message}"):
    list(hendrycks_math.read(tmp_path))
  _write_lines(tmp_path / "test.jsonl", [{**good, "unique_id": "c"}, {}])
  told = []
  rows = list(hendrycks_math.read(tmp_path, told.append))
  assert [row.problem.problem_id for row in rows] == ["a", "c"]
  assert rows[1].split == "test"
  assert [(row.line, message in row.reason) for row in told] == [
    (2, True),
    (2, False),
  ]


def test_a_bad_row_of_the_release_is_told_and_passed_over(tmp_path):
  for name, text in (("0", json.dumps(_raw())), ("1", "{")):
    path = tmp_path / f"train/algebra/{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  _write_lines(tmp_path / "test.jsonl", [{"unique_id": "x"}])
  told = []
  (row,) = hendrycks_math.read(tmp_path, told.append)
  assert row.problem.problem_id == "train/algebra/0.json"
  assert [bad_row.file for bad_row in told] == [str(path)]


def test_a_bad_row_of_the_list_of_test_problems_is_an_error_always(tmp_path):
  path = tmp_path / "train/algebra/0.json"
  path.parent.mkdir(parents=True)
  path.write_text(json.dumps(_raw()))
  _write_lines(tmp_path / "test.jsonl", [{"id": "train/algebra/0.json"}])
  with pytest.raises(ValueError, match="test.jsonl:1: field 'unique_id'"):
    list(hendrycks_math.read(tmp_path, lambda bad_row: None))


def test_a_git_lfs_pointer_in_the_release_is_named(tmp_path):
  path = tmp_path / "train/algebra/0.json"
  path.parent.mkdir(parents=True)
  path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:a\n")
  (tmp_path / "test.jsonl").write_text("")
  with pytest.raises(ValueError, match="0.json is a Git LFS pointer"):
    list(hendrycks_math.read(tmp_path))


def test_an_unknown_layout_is_an_error_that_names_the_known_ones(tmp_path):
  with pytest.raises(FileNotFoundError, match="lightman_split.jsonl"):
    hendrycks_math.read(tmp_path)


def test_math_has_the_counts_of_the_paper(shared_dir):
  directory = shared_dir / "data/math"
  rows = list(hendrycks_math.read(directory))
  assert collections.Counter(row.split for row in rows) == {
    "train": 11_000,
    "validation": 1_000,
    "test": 500,
  }
  # The answers were extracted by somebody else's code too.
  published = {
    row["unique_id"]: row["answer"]
    for _, row in jsonl.read(directory / "lightman_split.jsonl.gz")
  }
  assert {
    row.problem.problem_id: row.problem.reference_answer for row in rows
  } == published
  levels = collections.Counter(row.problem.level for row in rows)
  assert set(levels) == {"", "1", "2", "3", "4", "5"} and levels[""] == 2


def test_no_test_problem_of_math_is_near_a_training_problem(shared_dir):
  rows = list(hendrycks_math.read(shared_dir / "data/math"))
  kept, leaks = splits.without_leaks(rows)
  assert (len(kept["validation"]), len(kept["test"])) == (1000, 500)
  num_dropped = sum(leak.is_dropped for leak in leaks)
  assert len(kept["train"]) == 11_000 - num_dropped
  # The pair that the data's own documentation names.
  assert "train/precalculus/474.json" in {leak.problem_id for leak in leaks}
  again, _ = splits.without_leaks(
    [row for split_rows in kept.values() for row in split_rows]
  )
  assert again == kept
