"""Tests of mathft_jax.models.generator and what it inherits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.linen import partitioning as nn_partitioning

from mathft_jax.data import converters
from mathft_jax.decoding import sampling
from mathft_jax.models import generator, protocol, transformer


@pytest.fixture(scope="module")
def model(make_config, stub_vocabulary) -> generator.Generator:
  config = make_config(num_layers=1, tie_embeddings=False)
  return generator.Generator(
    transformer.Transformer(config),
    stub_vocabulary,
    loss_normalizing_factor=10.0,
    z_loss=0.01,
    next_token=sampling.Temperature(),
  )


@pytest.fixture(scope="module")
def params(model, make_params):
  """With EOS likely in some places, so that decodes differ in length."""
  params = make_params(model.module.config)
  params["head"][:, 1] *= 3
  return params


@pytest.fixture(scope="module")
def unpacked(converted):
  return jax.tree.map(jnp.asarray, converted(pack=False))


@pytest.fixture(scope="module")
def log_probs(model, params, unpacked) -> np.ndarray:
  """log softmax [B, T, V] in float64 of a full forward pass."""
  logits = jax.jit(model.logits)(params, unpacked)
  return _log_softmax(logits)


def _log_softmax(logits) -> np.ndarray:
  logits = np.asarray(logits, np.float64)
  return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_a_generator_satisfies_the_protocol(model):
  assert isinstance(model, protocol.LanguageModel)
  converter = model.FEATURE_CONVERTER_CLS(pack=True)
  assert isinstance(converter, converters.DecoderOnlyFeatureConverter)
  assert model.input_vocabulary is model.output_vocabulary is model.vocabulary


def test_every_parameter_has_logical_axes(stub_vocabulary, make_config):
  config = make_config(
    use_qk_norm=True,
    use_qkv_bias=True,
    use_post_norms=True,
    tie_embeddings=False,
  )
  model = generator.Generator(transformer.Transformer(config), stub_vocabulary)
  axes = {}

  def variables():
    found = model.get_initial_variables(jax.random.key(0), {"x": (2, 8)})
    axes.update(nn_partitioning.get_axis_names(found["params_axes"]))
    return found["params"]

  params = jax.eval_shape(variables)
  names = jax.tree.map(len, axes, is_leaf=lambda leaf: isinstance(leaf, tuple))
  assert names == jax.tree.map(lambda leaf: leaf.ndim, params)
  assert tuple(axes["layers"]["mlp"]["down"]) == ("layers", "mlp", "embed")


def test_the_loss_is_that_of_the_full_forward_pass(
  model, params, unpacked, log_probs
):
  loss, metrics = jax.jit(model.eval_fn)(params, unpacked)
  logits = np.asarray(jax.jit(model.logits)(params, unpacked), np.float64)
  log_z = np.log(np.exp(logits).sum(-1))
  total = weight = hits = 0.0
  for row, position in np.argwhere(unpacked["decoder_loss_weights"]):
    target = int(unpacked["decoder_target_tokens"][row, position])
    total -= log_probs[row, position, target]
    total += 0.01 * log_z[row, position] ** 2
    hits += log_probs[row, position].argmax() == target
    weight += 1
  assert float(loss) == pytest.approx(total / 10, rel=1e-5)
  assert float(metrics["loss"].compute()) == pytest.approx(total / weight)
  assert float(metrics["accuracy"].compute()) == pytest.approx(hits / weight)


def test_a_batch_of_padding_has_loss_0_and_finite_gradients(
  model, params, unpacked
):
  empty = jax.tree.map(jnp.zeros_like, unpacked)
  loss, gradients = jax.jit(
    jax.value_and_grad(lambda p: model.loss_fn(p, empty, None)[0])
  )(params)
  assert float(loss) == 0.0
  assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_packing_changes_no_examples_loss(model, params, converted, unpacked):
  packed = jax.tree.map(jnp.asarray, converted(pack=True))
  assert len(packed["decoder_target_tokens"]) < len(
    unpacked["decoder_target_tokens"]
  )
  alone = _losses_by_example(model, params, unpacked)
  together = _losses_by_example(model, params, packed)
  assert alone.keys() == together.keys() and len(alone) == 9
  for tokens, loss in alone.items():
    assert together[tokens] == pytest.approx(loss, abs=1e-4)
  losses = [
    float(jax.jit(model.eval_fn)(params, batch)[0])
    for batch in (packed, unpacked)
  ]
  assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def _losses_by_example(model, params, batch) -> dict[tuple[int, ...], float]:
  _, kept = jax.jit(model.score_batch, static_argnames="return_intermediates")(
    params, batch, return_intermediates=True
  )
  (log_probs,) = kept["decoder"]["token_log_probs"]
  tokens, weights = (
    np.asarray(batch[name])
    for name in ("decoder_target_tokens", "decoder_loss_weights")
  )
  segments = np.asarray(batch.get("decoder_segment_ids", tokens > 0))
  return {
    tuple(tokens[row][segments[row] == segment]): float(
      -(log_probs[row] * weights[row])[segments[row] == segment].sum()
    )
    for row in range(len(tokens))
    for segment in range(1, segments[row].max() + 1)
  }


def test_scores_are_the_log_probabilities_of_the_targets(
  model, params, unpacked, log_probs
):
  scores = jax.jit(model.score_batch)(params, unpacked)
  targets, weights = (
    np.asarray(unpacked[name])
    for name in ("decoder_target_tokens", "decoder_loss_weights")
  )
  for row in range(len(targets)):
    expected = sum(
      log_probs[row, position, targets[row, position]]
      for position in np.flatnonzero(weights[row])
    )
    assert float(scores[row]) == pytest.approx(expected, abs=1e-4)


@pytest.fixture(scope="module")
def prompts(unpacked) -> list[list[int]]:
  """The tokens that stand before each row's first target, the start too."""
  tokens = np.asarray(unpacked["decoder_input_tokens"])
  first = np.asarray(unpacked["decoder_loss_weights"]).argmax(axis=1)
  return [tokens[i, : n + 1].tolist() for i, n in enumerate(first)]


