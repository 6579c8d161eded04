import importlib
import json
import pathlib
import subprocess
import sys
import time

import pytest

from mathft_jax.cli import errors, main
from mathft_jax.training import preemption

# The modules of cli/ that are no commands.
_MACHINERY = {"__init__", "main", "errors", "huge_pages", "third_party_logs"}


def test_each_command_is_a_module_and_each_module_a_command():
  folder = pathlib.Path(main.__file__).parent
  modules = {path.stem for path in folder.glob("*.py")} - _MACHINERY
  parts = ("gin_", "data_")
  modules = {name for name in modules if not name.startswith(parts)}
  assert modules == {name.replace("-", "_") for name in main._COMMANDS}


@pytest.mark.parametrize("command", main._COMMANDS)
def test_each_command_has_help(command, capsys):
  # argparse exits, gin_flags returns.
  try:
    code = main.main([command, "--help"])
  except SystemExit as exit_:
    code = exit_.code
  assert code == 0
  assert f"mathft {command}" in capsys.readouterr().out


@pytest.mark.parametrize("command", main._COMMANDS)
def test_each_command_is_a_module_of_its_own(command):
  module = importlib.import_module(
    f"mathft_jax.cli.{command.replace('-', '_')}"
  )
  source = pathlib.Path(module.__file__).read_text(encoding="utf-8")
  assert 'if __name__ == "__main__":' in source


def test_help_lists_the_commands_within_half_a_second():
  durations = []
  for _ in range(3):  # The fastest, as other processes may be busy.
    start = time.perf_counter()
    done = subprocess.run(
      [sys.executable, "-m", "mathft_jax.cli.main", "--help"],
      capture_output=True,
      text=True,
      check=True,
    )
    durations.append(time.perf_counter() - start)
  assert min(durations) < 0.5
  assert all(f"\n  {command} " in done.stdout for command in main._COMMANDS)


def test_an_unknown_command_names_the_nearest(capsys):
  assert main.main(["decode_and_rerank"]) == errors.USER_ERROR
  assert "did you mean decode-and-rerank?" in capsys.readouterr().err


def test_arguments_reach_the_command(monkeypatch):
  given = []

  class Command:
    @staticmethod
    def main(argv):
      given.append(argv)
      return 1

  monkeypatch.setitem(sys.modules, "mathft_jax.cli.decode_and_rerank", Command)
  assert main.main(["decode-and-rerank", "--gin_file=a", "-v=1"]) == 1
  assert given == [["--gin_file=a", "-v=1"]]


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
@pytest.mark.parametrize("own", [None, "glibc.malloc.check=0"])
def test_a_command_runs_with_huge_pages_in_the_same_process(own, monkeypatch):
  monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
  if own:
    monkeypatch.setenv("GLIBC_TUNABLES", own)
  code = """
import json, os, sys, types
from mathft_jax.cli import main
def recipe(argv):
  print(json.dumps([os.getpid(), argv, os.environ["GLIBC_TUNABLES"]]))
  return 3
sys.modules["mathft_jax.cli.recipe"] = types.SimpleNamespace(main=recipe)
sys.exit(main.main())
"""
  with subprocess.Popen(
    [sys.executable, "-c", code, "recipe", "a b", "--c"],
    stdout=subprocess.PIPE,
    text=True,
  ) as process:
    printed = json.loads(process.communicate()[0])
  expected = own or "glibc.malloc.hugetlb=1"
  assert printed == [process.pid, ["a b", "--c"], expected]
  assert process.returncode == 3


def test_version_is_that_of_the_package(capsys):
  assert main.main(["--version"]) == 0
  assert capsys.readouterr().out.strip().count(".") == 2


def _raise(error):
  raise error


@pytest.mark.parametrize(
  ("error", "printed"),
  [
    (ValueError("no\n  such thing"), "mathft x: error: no such thing\n"),
    (
      FileNotFoundError(2, "No such file", "a.json"),
      "mathft x: error: [Errno 2] No such file: 'a.json'\n",
    ),
    (ValueError(), "mathft x: error: ValueError\n"),
  ],
)
def test_user_errors_become_one_line(error, printed, capsys):
  assert errors.exit_code("mathft x", lambda: _raise(error)) == 2
  assert capsys.readouterr().err == printed


def test_bugs_keep_their_traceback():
  with pytest.raises(TypeError):
    errors.exit_code("mathft x", lambda: _raise(TypeError("a bug")))


def test_exit_codes_pass_through():
  assert errors.exit_code("mathft x", lambda: None) == 0
  assert errors.exit_code("mathft x", lambda: 1) == 1


def test_interruption_is_no_traceback(capsys):
  code = errors.exit_code("mathft x", lambda: _raise(KeyboardInterrupt()))
  assert code == 130
  assert capsys.readouterr().err == "mathft x: interrupted\n"


def test_a_run_that_was_told_to_end_says_so():
  told = preemption.Preempted("told to end at step 4")
  assert errors.exit_code("mathft x", lambda: _raise(told)) == 143
