"""Tests of mathft_jax.cli.data."""

import json
import shutil

import pytest

from mathft_jax import jsonl
from mathft_jax.cli import data
from mathft_jax.sources import json_lines


def _write(path, rows) -> None:
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _rows(texts, split):
  return [
    {"question": text, "solution": "It is.", "answer": "1", "split": split}
    for text in texts
  ]


def test_prepare_writes_splits_without_leaks_and_tells(tmp_path, capsys):
  path, output = tmp_path / "mine.jsonl", tmp_path / "out"
  _write(
    path,
    _rows(["What is $a$?", "What is $b$?"], "train")
    + _rows(["what is  a"], "test"),
  )
  arguments = ["prepare", "--source=json", f"--input={path}"]
  arguments += [f"--output={output}", "--field", "problem=question"]
  assert data.main(arguments) == 0
  rows = list(json_lines.read_split(output, "train"))
  assert [row.problem.text for row in rows] == ["What is $b$?"]
  assert len(json_lines.problems(output, "test")) == 1
  assert json_lines.problems(output, "validation") == []
  (left_out,) = [row for _, row in jsonl.read(output / "left_out.jsonl")]
  assert left_out["kind"] == "normalized"
  printed = capsys.readouterr().out
  assert "1 training or validation problems" in printed


def test_prepare_keeps_other_sources_test_problems_out(tmp_path):
  other, path = tmp_path / "other", tmp_path / "mine.jsonl"
  other.mkdir()
  row = {"problem": "What is $a$?", "solution": "s", "answer": "1"}
  _write(other / "test.jsonl", [{**row, "problem_id": "x", "split": "test"}])
  _write(other / "validation.jsonl", [])
  _write(path, [{**row, "split": "train"}])
  output = tmp_path / "out"
  arguments = ["prepare", "--source=json", f"--input={path}"]
  arguments += [f"--output={output}", f"--against={other}"]
  assert data.main(arguments) == 0
  assert not list(json_lines.read_split(output, "train"))


def test_a_bad_row_ends_with_one_line_and_2(tmp_path, capsys):
  path = tmp_path / "mine.jsonl"
  path.write_text('{"problem": "p"}\n')
  arguments = ["prepare", "--source=json", f"--input={path}"]
  assert data.main([*arguments, f"--output={tmp_path / 'out'}"]) == 2
  printed = capsys.readouterr().err
  assert printed.count("\n") == 1
  assert "mine.jsonl:1: field 'answer' is missing" in printed


@pytest.mark.parametrize("source", ["math", "prm800k", "gsm8k"])
def test_real_sources_are_prepared_and_shown(
  shared_dir, tmp_path, capsys, source
):
  raw, output = tmp_path / "raw", tmp_path / source
  shutil.copytree(shared_dir / "data" / source, raw)
  arguments = ["prepare", f"--source={source}", f"--input={raw}"]
  assert data.main([*arguments, f"--output={output}"]) == 0
  assert "problem length" in capsys.readouterr().out
  arguments = ["show", f"{source}_generate", "--num_examples=1"]
  arguments += ["--num_lengths=50", "--data", f"{source}={output}"]
  assert data.main(arguments) == 0
  printed = capsys.readouterr().out
  assert printed.count("targets (") == 1
  assert printed.count("[<eos>]\n") == 1
  assert "the first 50 examples" in printed
