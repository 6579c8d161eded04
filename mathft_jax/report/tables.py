"""The paper's tables, and what else a reader needs to trust them."""

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float

from mathft_jax.report import document, manifest
from mathft_jax.report.document import Column, Table, Value
from mathft_jax.report.results import (
  DEFAULT_K,
  EvaluatorResults,
  GeneratorResults,
  RunResults,
)
from mathft_jax.rerank import estimators

# What the paper's tables call the rerankers, in the order of Table 7.
STRATEGIES = {
  "best_of_n": "RR.All",
  "best_of_top_clusters": "RR.MajK",
  "weighted_vote": "W.RR",
  "weighted_vote_top_clusters": "W.RR.MajK",
  "majority_vote": "Maj1",
  "majority_vote_top_n": "Maj1.TopN",
}

# The losses of Tables 3, 4 and 7; each has a row, run or not.
LOSSES = ("cls_margin", "cls_xent")

_UNKNOWN = "\N{EN DASH}"
_FEW_SHOT = "few-shot (base model)"


def data(runs: Sequence[RunResults]) -> Table:
  return _table(
    "table_1",
    "Table 1: Problems by split, and mean lengths in tokens",
    (
      Column("Data source"),
      Column("Training", document.COUNT),
      Column("Validation", document.COUNT),
      Column("Test", document.COUNT),
      Column("Problem length", document.DECIMAL),
      Column("Solution length", document.DECIMAL),
    ),
    runs,
    lambda run: [
      (
        source.source,
        source.train,
        source.validation,
        source.test,
        _known(source.problem_tokens),
        _known(source.solution_tokens),
      )
      for source in run.manifest.data
    ],
  )


def generators(runs: Sequence[RunResults]) -> Table:
  n = num_label(runs)

  def rows(run: RunResults) -> Iterator[tuple[Value, ...]]:
    firsts = [g for g in run.manifest.generators if g.evaluator_loss is None]
    if all(g.data is not None for g in firsts):
      yield _FEW_SHOT, None, None, None, None, None
    for generator in sorted(firsts, key=lambda g: g.data is not None):
      results = run.generators.get(generator.name)
      label = generator.label if generator.data else _FEW_SHOT
      yield (
        label,
        _known(generator.num_params),
        *_accuracies(results),
        _mean(results and results.mean_candidate),
      )

  return _table(
    "table_2",
    "Table 2: Supervised solution fine-tuning",
    (
      Column("Fine-tuned on"),
      Column("Parameters", document.COUNT),
      *_accuracy_columns(n),
      Column("One sample", document.PERCENT),
    ),
    runs,
    rows,
    (
      f"Pass@1 is greedy; Maj1@{n} is the largest cluster; Pass@{n} counts a"
      " problem as solved if any sample is correct. One sample is the mean"
      " accuracy of a single sample.",
    ),
  )


def reranking(runs: Sequence[RunResults]) -> Table:
  n = num_label(runs)

  def rows(run: RunResults) -> Iterator[tuple[Value, ...]]:
    for loss, evaluator, evaluated in by_loss(run):
      generated = run.generators.get(_home(run, evaluator) or "")
      pass_at_1, majority, _ = _accuracies(generated)
      yield (
        loss,
        evaluator.name if evaluator else None,
        pass_at_1,
        majority,
        _mean(evaluated and evaluated.at("best_of_n", DEFAULT_K)),
        _mean(evaluated and evaluated.at("best_of_top_clusters", DEFAULT_K)),
        _mean(
          evaluated and evaluated.at("weighted_vote_top_clusters", DEFAULT_K)
        ),
      )

  return _table(
    "table_3",
    "Table 3: Solution-cluster re-ranking, by the evaluator's loss",
    (
      Column("Loss function"),
      Column("Evaluator"),
      Column("Pass@1", document.PERCENT),
      Column(f"Maj1@{n}", document.PERCENT),
      Column("RR.All", document.PERCENT),
      Column(f"RR.Top-{DEFAULT_K}", document.PERCENT),
      Column(f"W.RR.Top-{DEFAULT_K}", document.PERCENT),
    ),
    runs,
    rows,
    (f"Top-{DEFAULT_K} re-ranks the {DEFAULT_K} largest clusters.",),
  )


