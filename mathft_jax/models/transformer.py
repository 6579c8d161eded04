"""The decoder-only transformer of every open family, as one linen module."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen import partitioning as nn_partitioning
from jaxtyping import Array, Float, Int

from mathft_jax import partitioning
from mathft_jax.decoding import prefix_cache
from mathft_jax.models import (
  attention,
  dense,
  fused_attention,
  prefix_attention,
)
from mathft_jax.models import lora as lora_lib

# What a backward pass finds of a layer; None: all that it needs.
_REMAT_POLICIES = {
  "none": None,
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "full": jax.checkpoint_policies.nothing_saveable,
}

# Keys and values of all layers, as a forward pass leaves them.
KeysValues = tuple[Float[Array, "L B K T Dh"], Float[Array, "L B K T Dh"]]


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
  """The shape of a model, and where the open families differ.

  `windows` is the sliding window of each layer in turn, repeated over the
  layers; None attends to everything (Gemma 2: `(4096, None)`). Windowed layers
  take `local_rope_theta` where it is given (Gemma 3). `norm_offset` is 1 for
  norms stored as w - 1 (Gemma). `query_scale` defaults to `head_dim ** -0.5`.
  Parameters are stacked over the layers in any case: with `scan_layers` one
  layer is compiled and run in a loop; without, all are written out, which
  compiles longer and runs a small model faster (docs/benchmarks.md). `remat` is
  what a training step keeps of a layer for its backward pass: with "none" all
  that it needs; with "dots" the products with weights, and the rest, attention
  above all, is computed again; with "full" the layer's input alone. With `lora`
  layers have adapters, and training changes these alone.
  """

  vocab_size: int
  num_layers: int
  model_dim: int
  mlp_dim: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  activation: Callable[[Array], Array] = jax.nn.silu
  rope_theta: float = 10_000.0
  rope_scaling: attention.RopeScaling | None = None
  local_rope_theta: float | None = None
  windows: tuple[int | None, ...] = (None,)
  norm_epsilon: float = 1e-6
  norm_offset: float = 0.0
  use_post_norms: bool = False
  use_qkv_bias: bool = False
  use_qk_norm: bool = False
  tie_embeddings: bool = True
  scale_embeddings: bool = False
  query_scale: float | None = None
  attention_softcap: float | None = None
  logit_softcap: float | None = None
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  scan_layers: bool = True
  remat: str = "none"
  lora: lora_lib.LoraConfig | None = None

  def __post_init__(self):
    if self.remat not in _REMAT_POLICIES:
      raise ValueError(
        f"remat is {self.remat!r}; it must be one of"
        f" {', '.join(map(repr, _REMAT_POLICIES))}"
      )
    if self.num_heads % self.num_kv_heads:
      raise ValueError(
        f"{self.num_heads} query heads do not share {self.num_kv_heads}"
        " key/value heads evenly; make num_heads a multiple of num_kv_heads"
      )
    if self.head_dim % 2:
      raise ValueError(
        f"head_dim is {self.head_dim}; rotary positions need an even one"
      )

  def layer_windows(self) -> np.ndarray:
    """The window of each layer, [L]."""
    full = attention.FULL_ATTENTION
    cycle = [full if w is None else w for w in self.windows]
    return np.array(
      [cycle[i % len(cycle)] for i in range(self.num_layers)], np.int32
    )

  def layer_frequencies(self) -> np.ndarray:
    """The rotary frequencies of each layer, [L, Dh / 2]."""
    full = attention.rotary_frequencies(
      self.head_dim, self.rope_theta, self.rope_scaling
    )
    theta = self.local_rope_theta
    local = (
      full
      if theta is None
      else attention.rotary_frequencies(self.head_dim, theta)
    )
    is_full = self.layer_windows() == attention.FULL_ATTENTION
    return np.where(is_full[:, None], full, local).astype(np.float32)


class Transformer(nn.Module):
  """Tokens to logits."""

  config: TransformerConfig

  @nn.compact
  def __call__(
    self,
    tokens: Int[Array, "B T"],
    positions: Int[Array, "B T"] | None = None,
    segment_ids: Int[Array, "B T"] | None = None,
    cache: prefix_cache.PrefixCache | None = None,
    logit_positions: Int[Array, " B"] | Int[Array, "B M"] | None = None,
    logit_tokens: Int[Array, " n"] | None = None,
    with_head: bool = True,
    prefix: prefix_attention.Prefix | None = None,
  ) -> tuple[Array, KeysValues | prefix_cache.PrefixCache | None]:
    """Logits [B, T, V] in float32, and the keys and values of all layers.

    With `segment_ids`, rows hold several examples that do not see each other,
    and `positions` start anew in each. With `cache`, T is 1: each row's next
    token, whose keys and values are added to the cache that is returned.
    `logit_positions` asks for the logits of one position a row, [B, 1, V], or
    of M, and `logit_tokens` for those of some tokens only, [B, T, n]: a verdict
    needs two numbers, not a product with the whole vocabulary. Without
    `with_head` the hidden states [B, T, D], of which `head` makes logits, take
    their place. With `prefix`, rows go on where a beginning that they share
    ends, and need `positions` and `segment_ids`; their own keys and values are
    not kept (None).

    Raises ValueError for a cache of the other form than `scan_layers` asks for.
    """
    config = self.config
    if cache is not None and cache.is_stacked != config.scan_layers:
      raise ValueError(
        f"scan_layers is {config.scan_layers}, and stacked of the cache is"
        f" {cache.is_stacked}; they have to be the same"
      )
    if positions is None:
      positions = (
        jnp.broadcast_to(jnp.arange(tokens.shape[1])[None], tokens.shape)
        if cache is None
        else cache.positions()[:, None]
      )
    embedding = nn_partitioning.param_with_axes(
      "embedding",
      nn.initializers.normal(config.model_dim**-0.5),
      (config.vocab_size, config.model_dim),
      config.param_dtype,
      axes=("vocab", "embed"),
    )
    # Each device looks up its part of `embed` for the rows of its neighbours on
    # `fsdp` too, and they exchange rows: the table itself is never gathered.
    x = jnp.take(embedding, tokens, axis=0).astype(config.dtype)
    x = partitioning.constrain(x, "lookup_batch", "length", "embed")
    if config.scale_embeddings:
      x = x * jnp.asarray(math.sqrt(config.model_dim), config.dtype)
    x = partitioning.constrain(x, "batch", "length", "embed")

    # Parameters are made by the scan, which stacks them.
    run = (
      self._scanned_layers
      if config.scan_layers or self.is_initializing()
      else self._unrolled_layers
    )
    if logit_positions is not None:
      logit_positions = logit_positions.reshape(x.shape[0], -1)
    x, cache, keys_values = run(
      x, cache, positions, segment_ids, prefix, logit_positions
    )

    x = RMSNorm(config, name="final_norm")(x)
    if not with_head:
      return x, keys_values
    if config.tie_embeddings:
      head = embedding.T
    else:
      head = nn_partitioning.param_with_axes(
        "head",
        nn.initializers.normal(config.model_dim**-0.5),
        (config.model_dim, config.vocab_size),
        config.param_dtype,
        axes=("embed", "vocab"),
      )
    if logit_tokens is not None:
      head = head[:, logit_tokens]
    logits = dense.matmul(x, jnp.asarray(head), jnp.float32)
    if logit_tokens is None:
      logits = partitioning.constrain(logits, "batch", "length", "vocab")
    if config.logit_softcap is not None:
      logits = config.logit_softcap * jnp.tanh(logits / config.logit_softcap)
    if cache is not None:
      return logits, dataclasses.replace(
        cache, num_generated=cache.num_generated + 1
      )
    return logits, keys_values

  def head(self, params: Any) -> Float[Array, "D V"]:
    """The matrix by which hidden states become logits, before the soft cap."""
    if self.config.tie_embeddings:
      return params["embedding"].T
    return params["head"]

  def _scanned_layers(
    self, x, cache, positions, segment_ids, prefix, logit_positions
  ) -> tuple[Array, Any, Any]:
    config = self.config
    layer: Any = _Layer
    policy = _REMAT_POLICIES[config.remat]
    if policy is not None and cache is None:
      # Within a loop the compiler has nothing to share with the forward pass.
      layer = nn_partitioning.remat(layer, policy=policy, prevent_cse=False)
    layers = nn_partitioning.scan_with_axes(
      layer,
      variable_axes={"params": 0},
      split_rngs={"params": True},
      # Its annotation forgets that each argument may have an axis.
      in_axes=(0, 0, 0, *[nn.broadcast] * 3),  # pyright: ignore
      length=config.num_layers,
      axis_name="layers",
    )(config, name="layers")
    (x, cache), keys_values = layers(
      (x, cache),
      jnp.arange(config.num_layers),
      jnp.asarray(config.layer_windows()),
      jnp.asarray(config.layer_frequencies()),
      positions,
      segment_ids,
      prefix,
    )
    if logit_positions is not None:
      x = _at(x, logit_positions)
    return x, cache, keys_values

  def _unrolled_layers(
    self, x, cache, positions, segment_ids, prefix, logit_positions
  ) -> tuple[Array, Any, Any]:
    """Behind a prefix, the last layer only where logits are asked for."""
    config = self.config
    stacked = self.variables["params"]["layers"]
    layer: Callable[..., Any] = _Layer(config, parent=None).apply
    policy = _REMAT_POLICIES[config.remat]
    if policy is not None and cache is None:
      layer = jax.checkpoint(layer, policy=policy)
    windows, frequencies = config.layer_windows(), config.layer_frequencies()
    keys_values = []
    for i in range(config.num_layers):
      params = jax.tree.map(lambda stack, i=i: stack[i], stacked)
      (x, cache), of_layer = layer(
        {"params": params},
        (x, cache),
        i,
        jnp.asarray(windows[i]),
        jnp.asarray(frequencies[i]),
        positions,
        segment_ids,
        prefix,
        logit_positions if prefix and i == config.num_layers - 1 else None,
      )
      keys_values.append(of_layer)
    if logit_positions is not None and prefix is None:
      x = _at(x, logit_positions)
    if cache is not None or prefix is not None:
      return x, cache, None
    return x, None, jax.tree.map(lambda *each: jnp.stack(each), *keys_values)


class RMSNorm(nn.Module):
  """x / rms(x) * (w + offset), computed in float32."""

  config: TransformerConfig
  axis: str = "embed"

  @nn.compact
  def __call__(self, x: Array) -> Array:
    scale = nn_partitioning.param_with_axes(
      "scale",
      nn.initializers.constant(1.0 - self.config.norm_offset),
      (x.shape[-1],),
      self.config.param_dtype,
      axes=(self.axis,),
    )
    wide = x.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    wide = wide * jax.lax.rsqrt(mean_square + self.config.norm_epsilon)
    factor = scale.astype(jnp.float32) + self.config.norm_offset
    shape = (1,) * (x.ndim - 1) + factor.shape
    return (wide * factor.reshape(shape)).astype(x.dtype)


class _Layer(nn.Module):
  """Attention, then a gated MLP, each added to the stream."""

  config: TransformerConfig

  @nn.compact
  def __call__(
    self,
    carry,
    layer,
    window,
    frequencies,
    positions,
    segment_ids,
    prefix=None,
    places=None,
  ):
    x, cache = carry
    config = self.config
    normed = RMSNorm(config, name="attention_norm")(x)
    mixed, cache, keys_values = _Attention(config, name="attention")(
      normed,
      cache,
      layer,
      window,
      frequencies,
      positions,
      segment_ids,
      prefix,
      places,
    )
    if places is not None:
      x = _at(x, places)
    if config.use_post_norms:
      mixed = RMSNorm(config, name="attention_post_norm")(mixed)
    x = x + mixed
    normed = RMSNorm(config, name="mlp_norm")(x)
    mixed = _GatedMLP(config, name="mlp")(normed)
    if config.use_post_norms:
      mixed = RMSNorm(config, name="mlp_post_norm")(mixed)
    x = partitioning.constrain(x + mixed, "batch", "length", "embed")
    return (x, cache), keys_values


class _Attention(nn.Module):
  config: TransformerConfig

  @nn.compact
  def __call__(
    self,
    x,
    cache,
    layer,
    window,
    frequencies,
    positions,
    segment_ids,
    prefix,
    places,
  ):
    config = self.config
    at = x if places is None else _at(x, places)
    queries = self._project(at, "query", config.num_heads, "heads")
    keys = self._project(x, "key", config.num_kv_heads, "kv_heads")
    values = self._project(x, "value", config.num_kv_heads, "kv_heads")
    if config.use_qk_norm:
      queries = RMSNorm(config, axis="head_dim", name="query_norm")(queries)
      keys = RMSNorm(config, axis="head_dim", name="key_norm")(keys)
    positions_at = positions
    if places is not None:
      positions_at = jnp.take_along_axis(positions, places, axis=1)
    queries = attention.rotate(queries, positions_at, frequencies)
    keys = attention.rotate(keys, positions, frequencies)
    scale = config.query_scale or config.head_dim**-0.5
    softcap = config.attention_softcap
    keys_values = None
    if prefix is not None:
      mixed = prefix_attention.attend(
        queries,
        keys,
        values,
        positions,
        segment_ids,
        window,
        prefix.of_layer(layer),
        places=places,
        scale=scale,
        softcap=softcap,
      )
    elif cache is None:
      mixed = fused_attention.attend(
        queries,
        keys,
        values,
        positions,
        segment_ids,
        window,
        windows=config.windows,
        scale=scale,
        softcap=softcap,
      )
      keys_values = keys, values
    else:
      cache = cache.write_step(layer, keys, values)
      mixed = attention.attend_with_cache(
        queries, cache, layer, window, scale=scale, softcap=softcap
      )
    mixed = mixed.swapaxes(1, 2).reshape(*at.shape[:2], -1)  # [B, T, H * Dh]
    output = _product(
      config, mixed, "output", config.model_dim, ("heads", "embed")
    )
    return output, cache, keys_values

  def _project(self, x, name: str, num_heads: int, axis: str) -> Array:
    """x projected to heads, [B, heads, T, Dh]."""
    config = self.config
    width = num_heads * config.head_dim
    y = _product(config, x, name, width, ("embed", axis))
    if config.use_qkv_bias:
      bias = nn_partitioning.param_with_axes(
        f"{name}_bias",
        nn.initializers.zeros_init(),
        (width,),
        config.param_dtype,
        axes=(axis,),
      )
      y = dense.add_bias(y, jnp.asarray(bias))
    y = y.reshape(*x.shape[:2], num_heads, config.head_dim).swapaxes(1, 2)
    return partitioning.constrain(y, "batch", axis, "length", "head_dim")


class _GatedMLP(nn.Module):
  config: TransformerConfig

  @nn.compact
  def __call__(self, x):
    config = self.config
    gate = _product(config, x, "gate", config.mlp_dim, ("embed", "mlp"))
    up = _product(config, x, "up", config.mlp_dim, ("embed", "mlp"))
    hidden = config.activation(gate) * up
    hidden = partitioning.constrain(hidden, "batch", "length", "mlp")
    return _product(config, hidden, "down", config.model_dim, ("mlp", "embed"))


def _at(
  x: Float[Array, "B T D"], places: Int[Array, "B M"]
) -> Float[Array, "B M D"]:
  return jnp.take_along_axis(x, places[:, :, None], axis=1)


def _product(
  config: TransformerConfig,
  x: Float[Array, "B T n"],
  name: str,
  width: int,
  axes: tuple[str, str],
) -> Float[Array, "B T m"]:
  """x times a matrix parameter of the module being called, [n, width].

  With the matrix's adapter where it has one.
  """
  kernel = nn_partitioning.param_with_axes(
    name,
    nn.initializers.variance_scaling(1.0, "fan_in", "normal"),
    (x.shape[-1], width),
    config.param_dtype,
    axes=axes,
  )
  y = dense.matmul(x, jnp.asarray(kernel))
  if config.lora is None or name not in config.lora.targets:
    return y
  return lora_lib.adapt(config.lora, x, y, name, axes)
