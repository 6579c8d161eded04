"""The manifest of a run: what the report needs to know of it."""

import dataclasses
import importlib.metadata
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from mathft_jax import samples
from mathft_jax.recipe import graph
from mathft_jax.report import manifest

_VERSIONS = ("mathft-jax", "jax", "flax", "optax")


def write(
  directory: pathlib.Path,
  progress: graph.Progress,
  *,
  name: str,
  note: str | None,
  seed: int | None,
  data: Sequence[Mapping[str, Any]],
  generators: Sequence[manifest.Generator],
  evaluators: Sequence[manifest.Evaluator],
) -> None:
  """Writes the manifest of the stages that are finished so far."""
  samples.write_json(
    directory / manifest.NAME,
    {
      "name": name,
      "note": note,
      "created": progress.created,
      "versions": {v: importlib.metadata.version(v) for v in _VERSIONS},
      "seed": seed,
      "data": list(data),
      "generators": [dataclasses.asdict(g) for g in generators],
      "evaluators": [dataclasses.asdict(e) for e in evaluators],
      "stages": [
        {
          "name": stage.name,
          "kind": stage.kind,
          "seconds": stage.seconds,
          "peak_rss_bytes": stage.peak_rss_bytes,
        }
        for stage in progress.finished.values()
      ],
    },
  )
