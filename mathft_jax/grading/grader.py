"""Decides whether two answers are the same: cheap stages first."""

import functools
import hashlib
import importlib.metadata
import logging
import pathlib
import time
from collections.abc import Callable

from mathft_jax.grading import (
  conventions,
  keys,
  trees,
  values,
  verdicts,
  workers,
)
from mathft_jax.grading.comparing import numeric, structure
from mathft_jax.grading.reading import normalize, parse, phrases
from mathft_jax.records import Grade

_log = logging.getLogger(__name__)

# In the names of grades files; raised whenever many verdicts may change.
GRADER = "mathft-4"

# Of computing values; the symbolic stage has a clock of its own.
NUMERIC_LIMIT_S = 0.5

# Conventions are for answers of ordinary length.
_LONG = 500

# Of the stages before them a verdict is cheaper than a look at a file.
_FIRST_COSTLY = "numeric"
_COSTLY = frozenset(["numeric", "symbolic"])
_SYMBOLIC = "symbolic"
_cache: verdicts.VerdictCache | None = None

# Decides a pair of normalized answers, or leaves it to the next stage.
Stage = Callable[[str, str], bool | None]


def is_equivalent(reference: str, candidate: str) -> bool:
  """Whether a candidate's answer is right; safe on any text."""
  return grade(reference, candidate).is_correct


def is_same(first: str, second: str) -> bool:
  """Whether two answers are the same, none of them a reference; symmetric."""
  return _same(first, second).is_correct


def grade(reference: str, answer: str | None) -> Grade:
  """Returns the verdict and the name of the stage that reached it.

  The name is "no_answer" where there is no answer, "convention" where the
  answer is right for a reference though not equal to it (`conventions`), and
  "undecided" where every stage passed or a bound on time, memory or size was
  hit; "error" is a fault of this package, or a worker that does not start.
  Whatever the texts are, this raises nothing. A stage that computes ends within
  NUMERIC_LIMIT_S, algebra within `workers.TIME_LIMIT_S`, and conventions within
  about twice NUMERIC_LIMIT_S.
  """
  if answer is None or not (answer.strip() or answer == reference):
    return Grade(False, "no_answer")
  found = _same(reference, answer)
  if (
    found.is_correct
    or found.decided_by == "undecided"
    or max(len(reference), len(answer)) > _LONG
  ):
    return found
  try:
    is_right = convention(reference, answer) is not None
  except Exception:  # A fault of ours may cost a verdict, never a whole run.
    return Grade(False, "error")
  return Grade(True, "convention") if is_right else found


def convention(reference: str, answer: str) -> tuple[str, str] | None:
  """The pair by which a convention takes an answer for right, None if none."""
  try:
    with numeric.time_limit(NUMERIC_LIMIT_S):
      return _first_right(reference, answer)
  except trees.BoundExceeded:
    return None


def _first_right(reference: str, answer: str) -> tuple[str, str] | None:
  if _is_rounded(reference, answer):
    return reference, answer
  start = time.monotonic()
  for pair in conventions.readings(reference, answer):
    # Algebra is left out: there may be many readings.
    if _same(*pair, is_thorough=False).is_correct or _is_rounded(*pair):
      return pair
    if time.monotonic() - start > NUMERIC_LIMIT_S:
      break
  return None


def _same(first: str, second: str, is_thorough: bool = True) -> Grade:
  if first == second:
    return Grade(True, "exact")
  first, second = normalize.normalize(first), normalize.normalize(second)
  if first == second:
    return Grade(True, "exact")
  if len(first) > normalize.MAX_LENGTH or len(second) > normalize.MAX_LENGTH:
    return Grade(False, "undecided")
  # One order for both makes the verdict symmetric, and the cache smaller.
  return _decided(*sorted((first, second)), is_thorough)


def _is_rounded(reference: str, answer: str) -> bool:
  pair = (parse.parse(normalize.normalize(x)) for x in (reference, answer))
  try:
    return conventions.is_rounded(*pair)
  except trees.BoundExceeded:
    return False


