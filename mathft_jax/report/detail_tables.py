"""The tables beside the paper's: what a reader needs to trust the others."""

import collections
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from mathft_jax.report import document, selection, table_rows
from mathft_jax.report.document import Column, Table, Value
from mathft_jax.report.results import (
  DEFAULT_K,
  STOPPING_THRESHOLDS,
  GeneratorResults,
  RunResults,
)
from mathft_jax.rerank import estimators


def evaluators(runs: Sequence[RunResults]) -> Table:
  def rows(run: RunResults) -> Iterator[tuple[Value, ...]]:
    for results in run.evaluators:
      within = results.auc_within_problems()
      yield (
        results.evaluator.name,
        results.evaluator.loss,
        results.generated.generator.label,
        within or table_rows.UNKNOWN,
        within.num_problems if within else 0,
        results.auc_over_candidates() or table_rows.UNKNOWN,
      )
    scored = {results.evaluator.name for results in run.evaluators}
    for evaluator in run.manifest.evaluators:
      if evaluator.name not in scored:
        yield evaluator.name, evaluator.loss, None, None, None, None

  return table_rows.of_runs(
    "evaluators",
    "Evaluators: can they tell correct candidates from incorrect ones?",
    (
      Column("Evaluator"),
      Column("Loss function"),
      Column("Candidates of"),
      Column("AUC within problems", document.RATIO),
      Column("Problems with both kinds", document.COUNT),
      Column("AUC overall", document.RATIO),
    ),
    runs,
    rows,
    (
      "0.5 is guessing. Within problems is what re-ranking needs: the mean"
      " over problems that have both correct and incorrect candidates. The"
      " overall AUC also rewards knowing which problems are easy. Candidates"
      " without an answer are left out, as re-ranking leaves them out.",
    ),
  )


def by_level(runs: Sequence[RunResults]) -> Table:
  return _by_group(
    runs, "levels", "Accuracy by level", "Level", lambda p: p.level
  )


def by_type(runs: Sequence[RunResults]) -> Table:
  return _by_group(runs, "types", "Accuracy by type", "Type", lambda p: p.type)


def candidates(runs: Sequence[RunResults]) -> Table:
  def rows(run: RunResults) -> Iterator[tuple[Value, ...]]:
    for generator in run.manifest.generators:
      results = run.generators.get(generator.name)
      if results is None:
        yield generator.name, *[None] * 6
        continue
      drawn = [c for s in results.problems for c in s.candidates]
      num_answered = sum(
        len(cluster.members)
        for graded in results.graded
        for cluster in graded.clusters
      )
      undecided = sum(
        grade.decided_by == "undecided"
        for graded in results.graded
        for grade in graded.grades.values()
      )
      yield (
        generator.name,
        len(results.problems),
        results.num_candidates
        if results.is_even
        else f"{results.num_shared} to {results.num_candidates}",
        float(np.mean([c.num_tokens for c in drawn])),
        1 - num_answered / len(drawn),
        float(np.mean([c.finish_reason == "length" for c in drawn])),
        undecided,
      )

  return table_rows.of_runs(
    "candidates",
    "Candidates",
    (
      Column("Generator"),
      Column("Problems", document.COUNT),
      Column("N", document.COUNT),
      Column("Mean tokens", document.DECIMAL),
      Column("No answer", document.PERCENT),
      Column("Cut off", document.PERCENT),
      Column("Undecided grades", document.COUNT),
    ),
    runs,
    rows,
    (
      "Cut off: the candidate reached the length limit. Undecided: the grader"
      " met a bound, and the answer counts as incorrect.",
    ),
  )


def samples_used(runs: Sequence[RunResults]) -> Iterator[Table]:
  """One table if problems differ in their number of candidates, else none."""

  def rows(run: RunResults) -> Iterator[tuple[Value, ...]]:
    for results in run.generators.values():
      num_samples = estimators.bootstrap(results.sizes)
      yield (
        results.generator.name,
        len(results.problems),
        results.num_shared,
        num_samples,
        results.num_candidates,
        num_samples.value / results.num_candidates,
        float(np.mean(results.sizes < results.num_candidates)),
      )

  if not selection.uneven(runs):
    return
  yield table_rows.of_runs(
    "samples_used",
    "Samples of each problem",
    (
      Column("Generator"),
      Column("Problems", document.COUNT),
      Column("Fewest", document.COUNT),
      Column("Mean", document.DECIMAL),
      Column("Most", document.COUNT),
      Column("Mean of most", document.PERCENT),
      Column("Problems with fewer", document.PERCENT),
    ),
    runs,
    rows,
    (
      "N is the number of each problem: majority vote, re-ranking and Pass@N"
      " take all samples that it has. What is for a number of samples, which"
      " are one sample, pass@k and maj@k, is of the first samples of each"
      " problem, as many as the one with the fewest has.",
    ),
  )


