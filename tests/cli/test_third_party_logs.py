import os
import re
import subprocess
import sys

_PROGRAM = """
import logging, os, re, sys
from mathft_jax.cli import third_party_logs
with third_party_logs._stderr_without(re.compile("harmless")):
  os.write(2, b"harmless 1\\nworrying 1\\n")
  print("harmless 2", file=sys.stderr)
  print("worrying 2", file=sys.stderr)
third_party_logs.import_tensorflow()
import tensorflow as tf
logging.getLogger("absl").warning("Given directory is read only=%s", "a")
logging.getLogger("absl").warning("worrying 3")
print(*tf.data.Dataset.range(2).map(lambda x: x + 1).as_numpy_iterator())
"""


def test_only_the_lines_that_mean_nothing_are_held_back():
  environment = os.environ.copy()
  environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
  done = subprocess.run(
    [sys.executable, "-c", _PROGRAM],
    capture_output=True,
    text=True,
    check=True,
    env=environment,
  )
  assert done.stdout == "1 2\n"
  assert re.findall(r"worrying \d", done.stderr) == [
    "worrying 1",
    "worrying 2",
    "worrying 3",
  ]
  assert len(done.stderr.splitlines()) == 3


def test_a_failure_in_between_is_printed_too():
  program = (
    "import re\n"
    "from mathft_jax.cli import third_party_logs as logs\n"
    "with logs._stderr_without(re.compile('harmless')):\n"
    "  import os; os.write(2, b'the cause\\n')\n"
    "  raise SystemExit('the end')\n"
  )
  done = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True
  )
  assert done.stderr == "the cause\nthe end\n" and done.returncode == 1
