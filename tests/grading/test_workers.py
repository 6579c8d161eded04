import os
import subprocess
import sys
import threading
import time

import pytest

from mathft_jax.grading import workers


@pytest.fixture(scope="module")
def worker():
  worker = workers.Worker()
  yield worker
  worker.close()


@pytest.mark.parametrize(
  ("first", "second", "verdict"),
  [
    ("\\sin\\pi", "0", True),
    ("10^{-50}\\pi", "2\\pi*10^{-50}", False),
    ("\\sqrt{-x^2-1}", "\\sqrt{-x^2-1}*1", True),
    (
      "1.41421356237309504880168872420969807856967187537694",
      "\\sqrt2",
      False,
    ),
    ("2^{100000}", "4^{50000}", None),
  ],
)
def test_algebra_decides_what_numbers_leave_open(
  worker, first, second, verdict
):
  assert worker.compare(first, second) is verdict


def test_a_comparison_is_killed_at_the_limit_and_the_next_one_works():
  worker = workers.Worker(time_limit_s=0.3)
  try:
    assert worker.compare("\\sin\\pi", "0") is True
    # Too small for the numeric stage, and SymPy's trigonometry takes minutes.
    hard = "10^{-60}" + "*".join(
      f"(\\sin({k}x)+\\cos({k}y))^2" for k in range(1, 10)
    )
    start = time.perf_counter()
    assert worker.compare(hard, hard + "*(\\sin^2 z+\\cos^2 z)") is None
    assert time.perf_counter() - start < 1.0
    assert worker.compare("\\cos\\pi+1", "0") is True
  finally:
    worker.close()


def test_a_worker_that_died_is_replaced():
  worker = workers.Worker()
  try:
    assert worker.compare("\\sin\\pi", "0") is True
    process = worker._process
    assert process is not None
    process.kill()
    process.wait()
    assert worker.compare("\\sin\\pi", "0") is True
  finally:
    worker.close()


def test_threads_take_turns(worker):
  verdicts = []

  def compare(k: int) -> None:
    verdicts.append(worker.compare(f"\\sin({k}\\pi)", "0"))

  threads = [threading.Thread(target=compare, args=(k,)) for k in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert verdicts == [True] * 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_a_forked_copy_does_not_share_the_process():
  # In an interpreter of its own: this one may hold the threads of JAX, which
  # do not survive a fork.
  script = """if True:
    import os
    from mathft_jax.grading import workers

    worker = workers.Worker()
    assert worker.compare("\\\\sin\\\\pi", "0") is True
    child = os.fork()
    if child == 0:
      is_right = worker.compare("\\\\sin\\\\pi", "0") is True
      worker.close()
      os._exit(0 if is_right else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert worker.compare("\\\\cos\\\\pi+1", "0") is True
    worker.close()
    print("both right")
  """
  run = subprocess.run(
    [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
  )
  assert run.stdout == "both right\n", run.stderr


def test_an_interrupted_comparison_leaves_no_reply_behind(monkeypatch):
  worker = workers.Worker()

  def interrupt(*unused):
    raise KeyboardInterrupt

  try:
    assert worker.compare("\\sin\\pi", "0") is True
    with monkeypatch.context() as patched:
      patched.setattr(workers, "_read_line", interrupt)
      with pytest.raises(KeyboardInterrupt):
        worker.compare("\\cos\\pi+1", "0")
    # The reply to the interrupted pair would be True.
    assert worker.compare("10^{-60}\\pi", "2\\pi*10^{-60}") is False
  finally:
    worker.close()


def test_files_where_somebody_works_are_not_run(tmp_path, monkeypatch):
  for name in ("sympy", "random", "mpmath"):
    (tmp_path / f"{name}.py").write_text(
      "open('pwned', 'w').write('x')\nraise ImportError\n"
    )
  monkeypatch.chdir(tmp_path)
  worker = workers.Worker()
  try:
    assert worker.compare("\\sin\\pi", "0") is True
  finally:
    worker.close()
  assert not (tmp_path / "pwned").exists()


def test_a_worker_that_cannot_start_is_tried_once(monkeypatch):
  monkeypatch.setattr(sys, "executable", "/bin/false")
  worker = workers.Worker()
  with pytest.raises(workers.NotStarted, match="did not start.*try:"):
    worker.compare("\\sin\\pi", "0")
  monkeypatch.setattr(workers.subprocess, "Popen", None)
  with pytest.raises(workers.NotStarted, match="did not start"):
    worker.compare("\\sin\\pi", "0")
