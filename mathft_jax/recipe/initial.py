"""What a model and its parameters are read from."""

import dataclasses
import hashlib
import logging
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mathft_jax import checkpoint, partitioning, pretrained, samples
from mathft_jax.models import generator, lora, transformer
from mathft_jax.pretrained import llama
from mathft_jax.training import state

_logger = logging.getLogger(__name__)

_CONFIG = "config.json"
_CHECKPOINTS = "checkpoints"
# What config.json of a run with adapters says beside the shape of the model:
# readers of other projects know no such key, and there are no weights beside.
_LORA = "mathft_lora"

# How a model is run here, which makes it no other model.
_HOW_IT_IS_RUN = ("dtype", "param_dtype", "scan_layers", "remat")


@dataclasses.dataclass(frozen=True)
class Pretrained:
  """A shipped model by name, a folder of safetensors, or a training run.

  A training run's folder, or its `checkpoints`, is its best checkpoint;
  `checkpoints/<step>` is that one. Adapters that a run trained are merged, and
  the model has none. `scan_layers`, `dtype` and `param_dtype` are as in
  `TransformerConfig`: how the model is run here, which no file of weights says.
  """

  name_or_directory: str
  scan_layers: bool = True
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  def __call__(
    self,
    mesh: Mesh | None = None,
    rules: partitioning.Rules = partitioning.STANDARD_RULES,
  ) -> tuple[transformer.TransformerConfig, Any]:
    """(configuration, parameters), these laid out on a mesh if one is given.

    Raises FileNotFoundError if it is none of these.
    """
    config, params = self._read(mesh, rules)
    config = self._as_run_here(config)
    if mesh is not None:
      model = generator.Generator(transformer.Transformer(config), None)
      abstract = state.abstract_params(model, mesh, rules)
      checkpoint.check_same_shapes(params, abstract)
      params = partitioning.place(params, abstract)
    return config, params

  def read_config(self) -> transformer.TransformerConfig:
    """The configuration alone, without reading parameters.

    Raises FileNotFoundError where there is none.
    """
    self.check()
    path = pathlib.Path(self.name_or_directory)
    shipped = pathlib.Path(pretrained.__path__[0]) / path.name
    is_shipped = path.name == str(path) and (shipped / _CONFIG).is_file()
    config = _read_config(shipped if is_shipped else _run_and_step(path)[0])
    return self._as_run_here(dataclasses.replace(config, lora=None))

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

  def _as_run_here(
    self, config: transformer.TransformerConfig
  ) -> transformer.TransformerConfig:
    return dataclasses.replace(
      config,
      scan_layers=self.scan_layers,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
    )

  def _read(
    self, mesh: Mesh | None, rules: partitioning.Rules
  ) -> tuple[transformer.TransformerConfig, Any]:
    path = pathlib.Path(self.name_or_directory)
    shipped = pathlib.Path(pretrained.__path__[0]) / path.name
    if path.name == str(path) and (shipped / _CONFIG).is_file():
      return llama.read(shipped, self.param_dtype)
    directory, step = _run_and_step(path)
    if not (directory / _CHECKPOINTS).is_dir():
      return llama.read(directory, self.param_dtype)
    config = self._as_run_here(_read_config(directory))
    if config.lora is not None:  # Rounded once, when adapters are added.
      config = dataclasses.replace(config, param_dtype=jnp.float32)
    model = generator.Generator(transformer.Transformer(config), None)
    params = checkpoint.restore_params(
      directory / _CHECKPOINTS, state.abstract_params(model, mesh, rules), step
    )
    if config.lora is None:
      return config, params
    merged = jax.tree.map(
      lambda x: x.astype(self.param_dtype), lora.merge(params, config.lora)
    )
    return dataclasses.replace(config, lora=None), merged


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

  Adapters are written as what they are, so that they can be merged.
  Warns where the model is of no family that has a config.json here.
  """
  try:
    row = llama.config_to_json(
      dataclasses.replace(config, lora=None, remat="none")
    )
  except ValueError as error:
    _logger.warning("no %s in %s: %s", _CONFIG, directory, error)
    return
  if config.lora is not None:
    row[_LORA] = dataclasses.asdict(config.lora)
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

  How they are run, dtypes, `scan_layers` and `remat`, makes no difference.
  Adapters make none either: those of `wanted` are new, and what was read has
  its own merged.
  """
  differing = [
    f"{field.name} is {getattr(found, field.name)!r} there,"
    f" {getattr(wanted, field.name)!r} here"
    for field in dataclasses.fields(found)
    if field.name not in (*_HOW_IT_IS_RUN, "lora")
    and getattr(found, field.name) != getattr(wanted, field.name)
  ]
  if differing:
    raise ValueError(
      f"{name_or_directory} holds another model than MODEL:"
      f" {'; '.join(differing)}; take the gin file of that model"
    )


def check_run(
  directory: pathlib.Path, wanted: transformer.TransformerConfig
) -> None:
  """Raises ValueError where a run there has checkpoints of other adapters.

  What else differs between models, shapes tell; a scale they do not.
  """
  is_begun = (directory / _CHECKPOINTS).is_dir() and checkpoint.saved_steps(
    directory / _CHECKPOINTS
  )
  if not is_begun or not (directory / _CONFIG).is_file():
    return
  found = _read_config(directory)
  if found.lora != wanted.lora:
    raise ValueError(
      f"the run in {directory} has LORA {found.lora}, here it is {wanted.lora};"
      " set it back, or start in a new MODEL_DIR"
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
  row = samples.read_json(path)
  adapters = row.pop(_LORA, None)
  config = llama.config_from_json(row, path)
  if adapters is None:
    return config
  try:
    found = lora.LoraConfig(**adapters)
  except (TypeError, ValueError) as error:
    raise ValueError(
      f"{path}: {_LORA} is not understood: {error}; the command that trained"
      " the run writes it when it is started again"
    ) from None
  return dataclasses.replace(config, lora=found)
