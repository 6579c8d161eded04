"""Stages in order, each finished once: what is done survives a kill."""

import dataclasses
import datetime
import pathlib
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from mathft_jax import samples

PROGRESS = "recipe.json"


@dataclasses.dataclass(frozen=True)
class Stage:
  """A named piece of work; `run` returns facts about it, as plain JSON.

  `run` may be called again after a kill, and then goes on where it was: what
  it had written is there. Its facts are kept and never computed twice.
  """

  name: str
  kind: str
  run: Callable[[], Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Finished:
  """A stage that is done, and what it took."""

  name: str
  kind: str
  seconds: float
  peak_rss_bytes: int
  facts: Mapping[str, Any]


def run_stages(
  stages: Sequence[Stage],
  directory: str | pathlib.Path,
  configuration: Mapping[str, Any],
  on_progress: Callable[[Mapping[str, Finished]], None],
) -> dict[str, Finished]:
  """Runs the stages that are not finished yet, in order; returns them all.

  `recipe.json` in `directory` records each as it ends. `on_progress` gets all
  finished stages, before the first and after each. Seconds are those of the
  start that finished the stage.

  Raises ValueError if the directory holds a run of another configuration.
  """
  path = pathlib.Path(directory) / PROGRESS
  finished = _read(path, configuration)
  unknown = finished.keys() - {stage.name for stage in stages}
  if unknown:
    raise ValueError(
      f"{path} has the finished stages {sorted(unknown)}, which this recipe"
      " does not have; start in a new MODEL_DIR"
    )
  on_progress(finished)
  for number, stage in enumerate(stages, start=1):
    title = f"[{number}/{len(stages)}] {stage.name}"
    if stage.name in finished:
      _say(f"{title}: finished before")
      continue
    _say(title)
    start = time.perf_counter()
    facts = stage.run()
    seconds = time.perf_counter() - start
    finished[stage.name] = Finished(
      stage.name, stage.kind, seconds, peak_rss_bytes(), facts
    )
    _write(path, configuration, finished)
    on_progress(finished)
    _say(f"{title}: {seconds:.1f} s")
  return finished


def describe(value: Any) -> Any:
  """A configuration as plain JSON, to be compared with another start's.

  Dataclasses become mappings with their type's name, functions their names.
  """
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    fields = {
      field.name: describe(getattr(value, field.name))
      for field in dataclasses.fields(value)
    }
    return {"type": type(value).__qualname__, **fields}
  if isinstance(value, Mapping):
    return {str(key): describe(entry) for key, entry in value.items()}
  if isinstance(value, list | tuple):
    return [describe(entry) for entry in value]
  if value is None or isinstance(value, bool | int | float | str):
    return value
  if isinstance(value, pathlib.Path):
    return str(value)
  return getattr(value, "__qualname__", type(value).__qualname__)


def peak_rss_bytes() -> int:
  """The most memory this process has held so far."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == "darwin" else peak * 1024


def cache_compilations(directory: pathlib.Path) -> None:
  """Lets stages that compile the same program, and restarts, compile once."""
  jax.config.update("jax_compilation_cache_dir", str(directory))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def now() -> str:
  """The time as a manifest has it."""
  return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _read(
  path: pathlib.Path, configuration: Mapping[str, Any]
) -> dict[str, Finished]:
  if not path.is_file():
    return {}
  row = samples.read_json(path)
  before = row["configuration"]
  differing = sorted(
    name
    for name in before.keys() | configuration.keys()
    if before.get(name) != configuration.get(name)
  )
  if differing:
    raise ValueError(
      f"{path} is of a run with another configuration: {', '.join(differing)}"
      " differ; set them back to go on with that run, or start in a new"
      " MODEL_DIR"
    )
  return {entry["name"]: Finished(**entry) for entry in row["finished"]}


def _write(
  path: pathlib.Path,
  configuration: Mapping[str, Any],
  finished: Mapping[str, Finished],
) -> None:
  samples.write_json(
    path,
    {
      "configuration": configuration,
      "finished": [dataclasses.asdict(stage) for stage in finished.values()],
    },
  )


def _say(line: str) -> None:
  print(line, file=sys.stderr, flush=True)
