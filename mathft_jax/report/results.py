"""Run directories -> correctness of every pick on every problem."""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int

from mathft_jax import records, samples
from mathft_jax.records import Cluster, GradedProblem, SampledProblem
from mathft_jax.report import manifest
from mathft_jax.rerank import (
  clusters,
  estimators,
  rerankers,
  stopping,
  sweeps,
)

# K and N' of the columns that do not choose them by looking at the results.
DEFAULT_K = 8
# Certainties at which an adaptive budget would have stopped.
STOPPING_THRESHOLDS = (0.8, 0.9, 0.95, 0.99, 0.999)


@dataclasses.dataclass(frozen=True)
class GeneratorResults:
  """One generator's graded candidates; problems stand in order of their id.

  That order makes a resumed run's report equal to an unbroken run's. Problems
  may differ in their number of candidates, of which N is the largest and M the
  smallest. In the columns of [P, N] behind a problem's own, no candidate is
  correct or has an answer. Columns of [P, M] are of the first M candidates of
  each problem, by index: how many follow may depend on their answers, and then
  a mean over all of them is no estimate of what one is worth.
  """

  generator: manifest.Generator
  problems: tuple[SampledProblem, ...]
  graded: tuple[GradedProblem, ...]

  @functools.cached_property
  def sizes(self) -> Int[np.ndarray, " P"]:
    """How many candidates each problem has."""
    return np.array([len(sampled.candidates) for sampled in self.problems])

  @property
  def num_candidates(self) -> int:
    """The most that a problem has, N."""
    return int(self.sizes.max())

  @property
  def num_shared(self) -> int:
    """As many as every problem has, M."""
    return int(self.sizes.min())

  @property
  def is_even(self) -> bool:
    """Whether all problems have the same number of candidates."""
    return self.num_shared == self.num_candidates

  @property
  def num_label(self) -> str:
    """N as a number if all problems share it, else the letter."""
    return str(self.num_candidates) if self.is_even else "N"

  @functools.cached_property
  def ids(self) -> tuple[str, ...]:
    return tuple(s.problem.problem_id for s in self.problems)

  @functools.cached_property
  def greedy(self) -> Float[np.ndarray, " P"] | None:
    """Pass@1; None unless every problem has a greedy candidate."""
    if any(sampled.greedy is None for sampled in self.problems):
      return None
    return np.array(
      [g.grades[records.GREEDY_INDEX].is_correct for g in self.graded], float
    )

  @functools.cached_property
  def candidates(self) -> Bool[np.ndarray, "P N"]:
    """Which candidates are correct, by rising index."""
    found = np.zeros((len(self.graded), self.num_candidates), bool)
    for row, sampled, graded in zip(
      found, self.problems, self.graded, strict=True
    ):
      indices = sorted(c.index for c in sampled.candidates)
      row[: len(indices)] = [graded.grades[i].is_correct for i in indices]
    return found

  @property
  def any_candidate(self) -> Float[np.ndarray, " P"]:
    """Pass@N."""
    return self.candidates.any(axis=1).astype(float)

  @property
  def mean_candidate(self) -> Float[np.ndarray, " P"]:
    """The share of correct ones among the first M."""
    return self.candidates[:, : self.num_shared].mean(axis=1)

  @functools.cached_property
  def majority(self) -> Float[np.ndarray, " P"]:
    """Maj1@N."""
    picks = [
      rerankers.majority_vote(g.clusters) if g.clusters else None
      for g in self.graded
    ]
    return np.array(
      [
        is_correct_pick(g, pick)
        for g, pick in zip(self.graded, picks, strict=True)
      ],
      float,
    )

  @functools.cached_property
  def top_clusters(self) -> Float[np.ndarray, "P N"]:
    """MajK@N: whether any of the K largest clusters is correct."""
    found = np.zeros((len(self.graded), self.num_candidates))
    for row, graded in zip(found, self.graded, strict=True):
      ranked = rerankers.top_clusters(graded.clusters, len(row))
      for rank, cluster in enumerate(ranked):
        if clusters.is_correct(cluster, graded.grades):
          row[rank:] = 1
          break
    return found

  @functools.cached_property
  def pass_at_k(self) -> Float[np.ndarray, "P M"]:
    shared = self.candidates[:, : self.num_shared]
    return estimators.pass_at_k_curves(
      self.num_shared, shared.sum(axis=1).tolist()
    )

  @functools.cached_property
  def maj_at_k(self) -> Float[np.ndarray, "P M"]:
    labels, is_correct = self._labelled
    shared = labels[:, : self.num_shared]
    return np.array(
      [
        estimators.maj_at_k_curve(*problem, seed)
        for seed, problem in enumerate(zip(shared, is_correct, strict=True))
      ]
    )

  @property
  def maj_first_k(self) -> Float[np.ndarray, "P M"]:
    """Majority vote over the first k candidates."""
    return self.tallies.is_correct[:, : self.num_shared].astype(float)

  def replay(self, threshold: float) -> stopping.Replay | None:
    """What ending each problem once it is settled would have done.

    None if the candidates do not tell: where some problem with fewer than N is
    not settled by those that it has.
    """
    rule = stopping.BetaStopping(threshold)
    found = stopping.replay(self.tallies, rule, self.sizes)
    is_unknown = ~found.is_settled & (self.sizes < self.num_candidates)
    return None if np.any(is_unknown) else found

  @functools.cached_property
  def tallies(self) -> stopping.Tallies:
    """The votes after each candidate; they stay where a problem has no more."""
    return stopping.tallies(*self._labelled)

  @functools.cached_property
  def _labelled(
    self,
  ) -> tuple[Int[np.ndarray, "P N"], Bool[np.ndarray, "P C"]]:
    """The candidates' clusters, -1 for none; which clusters are correct."""
    labels = np.full((len(self.graded), self.num_candidates), -1)
    num_clusters = max(len(graded.clusters) for graded in self.graded)
    is_correct = np.zeros((len(self.graded), num_clusters), bool)
    for row, (sampled, graded) in enumerate(
      zip(self.problems, self.graded, strict=True)
    ):
      indices = sorted(c.index for c in sampled.candidates)
      place = {index: column for column, index in enumerate(indices)}
      for label, cluster in enumerate(graded.clusters):
        labels[row, [place[index] for index in cluster.members]] = label
        is_correct[row, label] = clusters.is_correct(cluster, graded.grades)
    return labels, is_correct


