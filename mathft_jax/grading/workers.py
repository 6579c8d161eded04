"""A warm worker process for symbolic comparisons, killed when it takes long.

The worker is an interpreter of its own that reads pairs of answers as lines
of JSON and writes verdicts. It parses the text itself, so nothing is pickled;
and nothing is forked, so it is safe beside threads and accelerators.
"""

import atexit
import functools
import json
import os
import pathlib
import selectors
import subprocess
import sys
import threading

from mathft_jax.grading import trees
from mathft_jax.grading.comparing import structure, symbolic
from mathft_jax.grading.reading import parse

TIME_LIMIT_S = 1.0
MEMORY_LIMIT_BYTES = 1 << 30
# Importing SymPy, which on a busy machine can be slow.
_START_LIMIT_S = 60.0


class NotStarted(RuntimeError):
  """No worker process can be started on this machine."""


class Worker:
  """One process that decides one pair at a time, started at first need.

  Threads may share it: they take turns, and the clock of a comparison starts
  when its turn does. A forked copy of the caller gets a process of its own.
  """

  def __init__(
    self,
    time_limit_s: float = TIME_LIMIT_S,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
  ):
    self._time_limit_s = time_limit_s
    self._memory_limit_bytes = memory_limit_bytes
    self._process: subprocess.Popen[bytes] | None = None
    self._owner = os.getpid()
    self._turn = threading.Lock()
    self._fault: str | None = None  # why it did not start, once it was tried

  def compare(self, first: str, second: str) -> bool | None:
    """Whether two normalized answers are equivalent, None past a bound.

    Raises NotStarted if no worker process can be started.
    """
    if self._owner != os.getpid():  # The process belongs to our parent.
      self._process, self._owner = None, os.getpid()
      self._turn = threading.Lock()
    with self._turn:
      process = self._started()
      assert process.stdin is not None
      request = json.dumps([first, second]).encode() + b"\n"
      try:
        process.stdin.write(request)
        process.stdin.flush()
        reply = _read_line(process, self._time_limit_s)
      except BrokenPipeError:  # It died while idle: out of memory, perhaps.
        self._stop()
        return None
      except BaseException:  # Nobody may take its reply for another pair's.
        self._stop()
        raise
      if reply is None:
        self._stop()
        return None
      return json.loads(reply)

  def close(self) -> None:
    """Ends the process; the next comparison would start another."""
    with self._turn:
      self._stop()

  def _started(self) -> "subprocess.Popen[bytes]":
    if self._process is not None and self._process.poll() is None:
      return self._process
    if self._fault is not None:
      raise NotStarted(self._fault)
    self._stop()
    root = pathlib.Path(__file__).parents[2]
    paths = [str(root), os.environ.get("PYTHONPATH", "")]
    self._process = subprocess.Popen(
      [
        sys.executable,
        "-P",  # Files of the folder that somebody works in are not ours.
        "-m",
        "mathft_jax.grading.workers",
        str(self._time_limit_s),
        str(self._memory_limit_bytes),
      ],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    if _read_line(self._process, _START_LIMIT_S) is None:
      code = self._process.poll()
      self._stop()
      self._fault = (
        f"the grading worker did not start (exit code {code}); try:"
        f" {sys.executable} -m mathft_jax.grading.workers"
      )
      raise NotStarted(self._fault)
    return self._process

  def _stop(self) -> None:
    process, self._process = self._process, None
    if process is None:
      return
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
      if pipe is not None:
        try:
          pipe.close()
        except BrokenPipeError:
          pass  # Closing flushes what the dead process did not read.


def _read_line(
  process: "subprocess.Popen[bytes]", time_limit_s: float
) -> bytes | None:
  """Returns the next line, None if time runs out or the process ends.

  A line of ours is shorter than a pipe's atomic write, so whoever can read
  at all can read the line.
  """
  assert process.stdout is not None
  with selectors.DefaultSelector() as selector:
    selector.register(process.stdout, selectors.EVENT_READ)
    if not selector.select(time_limit_s):
      return None
  return process.stdout.readline() or None


@functools.cache
def shared() -> Worker:
  """Returns this process's one worker, closed at exit."""
  worker = Worker()
  atexit.register(worker.close)
  return worker


def _limit_memory(limit_bytes: int) -> None:
  try:
    import resource
  except ImportError:  # Windows has no such limit; the time limit holds.
    return
  resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))


def _arm(seconds: float) -> None:
  """Has the system kill this process, should the parent be gone by then."""
  import signal

  if hasattr(signal, "setitimer"):
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _decide(first: str, second: str) -> bool | None:
  try:
    return structure.compare(parse.parse(first), parse.parse(second), symbolic)
  except trees.BoundExceeded:
    return None
  # SymPy fails in ways of every kind on odd input; none is a verdict.
  except Exception:
    return None


def main() -> None:
  """Serves comparisons from standard input until it ends."""
  time_limit_s = float(sys.argv[1]) if len(sys.argv) > 1 else TIME_LIMIT_S
  if len(sys.argv) > 2:
    _limit_memory(int(sys.argv[2]))
  import sympy

  # The first simplification loads as much again as the import.
  sympy.simplify(sympy.sqrt(sympy.Symbol("x", real=True) ** 2))
  print("ready", flush=True)
  for line in sys.stdin:
    _arm(2 * time_limit_s + 1)
    first, second = json.loads(line)
    verdict = _decide(first, second)
    _arm(0)
    print(json.dumps(verdict), flush=True)


if __name__ == "__main__":
  main()
