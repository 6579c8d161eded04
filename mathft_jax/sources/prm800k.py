"""PRM800K's correct solutions (Lightman et al., 2023)."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mathft_jax import jsonl
from mathft_jax.records import Problem, SolvedProblem
from mathft_jax.sources import json_lines, raw_rows, splits

SOURCE = "prm800k"

_STEM = "complete_solutions"

# (reference answer, answer) -> whether they are equal: grading's.
IsEquivalent = Callable[[str, str], bool]


@dataclasses.dataclass(frozen=True)
class Dropped:
  """A solution that is not taken over, with the reason in words."""

  solution_id: str
  problem_id: str
  reason: str


def read(
  directory: str | os.PathLike,
  is_equivalent: IsEquivalent,
  on_drop: Callable[[Dropped], None] = lambda dropped: None,
) -> Iterator[SolvedProblem]:
  """Yields the correct solutions of complete_solutions.jsonl (or .gz).

  A row is one solution that was carried to its end, with its `steps`,
  `ratings` (null where unknown), `final_answer` and `ground_truth_answer`.
  It is correct if no step is rated -1 and the final answer is equivalent to
  the reference; every other row goes to `on_drop` with the reason.

  A problem may have several solutions. Its id and so its split are MATH's.

  Raises FileNotFoundError, and ValueError with file and line for a bad row.
  """
  path = raw_rows.find(directory, _STEM)
  if path is None:
    raise FileNotFoundError(
      f"{pathlib.Path(directory) / _STEM}.jsonl (or .jsonl.gz) does not"
      " exist; give the directory that holds it"
    )
  for number, row in jsonl.read(path):
    where = f"{path}:{number}"
    reason = _reason_to_drop(row, is_equivalent, where)
    if reason:
      on_drop(
        Dropped(
          solution_id=str(row.get("solution_id", number)),
          problem_id=json_lines.field(row, "unique_id", where),
          reason=reason,
        )
      )
    else:
      yield _solved_problem(row, where)


def _reason_to_drop(
  row: Mapping[str, Any], is_equivalent: IsEquivalent, where: str
) -> str | None:
  reference = json_lines.field(row, "ground_truth_answer", where)
  if -1 in (row.get("ratings") or ()):
    return "a step is rated -1"
  if row.get("final_answer") is None:
    return "no final answer"
  answer = json_lines.field(row, "final_answer", where)
  if not is_equivalent(reference, answer):
    return f"final answer {answer!r}, reference {reference!r}"
  return None


def _solved_problem(row: Mapping[str, Any], where: str) -> SolvedProblem:
  steps = row.get("steps")
  if not isinstance(steps, list) or not all(
    isinstance(step, str) for step in steps
  ):
    raise ValueError(f"{where}: field 'steps' must be a list of texts")
  if not isinstance(row.get("in_test500"), bool):
    raise ValueError(f"{where}: field 'in_test500' must be true or false")
  problem_id = json_lines.field(row, "unique_id", where)
  return SolvedProblem(
    problem=Problem(
      problem_id=problem_id,
      text=json_lines.field(row, "problem", where),
      reference_answer=row["ground_truth_answer"],
      type=_subject(problem_id),
    ),
    solution="\n".join(steps),
    source=SOURCE,
    split=(
      "test" if row["in_test500"] else splits.train_or_validation(problem_id)
    ),
  )


def _subject(problem_id: str) -> str:
  """Returns MATH's word for the subject in "train/number_theory/7.json"."""
  parts = problem_id.split("/")
  if len(parts) != 3:
    return ""
  return _SUBJECTS.get(parts[1], parts[1])


_SUBJECTS = {
  "algebra": "Algebra",
  "counting_and_probability": "Counting & Probability",
  "geometry": "Geometry",
  "intermediate_algebra": "Intermediate Algebra",
  "number_theory": "Number Theory",
  "prealgebra": "Prealgebra",
  "precalculus": "Precalculus",
}