def use_cache(path: pathlib.Path | None) -> None:
  """Keeps verdicts of the costly stages in a file, in this process from now on.

  None ends it. Raises ValueError if the file cannot be used.
  """
  global _cache
  if _cache is not None:
    _cache.close()
  _cache = None if path is None else verdicts.VerdictCache(path, version())


@functools.cache
def version() -> str:
  """GRADER and what else decides: our source, and the libraries' versions.

  It stands in grades files and in the cache: verdicts of another one are no
  verdicts of this grader.
  """
  digest = hashlib.sha256()
  for file in sorted(pathlib.Path(__file__).parent.rglob("*.py")):
    digest.update(file.read_bytes())
  libraries = [importlib.metadata.version(name) for name in ("mpmath", "sympy")]
  return "+".join([GRADER, digest.hexdigest()[:16], *libraries])


@functools.lru_cache(maxsize=1 << 14)
def _decided(first: str, second: str, is_thorough: bool = True) -> Grade:
  try:
    found = _in_time(first, second, is_thorough)
    if not found.is_correct and _share_key(first, second, found):
      return Grade(True, "value")  # Of one form, whatever the stages miss.
    return found
  except workers.NotStarted as error:
    _warn_once(str(error))
    return Grade(False, "error")
  except Exception:  # As in `grade`.
    return Grade(False, "error")


def _in_time(first: str, second: str, is_thorough: bool) -> Grade:
  try:
    with numeric.time_limit(NUMERIC_LIMIT_S):
      return _by_stages(first, second, is_thorough)
  except trees.BoundExceeded:
    return Grade(False, "undecided")


def _share_key(first: str, second: str, found: Grade) -> bool:
  a, b = (parse.parse(text).tree for text in (first, second))
  if type(a) is not type(b):
    return False
  # Where expressions differ in value, they have no form in common.
  if trees.is_expression(a) and found.decided_by != "undecided":
    return False
  return keys.key(first).value == keys.key(second).value


@functools.cache
def _warn_once(message: str) -> None:
  _log.warning("%s; what needs it counts as incorrect", message)


def _by_stages(first: str, second: str, is_thorough: bool) -> Grade:
  for name, stage in STAGES:
    if name == _SYMBOLIC and not is_thorough:
      break
    if name == _FIRST_COSTLY and _cache is not None:
      known = _cache.get(first, second)
      if known is not None:
        return known
    verdict = stage(first, second)
    if verdict is not None:
      grade = Grade(verdict, name)
      # "undecided" may be decided on a machine that is less busy.
      if _cache is not None and name in _COSTLY:
        _cache.put(first, second, grade)
      return grade
  return Grade(False, "undecided")


def _by_text(first: str, second: str) -> bool | None:
  """What says the same in the same words: half is 1/2."""
  return phrases.core(first) == phrases.core(second) or None


def _by_reading(first: str, second: str) -> bool | None:
  """What is no mathematics equals nothing but its own letters."""
  a, b = parse.parse(first), parse.parse(second)
  for answer in (a, b):
    if isinstance(answer.tree, trees.Unread):
      if answer.tree.exceeds_bound:
        raise trees.BoundExceeded(answer.tree.text)
      return bool(a.letters) and a.letters == b.letters
  return None


def _by_value(first: str, second: str) -> bool | None:
  return structure.compare(parse.parse(first), parse.parse(second), values)


def _by_fingerprint(first: str, second: str) -> bool | None:
  return structure.compare(parse.parse(first), parse.parse(second), numeric)


def _by_algebra(first: str, second: str) -> bool | None:
  return workers.shared().compare(first, second)


STAGES: list[tuple[str, Stage]] = [
  ("exact", _by_text),
  ("parse", _by_reading),
  ("value", _by_value),
  ("numeric", _by_fingerprint),
  ("symbolic", _by_algebra),
]
