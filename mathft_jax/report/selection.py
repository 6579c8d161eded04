"""What the report's tables and figures choose from the results of a run."""

from collections.abc import Iterable, Iterator, Sequence

from mathft_jax.report import manifest
from mathft_jax.report.results import (
  EvaluatorResults,
  GeneratorResults,
  RunResults,
)

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


def num_label(runs: Sequence[RunResults]) -> str:
  """N as a number if all problems of all runs share it, else the letter."""
  labels = {r.num_label for run in runs for r in run.generators.values()}
  return labels.pop() if len(labels) == 1 else "N"


def uneven(runs: Sequence[RunResults]) -> list[GeneratorResults]:
  """Those whose problems differ in their number of candidates."""
  found = [results for run in runs for results in run.generators.values()]
  return [results for results in found if not results.is_even]


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
        run.find_evaluated(evaluator, home(run, evaluator))
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


def home(run: RunResults, evaluator: manifest.Evaluator | None) -> str | None:
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