@dataclasses.dataclass(frozen=True)
class EvaluatorResults:
  """One evaluator's view of one generator's candidates."""

  evaluator: manifest.Evaluator
  generated: GeneratorResults
  scores: tuple[Mapping[int, float], ...]

  @functools.cached_property
  def clusters(self) -> tuple[list[Cluster], ...]:
    return tuple(
      clusters.with_scores(graded.clusters, scores)
      for graded, scores in zip(self.generated.graded, self.scores, strict=True)
    )

  @functools.cached_property
  def fixed(self) -> dict[str, Float[np.ndarray, " P"]]:
    """Correctness of the rerankers without K, by name."""
    picks = [sweeps.fixed_picks(found) for found in self.clusters]
    return {
      name: np.array(
        [
          is_correct_pick(graded, pick[name])
          for graded, pick in zip(self.generated.graded, picks, strict=True)
        ],
        float,
      )
      for name in sweeps.FIXED
    }

  @functools.cached_property
  def swept(self) -> dict[str, Float[np.ndarray, "P N"]]:
    """Correctness of the rerankers with K or N' = 1 ... N, by name."""
    size = self.generated.num_candidates
    picks = [sweeps.swept_picks(found, size) for found in self.clusters]
    return {
      name: np.array(
        [
          [is_correct_pick(graded, answer) for answer in pick[name]]
          for graded, pick in zip(self.generated.graded, picks, strict=True)
        ],
        float,
      )
      for name in sweeps.SWEPT
    }

  @functools.cached_property
  def cost_ratio(self) -> Float[np.ndarray, " N"]:
    """The share of all candidates that the K largest clusters hold."""
    size = self.generated.num_candidates
    counts = [sweeps.num_scored(found, size) for found in self.clusters]
    return np.sum(counts, axis=0) / self.generated.sizes.sum()

  def at(self, name: str, k: int) -> Float[np.ndarray, " P"]:
    """Correctness of one reranker; `k` matters to the swept ones only."""
    if name in self.fixed:
      return self.fixed[name]
    return self.swept[name][:, min(k, self.generated.num_candidates) - 1]

  def num_ties(self) -> dict[str, int]:
    """On how many problems the tie rule decides, at the default K and N'."""
    ties = [sweeps.is_tied(c, DEFAULT_K, DEFAULT_K) for c in self.clusters]
    return {name: sum(t[name] for t in ties) for name in ties[0]}

  def auc_within_problems(self) -> estimators.Estimate | None:
    return estimators.auc_within_problems(*self._scored_candidates())

  def auc_over_candidates(self) -> estimators.Estimate | None:
    return estimators.auc_over_candidates(*self._scored_candidates())

  def _scored_candidates(self):
    scores, is_correct = [], []
    for graded, by_index in zip(
      self.generated.graded, self.scores, strict=True
    ):
      # Those that re-ranking chooses from: without an answer, a candidate is
      # incorrect and easily seen to be.
      answered = {i for c in graded.clusters for i in c.members}
      indices = sorted(answered & by_index.keys())
      scores.append(np.array([by_index[i] for i in indices], float))
      is_correct.append(
        np.array([graded.grades[i].is_correct for i in indices], bool)
      )
    return scores, is_correct


