"""What a model and its parameters are read from."""

import dataclasses
import hashlib
import logging
import pathlib
from typing import Any

import jax
import numpy as np

from mathft_jax import checkpoint, pretrained, samples
from mathft_jax.models import generator, transformer
from mathft_jax.pretrained import llama
from mathft_jax.training import state

_logger = logging.getLogger(__name__)

_CONFIG = "config.json"
_CHECKPOINTS = "checkpoints"


@dataclasses.dataclass(frozen=True)
class Pretrained:
  """A shipped model by name, a folder of safetensors, or a training run.

  A training run's folder, or its `checkpoints`, is its best checkpoint;
  `checkpoints/<step>` is that one. `scan_layers` is as in `TransformerConfig`:
  how the model is run here, which no file of weights says.
  """

  name_or_directory: str
  scan_layers: bool = True

  def __call__(self) -> tuple[transformer.TransformerConfig, Any]:
    """(configuration, parameters).

    Raises FileNotFoundError if it is none of these.
    """
    config, params = self._read()
    return dataclasses.replace(config, scan_layers=self.scan_layers), params

  def read_config(self) -> transformer.TransformerConfig:
    """The configuration alone, without reading parameters.

    Raises FileNotFoundError where there is none.
    """
    self.check()
    path = pathlib.Path(self.name_or_directory)
    shipped = pathlib.Path(pretrained.__path__[0]) / path.name
    is_shipped = path.name == str(path) and (shipped / _CONFIG).is_file()
    config = _read_config(shipped if is_shipped else _run_and_step(path)[0])
    return dataclasses.replace(config, scan_layers=self.scan_layers)

  def check(self) -> None:
    """Raises FileNotFoundError at once for what could not be read later."""
    path = pathlib.Path(self.name_or_directory)
    shipped = pathlib.Path(pretrained.__path__[0]) / path.name
    directory, _ = _run_and_step(path)
    if not (directory / _CONFIG).is_file() and not (
      path.name == str(path) and (shipped / _CONFIG).is_file()
    ):
      raise FileNotFoundError(
        f"no model in {path}: give a folder with {_CONFIG} and safetensors,"
        " that of a training run, or the name of a shipped model"
      )

  def _read(self) -> tuple[transformer.TransformerConfig, Any]:
    path = pathlib.Path(self.name_or_directory)
    shipped = pathlib.Path(pretrained.__path__[0]) / path.name
    if path.name == str(path) and (shipped / _CONFIG).is_file():
      return llama.read(shipped)
    directory, step = _run_and_step(path)
    if not (directory / _CHECKPOINTS).is_dir():
      return llama.read(directory)
    config = _read_config(directory)
    model = generator.Generator(transformer.Transformer(config), None)
    return config, checkpoint.restore_params(
      directory / _CHECKPOINTS, state.abstract_params(model), step
    )


@dataclasses.dataclass(frozen=True)
class NewModel:
  """A model that has learnt nothing yet."""

  config: transformer.TransformerConfig

  def __call__(self) -> tuple[transformer.TransformerConfig, None]:
    """(configuration, None): parameters come from the run's seed."""
    return self.config, None

  def read_config(self) -> transformer.TransformerConfig:
    """The configuration."""
    return self.config


Initial = Pretrained | NewModel


def write_config(
  directory: pathlib.Path, config: transformer.TransformerConfig
) -> None:
  """Makes a training run's folder one that `Pretrained` reads.

  Warns where the model is of no family that has a config.json here.
  """
  try:
    row = llama.config_to_json(config)
  except ValueError as error:
    _logger.warning("no %s in %s: %s", _CONFIG, directory, error)
    return
  samples.write_json(directory / _CONFIG, row)


def fingerprint(params: Any) -> str | None:
  """SHA-256 of parameters, their names and shapes; None for a new model."""
  if params is None:
    return None
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    array = np.asarray(leaf)
    digest.update(
      f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode()
    )
    digest.update(array.tobytes())
  return digest.hexdigest()


def check_config(
  name_or_directory: str,
  found: transformer.TransformerConfig,
  wanted: transformer.TransformerConfig,
) -> None:
  """Raises ValueError that names where two models differ.

  How they are run, dtypes and `scan_layers`, makes no difference.
  """
  differing = [
    f"{field.name} is {getattr(found, field.name)!r} there,"
    f" {getattr(wanted, field.name)!r} here"
    for field in dataclasses.fields(found)
    if field.name not in ("dtype", "param_dtype", "scan_layers")
    and getattr(found, field.name) != getattr(wanted, field.name)
  ]
  if differing:
    raise ValueError(
      f"{name_or_directory} holds another model than MODEL:"
      f" {'; '.join(differing)}; take the gin file of that model"
    )


def check_vocabulary(
  config: transformer.TransformerConfig, vocabulary: Any
) -> None:
  """Raises ValueError if the model lacks embeddings for some of the pieces."""
  if config.vocab_size < vocabulary.vocab_size:
    raise ValueError(
      f"the model's vocab_size is {config.vocab_size}, but the vocabulary has"
      f" {vocabulary.vocab_size} pieces; take the vocabulary that the model was"
      " trained with"
    )


def _run_and_step(path: pathlib.Path) -> tuple[pathlib.Path, int | None]:
  """The folder of a training run, and the step that the path names."""
  step = None
  if path.parent.name == _CHECKPOINTS and path.name.isdigit():
    path, step = path.parent, int(path.name)
  return (path.parent if path.name == _CHECKPOINTS else path), step


def _read_config(directory: pathlib.Path) -> transformer.TransformerConfig:
  path = directory / _CONFIG
  if not path.is_file():
    raise FileNotFoundError(
      f"no {_CONFIG} in {directory}, so its model is not known; the command"
      " that trained it writes one when it is started again"
    )
  return llama.config_from_json(samples.read_json(path), path)
