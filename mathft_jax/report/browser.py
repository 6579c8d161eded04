"""Single problems to look at: clusters, scores, picks."""

import math
from collections.abc import Sequence

from mathft_jax.records import Cluster, SampledProblem
from mathft_jax.report import selection
from mathft_jax.report.document import (
  Browser,
  ClusterView,
  Exemplar,
  Pick,
  ProblemView,
)
from mathft_jax.report.results import (
  DEFAULT_K,
  EvaluatorResults,
  GeneratorResults,
  RunResults,
  is_correct_pick,
)
from mathft_jax.rerank import clusters, rerankers, sweeps

# What a page can carry: solutions of the largest clusters, cut where endless.
_NUM_EXEMPLARS = 8
_MAX_CHARACTERS = 4_000

_FILTERS = {
  "missed": "Maj1 is wrong, but some sample is right",
  "gained": "wrong by Maj1, right by W.RR.MajK",
  "lost": "right by Maj1, wrong by W.RR.MajK",
  "unsolved": "no sample is right",
  "undecided": "the grader left an answer undecided",
}


def browsers(runs: Sequence[RunResults]) -> list[Browser]:
  """One for each run's main generator, with all evaluators that scored it."""
  found = []
  for run in runs:
    results = run.generators.get(run.main_generator() or "")
    if results is None:
      continue
    evaluated = [e for e in run.evaluators if e.generated is results]
    found.append(
      Browser(
        title=f"{run.manifest.name}: {results.generator.label}",
        evaluators=tuple(e.evaluator.name for e in evaluated),
        filters=dict(_FILTERS),
        problems=tuple(
          _problem_view(results, evaluated, position)
          for position in range(len(results.problems))
        ),
      )
    )
  return found


def _problem_view(
  results: GeneratorResults,
  evaluated: Sequence[EvaluatorResults],
  position: int,
) -> ProblemView:
  sampled = results.problems[position]
  picks = tuple(_picks(results, evaluated, position))
  return ProblemView(
    problem_id=sampled.problem.problem_id,
    level=sampled.problem.level,
    type=sampled.problem.type,
    text=sampled.problem.text,
    reference_answer=sampled.problem.reference_answer,
    num_candidates=len(sampled.candidates),
    num_correct=int(results.candidates[position].sum()),
    num_unanswered=(
      len(sampled.candidates)
      - sum(map(rerankers.size, results.graded[position].clusters))
    ),
    clusters=tuple(_cluster_views(results, evaluated, position)),
    picks=picks,
    tags=tuple(_tags(results, evaluated, position)),
  )


def _cluster_views(
  results: GeneratorResults,
  evaluated: Sequence[EvaluatorResults],
  position: int,
):
  graded = results.graded[position]
  ranked = rerankers.top_clusters(graded.clusters, max(1, len(graded.clusters)))
  for rank, cluster in enumerate(ranked):
    scored = [
      clusters.with_scores([cluster], e.scores[position])[0] for e in evaluated
    ]
    yield ClusterView(
      answer=cluster.answer,
      is_correct=clusters.is_correct(cluster, graded.grades),
      size=rerankers.size(cluster),
      total_scores=tuple(rerankers.total_score(c) for c in scored),
      best_scores=tuple(math.exp(rerankers.best_score(c)) for c in scored),
      exemplar=(
        _exemplar(results.problems[position], (scored or [cluster])[0])
        if rank < _NUM_EXEMPLARS
        else None
      ),
    )


def _exemplar(sampled: SampledProblem, cluster: Cluster) -> Exemplar:
  """The cluster's best-scored candidate; its first where nobody scored."""
  score = max(cluster.scores, default=None)
  index = cluster.members[0 if score is None else cluster.scores.index(score)]
  text = next(c.solution for c in sampled.candidates if c.index == index)
  if len(text) > _MAX_CHARACTERS:
    text = text[:_MAX_CHARACTERS] + " \N{HORIZONTAL ELLIPSIS} (cut here)"
  return Exemplar(index, text, score)


def _picks(
  results: GeneratorResults,
  evaluated: Sequence[EvaluatorResults],
  position: int,
):
  sampled, graded = results.problems[position], results.graded[position]
  if sampled.greedy is not None:
    grade = graded.grades[sampled.greedy.index]
    yield Pick("Pass@1", sampled.greedy.answer, grade.is_correct)
  majority = (
    rerankers.majority_vote(graded.clusters) if graded.clusters else None
  )
  yield Pick("Maj1", majority, is_correct_pick(graded, majority))
  for e in evaluated:
    found = e.clusters[position]
    answers = sweeps.fixed_picks(found)
    for name, reranker in sweeps.SWEPT.items():
      answers[name] = reranker(found, DEFAULT_K) if found else None
    for strategy, name in selection.STRATEGIES.items():
      if strategy != "majority_vote":
        answer = answers[strategy]
        yield Pick(
          f"{name} ({e.evaluator.name})",
          answer,
          is_correct_pick(graded, answer),
        )


def _tags(
  results: GeneratorResults,
  evaluated: Sequence[EvaluatorResults],
  position: int,
):
  by_majority = bool(results.majority[position])
  is_solvable = bool(results.candidates[position].any())
  if is_solvable and not by_majority:
    yield "missed"
  if not is_solvable:
    yield "unsolved"
  by_evaluator = [
    bool(e.at("weighted_vote_top_clusters", DEFAULT_K)[position])
    for e in evaluated
  ]
  if not by_majority and any(by_evaluator):
    yield "gained"
  if by_majority and not all(by_evaluator):
    yield "lost"
  grades = results.graded[position].grades.values()
  if any(grade.decided_by == "undecided" for grade in grades):
    yield "undecided"