def multitask(runs: Sequence[RunResults]) -> Table:
  n = num_label(runs)

  def rows(run: RunResults) -> Iterator[tuple[Value, ...]]:
    baseline = run.main_generator()
    yield (
      "yes",
      _UNKNOWN,
      *_accuracies(run.generators.get(baseline or "")),
    )
    for loss, generator in second_generators(run):
      results = run.generators.get(generator.name) if generator else None
      yield "no", loss, *_accuracies(results)

  return _table(
    "table_4",
    "Table 4: Generator, then evaluator, then generator again",
    (
      Column("Baseline"),
      Column("Evaluator loss function"),
      *_accuracy_columns(n),
    ),
    runs,
    rows,
    ("The baseline is the generator that the evaluators started from.",),
  )


def strategies(runs: Sequence[RunResults]) -> Table:
  def rows(run: RunResults) -> Iterator[tuple[Value, ...]]:
    for loss, evaluator, evaluated in by_loss(run):
      name = evaluator.name if evaluator else None
      if evaluated is None:
        yield loss, name, None, *[None] * len(STRATEGIES)
        continue
      best = {s: best_k(evaluated, s) for s in STRATEGIES}
      chosen = ", ".join(
        f"{STRATEGIES[s]} {k}" for s, k in best.items() if k is not None
      )
      yield (
        loss,
        name,
        f"best: {chosen}",
        *(_mean(evaluated.at(s, k or DEFAULT_K)) for s, k in best.items()),
      )
      yield (
        loss,
        name,
        f"fixed: {DEFAULT_K}",
        *(_mean(evaluated.at(s, DEFAULT_K)) for s in STRATEGIES),
      )

  return _table(
    "table_7",
    "Table 7: Re-ranking strategies",
    (
      Column("Loss function"),
      Column("Evaluator"),
      Column("K or N\N{PRIME}"),
      *(Column(name, document.PERCENT) for name in STRATEGIES.values()),
    ),
    runs,
    rows,
    (
      "The rows marked best are optimistic, as in the paper: K and N\N{PRIME}"
      " were chosen by the accuracy on these same problems, and the interval"
      " does not know of the choice. The rows marked fixed use"
      f" K = N\N{PRIME} = {DEFAULT_K}.",
    ),
  )


