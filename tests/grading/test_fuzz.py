"""The grader keeps its promises on what coverage-guided fuzzing makes up."""

import importlib.util
import pathlib
import subprocess
import sys

import pytest

_SECONDS = 120


@pytest.mark.slow
def test_fuzzing_breaks_no_promise(tmp_path):
  if importlib.util.find_spec("atheris") is None:
    pytest.skip("atheris is not installed: pip install -e '.[fuzz]'")
  done = subprocess.run(
    [
      sys.executable,
      pathlib.Path(__file__).with_name("fuzz.py"),
      f"-max_total_time={_SECONDS}",
    ],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    errors="replace",
  )
  assert done.returncode == 0, done.stderr[-4000:]
  assert "Done" in done.stderr
