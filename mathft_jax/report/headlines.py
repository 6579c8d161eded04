"""What the run shows at a glance, and which of the paper's findings hold."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float

from mathft_jax.report import document, selection
from mathft_jax.report.document import Column, Table, Value
from mathft_jax.report.results import (
  DEFAULT_K,
  EvaluatorResults,
  GeneratorResults,
  RunResults,
)
from mathft_jax.rerank import estimators, sweeps
from mathft_jax.rerank.estimators import Estimate

_ByProblem = Float[np.ndarray, " P"]


def summary(runs: Sequence[RunResults]) -> Table:
  """From one greedy answer to the oracle, for each run's main generator."""
  n = selection.num_label(runs)
  rows: list[tuple[Value, ...]] = []
  for run in runs:
    results = run.generators.get(run.main_generator() or "")
    steps: list[tuple[str, _ByProblem | None]] = [
      ("Pass@1, greedy", results and results.greedy),
      (f"Maj1@{n}", results and results.majority),
    ]
    for evaluated in _evaluated(run):
      fixed = evaluated.at("weighted_vote_top_clusters", DEFAULT_K)
      steps.append((_named(evaluated, "W.RR.MajK", DEFAULT_K), fixed))
    best = best_reranking(run)
    if best:
      steps.append((f"Best re-ranking: {best[0]}", best[1]))
    steps.append((f"Pass@{n}, oracle", results and results.any_candidate))
    label = results.generator.label if results else "no generator"
    rows += [
      (
        f"{run.manifest.name}: {label}" if len(runs) > 1 else label,
        name,
        None if values is None else estimators.bootstrap(values),
      )
      for name, values in steps
    ]
  return Table(
    "summary",
    "Accuracy at a glance",
    (
      Column("Generator"),
      Column("Answer chosen by"),
      Column("Accuracy", document.PERCENT),
    ),
    tuple(rows),
  )


def claims(runs: Sequence[RunResults]) -> Table:
  """Paired differences behind the paper's findings, in points."""
  rows: list[tuple[Value, ...]] = []
  for run in runs:
    for claim, difference in _claims(run):
      prefix = f"{run.manifest.name}: " if len(runs) > 1 else ""
      rows.append(
        (
          prefix + claim,
          difference,
          None if difference is None else difference.num_problems,
          document.NOT_RUN if difference is None else _outcome(difference),
        )
      )
  return Table(
    "claims",
    "Do the paper's findings hold here?",
    (
      Column("First minus second, on the same problems"),
      Column("Points", document.POINTS),
      Column("Problems", document.COUNT),
      Column("First is better"),
    ),
    tuple(rows),
    (
      "Yes or no where the 95 % interval leaves out 0, otherwise undecided;"
      " equal where no problem makes a difference."
      " The best re-ranking was chosen on these same problems, which is"
      f" optimistic; W.RR.MajK with K = {DEFAULT_K} was not. K = 1 and"
      " N\N{PRIME} = N, which are majority vote but for ties, could not be"
      " chosen.",
    ),
  )


def best_reranking(run: RunResults) -> tuple[str, _ByProblem] | None:
  """Name and correctness of the most accurate strategy, K and evaluator.

  The first of equals, in the order of Table 7, and the smallest K. K = 1 and
  N' = N are left out: they are majority vote under another name.
  """
  found: list[tuple[str, _ByProblem]] = []
  for evaluated in _evaluated(run):
    last = evaluated.generated.num_candidates
    for strategy, name in selection.STRATEGIES.items():
      if strategy in sweeps.SWEPT:
        for k in range(2, last):
          values = evaluated.at(strategy, k)
          found.append((_named(evaluated, name, k), values))
      elif strategy != "majority_vote":
        values = evaluated.fixed[strategy]
        found.append((_named(evaluated, name, None), values))
  return max(found, key=lambda pair: pair[1].mean(), default=None)


def _claims(run: RunResults) -> Iterator[tuple[str, Estimate | None]]:
  main = run.generators.get(run.main_generator() or "")
  n = selection.num_label([run])
  yield from _first_generators(run, n)
  if main is None:
    return
  label = main.generator.label
  majority = f"Maj1@{n}"
  if main.greedy is not None:
    yield (
      f"{label}: {majority} \N{MINUS SIGN} Pass@1",
      estimators.paired_difference(main.majority, main.greedy),
    )
  for evaluated in _evaluated(run):
    fixed = evaluated.at("weighted_vote_top_clusters", DEFAULT_K)
    name = _named(evaluated, "W.RR.MajK", DEFAULT_K)
    yield from _against_baselines(name, fixed, main, majority)
  best = best_reranking(run)
  if best:
    name = f"best re-ranking, {best[0]}"
    yield from _against_baselines(name, best[1], main, majority)
  for loss, generator in selection.second_generators(run):
    second = run.generators.get(generator.name) if generator else None
    for metric, values in _metrics(n):
      yield (
        f"{metric}: second generator ({loss}) \N{MINUS SIGN} {label}",
        second and _difference(second, main, values),
      )


def _first_generators(
  run: RunResults, n: str
) -> Iterator[tuple[str, Estimate | None]]:
  """Each Table 2 generator against those listed before it."""
  firsts = [
    g
    for g in run.manifest.generators
    if g.evaluator_loss is None and g.data is not None
  ]
  for position, first in enumerate(firsts):
    for second in firsts[:position]:
      results = run.generators.get(first.name)
      others = run.generators.get(second.name)
      for metric, values in _metrics(n):
        yield (
          f"{metric}: {first.label} \N{MINUS SIGN} {second.label}",
          results and others and _difference(results, others, values),
        )


def _against_baselines(
  name: str, values: _ByProblem, main: GeneratorResults, majority: str
) -> Iterator[tuple[str, Estimate]]:
  if main.greedy is not None:
    yield (
      f"{name} \N{MINUS SIGN} Pass@1",
      estimators.paired_difference(values, main.greedy),
    )
  yield (
    f"{name} \N{MINUS SIGN} {majority}",
    estimators.paired_difference(values, main.majority),
  )


def _metrics(
  n: str,
) -> list[tuple[str, Callable[[GeneratorResults], _ByProblem | None]]]:
  return [
    ("Pass@1", lambda results: results.greedy),
    (f"Maj1@{n}", lambda results: results.majority),
  ]


def _difference(
  first: GeneratorResults,
  second: GeneratorResults,
  values: Callable[[GeneratorResults], _ByProblem | None],
) -> Estimate | None:
  """The paired difference on the problems that both were given."""
  if values(first) is None or values(second) is None:
    return None
  ours = dict(zip(first.ids, np.asarray(values(first)), strict=True))
  theirs = dict(zip(second.ids, np.asarray(values(second)), strict=True))
  shared = [i for i in first.ids if i in theirs]
  if not shared:
    return None
  return estimators.paired_difference(
    np.array([ours[i] for i in shared]), np.array([theirs[i] for i in shared])
  )


def _evaluated(run: RunResults) -> list[EvaluatorResults]:
  """The evaluators that scored the main generator's candidates."""
  main = run.main_generator()
  return [e for e in run.evaluators if e.generated.generator.name == main]


def _named(evaluated: EvaluatorResults, strategy: str, k: int | None) -> str:
  letter = "N\N{PRIME}" if strategy == "Maj1.TopN" else "K"
  setting = "" if k is None else f", {letter} = {k}"
  return f"{strategy}{setting} ({evaluated.evaluator.name})"


def _outcome(difference: Estimate) -> str:
  if difference.low == difference.high == 0:
    return "equal"
  if difference.low > 0:
    return "yes"
  return "no" if difference.high < 0 else "undecided"
