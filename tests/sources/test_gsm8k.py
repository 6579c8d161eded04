"""Tests of mathft_jax.sources.gsm8k."""

import collections
import json

import pytest

from mathft_jax.sources import gsm8k


def test_a_row_is_parted_into_solution_and_answer(tmp_path):
  raw = {
    "question": "How many?",
    "answer": "He has 2*3=<<2*3=6>>6.\nSo $1,006 #1.\n#### 1,006",
  }
  (tmp_path / "train.jsonl").write_text("")
  (tmp_path / "test.jsonl").write_text(json.dumps(raw) + "\n")
  (row,) = gsm8k.read(tmp_path)
  assert row.solution == "He has 2*3=6.\nSo $1,006 #1."
  assert row.problem.reference_answer == "1,006"
  assert (row.problem.problem_id, row.split) == ("gsm8k/test/0", "test")


def test_a_row_without_an_answer_is_named_by_file_and_line(tmp_path):
  row = '{"question": "q", "answer": "6"}\n'
  (tmp_path / "train.jsonl").write_text(row)
  with pytest.raises(ValueError, match="train.jsonl:1: no ####"):
    list(gsm8k.read(tmp_path))


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match="train.jsonl"):
    list(gsm8k.read(tmp_path))


def test_the_real_files_are_read_whole(shared_dir):
  rows = list(gsm8k.read(shared_dir / "data/gsm8k"))
  counts = collections.Counter(row.split for row in rows)
  assert counts["test"] == 1_319
  assert counts["train"] + counts["validation"] == 7_473
  assert not [row for row in rows if "<<" in row.solution]
