"""What the tables are built of: rows of several runs, accuracies as values."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from mathft_jax.report import document
from mathft_jax.report.document import Column, Table, Value
from mathft_jax.report.results import GeneratorResults, RunResults
from mathft_jax.rerank import estimators

UNKNOWN = "\N{EN DASH}"


def of_runs(
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


def accuracy_columns(n: str) -> tuple[Column, ...]:
  return (
    Column("Pass@1", document.PERCENT),
    Column(f"Maj1@{n}", document.PERCENT),
    Column(f"Pass@{n}", document.PERCENT),
  )


def accuracies(
  results: GeneratorResults | None, positions: list[int] | None = None
) -> tuple[Value, Value, Value]:
  if results is None:
    return None, None, None
  return (
    mean(results.greedy, positions),
    mean(results.majority, positions),
    mean(results.any_candidate, positions),
  )


def mean(
  values: Float[np.ndarray, " P"] | Bool[np.ndarray, " P"] | None,
  positions: list[int] | None = None,
) -> Value:
  if values is None:
    return None
  kept = values if positions is None else values[positions]
  return estimators.bootstrap(kept)


def known(value: float | int | None) -> Value:
  return UNKNOWN if value is None else value
