"""What a trainer asks of a model: the surface of T5X's `BaseModel`.

Stated structurally, so that neither our loop nor the models import T5X, and
the same object runs under both drivers.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax

Batch = Mapping[str, jax.Array]
# Names to `clu.metrics.Metric` instances, which merge.
Metrics = dict[str, Any]


@runtime_checkable
class LanguageModel(Protocol):
  """A module with a loss, a scorer and a decoder.

  `FEATURE_CONVERTER_CLS` is read on the instance. `optimizer_def` is carried
  for T5X's train binary and never used here.
  """

  FEATURE_CONVERTER_CLS: Any
  optimizer_def: Any
  input_vocabulary: Any
  output_vocabulary: Any

  def get_initial_variables(
    self,
    rng: jax.Array,
    input_shapes: Mapping[str, Any],
    input_types: Mapping[str, Any] | None = None,
  ) -> Mapping[str, Any]:
    """`params`, and `params_axes` with the logical axes of each of them."""
    ...

  def loss_fn(
    self, params: Any, batch: Batch, dropout_rng: jax.Array | None
  ) -> tuple[jax.Array, Metrics]:
    """A weighted sum over a constant of the run, and its metrics.

    Never over the batch's own weight: gradients of microbatches are added.
    """
    ...

  def eval_fn(self, params: Any, batch: Batch) -> tuple[jax.Array, Metrics]:
    """The same without anything random."""
    ...

  def predict_batch(
    self, params: Any, batch: Batch, rng: jax.Array | None = None
  ) -> jax.Array:
    """The best decode of each row, [B, T]."""
    ...

  def predict_batch_with_aux(
    self, params: Any, batch: Batch, rng: jax.Array | None = None
  ) -> tuple[jax.Array, Mapping[str, jax.Array]]:
    """The same with `aux["scores"]`, in nats."""
    ...

  def score_batch(self, params: Any, batch: Batch) -> jax.Array:
    """What the model thinks of each row, [B], in nats."""
    ...
