"""The language model that says whether a solution is correct."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
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

    return converters.DecoderOnlyFeatureConverter

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

  `margin` is λ, in nats. A batch is [B, 2, T]: incorrect first, then correct;
  in packed rows, the halves of a pair stand in the same segment.
  """

  margin: float = math.log(2)

  @property
  def FEATURE_CONVERTER_CLS(self) -> Any:
    from mathft_jax.data import converters  # TensorFlow, only for training.

    return converters.PairFeatureConverter

  def loss_fn(
    self, params: Any, batch: protocol.Batch, dropout_rng: Array | None
  ) -> tuple[Float[Array, ""], protocol.Metrics]:
    """Eq. 8 summed over the pairs, divided by the normalising constant."""
    del dropout_rng
    if "decoder_segment_ids" in batch:
      scores, num_verdicts = self._segment_scores(params, batch)
    else:
      scores = self.score_batch(params, batch)[..., None]
      num_verdicts = jnp.sum(batch["decoder_loss_weights"], -1, keepdims=True)
    incorrect, correct = (scores[:, half].ravel() for half in range(2))
    weights = jnp.all(num_verdicts > 0, axis=1).ravel().astype(jnp.float32)
    total, weight = losses.verdict_margin(
      incorrect, correct, weights, margin=self.margin
    )
    in_order = jnp.sum((correct > incorrect) * weights)
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

  def _segment_scores(
    self, params: Any, batch: protocol.Batch
  ) -> tuple[Float[Array, "B 2 S"], Float[Array, "B 2 S"]]:
    """log S(X|P) of each segment, and how many verdicts it has: 1, or 0.

    There are at most as many segments as tokens, so S is T.
    """
    shape = batch["decoder_input_tokens"].shape
    tokens, positions, segment_ids, weights = (
      batch[f"decoder_{name}"].reshape(-1, shape[-1])
      for name in ("input_tokens", "positions", "segment_ids", "loss_weights")
    )
    logits = self.apply(
      params,
      tokens,
      positions,
      segment_ids,
      logit_tokens=jnp.asarray(self.verdict_ids),
    )[0]  # [2 B, T, 2]
    log_p = losses.log_p_correct(logits[..., 0], logits[..., 1])

    @jax.vmap
    def by_segment(values, segment_ids):
      sums = jax.ops.segment_sum(values, segment_ids, shape[-1] + 1)
      return sums[1:]  # Segment 0 is padding.

    return (
      by_segment(log_p * weights, segment_ids).reshape(shape),
      by_segment(weights, segment_ids).reshape(shape),
    )
