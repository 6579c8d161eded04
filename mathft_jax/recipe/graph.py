"""Stages in order, each finished once: what is done survives a kill."""

import dataclasses
import datetime
import pathlib
import resource
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax

from mathft_jax import checkpoint, processes, samples

PROGRESS = "recipe.json"


@dataclasses.dataclass(frozen=True)
class Stage:
  """A named piece of work; `run` returns facts about it, as plain JSON.

  `run` may be called again after a kill, and then goes on where it was: what
  it had written is there. Its facts are kept and never computed twice. `needs`
  names stages that have to be finished before.
  """

  name: str
  kind: str
  run: Callable[[], Mapping[str, Any]]
  needs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Finished:
  """A stage that is done, and what it took."""

  name: str
  kind: str
  seconds: float
  peak_rss_bytes: int
  facts: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Progress:
  """When a run was first started, and its finished stages by name."""

  created: str
  finished: Mapping[str, Finished]


def run_stages(
  stages: Sequence[Stage],
  directory: pathlib.Path,
  configuration: Mapping[str, Any],
  *,
  on_start: Callable[[], None],
  on_progress: Callable[[Progress], None],
  kinds: Collection[str] | None = None,
) -> Progress:
  """Runs the stages that are not finished yet, in order; returns them all.

  `recipe.json` in `directory` records each as it ends, and the configuration
  once a stage begins whose files a later start would go on from: a start that
  fails while data are prepared binds nobody to its configuration. `on_start` is
  called once the configuration is found to be that of the earlier starts,
  `on_progress` then and after each stage. Seconds are those of the start that
  finished the stage. With `kinds`, stages of other kinds are left out. Several
  processes call it alike; the first one writes, and calls what is given.

  Raises ValueError if the directory holds a run of another configuration, or
  where a stage needs one that is left out and not finished.
  """
  path = directory / PROGRESS
  created, finished = _read(path, configuration)
  processes.wait_for_others()  # Until all have read what is there.
  is_main = checkpoint.is_main_process()
  unknown = finished.keys() - {stage.name for stage in stages}
  if unknown:
    raise ValueError(
      f"{path} has the finished stages {sorted(unknown)}, which this recipe"
      " does not have; start in a new MODEL_DIR"
    )
  if is_main:
    on_start()
    on_progress(Progress(created, finished))
  for number, stage in enumerate(stages, start=1):
    title = f"[{number}/{len(stages)}] {stage.name}"
    if stage.name in finished:
      _say(f"{title}: finished before")
      continue
    if kinds is not None and stage.kind not in kinds:
      _say(f"{title}: left out")
      continue
    missing = sorted(set(stage.needs) - finished.keys())
    if missing:
      raise ValueError(
        f"stage {stage.name!r} needs {', '.join(missing)}, not finished in"
        f" {directory}; run that first"
      )
    _say(title)
    if stage.kind != "data" and is_main:
      _write(path, created, configuration, finished)
    start = time.perf_counter()
    facts = stage.run()
    seconds = time.perf_counter() - start
    finished[stage.name] = Finished(
      stage.name, stage.kind, seconds, peak_rss_bytes(), facts
    )
    if is_main:
      _write(path, created, configuration, finished)
      on_progress(Progress(created, finished))
    _say(f"{title}: {seconds:.1f} s")
  return Progress(created, finished)


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
  """The most memory this process has held so far.

  The largest of its children that ended is added, as if both had been at
  their peak at once.
  """
  peak = sum(
    resource.getrusage(who).ru_maxrss
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
  )
  return peak if sys.platform == "darwin" else peak * 1024


def cache_compilations(directory: pathlib.Path) -> None:
  """Lets stages that compile the same program, and restarts, compile once."""
  jax.config.update("jax_compilation_cache_dir", str(directory))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _now() -> str:
  return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def read_configuration(directory: pathlib.Path) -> Mapping[str, Any]:
  """That of the run in a directory; empty where there is none."""
  path = directory / PROGRESS
  return samples.read_json(path)["configuration"] if path.is_file() else {}


def _read(
  path: pathlib.Path, configuration: Mapping[str, Any]
) -> tuple[str, dict[str, Finished]]:
  """When the run was first started, and its finished stages."""
  if not path.is_file():
    return _now(), {}
  row = samples.read_json(path)
  differing = list(_differing(row["configuration"], configuration))
  if differing:
    raise ValueError(
      f"{path} is of a run with another configuration: {'; '.join(differing)};"
      " set it back to go on with that run, or start in a new MODEL_DIR"
    )
  finished = {entry["name"]: Finished(**entry) for entry in row["finished"]}
  return row["created"], finished


def _differing(before: Any, now: Any, name: str = "") -> list[str]:
  """Each value that differs, as "path: before there, now here"."""
  if isinstance(before, Mapping) and isinstance(now, Mapping):
    pairs = [(key, before.get(key), now.get(key)) for key in {**before, **now}]
  elif isinstance(before, list) and isinstance(now, list):
    if len(before) != len(now):
      return [f"{name}: {len(before)} entries there, {len(now)} here"]
    pairs = [
      (str(i), b, n) for i, (b, n) in enumerate(zip(before, now, strict=True))
    ]
  else:
    return [] if before == now else [f"{name}: {before!r} there, {now!r} here"]
  return [
    line
    for key, b, n in pairs
    for line in _differing(b, n, f"{name}.{key}" if name else key)
  ]


def _write(
  path: pathlib.Path,
  created: str,
  configuration: Mapping[str, Any],
  finished: Mapping[str, Finished],
) -> None:
  samples.write_json(
    path,
    {
      "created": created,
      "configuration": configuration,
      "finished": [dataclasses.asdict(stage) for stage in finished.values()],
    },
  )


def _say(line: str) -> None:
  print(line, file=sys.stderr, flush=True)
