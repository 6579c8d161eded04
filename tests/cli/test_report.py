"""`mathft report` writes three files and says where."""

import json

import pytest

from mathft_jax import samples
from mathft_jax.cli import report


@pytest.fixture
def run_directory(tmp_path):
  """A run that trained and has decoded nothing yet."""
  samples.write_json(
    tmp_path / "run" / "manifest.json",
    {
      "name": "demo",
      "note": "smoke run: accuracies mean nothing",
      "data": [],
      "generators": [{"name": "g", "label": "terse", "data": "arith_terse"}],
      "evaluators": [],
      "stages": [],
    },
  )
  return tmp_path / "run"


def test_the_report_stands_in_the_run_directory(run_directory, capsys):
  assert report.main([str(run_directory)]) == 0
  written = {path.name for path in (run_directory / "report").iterdir()}
  assert written == {"index.html", "report.md", "report.json"}
  out = capsys.readouterr().out
  assert str(run_directory / "report" / "index.html") in out
  assert "accuracies mean nothing" in out
  assert "Accuracy at a glance" in out
  numbers = json.loads((run_directory / "report" / "report.json").read_text())
  assert numbers["title"] == "demo"


def test_output_names_another_folder(run_directory, tmp_path):
  output = tmp_path / "deep" / "folder"
  assert report.main([str(run_directory), "--output", str(output)]) == 0
  assert (output / "index.html").is_file()
  assert not (run_directory / "report").exists()


def test_several_runs_need_a_folder(run_directory, capsys):
  assert report.main([str(run_directory)] * 2) == 2
  assert "--output" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_one_line_and_exit_code_2(tmp_path, capsys):
  assert report.main([str(tmp_path)]) == 2
  err = capsys.readouterr().err
  assert err.startswith("mathft report: error: ") and err.count("\n") == 1
  assert "no run directory" in err
