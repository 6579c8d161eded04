"""Run directories -> one report."""

import os
import pathlib
from collections.abc import Iterator, Sequence

from mathft_jax.report import browser as problem_browser
from mathft_jax.report import (
  detail_tables,
  document,
  figures,
  headlines,
  manifest,
  paper_tables,
  results,
  selection,
)
from mathft_jax.rerank import estimators


def build(
  directories: Sequence[str | os.PathLike[str]],
) -> document.Document:
  """Reads the runs and returns their report.

  Raises FileNotFoundError or ValueError that names the file at fault.
  """
  if not directories:
    raise ValueError("no run directory to report on")
  runs = [results.read(manifest.read(directory)) for directory in directories]
  _check_names(runs)
  body = [
    paper_tables.data(runs),
    paper_tables.generators(runs),
    *figures.sampling(runs),
    *figures.adaptive_budgets(runs),
    paper_tables.reranking(runs),
    paper_tables.multitask(runs),
    paper_tables.strategies(runs),
    *figures.strategies(runs),
    *figures.oracle(runs),
    detail_tables.evaluators(runs),
    detail_tables.by_level(runs),
    detail_tables.by_type(runs),
    detail_tables.candidates(runs),
    *detail_tables.samples_used(runs),
    detail_tables.adaptive_budgets(runs),
    detail_tables.ties(runs),
    detail_tables.stages(runs),
  ]
  return document.Document(
    title=", ".join(run.manifest.name for run in runs),
    warnings=tuple(_warnings(runs)),
    notes=tuple(_notes(runs)),
    headlines=(headlines.summary(runs), headlines.claims(runs)),
    body=tuple(body),
    browsers=tuple(problem_browser.browsers(runs)),
  )


def _check_names(runs: Sequence[results.RunResults]) -> None:
  places: dict[str, pathlib.Path] = {}
  for run in runs:
    name, directory = run.manifest.name, run.manifest.directory
    if name in places:
      raise ValueError(
        f"{places[name]} and {directory} are both named {name!r}; give one"
        f" of them another name in its {manifest.NAME}, or its recipe another"
        " NAME (--gin.NAME='\"other\"')"
      )
    places[name] = directory


def _warnings(runs: Sequence[results.RunResults]) -> Iterator[str]:
  for run in runs:
    prefix = f"{run.manifest.name}: " if len(runs) > 1 else ""
    if run.manifest.note:
      yield prefix + run.manifest.note


def _notes(runs: Sequence[results.RunResults]) -> Iterator[str]:
  for run in runs:
    made = run.manifest
    facts = [f"Run {made.name}"]
    if made.created:
      facts.append(f"created {made.created}")
    if made.seed is not None:
      facts.append(f"seed {made.seed}")
    facts += [f"{name} {version}" for name, version in made.versions.items()]
    yield ", ".join(facts) + "."
    for found in selection.uneven([run]):
      yield (
        f"{found.generator.label}: problems have {found.num_shared} to"
        f" {found.num_candidates} samples, and N is the number of each. Pass@N"
        " is lower than if all had the most."
      )
  yield (
    "Brackets hold 95 % intervals, the percentiles of a bootstrap of"
    f" {estimators.NUM_RESAMPLES:,} resamples over problems; differences are"
    " paired by problem. They"
    " say how much the choice of problems matters, not the seeds of training"
    " or sampling. With so many comparisons, some intervals miss by chance."
  )
