"""Tests of the transformer against a forward pass in plain numpy."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mathft_jax.decoding import prefix_cache
from mathft_jax.models import attention, prefix_attention, transformer

_PROMPT_LENGTHS = np.array([3, 6], np.int32)
_ROWS_PER_PROMPT = 2
_LENGTH, _NUM_GENERATED = 6, 6


@dataclasses.dataclass
class _Case:
  config: transformer.TransformerConfig
  params: dict
  prompts: np.ndarray  # [P, T], right-padded
  rows: np.ndarray  # [B, T + S]: each prompt, its continuation, padding
  logits: np.ndarray  # [B, T + S, V], without a cache


@pytest.fixture(scope="module")
def case(family_config, make_params) -> _Case:
  config = family_config
  params = make_params(config)
  rng = np.random.default_rng(3)
  prompts = np.zeros((2, _LENGTH), np.int32)
  rows = np.zeros((4, _LENGTH + _NUM_GENERATED), np.int32)
  for i, length in enumerate(_PROMPT_LENGTHS):
    prompts[i, :length] = rng.integers(1, config.vocab_size, length)
    for j in range(_ROWS_PER_PROMPT):
      tokens = rng.integers(1, config.vocab_size, _NUM_GENERATED)
      row = rows[i * _ROWS_PER_PROMPT + j]
      row[:length] = prompts[i, :length]
      row[length : length + _NUM_GENERATED] = tokens
  logits = jax.jit(
    lambda tokens: transformer.Transformer(config).apply(
      {"params": params}, tokens
    )[0]
  )(rows)
  return _Case(config, params, prompts, rows, np.asarray(logits))


def test_logits_are_those_of_numpy(case):
  for tokens, logits in zip(case.rows, case.logits, strict=True):
    expected = _numpy_logits(case.config, case.params, tokens)
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scan_layers", [True, False])
def test_logits_with_the_cache_are_those_without(case, scan_layers):
  config = dataclasses.replace(case.config, scan_layers=scan_layers)
  module, variables = transformer.Transformer(config), case.params
  first, (keys, values) = jax.jit(module.apply)(
    {"params": variables},
    jnp.asarray(case.prompts),
    logit_positions=jnp.asarray(_PROMPT_LENGTHS) - 1,
  )
  cache = prefix_cache.from_prompts(
    keys,
    values,
    jnp.asarray(_PROMPT_LENGTHS),
    rows_per_prompt=_ROWS_PER_PROMPT,
    max_generated=_NUM_GENERATED,
    stacked=scan_layers,
  )
  lengths = np.repeat(_PROMPT_LENGTHS, _ROWS_PER_PROMPT)
  rows = np.arange(len(lengths))
  np.testing.assert_allclose(
    np.repeat(first[:, 0], _ROWS_PER_PROMPT, axis=0),
    case.logits[rows, lengths - 1],
    atol=1e-4,
  )
  step = jax.jit(
    lambda tokens, cache: module.apply(
      {"params": variables}, tokens, cache=cache
    )
  )
  for i in range(_NUM_GENERATED):
    tokens = jnp.asarray(case.rows[rows, lengths + i][:, None])
    logits, cache = step(tokens, cache)
    np.testing.assert_allclose(
      logits[:, 0], case.logits[rows, lengths + i], atol=1e-4
    )
  assert cache.num_generated.tolist() == [_NUM_GENERATED] * len(rows)


@pytest.mark.parametrize("scan_layers", [True, False])
def test_packed_rows_behind_a_prefix_have_the_logits_of_whole_rows(
  case, scan_layers
):
  config = dataclasses.replace(case.config, scan_layers=scan_layers)
  apply = jax.jit(transformer.Transformer(config).apply)
  variables = {"params": case.params}
  _, keys_values = apply(variables, jnp.asarray(case.prompts))
  # (Which of the case's rows goes on, for so many tokens.)
  segments = [[(3, 6), (2, 5)], [(3, 4), (3, 6)], [(0, 6)]]
  prompts_of = np.array([1, 1, 0])
  tokens, positions, segment_ids = np.zeros((3, 3, 14), np.int32)
  ends, expected = np.zeros((3, 2), np.int32), []
  for row, of_row in enumerate(segments):
    first = 0
    for i, (source, length) in enumerate(of_row):
      start = _PROMPT_LENGTHS[prompts_of[row]]
      own = slice(first, first + length)
      tokens[row, own] = case.rows[source, start : start + length]
      positions[row, own] = np.arange(start, start + length)
      segment_ids[row, own] = i + 1
      first += length
      ends[row, i] = first - 1
      expected.append((row, i, case.logits[source, start + length - 1]))
  logits, kept = apply(
    variables,
    *map(jnp.asarray, (tokens, positions, segment_ids)),
    logit_positions=jnp.asarray(ends),
    prefix=prefix_attention.Prefix(
      *keys_values, jnp.asarray(_PROMPT_LENGTHS), jnp.asarray(prompts_of)
    ),
  )
  assert kept is None
  for row, i, of_text in expected:
    np.testing.assert_allclose(logits[row, i], of_text, atol=1e-5)


def test_layers_that_are_written_out_have_the_same_gradients(case):
  def loss(params, config):
    module = transformer.Transformer(config)
    logits, _ = module.apply({"params": params}, jnp.asarray(case.rows))
    return jnp.sum(jnp.sin(logits))

  gradients = jax.jit(jax.grad(loss), static_argnums=1)
  scanned = gradients(case.params, case.config)
  unrolled = gradients(
    case.params, dataclasses.replace(case.config, scan_layers=False)
  )
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4),
    unrolled,
    scanned,
  )


def test_packed_examples_do_not_see_each_other(make_config, make_params):
  config = make_config(windows=(4, None))
  params = make_params(config)
  rng = np.random.default_rng(4)
  examples = [rng.integers(1, 31, n).astype(np.int32) for n in (5, 3, 4)]
  tokens = np.concatenate([*examples, [0, 0]])[None]
  segments = np.repeat([1, 2, 3, 0], [5, 3, 4, 2])[None]
  positions = np.concatenate([*map(np.arange, (5, 3, 4)), [0, 0]])[None]
  logits = jax.jit(transformer.Transformer(config).apply)(
    {"params": params},
    *(jnp.asarray(x, jnp.int32) for x in (tokens, positions, segments)),
  )[0]
  assert np.all(np.isfinite(logits))
  expected = [_numpy_logits(config, params, tokens) for tokens in examples]
  np.testing.assert_allclose(
    logits[0, :12], np.concatenate(expected), atol=1e-4
  )


def test_asked_for_logits_are_a_part_of_all(make_config, make_params):
  config = make_config(num_layers=1, logit_softcap=4.0, tie_embeddings=False)
  variables = {"params": make_params(config)}
  module = transformer.Transformer(config)
  tokens = jnp.arange(10).reshape(2, 5)
  positions, wanted = jnp.array([4, 2]), jnp.array([7, 3])
  apply = jax.jit(module.apply)
  all_logits = apply(variables, tokens)[0]
  some = apply(
    variables, tokens, logit_positions=positions, logit_tokens=wanted
  )[0]
  assert some.shape == (2, 1, 2)
  expected = np.asarray(all_logits)[[0, 1], positions][:, wanted]
  np.testing.assert_allclose(some[:, 0], expected, atol=1e-5)


def test_bfloat16_follows_float32_with_and_without_the_cache(
  make_config, make_params
):
  config = make_config(num_layers=1)
  params = make_params(config)
  tokens = jnp.array([[0, 5, 9, 2, 8]])
  expected = _numpy_logits(config, params, np.asarray(tokens[0]))
  small = transformer.Transformer(
    dataclasses.replace(config, dtype=jnp.bfloat16)
  )
  apply = jax.jit(small.apply)
  logits, (keys, values) = apply({"params": params}, tokens)
  assert logits.dtype == jnp.float32 and keys.dtype == jnp.bfloat16
  np.testing.assert_allclose(logits[0], expected, atol=0.15)
  cache = prefix_cache.from_prompts(
    keys[:, :, :, :4],
    values[:, :, :, :4],
    jnp.array([4]),
    rows_per_prompt=1,
    max_generated=1,
  )
  last, _ = apply({"params": params}, tokens[:, 4:], cache=cache)
  np.testing.assert_allclose(last[:, 0], logits[:, 4], atol=0.1)


def test_layers_take_windows_and_rotations_in_turn(make_config):
  config = make_config(
    num_layers=5, windows=(4, 6, None), local_rope_theta=100.0
  )
  full = attention.FULL_ATTENTION
  assert config.layer_windows().tolist() == [4, 6, full, 4, 6]
  frequencies = config.layer_frequencies()
  np.testing.assert_allclose(frequencies[0, 1], 100.0**-0.25, rtol=1e-6)
  np.testing.assert_allclose(frequencies[2, 1], 10_000.0**-0.25, rtol=1e-6)
  assert np.array_equal(frequencies[1], frequencies[4])


@pytest.mark.parametrize("scan_layers", [True, False])
def test_what_is_computed_again_has_the_same_gradients(
  make_config, make_params, scan_layers
):
  rows = jnp.asarray(np.random.default_rng(0).integers(1, 31, (2, 256)))
  found, kept = {}, {}
  for remat in ("none", "dots", "full"):
    config = make_config(num_layers=4, scan_layers=scan_layers, remat=remat)
    module = transformer.Transformer(config)

    def loss(params, module=module):
      return jnp.sum(jnp.sin(module.apply({"params": params}, rows)[0]))

    params = make_params(config)
    step = jax.jit(jax.grad(loss)).lower(params).compile()
    found[remat] = step(params)
    kept[remat] = step.memory_analysis().temp_size_in_bytes
  if scan_layers:  # Of layers written out, XLA for CPUs shares what it can.
    assert kept["full"] < kept["dots"] < 0.8 * kept["none"]
  for remat in ("dots", "full"):
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4),
      found[remat],
      found["none"],
    )


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"remat": "some"}, "remat is 'some'; it must be one of 'none', 'dots'"),
    ({"num_heads": 3}, "3 query heads do not share 2"),
    ({"head_dim": 7}, "head_dim is 7"),
  ],
)
def test_a_configuration_that_cannot_be_is_an_error(
  make_config, changes, message
):
  with pytest.raises(ValueError, match=message):
    make_config(**changes)


def _numpy_logits(config, params, tokens) -> np.ndarray:
  """One unpacked row [T] to logits [T, V], in float64, written from scratch."""
  params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
  x = params["embedding"][tokens]
  if config.scale_embeddings:
    x = x * math.sqrt(config.model_dim)
  for layer in range(config.num_layers):
    weights = jax.tree.map(lambda leaf: leaf[layer], params["layers"])  # noqa: B023
    mixed = _numpy_attention(config, weights, layer, x)
    if config.use_post_norms:
      mixed = _numpy_norm(config, mixed, weights["attention_post_norm"])
    x = x + mixed
    normed = _numpy_norm(config, x, weights["mlp_norm"])
    mlp = weights["mlp"]
    gate = normed @ mlp["gate"]
    mixed = (_numpy_activation(config, gate) * (normed @ mlp["up"])) @ mlp[
      "down"
    ]
    if config.use_post_norms:
      mixed = _numpy_norm(config, mixed, weights["mlp_post_norm"])
    x = x + mixed
  x = _numpy_norm(config, x, params["final_norm"])
  head = params["embedding"].T if config.tie_embeddings else params["head"]
  return _numpy_cap(x @ head, config.logit_softcap)


def _numpy_attention(config, weights, layer, x) -> np.ndarray:
  normed = _numpy_norm(config, x, weights["attention_norm"])
  weights = weights["attention"]
  window = config.windows[layer % len(config.windows)]

  def heads(name, number):
    y = normed @ weights[name]
    if config.use_qkv_bias:
      y = y + weights[f"{name}_bias"]
    return y.reshape(len(x), number, config.head_dim)

  queries = heads("query", config.num_heads)
  keys = heads("key", config.num_kv_heads)
  values = heads("value", config.num_kv_heads)
  if config.use_qk_norm:
    queries = _numpy_norm(config, queries, weights["query_norm"])
    keys = _numpy_norm(config, keys, weights["key_norm"])
  frequencies = _numpy_frequencies(config, window)
  scale = config.query_scale or 1 / math.sqrt(config.head_dim)
  outputs = np.zeros((len(x), config.num_heads, config.head_dim))
  for head in range(config.num_heads):
    kv_head = head // (config.num_heads // config.num_kv_heads)
    for t in range(len(x)):
      first = 0 if window is None else max(0, t - window + 1)
      seen = range(first, t + 1)
      query = _numpy_rotate(queries[t, head], t, frequencies)
      scores = [
        query @ _numpy_rotate(keys[s, kv_head], s, frequencies) for s in seen
      ]
      scores = _numpy_cap(np.array(scores) * scale, config.attention_softcap)
      shares = np.exp(scores - scores.max())
      shares /= shares.sum()
      outputs[t, head] = sum(
        share * values[s, kv_head]
        for share, s in zip(shares, seen, strict=True)
      )
  return outputs.reshape(len(x), -1) @ weights["output"]


def _numpy_frequencies(config, window) -> np.ndarray:
  is_local = window is not None and config.local_rope_theta is not None
  theta = config.local_rope_theta if is_local else config.rope_theta
  found = []
  for i in range(config.head_dim // 2):
    frequency = theta ** (-2 * i / config.head_dim)
    scaling = None if is_local else config.rope_scaling
    if isinstance(scaling, attention.LinearRopeScaling):
      frequency /= scaling.factor
    elif scaling is not None:
      # As Llama 3.1's own code says it, in wave lengths.
      length = 2 * math.pi / frequency
      low = scaling.original_length / scaling.low_frequency_factor
      high = scaling.original_length / scaling.high_frequency_factor
      if length > low:
        frequency /= scaling.factor
      elif length > high:
        smooth = scaling.original_length / length - scaling.low_frequency_factor
        smooth /= scaling.high_frequency_factor - scaling.low_frequency_factor
        frequency *= (1 - smooth) / scaling.factor + smooth
    found.append(frequency)
  return np.array(found)


def _numpy_rotate(x, position, frequencies) -> np.ndarray:
  half = len(x) // 2
  turned = (x[:half] + 1j * x[half:]) * np.exp(1j * position * frequencies)
  return np.concatenate([turned.real, turned.imag])


def _numpy_norm(config, x, weights) -> np.ndarray:
  rms = np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + config.norm_epsilon)
  return x / rms * (weights["scale"] + config.norm_offset)


def _numpy_activation(config, x) -> np.ndarray:
  if config.activation is not jax.nn.silu:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + np.tanh(inner))
  return x / (1 + np.exp(-x))


def _numpy_cap(x, cap) -> np.ndarray:
  return x if cap is None else cap * np.tanh(x / cap)
