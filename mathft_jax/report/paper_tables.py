"""The tables of the paper that a run can fill."""

from collections.abc import Iterator, Sequence

from mathft_jax.report import document, selection, table_rows
from mathft_jax.report.document import Column, Table, Value
from mathft_jax.report.results import DEFAULT_K, RunResults

_FEW_SHOT = "few-shot (base model)"


def data(runs: Sequence[RunResults]) -> Table:
  return table_rows.of_runs(
    "table_1",
    "Table 1: Solutions by split, and mean lengths in tokens",
    (
      Column("Data source"),
      Column("Training", document.COUNT),
      Column("Validation", document.COUNT),
      Column("Test", document.COUNT),
      Column("Leaks taken out", document.COUNT),
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
        source.leaks,
        table_rows.known(source.problem_tokens),
        table_rows.known(source.solution_tokens),
      )
      for source in run.manifest.data
    ],
  )


def generators(runs: Sequence[RunResults]) -> Table:
  n = selection.num_label(runs)

  def rows(run: RunResults) -> Iterator[tuple[Value, ...]]:
    firsts = [g for g in run.manifest.generators if g.evaluator_loss is None]
    if all(g.data is not None for g in firsts):
      yield _FEW_SHOT, None, None, None, None, None
    for generator in sorted(firsts, key=lambda g: g.data is not None):
      results = run.generators.get(generator.name)
      label = generator.label if generator.data else _FEW_SHOT
      yield (
        label,
        table_rows.known(generator.num_params),
        *table_rows.accuracies(results),
        table_rows.mean(results and results.mean_candidate),
      )

  return table_rows.of_runs(
    "table_2",
    "Table 2: Supervised solution fine-tuning",
    (
      Column("Fine-tuned on"),
      Column("Parameters", document.COUNT),
      *table_rows.accuracy_columns(n),
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
  n = selection.num_label(runs)

  def rows(run: RunResults) -> Iterator[tuple[Value, ...]]:
    for loss, evaluator, evaluated in selection.by_loss(run):
      generated = run.generators.get(selection.home(run, evaluator) or "")
      pass_at_1, majority, _ = table_rows.accuracies(generated)
      yield (
        loss,
        evaluator.name if evaluator else None,
        pass_at_1,
        majority,
        table_rows.mean(evaluated and evaluated.at("best_of_n", DEFAULT_K)),
        table_rows.mean(
          evaluated and evaluated.at("best_of_top_clusters", DEFAULT_K)
        ),
        table_rows.mean(
          evaluated and evaluated.at("weighted_vote_top_clusters", DEFAULT_K)
        ),
      )

  return table_rows.of_runs(
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
  n = selection.num_label(runs)

  def rows(run: RunResults) -> Iterator[tuple[Value, ...]]:
    baseline = run.main_generator()
    yield (
      "yes",
      table_rows.UNKNOWN,
      *table_rows.accuracies(run.generators.get(baseline or "")),
    )
    for loss, generator in selection.second_generators(run):
      results = run.generators.get(generator.name) if generator else None
      yield "no", loss, *table_rows.accuracies(results)

  return table_rows.of_runs(
    "table_4",
    "Table 4: Generator, then evaluator, then generator again",
    (
      Column("Baseline"),
      Column("Evaluator loss function"),
      *table_rows.accuracy_columns(n),
    ),
    runs,
    rows,
    ("The baseline is the generator that the evaluators started from.",),
  )


def strategies(runs: Sequence[RunResults]) -> Table:
  def rows(run: RunResults) -> Iterator[tuple[Value, ...]]:
    for loss, evaluator, evaluated in selection.by_loss(run):
      name = evaluator.name if evaluator else None
      if evaluated is None:
        yield loss, name, None, *[None] * len(selection.STRATEGIES)
        continue
      best = {s: selection.best_k(evaluated, s) for s in selection.STRATEGIES}
      chosen = ", ".join(
        f"{selection.STRATEGIES[s]} {k}"
        for s, k in best.items()
        if k is not None
      )
      yield (
        loss,
        name,
        f"best: {chosen}",
        *(
          table_rows.mean(evaluated.at(s, k or DEFAULT_K))
          for s, k in best.items()
        ),
      )
      yield (
        loss,
        name,
        f"fixed: {DEFAULT_K}",
        *(
          table_rows.mean(evaluated.at(s, DEFAULT_K))
          for s in selection.STRATEGIES
        ),
      )

  return table_rows.of_runs(
    "table_7",
    "Table 7: Re-ranking strategies",
    (
      Column("Loss function"),
      Column("Evaluator"),
      Column("K or N\N{PRIME}"),
      *(
        Column(name, document.PERCENT) for name in selection.STRATEGIES.values()
      ),
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
