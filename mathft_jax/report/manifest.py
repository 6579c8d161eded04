"""What a run directory holds, as its `manifest.json` says."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from mathft_jax import samples

NAME = "manifest.json"


@dataclasses.dataclass(frozen=True)
class DataSource:
  """A line of Table 1; lengths are means in tokens, None if not counted.

  `leaks` are solutions that were taken out, since a later split has their
  problem; the counts are without them.
  """

  source: str
  train: int
  validation: int
  test: int
  problem_tokens: float | None = None
  solution_tokens: float | None = None
  leaks: int = 0


@dataclasses.dataclass(frozen=True)
class Generator:
  """A generator; `data` is None for a model that nobody fine-tuned.

  `evaluator_loss` names the evaluator's loss that a second generator went
  through (Table 4), and is None for a first one (Table 2). `candidates` and
  `grades` are paths inside the run directory, None while not run.
  """

  name: str
  label: str
  data: str | None = None
  initial: str | None = None
  evaluator_loss: str | None = None
  num_steps: int | None = None
  best_step: int | None = None
  num_params: int | None = None
  candidates: str | None = None
  grades: str | None = None

  @property
  def is_decoded(self) -> bool:
    return self.candidates is not None and self.grades is not None


@dataclasses.dataclass(frozen=True)
class Evaluator:
  """An evaluator; `scores` maps a generator's name to a path, or to None."""

  name: str
  loss: str
  initial: str | None = None
  num_steps: int | None = None
  best_step: int | None = None
  scores: Mapping[str, str | None] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Stage:
  """A finished stage of the recipe, with its wall time and peak memory."""

  name: str
  kind: str
  seconds: float | None = None
  peak_rss_bytes: int | None = None


@dataclasses.dataclass(frozen=True)
class Manifest:
  """One run; `directory` is where the paths of the other records start."""

  directory: pathlib.Path
  name: str
  data: tuple[DataSource, ...]
  generators: tuple[Generator, ...]
  evaluators: tuple[Evaluator, ...]
  stages: tuple[Stage, ...]
  note: str | None = None
  created: str | None = None
  versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
  seed: int | None = None


def read(directory: str | os.PathLike[str]) -> Manifest:
  """Reads the manifest of a run directory.

  Fields that this version does not know are passed over. Raises
  FileNotFoundError if there is no manifest, ValueError where it is malformed
  or names something twice.
  """
  directory = pathlib.Path(directory)
  path = directory / NAME
  if not path.is_file():
    raise FileNotFoundError(
      f"{directory} is no run directory: it has no {NAME}; give the MODEL_DIR"
      " of a `mathft recipe` run"
    )
  row = samples.read_json(path)
  manifest = Manifest(
    directory=directory,
    name=str(row.get("name") or directory.resolve().name),
    note=row.get("note"),
    created=row.get("created"),
    versions=row.get("versions") or {},
    seed=row.get("seed"),
    data=_records(DataSource, row, "data", path),
    generators=_records(Generator, row, "generators", path),
    evaluators=_records(Evaluator, row, "evaluators", path),
    stages=_records(Stage, row, "stages", path),
  )
  _check_names([g.name for g in manifest.generators], "generators", path)
  _check_names([e.name for e in manifest.evaluators], "evaluators", path)
  known = {generator.name for generator in manifest.generators}
  for evaluator in manifest.evaluators:
    for name in evaluator.scores:
      if name not in known:
        raise ValueError(
          f"{path}: evaluator {evaluator.name!r} has scores for"
          f" {name!r}, which is none of the generators {sorted(known)}"
        )
  return manifest


def _records(
  kind: type[Any], row: Mapping[str, Any], key: str, path: pathlib.Path
) -> tuple[Any, ...]:
  rows = row.get(key, [])
  if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
    raise ValueError(f"{path}: {key!r} must be a list of objects")
  fields = {field.name for field in dataclasses.fields(kind)}
  made = []
  for position, entry in enumerate(rows):
    try:
      made.append(kind(**{k: v for k, v in entry.items() if k in fields}))
    except TypeError as error:
      raise ValueError(f"{path}: {key}[{position}]: {error}") from error
  return tuple(made)


def _check_names(names: list[str], key: str, path: pathlib.Path) -> None:
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice:
    raise ValueError(f"{path}: two {key} are named {twice[0]!r}")