@pytest.fixture(scope="module")
def next_log_probs(model, params):
  """Sequences to log p of their next token, [rows, V], by full passes."""
  logits = jax.jit(
    lambda tokens: model.logits(params, {"decoder_input_tokens": tokens})
  )

  def compute(sequences: list[list[int]]) -> np.ndarray:
    tokens = np.zeros((9, 24), np.int32)
    for row, sequence in enumerate(sequences):
      tokens[row, : len(sequence)] = sequence
    found = _log_softmax(logits(jnp.asarray(tokens)))
    return np.stack([found[i, len(s) - 1] for i, s in enumerate(sequences)])

  return compute


def test_greedy_decoding_is_argmax_token_by_token(
  make_config, params, stub_vocabulary, unpacked, prompts, next_log_probs
):
  config = make_config(num_layers=1, tie_embeddings=False)
  greedy = generator.Generator(transformer.Transformer(config), stub_vocabulary)
  tokens, aux = jax.jit(greedy.predict_batch_with_aux)(params, unpacked)
  length = unpacked["decoder_input_tokens"].shape[1]
  decodes = [[] for _ in prompts]
  scores = np.zeros(len(prompts))
  for _ in range(length):
    following = next_log_probs(
      [p + d for p, d in zip(prompts, decodes, strict=True)]
    )
    for row, decode in enumerate(decodes):
      if 1 not in decode:
        decode.append(int(following[row].argmax()))
        scores[row] += following[row].max()
  assert len({len(decode) for decode in decodes}) > 1
  for row, decode in enumerate(decodes):
    assert tokens[row].tolist() == decode + [0] * (length - len(decode))
  np.testing.assert_allclose(aux["scores"], scores, atol=1e-4)


def test_all_decodes_come_by_rising_log_probability(
  model, params, unpacked, prompts, next_log_probs
):
  decode = jax.jit(
    model.predict_batch_with_aux,
    static_argnames=("num_decodes", "return_all_decodes"),
  )
  tokens, aux = decode(
    params,
    unpacked,
    rng=jax.random.key(3),
    num_decodes=4,
    return_all_decodes=True,
  )
  length = unpacked["decoder_input_tokens"].shape[1]
  assert tokens.shape == (9, 4, length)
  scores = np.asarray(aux["scores"])
  assert np.all(np.diff(scores, axis=1) >= 0) and np.any(np.diff(scores) > 0)
  # Each score is that of a full forward pass over the decode beside it.
  for place in range(4):
    decodes = np.asarray(tokens)[:, place]
    lengths = [
      row.tolist().index(1) + 1 if 1 in row else length for row in decodes
    ]
    expected = np.zeros(9)
    for step in range(length):
      following = next_log_probs(
        [p + d[:step].tolist() for p, d in zip(prompts, decodes, strict=True)]
      )
      for row, size in enumerate(lengths):
        if step < size:
          expected[row] += following[row, decodes[row, step]]
    np.testing.assert_allclose(scores[:, place], expected, atol=1e-3)
  best, best_aux = decode(
    params, unpacked, rng=jax.random.key(3), num_decodes=4
  )
  np.testing.assert_array_equal(best, tokens[:, -1])
  np.testing.assert_array_equal(best_aux["scores"], scores[:, -1])


def test_samples_of_a_prompt_do_not_depend_on_the_batch(model, params):
  prompts = jnp.array([[0, 5, 6, 7], [0, 9, 0, 0], [0, 11, 3, 0]])
  lengths = jnp.array([4, 2, 3])
  keys = jax.random.split(jax.random.key(0), 12)
  run = jax.jit(model.generate, static_argnames=("max_tokens", "next_token"))
  rule = {"max_tokens": 6, "next_token": sampling.Nucleus(0.9, 1.0)}
  together = run(params, prompts, lengths, keys, **rule)
  # The last prompt alone, behind padding of another width, two of its rows.
  alone = run(
    params, jnp.pad(prompts[2:], ((0, 0), (0, 3))), lengths[2:], keys[9:11],
    **rule,
  )  # fmt: skip
  np.testing.assert_array_equal(alone.tokens, together.tokens[9:11])
  np.testing.assert_allclose(
    alone.log_probs, together.log_probs[9:11], atol=1e-4
  )
