"""What the first fine-tuning starts from."""

import dataclasses
import pathlib
from typing import Any

from mathft_jax import pretrained
from mathft_jax.models import transformer
from mathft_jax.pretrained import llama


@dataclasses.dataclass(frozen=True)
class Pretrained:
  """Open weights: a shipped model by name, or a folder of safetensors."""

  name_or_directory: str

  def __call__(self) -> tuple[transformer.TransformerConfig, Any]:
    """(configuration, parameters)."""
    shipped = pathlib.Path(pretrained.__path__[0]) / self.name_or_directory
    return llama.read(
      shipped if (shipped / "config.json").is_file() else self.name_or_directory
    )


@dataclasses.dataclass(frozen=True)
class NewModel:
  """A model that has learnt nothing yet."""

  config: transformer.TransformerConfig

  def __call__(self) -> tuple[transformer.TransformerConfig, None]:
    """(configuration, None): parameters come from the run's seed."""
    return self.config, None


Initial = Pretrained | NewModel
