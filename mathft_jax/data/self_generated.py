"""A generator's own correct solutions as rows to train generators on.

Rejection sampling, as in STaR (Zelikman et al., 2022); §5.1 of the paper leaves
it as future work.
"""

import os
import pathlib
from collections.abc import Iterator

from mathft_jax import prompts, records, samples
from mathft_jax.grading import grader

SOURCE = "self_generated"


def read(
  directory: str | os.PathLike[str], max_per_problem: int
) -> Iterator[records.SolvedProblem]:
  """Yields rows of a graded folder of candidates, all in the split "train".

  Of each problem these are its first `max_per_problem` correct candidates that
  differ in more than white space, without their answer section: the reference
  answer is the row's. Candidates that were cut off have no end and are passed
  over, and so is the greedy one.

  The candidates must be those of training problems. Raises FileNotFoundError
  if the folder lacks candidates or their grades, and ValueError if a problem
  was not graded.
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
    solutions: dict[str, str] = {}
    for candidate in sorted(sampled.candidates, key=lambda c: c.index):
      is_correct = graded[problem_id].grades[candidate.index].is_correct
      if is_correct and candidate.finish_reason == "eos":
        text = _worked_text(candidate.solution)
        solutions.setdefault(" ".join(text.split()), text)
    for text in list(solutions.values())[:max_per_problem]:
      yield records.SolvedProblem(sampled.problem, text, SOURCE, "train")


def _worked_text(solution: str) -> str:
  """What stands before the last answer section."""
  text, heading, _ = solution.rpartition(prompts.ANSWER_HEADING)
  return text if heading else solution
