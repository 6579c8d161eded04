"""One fine-tuning run on its own, with T5X's names for what decides it."""

import importlib
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mathft_jax import checkpoint
from mathft_jax.data import locations
from mathft_jax.models import decoder_model
from mathft_jax.recipe import graph, initial, validation
from mathft_jax.training import finetune, state

# (model, task) -> params -> numbers
MakeEvaluate = Callable[[decoder_model.DecoderModel, str], validation.Evaluate]


def run(
  model: decoder_model.DecoderModel,
  model_dir: str,
  mixture_or_task_name: str,
  task_modules: Sequence[str],
  training: finetune.TrainingConfig,
  make_evaluate: MakeEvaluate,
  initial_checkpoint_path: str | None = None,
  data: Mapping[str, str] | None = None,
  seed: int = 0,
) -> None:
  """Trains `model` on a task in `model_dir`; goes on where it stopped.

  `initial_checkpoint_path` is a folder of config.json and safetensors, or the
  `checkpoints` folder of a run of this project. `data` tells where the rows
  of file-based sources lie. Prints the best checkpoint.
  """
  for module in task_modules:
    importlib.import_module(module)
  locations.bind(data or {})
  graph.cache_compilations(pathlib.Path(model_dir) / "compilation_cache")
  finished = finetune.finetune(
    model,
    mixture_or_task_name,
    training,
    make_evaluate(model, mixture_or_task_name),
    model_dir=model_dir,
    params=_initial_params(model, initial_checkpoint_path),
    seed=seed,
  )
  numbers = ", ".join(f"{k} {v:.4f}" for k, v in finished.metrics.items())
  print(f"Best: {finished.checkpoints}/{finished.best_step} ({numbers})")


def _initial_params(model: decoder_model.DecoderModel, path: str | None) -> Any:
  if path is None:
    return None
  if (pathlib.Path(path) / "config.json").is_file():
    return initial.Pretrained(path)()[1]
  return checkpoint.restore_params(path, state.abstract_params(model))