@dataclasses.dataclass(frozen=True)
class RunResults:
  """Everything that one run directory holds."""

  manifest: manifest.Manifest
  generators: Mapping[str, GeneratorResults]
  evaluators: tuple[EvaluatorResults, ...]

  def find_evaluated(
    self, evaluator: manifest.Evaluator, generator: str | None
  ) -> EvaluatorResults | None:
    for results in self.evaluators:
      if (
        results.evaluator.name == evaluator.name
        and results.generated.generator.name == generator
      ):
        return results
    return None

  def main_generator(self) -> str | None:
    """The generator that evaluators start from; else the last first one."""
    names = [g.name for g in self.manifest.generators]
    for evaluator in self.manifest.evaluators:
      if evaluator.initial in names:
        return evaluator.initial
    firsts = [
      g.name
      for g in self.manifest.generators
      if g.evaluator_loss is None and g.is_decoded
    ]
    return firsts[-1] if firsts else None


def is_correct_pick(graded: GradedProblem, answer: str | None) -> bool:
  """Whether a picked answer is correct; no answer is wrong."""
  for cluster in graded.clusters:
    if cluster.answer == answer:
      return clusters.is_correct(cluster, graded.grades)
  return False


def read(run: manifest.Manifest) -> RunResults:
  """Reads all candidates, grades and scores of a run.

  Raises ValueError where they do not belong together, FileNotFoundError for
  a file that the manifest names.
  """
  generators = {
    generator.name: _read_generator(run, generator)
    for generator in run.generators
    if generator.is_decoded
  }
  evaluators = tuple(
    _read_evaluator(run, evaluator, generators[name], path)
    for evaluator in run.evaluators
    for name, path in evaluator.scores.items()
    if path is not None and name in generators
  )
  return RunResults(run, generators, evaluators)


def _read_generator(
  run: manifest.Manifest, generator: manifest.Generator
) -> GeneratorResults:
  assert generator.candidates is not None and generator.grades is not None
  directory = run.directory / generator.candidates
  path = run.directory / generator.grades
  problems = sorted(
    samples.read_candidates(directory), key=lambda s: s.problem.problem_id
  )
  if not problems:
    raise ValueError(f"{directory} holds no problem")
  grades = samples.read_grades(path)
  for sampled in problems:
    if not sampled.candidates:
      raise ValueError(
        f"{directory}: problem {sampled.problem.problem_id!r} has no candidate"
        " besides the greedy one; every problem needs at least 1"
      )
  _check_same_problems(
    {s.problem.problem_id for s in problems}, set(grades), path, "grade"
  )
  graded = tuple(grades[s.problem.problem_id] for s in problems)
  for sampled, one in zip(problems, graded, strict=True):
    wanted = {c.index for c in sampled.candidates}
    if sampled.greedy:
      wanted.add(records.GREEDY_INDEX)
    _check_indices(
      wanted, wanted, set(one.grades), path, one.problem_id, "grade"
    )
    members = {i for cluster in one.clusters for i in cluster.members}
    if not members <= wanted:
      raise ValueError(
        f"{path}: problem {one.problem_id!r} has a cluster of candidates that"
        f" nobody drew: {sorted(members - wanted)[:5]}"
      )
  return GeneratorResults(generator, tuple(problems), graded)


def _read_evaluator(
  run: manifest.Manifest,
  evaluator: manifest.Evaluator,
  generated: GeneratorResults,
  relative: str,
) -> EvaluatorResults:
  path = run.directory / relative
  scored = samples.read_scores(path)
  _check_same_problems(set(generated.ids), set(scored), path, "score")
  for sampled, graded in zip(generated.problems, generated.graded, strict=True):
    known = {c.index for c in sampled.candidates} | {records.GREEDY_INDEX}
    problem_id = sampled.problem.problem_id
    found = set(scored[problem_id].scores)
    wanted = {i for cluster in graded.clusters for i in cluster.members}
    _check_indices(wanted, known, found, path, problem_id, "score")
  return EvaluatorResults(
    evaluator, generated, tuple(scored[i].scores for i in generated.ids)
  )


def _check_same_problems(
  problems: set[str], found: set[str], path, verb: str
) -> None:
  if found - problems:
    raise ValueError(
      f"{path}: {len(found - problems)} problems are not among the"
      f" candidates, such as {min(found - problems)!r}; {verb} the candidates"
      " of this directory"
    )
  if problems - found:
    raise ValueError(
      f"{path}: {len(problems - found)} of {len(problems)} problems are"
      f" missing, such as {min(problems - found)!r}; let the stage finish"
    )


def _check_indices(
  wanted: set[int],
  known: set[int],
  found: set[int],
  path,
  problem_id: str,
  noun: str,
) -> None:
  if found - known:
    raise ValueError(
      f"{path}: problem {problem_id!r} has a {noun} for candidates that nobody"
      f" drew: {sorted(found - known)[:5]}"
    )
  if wanted - found:
    raise ValueError(
      f"{path}: problem {problem_id!r} has no {noun} for candidates"
      f" {sorted(wanted - found)[:5]}; let the stage finish"
    )
