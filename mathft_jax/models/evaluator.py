"""The language model that says whether a solution is correct."""

import dataclasses
import functools
import logging
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mathft_jax import losses, partitioning
from mathft_jax.decoding import prefix_cache
from mathft_jax.models import (
  decoder_model,
  generator,
  prefix_attention,
  protocol,
)
from mathft_jax.models import metrics as metrics_lib

_logger = logging.getLogger(__name__)


@dataclasses.dataclass
class Evaluator(decoder_model.DecoderModel):
  """Trained with `cls_xent` (Eq. 9): the label word, over all words.

  `verdict_words` are the tokens of the two label words, (correct, incorrect),
  and `verdict_ids` the same where each is one token, else None: then scores
  take longer, which a warning says. Raises ValueError at construction if the
  vocabulary cannot spell them.
  """

  @property
  def FEATURE_CONVERTER_CLS(self) -> Any:
    from mathft_jax.data import converters  # TensorFlow, only for training.

    return functools.partial(
      converters.DecoderOnlyFeatureConverter, bos_id=self.start_id
    )

  def __post_init__(self):
    from mathft_jax.data import features

    super().__post_init__()
    self.verdict_words = features.verdict_words(self.vocabulary)
    correct, incorrect = self.verdict_words
    self.verdict_ids = None
    if len(correct) == len(incorrect) == 1:
      self.verdict_ids = correct[0], incorrect[0]
    else:
      _warn_once(
        f"The verdicts are {len(correct)} and {len(incorrect)} tokens in this"
        " vocabulary, so that each score takes softmaxes over all of it. One"
        f" token each would be: {features.single_words(self.vocabulary)}."
      )

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
    verdict. Two logits at one position a row are computed, no more. For
    verdicts of one token.
    """
    logits = self.apply(
      params,
      tokens,
      logit_positions=verdict_positions,
      logit_tokens=jnp.asarray(self.verdict_ids),
    )[0]
    return losses.log_p_correct(logits[:, 0, 0], logits[:, 0, 1])

  def read_prefixes(
    self, params: Any, tokens: Int[Array, "P S"]
  ) -> tuple[Float[Array, "L P K S Dh"], Float[Array, "L P K S Dh"]]:
    """Keys and values of what the solutions of P problems have in common.

    On a mesh each device has all problems: any of its rows may go on from any.
    """
    _, keys_values = self.apply(params, tokens, with_head=False)
    keys, values = (
      partitioning.constrain(
        x, "layers", None, "kv_heads", "length", "head_dim"
      )
      for x in keys_values
    )
    return keys, values

  def log_p_correct_packed(
    self,
    params: Any,
    keys_values: tuple[Float[Array, "L P K S Dh"], Float[Array, "L P K S Dh"]],
    lengths: Int[Array, " P"],
    prompts: Int[Array, " B"],
    tokens: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    segment_ids: Int[Array, "B T"],
    verdict_places: Int[Array, "B M"],
  ) -> Float[Array, "B M"]:
    """What `log_p_correct` returns, for up to M solutions a row.

    Row b goes on from `prompts[b]` of the P beginnings of `read_prefixes`, the
    first `lengths` tokens of each, with one segment a solution;
    `verdict_places` are where in the row the segments end. Two logits at each
    of them are computed. For verdicts of one token.
    """
    prefix = prefix_attention.Prefix(*keys_values, lengths, prompts)
    logits = self.apply(
      params,
      tokens,
      positions,
      segment_ids,
      logit_positions=verdict_places,
      logit_tokens=jnp.asarray(self.verdict_ids),
      prefix=prefix,
    )[0]
    return losses.log_p_correct(logits[..., 0], logits[..., 1])

  def log_p_correct_of_words(
    self,
    params: Any,
    tokens: Int[Array, "B T"],
    verdict_positions: Int[Array, " B"],
    words: Int[Array, "B 2 n"],
    num_tokens: Int[Array, "B 2"],
  ) -> Float[Array, " B"]:
    """What `log_p_correct` returns, for verdicts of up to n tokens.

    `words` are those of each row, (correct, incorrect), padded to n; a word's
    probability is the product of its tokens'. Behind different first tokens
    the vocabulary's normalisers differ and do not cancel, so that each token
    takes a softmax over the whole vocabulary. The prompt is read once, and
    n - 1 steps of decoding follow.
    """
    logits, (keys, values) = self.apply(
      params, tokens, logit_positions=verdict_positions
    )
    cache = prefix_cache.from_prompts(
      keys,
      values,
      verdict_positions + 1,
      rows_per_prompt=2,
      max_generated=words.shape[-1] - 1,
      stacked=self.module.config.scan_layers,
    )
    by_word = words.reshape(-1, words.shape[-1])  # [2 B, n]
    log_probs = _log_prob(jnp.repeat(logits[:, 0], 2, axis=0), by_word[:, 0])
    for place in range(1, words.shape[-1]):
      logits, cache = self.apply(
        params, by_word[:, place - 1 : place], cache=cache
      )
      added = _log_prob(logits[:, 0], by_word[:, place])
      is_there = place < num_tokens.reshape(-1)
      log_probs = log_probs + jnp.where(is_there, added, 0.0)
    return losses.log_p_correct(log_probs[::2], log_probs[1::2])

  def score_batch(
    self, params: Any, batch: protocol.Batch
  ) -> Float[Array, " B"]:
    """log S(X|P) at the label position of each unpacked row, in nats."""
    tokens = batch["decoder_input_tokens"]
    positions = jnp.argmax(batch["decoder_loss_weights"] > 0, axis=-1)
    if self.verdict_ids is not None:
      return self.log_p_correct(params, tokens, positions)
    words, num_tokens = padded_words([self.verdict_words] * len(tokens))
    return self.log_p_correct_of_words(
      params, tokens, positions, jnp.asarray(words), jnp.asarray(num_tokens)
    )

  def predict_batch(
    self, params: Any, batch: protocol.Batch, rng: Array | None = None
  ) -> Int[Array, "B n"]:
    """The tokens of the likelier verdict of each row."""
    return self.predict_batch_with_aux(params, batch, rng)[0]

  def predict_batch_with_aux(
    self, params: Any, batch: protocol.Batch, rng: Array | None = None
  ) -> tuple[Int[Array, "B n"], dict[str, Array]]:
    """The likelier verdict, with log S(X|P) as `aux["scores"]`.

    Where one verdict is shorter than the other, EOS fills it up.
    """
    del rng
    scores = self.score_batch(params, batch)
    words, _ = padded_words([self.verdict_words], self.vocabulary.eos_id)
    says_correct = scores[:, None] > math.log(0.5)
    return jnp.where(says_correct, *words[0]), {"scores": scores}


def padded_words(
  words: Sequence[tuple[Sequence[int], Sequence[int]]], fill: int = 0
) -> tuple[np.ndarray, np.ndarray]:
  """(correct, incorrect) words as one array [B, 2, n], and their lengths."""
  num_tokens = np.array([[*map(len, pair)] for pair in words], np.int32)
  padded = np.full((len(words), 2, num_tokens.max()), fill, np.int32)
  for row, pair in enumerate(words):
    for which, word in enumerate(pair):
      padded[row, which, : len(word)] = word
  return padded, num_tokens


@functools.cache
def _warn_once(message: str) -> None:
  """Warns; a recipe makes the same evaluator several times."""
  _logger.warning(message)


def _log_prob(
  logits: Float[Array, "B V"], tokens: Int[Array, " B"]
) -> Float[Array, " B"]:
  log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
  return jnp.take_along_axis(log_probs, tokens[:, None], axis=1)[:, 0]


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
    return self.group_converter()

  def loss_fn(
    self, params: Any, batch: protocol.Batch, dropout_rng: Array | None
  ) -> tuple[Float[Array, ""], protocol.Metrics]:
    """Eq. 8 summed over the pairs, divided by the normalising constant."""
    del dropout_rng
    loss = self.pair_loss(params, batch)
    metrics = {
      "loss": metrics_lib.average(loss.total, loss.weight),
      "accuracy": metrics_lib.average(loss.in_order, loss.weight),
    }
    return loss.total / self.loss_normalizing_factor, metrics

  def pair_loss(self, params: Any, batch: protocol.Batch) -> losses.PairLoss:
    """Eq. 8 of the pairs of a batch, packed or not."""
    if "decoder_segment_ids" in batch:
      scores, num_verdicts = self._segment_scores(params, batch)
    else:
      scores = self.score_batch(params, batch)[..., None]
      num_verdicts = jnp.sum(batch["decoder_loss_weights"], -1, keepdims=True)
    return losses.pair_loss(scores, num_verdicts, margin=self.margin)

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

    There are at most as many segments as tokens, so S is T. Raises ValueError
    for verdicts of several tokens.
    """
    if self.verdict_ids is None:
      raise ValueError(
        "pairs share rows only where each verdict is one token of the"
        f" vocabulary, and these are {self.verdict_words}; set"
        " TrainingConfig.pack = False"
      )
    shape = batch["decoder_input_tokens"].shape
    rows = decoder_model.flat_rows(batch)
    segment_ids = rows["decoder_segment_ids"]
    logits = self.apply(
      params,
      rows["decoder_input_tokens"],
      rows["decoder_positions"],
      segment_ids,
      logit_tokens=jnp.asarray(self.verdict_ids),
    )[0]  # [2 B, T, 2]
    scores, num_verdicts = losses.sequence_scores(
      losses.log_p_correct(logits[..., 0], logits[..., 1]),
      rows["decoder_loss_weights"],
      segment_ids,
    )
    return scores.reshape(shape), num_verdicts.reshape(shape)
