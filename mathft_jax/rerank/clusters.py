"""Candidates -> clusters of equivalent answers."""

import concurrent.futures
import dataclasses
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence

from mathft_jax import records
from mathft_jax.grading import grader
from mathft_jax.records import Cluster, Grade, GradedProblem, SampledProblem

_FEW_PROBLEMS = 200
_CHUNK = 16


def cluster(
  answers: Sequence[str | None],
  is_equivalent: Callable[[str, str], bool] = grader.is_same,
) -> list[Cluster]:
  """The clusters of one problem's answers, in order of first member.

  A member is a position in `answers`; None and blanks are no answer and join
  no cluster. Equivalence is not always transitive, so an answer is compared
  with first members only, the earliest first, and joins the first that it
  equals. The same text is always in the same cluster.
  """
  members: list[list[int]] = []
  first_answers: list[str] = []
  found: dict[str, int] = {}
  for position, answer in enumerate(answers):
    if answer is None or not answer.strip():
      continue
    if answer not in found:
      found[answer] = next(
        (
          i
          for i, first in enumerate(first_answers)
          if is_equivalent(first, answer)
        ),
        len(first_answers),
      )
      if found[answer] == len(first_answers):
        first_answers.append(answer)
        members.append([])
    members[found[answer]].append(position)
  return [
    Cluster(answer, tuple(positions))
    for answer, positions in zip(first_answers, members, strict=True)
  ]


def grade_problem(sampled: SampledProblem) -> GradedProblem:
  """Grades all candidates, the greedy one too, and clusters the sampled.

  Each distinct answer is graded once.
  """
  candidates = sorted(sampled.candidates, key=lambda c: c.index)
  greedy = [sampled.greedy] if sampled.greedy else []
  by_answer: dict[str | None, Grade] = {}
  for candidate in [*greedy, *candidates]:
    if candidate.answer not in by_answer:
      by_answer[candidate.answer] = grader.grade(
        sampled.problem.reference_answer, candidate.answer
      )
  clusters = [
    dataclasses.replace(
      c, members=tuple(candidates[position].index for position in c.members)
    )
    for c in cluster([c.answer for c in candidates])
  ]
  return GradedProblem(
    problem_id=sampled.problem.problem_id,
    grader=grader.GRADER,
    grades={c.index: by_answer[c.answer] for c in [*greedy, *candidates]},
    clusters=tuple(clusters),
  )


def grade_problems(
  sampled: Sequence[SampledProblem], num_workers: int = 1
) -> Iterator[GradedProblem]:
  """`grade_problem` of each, in order, over several processes.

  A process starts in a third of a second, so few problems are graded in this
  one.
  """
  if num_workers == 1 or len(sampled) < _FEW_PROBLEMS:
    yield from map(grade_problem, sampled)
    return
  # Forking a process with threads, as JAX and TensorFlow have, may hang it.
  context = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(num_workers, context) as pool:
    yield from pool.map(grade_problem, sampled, chunksize=_CHUNK)


def with_scores(
  clusters: Sequence[Cluster], scores: Mapping[int, float]
) -> list[Cluster]:
  """The clusters with log P(correct), in nats, of each of their members.

  Raises ValueError for a member without a score; scores of candidates that
  are in no cluster are passed over.
  """
  missing = [i for c in clusters for i in c.members if i not in scores]
  if missing:
    raise ValueError(
      f"candidates {missing[:5]} have no score ({len(missing)} in all); let"
      " the scoring finish, or score these candidates"
    )
  return [
    dataclasses.replace(c, scores=tuple(scores[i] for i in c.members))
    for c in clusters
  ]


def is_correct(cluster_: Cluster, grades: Mapping[int, records.Grade]) -> bool:
  """Whether a cluster's answer is correct: its first member's grade."""
  return grades[cluster_.members[0]].is_correct
