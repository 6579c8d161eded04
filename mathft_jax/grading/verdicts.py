"""Verdicts that took long, kept on disk from one run to the next."""

import pathlib
import sqlite3

from mathft_jax.records import Grade

# Several processes write to one file; each waits so long for the others.
_WAIT_S = 2
_CREATE = """
CREATE TABLE IF NOT EXISTS verdicts (
  grader TEXT, first TEXT, second TEXT, is_correct INTEGER, decided_by TEXT,
  PRIMARY KEY (grader, first, second)
) WITHOUT ROWID
"""


class VerdictCache:
  """Verdicts of one version of the grader, by pair of normalized answers.

  Processes may share the file. Raises ValueError if it cannot be opened or is
  no such file. A verdict that cannot be written is left out.
  """

  def __init__(self, path: pathlib.Path, grader: str):
    self._grader = grader
    try:
      path.parent.mkdir(parents=True, exist_ok=True)
      self._database = sqlite3.connect(
        path, timeout=_WAIT_S, isolation_level=None
      )
      # What a crash of the machine loses is graded again.
      self._database.execute("PRAGMA synchronous = OFF")
      self._database.execute(_CREATE)
    except (OSError, sqlite3.Error) as error:
      raise ValueError(
        f"{path} cannot be used as a cache of verdicts ({error}); name another"
        " file, a new one"
      ) from error

  def get(self, first: str, second: str) -> Grade | None:
    """The verdict on a pair; None if it is not there."""
    try:
      row = self._database.execute(
        "SELECT is_correct, decided_by FROM verdicts"
        " WHERE grader = ? AND first = ? AND second = ?",
        (self._grader, first, second),
      ).fetchone()
    except (sqlite3.Error, UnicodeEncodeError):
      return None
    return Grade(bool(row[0]), row[1]) if row else None

  def put(self, first: str, second: str, grade: Grade) -> None:
    """Keeps the verdict on a pair; an earlier one stands."""
    try:
      self._database.execute(
        "INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?, ?, ?)",
        (self._grader, first, second, grade.is_correct, grade.decided_by),
      )
    except (sqlite3.Error, UnicodeEncodeError):
      pass

  def close(self) -> None:
    """Lets go of the file."""
    self._database.close()
