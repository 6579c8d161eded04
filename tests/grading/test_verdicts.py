"""Verdicts that took long are kept on disk."""

import sqlite3
import subprocess
import sys

import pytest

from mathft_jax.grading import grader, verdicts, workers
from mathft_jax.records import Grade

_PAIR = ("\\sqrt{8}", "2\\sqrt{2}")


@pytest.fixture
def path(tmp_path):
  yield tmp_path / "folder" / "verdicts.sqlite"
  grader.use_cache(None)
  grader._decided.cache_clear()


def test_what_is_put_is_found_by_the_same_version_alone(path):
  cache = verdicts.VerdictCache(path, "mathft-7")
  assert cache.get("a", "b") is None
  cache.put("a", "b", Grade(True, "numeric"))
  cache.put("a", "b", Grade(False, "symbolic"))  # The first one stands.
  cache.close()
  assert verdicts.VerdictCache(path, "mathft-7").get("a", "b") == Grade(
    True, "numeric"
  )
  assert verdicts.VerdictCache(path, "mathft-8").get("a", "b") is None


_WRITER = """
import pathlib, sys
from mathft_jax.grading import verdicts
from mathft_jax.records import Grade
cache = verdicts.VerdictCache(pathlib.Path(sys.argv[1]), "g")
for i in range(200):
  cache.put(str(i), sys.argv[2], Grade(i % 3 == 0, "numeric"))
"""


def test_processes_may_share_a_file(path):
  writers = [
    subprocess.Popen([sys.executable, "-c", _WRITER, str(path), name])
    for name in ("x", "y")
  ]
  assert [writer.wait() for writer in writers] == [0, 0]
  cache = verdicts.VerdictCache(path, "g")
  for name in ("x", "y"):
    found = [cache.get(str(i), name) for i in range(200)]
    assert found == [Grade(i % 3 == 0, "numeric") for i in range(200)]


def test_other_code_has_other_verdicts(path, monkeypatch):
  assert grader.version().startswith(grader.GRADER + "+")
  verdicts.VerdictCache(path, grader.GRADER + "+older").put(
    *sorted(_PAIR), Grade(False, "symbolic")
  )
  grader._decided.cache_clear()
  grader.use_cache(path)
  assert grader.grade(*_PAIR) == Grade(True, "numeric")


def test_a_text_that_is_no_unicode_is_left_out(path):
  cache = verdicts.VerdictCache(path, "g")
  cache.put("\ud800", "x", Grade(True, "numeric"))
  assert cache.get("\ud800", "x") is None


def test_a_file_that_is_no_cache_is_named(tmp_path):
  path = tmp_path / "notes.txt"
  path.write_text("no database, and more than a hundred bytes " * 9)
  with pytest.raises(ValueError, match="notes.txt cannot be used"):
    verdicts.VerdictCache(path, "g")
  with pytest.raises(ValueError, match="name another file"):
    verdicts.VerdictCache(path / "below", "g")


def _stored(path) -> list[tuple]:
  with sqlite3.connect(path) as database:
    return database.execute("SELECT * FROM verdicts ORDER BY first").fetchall()


def test_only_costly_verdicts_are_kept(path):
  grader._decided.cache_clear()
  grader.use_cache(path)
  assert grader.is_equivalent(*_PAIR)
  assert not grader.is_equivalent("1/2", "1/3")
  assert grader.is_equivalent("0", "\\sin\\pi")
  assert _stored(path) == [
    (grader.version(), "0", "\\sin\\pi", 1, "symbolic"),
    (grader.version(), *sorted(_PAIR), 1, "numeric"),
  ]


def test_what_is_kept_is_not_decided_again(path, monkeypatch):
  cache = verdicts.VerdictCache(path, grader.version())
  cache.put(*sorted(_PAIR), Grade(False, "symbolic"))  # Not what it would be.
  cache.close()
  grader._decided.cache_clear()
  grader.use_cache(path)
  assert grader.grade(*_PAIR) == Grade(False, "symbolic")
  grader.use_cache(None)
  grader._decided.cache_clear()
  assert grader.grade(*_PAIR) == Grade(True, "numeric")


def test_undecided_is_not_kept(path, monkeypatch):
  monkeypatch.setattr(workers.Worker, "compare", lambda *unused: None)
  grader._decided.cache_clear()
  grader.use_cache(path)
  assert grader.grade("0", "\\sin\\pi").decided_by == "undecided"
  assert _stored(path) == []
