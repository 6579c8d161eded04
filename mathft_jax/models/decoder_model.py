"""What generator and evaluator share: one module, its variables, its logits."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mathft_jax import losses, partitioning
from mathft_jax.decoding import generate, prefix_cache, sampling, slots
from mathft_jax.models import protocol, transformer

# So many logits (256 MiB) of a batch are taken at once: chunks, which compute
# them twice, would take longer and save little (docs/benchmarks.md).
_FEW_LOGITS = 2**26


@dataclasses.dataclass
class DecoderModel:
  """A decoder-only transformer with the vocabulary that it reads.

  `loss_normalizing_factor` is the constant by which losses are divided; the
  number of loss tokens of a batch, about, so that a clipping norm and a
  reported loss mean the same at any batch size.

  A loss over the vocabulary takes `loss_chunk_length` positions of each row at
  a time, so that its logits are [B, loss_chunk_length, V] however long the
  rows are. Larger values make fewer and larger products, smaller ones take
  less memory. Of batches with few logits (2^26; the demo's are) all are taken
  at once, which is faster. Raises ValueError for a value below 1.
  """

  module: transformer.Transformer
  vocabulary: Any
  loss_normalizing_factor: float = 1.0
  optimizer_def: Any = None
  loss_chunk_length: int = 64

  def __post_init__(self):
    if self.loss_chunk_length < 1:
      raise ValueError(
        f"loss_chunk_length is {self.loss_chunk_length}; it must be >= 1"
        " positions of each row"
      )

  @property
  def input_vocabulary(self) -> Any:
    return self.vocabulary

  @property
  def output_vocabulary(self) -> Any:
    return self.vocabulary

  @property
  def start_id(self) -> int:
    """The token before the first of each sequence."""
    from mathft_jax.data import features  # TensorFlow, only with a vocabulary.

    return features.start_token_id(self.vocabulary)

  def group_converter(self, width: int = 2) -> Any:
    """A `FEATURE_CONVERTER_CLS` for examples of `width` sequences."""
    from mathft_jax.data import converters  # TensorFlow, only for training.

    return functools.partial(
      converters.PairFeatureConverter, bos_id=self.start_id, width=width
    )

  def get_initial_variables(
    self,
    rng: Array,
    input_shapes: Mapping[str, Any],
    input_types: Mapping[str, Any] | None = None,
  ) -> Mapping[str, Any]:
    """Parameters and their logical axes; no batch shape changes them."""
    del input_shapes, input_types
    return self.module.init(rng, jnp.zeros((1, 2), jnp.int32))

  def apply(self, params: Any, *args: Any, **kwargs: Any) -> Any:
    """What `Transformer.__call__` returns with these parameters."""
    return self.module.apply({"params": params}, *args, **kwargs)

  def logits(self, params: Any, batch: protocol.Batch) -> Float[Array, "B T V"]:
    """A full forward pass over packed or unpacked rows."""
    return self.apply(params, *_rows(batch))[0]

  def token_log_probs(
    self, params: Any, batch: protocol.Batch
  ) -> losses.TokenLogProbs:
    """What losses need of a full forward pass over the rows [B, T] of a batch.

    `loss_chunk_length` positions of each row at a time, unless all are few.
    Then only those with a loss weight count, and others may be 0.
    """
    targets = batch["decoder_target_tokens"]
    config = self.module.config
    if (
      targets.shape[1] <= self.loss_chunk_length
      or targets.size * config.vocab_size <= _FEW_LOGITS
    ):
      return losses.token_log_probs(self.logits(params, batch), targets)
    hidden, _ = self.apply(params, *_rows(batch), with_head=False)
    return losses.chunked_token_log_probs(
      hidden,
      self.module.head(params),
      targets,
      batch["decoder_loss_weights"] != 0,
      chunk_length=self.loss_chunk_length,
      softcap=config.logit_softcap,
      gather=_gather_head,
    )

  def generate(
    self,
    params: Any,
    prompts: Int[Array, "P T"],
    prompt_lengths: Int[Array, " P"],
    keys: Key[Array, " B"],
    *,
    max_tokens: int,
    next_token: sampling.NextToken,
  ) -> generate.Generated:
    """Continues right-padded prompts, each in B / P rows.

    A prompt starts with `start_id`, which training shifts in before the first
    token. Row b belongs to prompt b // (B / P) and draws from keys[b].
    """
    keys_values = self.prefill(params, prompts)
    cache = prefix_cache.from_prompts(
      *keys_values,
      prompt_lengths - 1,
      rows_per_prompt=keys.shape[0] // prompts.shape[0],
      max_generated=max_tokens,
      stacked=self.module.config.scan_layers,
    )
    last = jnp.take_along_axis(prompts, prompt_lengths[:, None] - 1, axis=1)
    return generate.generate(
      functools.partial(self.decode_step, params),
      _map_cache(lambda x, axes: partitioning.constrain(x, *axes), cache),
      last[:, 0],
      keys,
      next_token=next_token,
      eos_id=self.vocabulary.eos_id,
    )

  def prefill(
    self, params: Any, prompts: Int[Array, "P T"]
  ) -> transformer.KeysValues:
    """Keys and values of prompts, [L, P, K, T, Dh] each."""
    return self.apply(params, prompts, with_head=False)[1]

  def decode_step(
    self,
    params: Any,
    tokens: Int[Array, "B 1"],
    cache: prefix_cache.PrefixCache,
  ) -> tuple[Float[Array, "B 1 V"], prefix_cache.PrefixCache]:
    """Logits behind each row's next token, which the cache then holds."""
    return self.apply(params, tokens, cache=cache)

  def empty_slots(
    self,
    *,
    num_lanes: int,
    num_places: int,
    rows_per_lane: int,
    num_requests: int,
    prompt_capacity: int,
    max_tokens: int,
  ) -> slots.Slots:
    """Free rows, for `num_requests` requests of each prompt that fits."""
    config = self.module.config
    cache = prefix_cache.empty(
      num_layers=config.num_layers,
      num_kv_heads=config.num_kv_heads,
      head_dim=config.head_dim,
      dtype=config.dtype,
      num_lanes=num_lanes,
      num_places=num_places,
      prompt_capacity=prompt_capacity,
      rows_per_lane=rows_per_lane,
      max_generated=max_tokens,
      stacked=config.scan_layers,
    )
    return laid_out(slots.empty(cache, num_requests))


def flat_rows(batch: protocol.Batch) -> protocol.Batch:
  """Rows in pairs or larger groups, [B, N, T], as rows [B * N, T].

  Those of a group stay side by side, and so on the device that has them.
  """
  return {name: x.reshape(-1, x.shape[-1]) for name, x in batch.items()}


def laid_out(state: slots.Slots) -> slots.Slots:
  """Slots on the devices that `map_with_axes` says."""
  return map_with_axes(lambda x, axes: partitioning.constrain(x, *axes), state)


def map_with_axes(function: Callable[..., Any], state: slots.Slots) -> Any:
  """function(array, its logical axes) in the place of each array.

  Lanes and rows lie where rows do, so that a lane's prompts, rows and results
  are on the same devices.
  """
  mapped = {
    field.name: jax.tree.map(
      lambda x: function(x, ("batch", *[None] * (x.ndim - 1))),
      getattr(state, field.name),
    )
    for field in dataclasses.fields(state)
    if field.name != "cache"
  }
  cache = _map_cache(function, state.cache)
  return dataclasses.replace(state, cache=cache, **mapped)


def _map_cache(function, cache: prefix_cache.PrefixCache) -> Any:
  """Keys and values lie with the rows and heads that attend to them."""

  def call(x):
    if x.ndim < 4:  # Lengths and the like.
      return function(x, ("batch", *[None] * (x.ndim - 1)))
    layers = ["layers"] * (x.ndim - 4)
    return function(x, (*layers, "batch", "kv_heads", None, None))

  return jax.tree.map(call, cache)


def _gather_head(kernel: Float[Array, "D V"]) -> Float[Array, "D V"]:
  """All rows of the head on each device, of the words that are its own."""
  return partitioning.constrain(kernel, None, "vocab")


def _rows(batch: protocol.Batch) -> tuple[Array, Array | None, Array | None]:
  """Tokens, positions and segments of packed or unpacked rows."""
  return (
    batch["decoder_input_tokens"],
    batch.get("decoder_positions"),
    batch.get("decoder_segment_ids"),
  )
