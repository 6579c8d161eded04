"""The language model that says whether a solution is correct."""

import dataclasses
import functools
import math
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mathft_jax import losses
from mathft_jax.models import decoder_model, generator, protocol
from mathft_jax.models import metrics as metrics_lib


@dataclasses.dataclass
class Evaluator(decoder_model.DecoderModel):
  """Trained with `cls_xent` (Eq. 9): the label word, over all words.

  Raises ValueError at construction if the vocabulary lacks the two label
  words as single tokens.
  """

  @property
  def FEATURE_CONVERTER_CLS(self) -> Any:
    from mathft_jax.data import converters  # TensorFlow, only for training.

    return functools.partial(
      converters.DecoderOnlyFeatureConverter, bos_id=self.start_id
    )

  def __post_init__(self):
    from mathft_jax.data import features

    # (correct, incorrect), found once: not every vocabulary has them.
    self.verdict_ids = features.verdict_token_ids(self.vocabulary)

  def loss_fn(
    self, params: Any, batch: protocol.Batch, dropout_rng: Array | None
  ) -> tuple[Float[Array, ""], protocol.Metrics]:
    """Eq. 9 summed over the batch, divided by the normalising constant."""
    del dropout_rng
    return generator.token_loss(self, params, batch, z_loss=0.0)

  def eval_fn(
    self, params: Any, batch: protocol.Batch
  ) -> tuple[Float[Array, ""], protocol.Metrics]:
    """The loss without anything random."""
    return self.loss_fn(params, batch, None)

  def log_p_correct(
    self,
    params: Any,
    tokens: Int[Array, "B T"],
    verdict_positions: Int[Array, " B"],
  ) -> Float[Array, " B"]:
    """log S(X|P) of Eq. 7, in nats, for one solution a row.

    `verdict_positions` are those of the last prompt token, which predicts the
    verdict. Two logits at one position a row are computed, no more.
    """
    logits = self.apply(
      params,
      tokens,
      logit_positions=verdict_positions,
      logit_tokens=jnp.asarray(self.verdict_ids),
    )[0]
    return losses.log_p_correct(logits[:, 0, 0], logits[:, 0, 1])

  def score_batch(
    self, params: Any, batch: protocol.Batch
  ) -> Float[Array, " B"]:
    """log S(X|P) at the label position of each unpacked row, in nats."""
    positions = jnp.argmax(batch["decoder_loss_weights"] > 0, axis=-1)
    return self.log_p_correct(params, batch["decoder_input_tokens"], positions)

  def predict_batch(
    self, params: Any, batch: protocol.Batch, rng: Array | None = None
  ) -> Int[Array, "B 1"]:
    """The token of the likelier verdict of each row."""
    return self.predict_batch_with_aux(params, batch, rng)[0]

  def predict_batch_with_aux(
    self, params: Any, batch: protocol.Batch, rng: Array | None = None
  ) -> tuple[Int[Array, "B 1"], dict[str, Array]]:
    """The likelier verdict, with log S(X|P) as `aux["scores"]`."""
    del rng
    scores = self.score_batch(params, batch)
    correct, incorrect = self.verdict_ids
    says_correct = scores > math.log(0.5)
    return (
      jnp.where(says_correct, correct, incorrect)[:, None],
      {"scores": scores},
    )


@dataclasses.dataclass(frozen=True)
class XentObjective:
  """`cls_xent` as a choice in a configuration."""

  name: ClassVar[str] = "cls_xent"

  def __call__(
    self, module: Any, vocabulary: Any, loss_normalizing_factor: float
  ) -> Evaluator:
    return Evaluator(
      module, vocabulary, loss_normalizing_factor=loss_normalizing_factor
    )


@dataclasses.dataclass(frozen=True)
class MarginObjective:
  """`cls_margin` as a choice in a configuration; `margin` is λ, in nats."""

  name: ClassVar[str] = "cls_margin"
  margin: float = math.log(2)

  def __call__(
    self, module: Any, vocabulary: Any, loss_normalizing_factor: float
  ) -> Evaluator:
    return MarginEvaluator(
      module,
      vocabulary,
      loss_normalizing_factor=loss_normalizing_factor,
      margin=self.margin,
    )


Objective = XentObjective | MarginObjective


@dataclasses.dataclass
class MarginEvaluator(Evaluator):
  """Trained with `cls_margin` (Eq. 8) on pairs of one problem.

  `margin` is λ, in nats. A batch is [B, 2, T]: incorrect first, then correct.
  """

  margin: float = math.log(2)

  @property
  def FEATURE_CONVERTER_CLS(self) -> Any:
    from mathft_jax.data import converters  # TensorFlow, only for training.

    return functools.partial(
      converters.PairFeatureConverter, bos_id=self.start_id
    )

  def loss_fn(
    self, params: Any, batch: protocol.Batch, dropout_rng: Array | None
  ) -> tuple[Float[Array, ""], protocol.Metrics]:
    """Eq. 8 summed over the pairs, divided by the normalising constant."""
    del dropout_rng
    scores = self.score_batch(params, batch)  # [B, 2]
    is_pair = jnp.all(jnp.any(batch["decoder_loss_weights"] > 0, -1), -1)
    weights = is_pair.astype(jnp.float32)
    total, weight = losses.verdict_margin(
      scores[:, 0], scores[:, 1], weights, margin=self.margin
    )
    in_order = jnp.sum((scores[:, 1] > scores[:, 0]) * weights)
    metrics = {
      "loss": metrics_lib.average(total, weight),
      "accuracy": metrics_lib.average(in_order, weight),
    }
    return total / self.loss_normalizing_factor, metrics

  def score_batch(
    self, params: Any, batch: protocol.Batch
  ) -> Float[Array, "..."]:
    """log S(X|P), in nats: [B] for rows [B, T], [B, 2] for pairs."""
    shape = batch["decoder_input_tokens"].shape
    flat = {
      name: batch[name].reshape(-1, shape[-1])
      for name in ("decoder_input_tokens", "decoder_loss_weights")
    }
    return super().score_batch(params, flat).reshape(shape[:-1])
