"""Tests of mathft_jax.sources.json_lines."""

import gzip
import json

import pytest

from mathft_jax.records import Problem, SolvedProblem
from mathft_jax.sources import json_lines, splits


def _row(problem_id: str = "a", **changes) -> dict:
  row = {
    "problem_id": problem_id,
    "problem": "What is $1+1$?",
    "solution": "It is\u20282.",
    "answer": "2",
    "level": "3",
    "type": "Algebra",
    "source": "mine",
    "split": "test",
  }
  return {**row, **changes}


def _write(path, rows) -> None:
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_fields_may_have_other_names_and_defaults_are_stable(tmp_path):
  path = tmp_path / "mine.jsonl"
  _write(path, [{"question": "1+1?", "solution": "easy", "answer": "2"}])
  (row,) = json_lines.read(path, {"problem": "question"})
  assert row.problem.text == "1+1?"
  assert row.problem.problem_id == json_lines.text_id("1+1?")
  assert row.split == splits.three_way(row.problem.problem_id)
  assert row.source == "mine"


@pytest.mark.parametrize(
  ("row", "message"),
  [
    (_row(solution=None), "field 'solution' must be text"),
    ({"problem": "p", "answer": "1"}, "field 'solution' is missing"),
    (_row(split="dev"), "split 'dev' must be one of"),
    (_row(level=[3]), "field 'level' must be text"),
  ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, row, message):
  path = tmp_path / "rows.jsonl"
  _write(path, [_row(), row])
  with pytest.raises(ValueError, match=f"rows.jsonl:2: {message}"):
    list(json_lines.read(path))


def test_a_directory_gives_each_file_its_split(tmp_path):
  _write(tmp_path / "train.jsonl", [_row("a", split="train")])
  compressed = gzip.compress(json.dumps(_row("b")).encode())
  (tmp_path / "test.jsonl.gz").write_bytes(compressed)
  rows = list(json_lines.read(tmp_path))
  assert [(r.problem.problem_id, r.split) for r in rows] == [
    ("a", "train"),
    ("b", "test"),
  ]


def test_written_rows_read_back_the_same(tmp_path):
  rows = {
    split: [
      SolvedProblem(
        Problem(f"{split}/{i}", "p\u2028\n", "1", "2", "t"), "s\\", "me", split
      )
      for i in range(3)
    ]
    for split in splits.SPLITS
  }
  json_lines.write_splits(tmp_path, rows)
  for split in splits.SPLITS:
    assert list(json_lines.read_split(tmp_path, split)) == rows[split]
  assert not list(tmp_path.glob("*.partial"))


def test_problems_with_several_solutions_come_once_in_order(tmp_path):
  _write(
    tmp_path / "test.jsonl",
    [_row("b"), _row("a"), _row("b", solution="other")],
  )
  problems = json_lines.problems(tmp_path, "test")
  assert [problem.problem_id for problem in problems] == ["b", "a"]


def test_a_split_that_was_not_prepared_says_how_to_prepare_it(tmp_path):
  with pytest.raises(FileNotFoundError, match="mathft data prepare"):
    json_lines.problems(tmp_path, "validation")
