"""A generator's graded candidates as rows that evaluators learn from."""

import pathlib
from collections.abc import Mapping
from typing import Any

from mathft_jax import records, samples
from mathft_jax.recipe import candidates


def write(
  path: pathlib.Path,
  directory: pathlib.Path,
  reference_solutions: Mapping[str, str],
) -> int:
  """Writes a row for each problem of a graded folder of candidates.

  `reference_solutions`, by problem id, are added as correct candidates.
  Returns how many problems have correct and incorrect candidates.
  """
  path.unlink(missing_ok=True)  # Written whole, from finished stages.
  graded = candidates.read_grades(directory)
  num_mixed = 0
  with samples.JsonLinesStore(path) as store:
    for sampled in samples.read_candidates(directory):
      problem_id = sampled.problem.problem_id
      row = _row(
        sampled, graded[problem_id], reference_solutions.get(problem_id)
      )
      store.append(row)
      num_mixed += len({c["is_correct"] for c in row["candidates"]}) == 2
  return num_mixed


def _row(
  sampled: records.SampledProblem,
  graded: records.GradedProblem,
  reference_solution: str | None,
) -> dict[str, Any]:
  rows = [
    {
      "solution": candidate.solution,
      "is_correct": graded.grades[candidate.index].is_correct,
    }
    for candidate in sampled.candidates
  ]
  if reference_solution is not None:
    rows.append({"solution": reference_solution, "is_correct": True})
  return {
    "problem_id": sampled.problem.problem_id,
    "problem": sampled.problem.text,
    "candidates": rows,
  }