def evaluators(runs: Sequence[RunResults]) -> Table:
  def rows(run: RunResults) -> Iterator[tuple[Value, ...]]:
    for results in run.evaluators:
      within = results.auc_within_problems()
      yield (
        results.evaluator.name,
        results.evaluator.loss,
        results.generated.generator.label,
        within or _UNKNOWN,
        within.num_problems if within else 0,
        results.auc_over_candidates() or _UNKNOWN,
      )
    scored = {results.evaluator.name for results in run.evaluators}
    for evaluator in run.manifest.evaluators:
      if evaluator.name not in scored:
        yield evaluator.name, evaluator.loss, None, None, None, None

  return _table(
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
      " overall AUC also rewards knowing which problems are easy.",
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
        results.num_candidates,
        float(np.mean([c.num_tokens for c in drawn])),
        1 - num_answered / len(drawn),
        float(np.mean([c.finish_reason == "length" for c in drawn])),
        undecided,
      )

  return _table(
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


def ties(runs: Sequence[RunResults]) -> Table:
  def rows(run: RunResults) -> Iterator[tuple[Value, ...]]:
    for results in run.evaluators:
      counts = results.num_ties()
      yield (
        results.evaluator.name,
        results.generated.generator.label,
        len(results.generated.problems),
        *(counts[strategy] for strategy in STRATEGIES),
      )

  return _table(
    "ties",
    f"Problems that a tie rule decides (K = N\N{PRIME} = {DEFAULT_K})",
    (
      Column("Evaluator"),
      Column("Candidates of"),
      Column("Problems", document.COUNT),
      *(Column(name, document.COUNT) for name in STRATEGIES.values()),
    ),
    runs,
    rows,
    (
      "Two or more answers lead with the same tally. The earliest sample"
      " decides; for Maj1.TopN first the best score.",
    ),
  )


def stages(runs: Sequence[RunResults]) -> Table:
  return _table(
    "stages",
    "Stages",
    (
      Column("Stage"),
      Column("Kind"),
      Column("Wall time", document.SECONDS),
      Column("Peak memory", document.MEBIBYTES),
    ),
    runs,
    lambda run: [
      (s.name, s.kind, _known(s.seconds), _known(s.peak_rss_bytes))
      for s in run.manifest.stages
    ],
  )


def num_label(runs: Sequence[RunResults]) -> str:
  """N as a number if all candidates share it, else the letter."""
  sizes = {r.num_candidates for run in runs for r in run.generators.values()}
  return str(sizes.pop()) if len(sizes) == 1 else "N"


def by_loss(
  run: RunResults,
) -> Iterator[tuple[str, manifest.Evaluator | None, EvaluatorResults | None]]:
  """Every evaluator on its own generator, or a loss that was not run."""
  grouped = _grouped((e.loss, e) for e in run.manifest.evaluators)
  for loss, found in grouped.items():
    for evaluator in found or [None]:
      yield (
        loss,
        evaluator,
        run.find_evaluated(evaluator, _home(run, evaluator))
        if evaluator
        else None,
      )


def second_generators(
  run: RunResults,
) -> Iterator[tuple[str, manifest.Generator | None]]:
  """Every second generator, or a loss that was not run."""
  grouped = _grouped(
    (g.evaluator_loss, g)
    for g in run.manifest.generators
    if g.evaluator_loss is not None
  )
  for loss, found in grouped.items():
    for generator in found or [None]:
      yield loss, generator


def main_evaluated(run: RunResults) -> EvaluatorResults | None:
  """The evaluator for views that show one: cls_xent, as Figure 1 has it."""
  found = [evaluated for _, _, evaluated in by_loss(run) if evaluated]
  for evaluated in found:
    if evaluated.evaluator.loss == "cls_xent":
      return evaluated
  return found[0] if found else None


def best_k(evaluated: EvaluatorResults, strategy: str) -> int | None:
  """The K or N' of the highest accuracy, the smallest of equals."""
  if strategy in evaluated.fixed:
    return None
  return int(evaluated.swept[strategy].mean(axis=0).argmax()) + 1


def _home(run: RunResults, evaluator: manifest.Evaluator | None) -> str | None:
  """The generator whose candidates an evaluator is mainly judged on."""
  if evaluator is None:
    return run.main_generator()
  names = {generator.name for generator in run.manifest.generators}
  if evaluator.initial in names:
    return evaluator.initial
  return next(iter(evaluator.scores), run.main_generator())


def _grouped(pairs: Iterable[tuple[str, object]]) -> dict[str, list]:
  grouped: dict[str, list] = {loss: [] for loss in LOSSES}
  for loss, item in pairs:
    grouped.setdefault(loss, []).append(item)
  return grouped


def _by_group(
  runs: Sequence[RunResults],
  key: str,
  title: str,
  column: str,
  group_of: Callable,
) -> Table:
  n = num_label(runs)

  def rows(run: RunResults) -> Iterator[tuple[Value, ...]]:
    results = run.generators.get(run.main_generator() or "")
    if results is None:
      return
    evaluated = main_evaluated(run)
    if evaluated and evaluated.generated is not results:
      evaluated = None
    members = collections.defaultdict(list)
    for position, sampled in enumerate(results.problems):
      members[group_of(sampled.problem)].append(position)
    for group, positions in sorted(members.items()):
      pass_at_1, majority, any_candidate = _accuracies(results, positions)
      yield (
        group or "(none)",
        len(positions),
        pass_at_1,
        majority,
        _mean(
          evaluated and evaluated.at("weighted_vote_top_clusters", DEFAULT_K),
          positions,
        ),
        any_candidate,
      )

  return _table(
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


def _table(
  key: str,
  title: str,
  columns: tuple[Column, ...],
  runs: Sequence[RunResults],
  rows: Callable[[RunResults], Iterable[tuple[Value, ...]]],
  notes: tuple[str, ...] = (),
) -> Table:
  """The rows of all runs; with several, a first column names the run."""
  if len(runs) == 1:
    return Table(key, title, columns, tuple(rows(runs[0])), notes)
  return Table(
    key,
    title,
    (Column("Run"), *columns),
    tuple((run.manifest.name, *row) for run in runs for row in rows(run)),
    notes,
  )


def _accuracy_columns(n: str) -> tuple[Column, ...]:
  return (
    Column("Pass@1", document.PERCENT),
    Column(f"Maj1@{n}", document.PERCENT),
    Column(f"Pass@{n}", document.PERCENT),
  )


def _accuracies(
  results: GeneratorResults | None, positions: list[int] | None = None
) -> tuple[Value, Value, Value]:
  if results is None:
    return None, None, None
  return (
    _mean(results.greedy, positions),
    _mean(results.majority, positions),
    _mean(results.any_candidate, positions),
  )


def _mean(
  values: Float[np.ndarray, " P"] | Bool[np.ndarray, " P"] | None,
  positions: list[int] | None = None,
) -> Value:
  if values is None:
    return None
  kept = values if positions is None else values[positions]
  return estimators.bootstrap(kept)


def _known(value: float | int | None) -> Value:
  return _UNKNOWN if value is None else value
