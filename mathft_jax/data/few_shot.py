"""Solved problems to show a model that was not fine-tuned (§4.2, §5.1)."""

import dataclasses
import functools
import hashlib
import json
import logging
import pathlib
from collections.abc import Sequence

from mathft_jax.data import locations
from mathft_jax.records import SolvedProblem
from mathft_jax.sources import json_lines, splits

_logger = logging.getLogger(__name__)

# The four problems of Lewkowycz et al. (2022), appendix D.2: the domain of a
# quotient of roots, the determinant of a product, lifting weights, a system of
# two equations. All are training problems of MATH.
MATH_PROBLEMS = (
  "train/algebra/943.json",
  "train/precalculus/372.json",
  "train/algebra/256.json",
  "train/algebra/1951.json",
)


@dataclasses.dataclass(frozen=True)
class Shots:
  """Which solved problems stand before the one to solve, in this order.

  `source` has the solutions; it and `problems_source` are sources by name, or
  folders of prepared rows. With `problems_source`, which has the problems'
  texts, one without a solution is replaced by the problem of `source` that is
  most like it, of the same type where there is one (§5.1 of the paper replaces
  one so).
  """

  source: str = "math"
  problem_ids: Sequence[str] = MATH_PROBLEMS
  problems_source: str | None = None

  def fingerprint(self) -> str:
    """Returns a hash of the shots."""
    texts = [[*shot.texts, shot.problem.problem_id] for shot in self()]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()

  def __call__(self) -> list[SolvedProblem]:
    """The shots, from the prepared rows of the sources.

    One that is replaced is named in a warning. Raises ValueError for a problem
    that no training or validation row has: a test problem is nothing to learn
    from.
    """
    solved = _first_solutions(self.source)
    found: list[SolvedProblem] = []
    for problem_id in self.problem_ids:
      shot = solved.get(problem_id)
      if shot is None and self.problems_source is not None:
        wanted = _first_solutions(self.problems_source).get(problem_id)
        taken = {*self.problem_ids, *(s.problem.problem_id for s in found)}
        shot = wanted and _most_alike(
          wanted, [s for i, s in solved.items() if i not in taken]
        )
        if shot is not None:
          _warn_once(
            f"{self.source!r} has no solution of {problem_id!r}; in its place"
            f" {shot.problem.problem_id!r} is shown"
          )
      if shot is None:
        raise ValueError(
          f"problem {problem_id!r} is in no training or validation row of"
          f" {self.source!r}; name other problem_ids"
        )
      found.append(shot)
    return found


@functools.cache
def _warn_once(message: str) -> None:
  """Warns; the shots are looked up several times in a run."""
  _logger.warning(message)


def _first_solutions(source: str) -> dict[str, SolvedProblem]:
  found: dict[str, SolvedProblem] = {}
  folder = pathlib.Path(source)
  directory = folder if folder.is_dir() else locations.find(source)
  for split in ("train", "validation"):
    for row in json_lines.read_split(directory, split):
      found.setdefault(row.problem.problem_id, row)
  return found


def _most_alike(
  wanted: SolvedProblem, rows: Sequence[SolvedProblem]
) -> SolvedProblem | None:
  """The row whose problem shares most words: Jaccard's index of the sets."""
  same_type = [row for row in rows if row.problem.type == wanted.problem.type]
  words = set(splits.words(wanted.problem.text))

  def likeness(row: SolvedProblem) -> tuple[float, str]:
    others = set(splits.words(row.problem.text))
    share = len(words & others) / max(len(words | others), 1)
    return share, row.problem.problem_id

  return max(same_type or rows, key=likeness, default=None)