def adaptive_budgets(runs: Sequence[RunResults]) -> Table:
  """What stopping each problem once its vote is settled would have done."""
  n = selection.num_label(runs)

  def rows(run: RunResults) -> Iterator[tuple[Value, ...]]:
    for results in run.generators.values():
      for threshold in STOPPING_THRESHOLDS:
        yield results.generator.name, threshold, *_replayed(results, threshold)

  return table_rows.of_runs(
    "adaptive_budgets",
    "Adaptive budgets: majority vote that ends once it is settled, replayed",
    (
      Column("Generator"),
      Column("Certainty above", document.RATIO),
      Column("Samples a problem", document.DECIMAL),
      Column("Of most" if n == "N" else f"Of {n}", document.PERCENT),
      Column("Accuracy", document.PERCENT),
      Column(f"To Maj1@{n}", document.POINTS),
      Column("To as many each", document.POINTS),
    ),
    runs,
    rows,
    (
      "Samples count in order of their index, those without an answer too."
      " Certainty: that of the two most frequent answers the first stays ahead"
      " (Beta rule of Adaptive-Consistency). The last column compares with"
      " majority vote over the first k samples of each problem, k the rounded"
      " mean.",
      *(
        (
          f"{table_rows.UNKNOWN}: it takes samples that some problem does not"
          " have.",
        )
        if selection.uneven(runs)
        else ()
      ),
    ),
  )


def ties(runs: Sequence[RunResults]) -> Table:
  def rows(run: RunResults) -> Iterator[tuple[Value, ...]]:
    for results in run.evaluators:
      counts = results.num_ties()
      yield (
        results.evaluator.name,
        results.generated.generator.label,
        len(results.generated.problems),
        *(counts[strategy] for strategy in selection.STRATEGIES),
      )

  return table_rows.of_runs(
    "ties",
    f"Problems that a tie rule decides (K = N\N{PRIME} = {DEFAULT_K})",
    (
      Column("Evaluator"),
      Column("Candidates of"),
      Column("Problems", document.COUNT),
      *(Column(name, document.COUNT) for name in selection.STRATEGIES.values()),
    ),
    runs,
    rows,
    (
      "Two or more answers lead with the same tally. The earliest sample"
      " decides; for Maj1.TopN first the best score.",
    ),
  )


def stages(runs: Sequence[RunResults]) -> Table:
  return table_rows.of_runs(
    "stages",
    "Stages",
    (
      Column("Stage"),
      Column("Kind"),
      Column("Wall time", document.SECONDS),
      Column("Peak memory so far", document.MEBIBYTES),
    ),
    runs,
    lambda run: [
      (
        s.name,
        s.kind,
        table_rows.known(s.seconds),
        table_rows.known(s.peak_rss_bytes),
      )
      for s in run.manifest.stages
    ],
  )


def _replayed(results: GeneratorResults, threshold: float) -> tuple[Value, ...]:
  """The columns of `adaptive_budgets` that a certainty fills."""
  replay = results.replay(threshold)
  if replay is None:
    return (table_rows.UNKNOWN,) * 5
  num_samples = estimators.bootstrap(replay.num_samples)
  as_many = min(round(num_samples.value), results.num_candidates)
  return (
    num_samples,
    num_samples.value / results.num_candidates,
    estimators.bootstrap(replay.is_correct),
    estimators.paired_difference(replay.is_correct, results.majority),
    estimators.paired_difference(
      replay.is_correct, results.maj_first_k[:, as_many - 1]
    )
    if as_many <= results.num_shared
    else table_rows.UNKNOWN,
  )


def _by_group(
  runs: Sequence[RunResults],
  key: str,
  title: str,
  column: str,
  group_of: Callable,
) -> Table:
  n = selection.num_label(runs)

  def rows(run: RunResults) -> Iterator[tuple[Value, ...]]:
    results = run.generators.get(run.main_generator() or "")
    if results is None:
      return
    evaluated = selection.main_evaluated(run)
    if evaluated and evaluated.generated is not results:
      evaluated = None
    members = collections.defaultdict(list)
    for position, sampled in enumerate(results.problems):
      members[group_of(sampled.problem)].append(position)
    for group, positions in sorted(members.items()):
      pass_at_1, majority, any_candidate = table_rows.accuracies(
        results, positions
      )
      yield (
        group or "(none)",
        len(positions),
        pass_at_1,
        majority,
        table_rows.mean(
          evaluated and evaluated.at("weighted_vote_top_clusters", DEFAULT_K),
          positions,
        ),
        any_candidate,
      )

  return table_rows.of_runs(
    key,
    title,
    (
      Column(column),
      Column("Problems", document.COUNT),
      Column("Pass@1", document.PERCENT),
      Column(f"Maj1@{n}", document.PERCENT),
      Column(f"W.RR.Top-{DEFAULT_K}", document.PERCENT),
      Column(f"Pass@{n}", document.PERCENT),
    ),
    runs,
    rows,
    ("Of the generator that the evaluators started from.",),
  )
