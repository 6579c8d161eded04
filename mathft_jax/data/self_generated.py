"""A generator's own correct solutions as rows to train generators on.

Rejection sampling, as in STaR (Zelikman et al., 2022); §5.1 of the paper leaves
it as future work.
"""

import os
import pathlib
from collections.abc import Callable, Iterator

from mathft_jax import prompts, records, samples
from mathft_jax.grading import grader
from mathft_jax.rerank import clusters

SOURCE = "self_generated"


# Why a candidate makes no row.
INCORRECT = "not correct"
CUT_OFF = "cut off"
REPEATED = "the same as another"
SURPLUS = "beyond the most of a problem"


def read(
  directory: str | os.PathLike[str],
  max_per_problem: int,
  on_left_out: Callable[[str], None] = lambda reason: None,
) -> Iterator[records.SolvedProblem]:
  """Yields rows of a graded folder of candidates, all in the split "train".

  Of each problem these are its first `max_per_problem` correct candidates that
  differ in more than white space, without their answer section: the reference
  answer is the row's. Candidates that were cut off have no end and are passed
  over, and so is the greedy one. `on_left_out` is told the reason of each
  sampled candidate that makes no row.

  The candidates must be those of training problems. Raises FileNotFoundError
  if the folder lacks candidates or their grades, and ValueError if a problem
  was not graded, or has other answers now.
  """
  directory = pathlib.Path(directory)
  path = directory / samples.grades_name(grader.GRADER)
  if not path.is_file():
    raise FileNotFoundError(
      f"{path} does not exist; `mathft grade {directory}` writes it"
    )
  graded = samples.read_grades(path)
  for sampled in samples.read_candidates(directory):
    problem_id = sampled.problem.problem_id
    if problem_id not in graded:
      raise ValueError(
        f"{path}: problem {problem_id} is not graded; `mathft grade"
        f" {directory}` goes on where it stopped"
      )
    try:
      clusters.check_graded(sampled, graded[problem_id])
    except ValueError as error:
      raise ValueError(f"{path}: {error}") from error
    solutions: dict[str, str] = {}
    for candidate in sorted(sampled.candidates, key=lambda c: c.index):
      text = _worked_text(candidate.solution)
      folded = " ".join(text.split())
      if not graded[problem_id].grades[candidate.index].is_correct:
        on_left_out(INCORRECT)
      elif candidate.finish_reason == "length":
        on_left_out(CUT_OFF)
      elif folded in solutions:
        on_left_out(REPEATED)
      elif len(solutions) == max_per_problem:
        on_left_out(SURPLUS)
      else:
        solutions[folded] = text
    for text in solutions.values():
      yield records.SolvedProblem(sampled.problem, text, SOURCE, "train")


def _worked_text(solution: str) -> str:
  """What stands before the last answer section."""
  text, heading, _ = solution.rpartition(prompts.ANSWER_HEADING)
  return text if heading else solution
