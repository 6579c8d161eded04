"""Candidates -> clusters of equivalent answers."""

import concurrent.futures
import dataclasses
import hashlib
import itertools
import json
import multiprocessing
import pathlib
from collections.abc import (
  Callable,
  Hashable,
  Iterable,
  Iterator,
  Mapping,
  Sequence,
)

from mathft_jax import records
from mathft_jax.grading import grader, keys
from mathft_jax.records import Cluster, Grade, GradedProblem, SampledProblem

_FEW_PROBLEMS = 200
_CHUNK = 16


def cluster(
  answers: Sequence[str | None],
  is_equivalent: Callable[[str, str], bool] | None = None,
) -> list[Cluster]:
  """The clusters of one problem's answers, in order of first member.

  A member is a position in `answers`; None and blanks are no answer and join
  no cluster. `is_equivalent` is the grader's by default; then an answer with
  the key of an earlier one joins its cluster, so only answers with new keys
  are compared, and two with decisive keys are not. Equivalence is not always
  transitive (`intransitive_triples`), so an answer is compared with first
  members only, the earliest first, and joins the first that it equals. Where
  equivalence is transitive, the order of the answers does not change who is
  with whom.
  """
  grouping = Grouping(is_equivalent)
  for answer in answers:
    grouping.add(answer)
  return [
    Cluster(answer, tuple(positions))
    for answer, positions in zip(
      grouping.first_answers, grouping.members, strict=True
    )
  ]


class Grouping:
  """What `cluster` does, answer by answer.

  `members` are the positions of each cluster's answers, `first_answers` those
  that founded them. Adding an answer never changes what was there.
  """

  def __init__(self, is_equivalent: Callable[[str, str], bool] | None = None):
    self.members: list[list[int]] = []
    self.first_answers: list[str] = []
    self._is_same, self._key = _comparison(is_equivalent)
    self._num_answers = 0
    self._by_text: dict[str, int] = {}
    self._by_key: dict[Hashable, int] = {}
    # Clusters whose first member's key does not decide.
    self._undecided: list[int] = []

  def add(self, answer: str | None) -> int | None:
    """The number of the cluster that the next answer joins, if it is one."""
    position = self._num_answers
    self._num_answers += 1
    if answer is None or not answer.strip():
      return None
    if answer not in self._by_text:
      self._by_text[answer] = self._find(answer)
    number = self._by_text[answer]
    self.members[number].append(position)
    return number

  def _find(self, answer: str) -> int:
    """The cluster of a new text, maybe a new one."""
    found = self._key(answer)
    if found.value not in self._by_key:
      everyone = range(len(self.members))
      rivals = self._undecided if found.is_decisive else everyone
      self._by_key[found.value] = next(
        (i for i in rivals if self._is_same(self.first_answers[i], answer)),
        len(self.members),
      )
    number = self._by_key[found.value]
    if number == len(self.members):
      if not found.is_decisive:
        self._undecided.append(number)
      self.members.append([])
      self.first_answers.append(answer)
    return number


def _comparison(
  is_equivalent: Callable[[str, str], bool] | None,
) -> tuple[Callable[[str, str], bool], Callable[[str], keys.Key]]:
  if is_equivalent is None:
    return grader.is_same, keys.key
  return is_equivalent, lambda answer: keys.Key(answer, False)


@dataclasses.dataclass(frozen=True)
class IntransitiveTriple:
  """Two answers that are not the same, though `middle` is the same as both."""

  first: str
  middle: str
  second: str


def intransitive_triples(
  answers: Iterable[str | None],
  is_equivalent: Callable[[str, str], bool] | None = None,
) -> list[IntransitiveTriple]:
  """Where equivalence is not transitive among one problem's answers.

  There the clusters depend on which answer came first. Answers with the same
  key are looked at once. Each is compared with each, but for those that keys
  tell apart, so this is an audit, and no step of grading.
  """
  is_same, key = _comparison(is_equivalent)
  found = {
    key(answer).value: answer for answer in answers if answer and answer.strip()
  }
  texts = sorted(found.values())
  decided = {text for text in texts if key(text).is_decisive}
  same = {
    frozenset((a, b))
    for a, b in itertools.combinations(texts, 2)
    if not {a, b} <= decided and is_same(a, b)
  }
  return [
    IntransitiveTriple(first, middle, second)
    for middle in texts
    for first, second in itertools.combinations(
      [text for text in texts if frozenset((text, middle)) in same], 2
    )
    if frozenset((first, second)) not in same
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
    grader=grader.version(),
    grades={c.index: by_answer[c.answer] for c in [*greedy, *candidates]},
    clusters=tuple(clusters),
    answers_sha256=_answers_sha256(sampled),
  )


def check_graded(sampled: SampledProblem, graded: GradedProblem) -> None:
  """Raises ValueError if grades are of other answers than the candidates'."""
  if graded.answers_sha256 != _answers_sha256(sampled):
    raise ValueError(
      f"problem {sampled.problem.problem_id!r} has other answers, or another"
      " reference, than when it was graded; delete the grades file, or grade"
      " into another one"
    )


def _answers_sha256(sampled: SampledProblem) -> str:
  greedy = [sampled.greedy] if sampled.greedy else []
  by_index = {c.index: c.answer for c in [*greedy, *sampled.candidates]}
  what = [sampled.problem.reference_answer, sorted(by_index.items())]
  return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def grade_problems(
  sampled: Sequence[SampledProblem],
  num_workers: int = 1,
  cache: pathlib.Path | None = None,
) -> Iterator[GradedProblem]:
  """`grade_problem` of each, in order, over several processes.

  A process starts in a third of a second, so few problems are graded in this
  one. `cache` is the file of a `verdicts.VerdictCache`. Raises ValueError if it
  is none.
  """
  grader.use_cache(cache)  # A file that is none shows here, and early.
  try:
    if num_workers == 1 or len(sampled) < _FEW_PROBLEMS:
      yield from map(grade_problem, sampled)
      return
    # Forking a process with threads, as JAX and TensorFlow have, may hang it.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
      num_workers, context, initializer=grader.use_cache, initargs=(cache,)
    ) as pool:
      yield from pool.map(grade_problem, sampled, chunksize=_CHUNK)
  finally:
    grader.use_cache(None)


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
