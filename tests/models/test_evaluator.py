"""Tests of mathft_jax.models.evaluator."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf

from mathft_jax.data import converters, features, preprocessors
from mathft_jax.models import evaluator, protocol, transformer


@pytest.fixture(scope="module")
def module(make_config, arith_vocabulary) -> transformer.Transformer:
  return transformer.Transformer(
    make_config(num_layers=1, vocab_size=arith_vocabulary.vocab_size)
  )


@pytest.fixture(scope="module")
def model(module, arith_vocabulary) -> evaluator.Evaluator:
  return evaluator.Evaluator(module, arith_vocabulary)


@pytest.fixture(scope="module")
def margin_model(module, arith_vocabulary) -> evaluator.MarginEvaluator:
  return evaluator.MarginEvaluator(
    module, arith_vocabulary, loss_normalizing_factor=4.0, margin=0.5
  )


@pytest.fixture(scope="module")
def params(module, make_params):
  return make_params(module.config)


@pytest.fixture(scope="module")
def pairs(arith_vocabulary) -> dict[str, jax.Array]:
  """Three (incorrect, correct) pairs, then a pair of padding, [4, 2, T]."""
  ids = features.verdict_token_ids(arith_vocabulary)
  batch = {
    "decoder_input_tokens": np.zeros((4, 2, 32), np.int32),
    "decoder_target_tokens": np.zeros((4, 2, 32), np.int32),
    "decoder_loss_weights": np.zeros((4, 2, 32), np.float32),
  }
  rng = np.random.default_rng(0)
  for i in range(3):
    for half in range(2):
      size = rng.integers(10, 30)
      row = (i, half)
      batch["decoder_input_tokens"][row][1 : size + 1] = rng.integers(
        2, arith_vocabulary.vocab_size, size
      )
      batch["decoder_target_tokens"][row][:size] = batch[
        "decoder_input_tokens"
      ][row][1 : size + 1]
      batch["decoder_target_tokens"][row][size] = ids[1 - half]
      batch["decoder_loss_weights"][row][size] = 1
  return jax.tree.map(jnp.asarray, batch)


@pytest.fixture(scope="module")
def log_p(module, params, pairs, model) -> np.ndarray:
  """(correct, incorrect) log-probabilities [8, 2] by a full softmax."""
  tokens = pairs["decoder_input_tokens"].reshape(8, -1)
  logits = jax.jit(module.apply)({"params": params}, tokens)[0]
  logits = np.asarray(logits, np.float64)
  log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  weights = np.asarray(pairs["decoder_loss_weights"]).reshape(8, -1)
  positions = weights.argmax(axis=-1)
  return log_probs[np.arange(8), positions][:, list(model.verdict_ids)]


@pytest.fixture(scope="module")
def expected_scores(log_p) -> np.ndarray:
  """log(p(correct) / (p(correct) + p(incorrect))), [8]."""
  shares = np.exp(log_p)
  return np.log(shares[:, 0] / shares.sum(axis=1))


def _flat(pairs) -> dict[str, jax.Array]:
  return {name: x.reshape(8, -1) for name, x in pairs.items()}


def test_evaluators_satisfy_the_protocol(model, margin_model):
  assert isinstance(model, protocol.LanguageModel)
  assert isinstance(margin_model, protocol.LanguageModel)
  single = model.FEATURE_CONVERTER_CLS(pack=False)
  assert isinstance(single, converters.DecoderOnlyFeatureConverter)
  pairs = margin_model.FEATURE_CONVERTER_CLS(pack=False)
  assert isinstance(pairs, converters.PairFeatureConverter)


def test_scores_are_the_two_way_softmax_of_a_full_forward_pass(
  model, params, pairs, expected_scores
):
  scores = jax.jit(model.score_batch)(params, _flat(pairs))
  np.testing.assert_allclose(scores, expected_scores, atol=1e-4)
  assert np.ptp(expected_scores[:6]) > 0.1


def test_pairs_are_scored_as_their_rows(
  margin_model, params, pairs, expected_scores
):
  scores = jax.jit(margin_model.score_batch)(params, pairs)
  np.testing.assert_allclose(scores, expected_scores.reshape(4, 2), atol=1e-4)


def test_the_prediction_is_the_likelier_verdict(
  model, params, pairs, expected_scores
):
  tokens, aux = jax.jit(model.predict_batch_with_aux)(params, _flat(pairs))
  correct, incorrect = model.verdict_ids
  expected = np.where(expected_scores > math.log(0.5), correct, incorrect)
  assert tokens[:, 0].tolist() == expected.tolist()
  np.testing.assert_allclose(aux["scores"], expected_scores, atol=1e-4)


def test_cross_entropy_is_over_the_whole_vocabulary(
  model, params, pairs, log_p
):
  loss, metrics = jax.jit(model.eval_fn)(params, _flat(pairs))
  # Row 0 of a pair is incorrect; the last two rows are padding.
  expected = -sum(log_p[row, 1 - row % 2] for row in range(6))
  assert float(loss) == pytest.approx(expected, rel=1e-4)
  assert float(metrics["loss"].compute()) == pytest.approx(expected / 6, 1e-4)


def test_the_margin_loss_leaves_padding_pairs_out(
  margin_model, params, pairs, expected_scores
):
  loss, metrics = jax.jit(margin_model.eval_fn)(params, pairs)
  scores = expected_scores.reshape(4, 2)[:3]
  hinges = np.maximum(0, scores[:, 0] - scores[:, 1] + 0.5)
  assert float(loss) == pytest.approx(hinges.sum() / 4, abs=1e-4)
  accuracy = float(metrics["accuracy"].compute())
  assert accuracy == pytest.approx(np.mean(scores[:, 1] > scores[:, 0]))


def _converted_pairs(arith_vocabulary, pack: bool) -> dict[str, jax.Array]:
  """Fourteen pairs as the real converter makes rows of them."""
  import tensorflow as tf

  from mathft_jax.data import converters

  correct, incorrect = features.verdict_token_ids(arith_vocabulary)
  rng = np.random.default_rng(0)
  pairs = []
  for sizes in rng.integers(2, 15, (14, 2)):
    inputs = rng.integers(2, arith_vocabulary.vocab_size, (sizes.max(), 2))
    inputs[np.arange(sizes.max())[:, None] >= sizes] = 0
    pairs.append({"inputs": inputs, "targets": [[incorrect, correct]]})
  lengths = {"inputs": 31, "targets": 1}
  dataset = tf.data.Dataset.from_generator(
    lambda: iter(pairs),
    output_signature={
      name: tf.TensorSpec([None, 2], tf.int32) for name in lengths
    },
  )
  converter = converters.PairFeatureConverter(pack=pack)
  rows = [*converter(dataset, lengths).as_numpy_iterator()]
  return {
    name: jnp.asarray(np.stack([row[name] for row in rows])) for name in rows[0]
  }


def test_packing_changes_no_pairs_loss(margin_model, params, arith_vocabulary):
  packed, alone = (
    _converted_pairs(arith_vocabulary, pack) for pack in (True, False)
  )
  assert len(packed["decoder_input_tokens"]) < 10
  (loss, metrics), (expected, expected_metrics) = (
    jax.jit(margin_model.eval_fn)(params, batch) for batch in (packed, alone)
  )
  assert float(expected) > 0.1
  assert float(loss) == pytest.approx(float(expected), rel=1e-5)
  for name in metrics:
    assert float(metrics[name].compute()) == pytest.approx(
      float(expected_metrics[name].compute()), rel=1e-5
    )
  gradients, expected_gradients = (
    jax.jit(jax.grad(lambda p, b: margin_model.loss_fn(p, b, None)[0]))(
      params, batch
    )
    for batch in (packed, alone)
  )
  jax.tree.map(
    lambda one, other: np.testing.assert_allclose(one, other, atol=1e-4),
    gradients,
    expected_gradients,
  )


def test_a_batch_of_padding_pairs_has_loss_0_and_no_gradient(
  margin_model, params, pairs
):
  empty = jax.tree.map(jnp.zeros_like, pairs)
  loss, gradients = jax.jit(
    jax.value_and_grad(lambda p: margin_model.loss_fn(p, empty, None)[0])
  )(params)
  assert float(loss) == 0.0
  assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradients))


# Verdicts of several tokens ---------------------------------------------------


@pytest.fixture(scope="module")
def long_verdicts(make_config, make_params, long_verdicts_vocabulary):
  """Evaluators by loss, their parameters and a batch of three pairs."""
  config = make_config(vocab_size=long_verdicts_vocabulary.vocab_size)
  module = transformer.Transformer(config)
  models = {
    "xent": evaluator.Evaluator(module, long_verdicts_vocabulary),
    "margin": evaluator.MarginEvaluator(
      module, long_verdicts_vocabulary, margin=0.5
    ),
  }
  graded = tf.data.Dataset.from_tensor_slices(
    {
      "problem_id": ["a", "b", "c"],
      "problem": ["p!", "?", "What is it?"],
      "solutions": [["No!", "It is $1 + 1 = 2$."], ["3", "2!"], ["", "Yes."]],
      "is_correct": [[False, True]] * 3,
    }
  )
  pairs = preprocessors.tokenize_pairs(
    preprocessors.evaluator_pairs(graded),
    features.pair_output_features(long_verdicts_vocabulary),
  ).map(lambda row: {name: row[name] for name in ("inputs", "targets")})
  converter = models["margin"].FEATURE_CONVERTER_CLS(pack=False)
  (batch,) = converter(pairs, {"inputs": 110, "targets": 9}).batch(3)
  batch = {name: jnp.asarray(value.numpy()) for name, value in batch.items()}
  # With these parameters both verdicts are about as likely.
  return models, make_params(config, seed=1), batch


def _by_brute_force(module, params, words, inputs, weights) -> jax.Array:
  """log S of each row by two full forward passes, one for each word."""
  totals = []
  for word in words:
    tokens, targets, mask = (np.zeros(inputs.shape, np.int32) for _ in "abc")
    for i, (row, has_loss) in enumerate(zip(inputs, weights, strict=True)):
      start = int(np.argmax(has_loss)) + 1
      tokens[i, :start] = row[:start]
      tokens[i, start : start + len(word) - 1] = word[:-1]
      targets[i, start - 1 : start - 1 + len(word)] = word
      mask[i, start - 1 : start - 1 + len(word)] = 1
    logits = module.apply({"params": params}, jnp.asarray(tokens))[0]
    log_z = jnp.log(jnp.sum(jnp.exp(logits), axis=-1, keepdims=True))
    log_probs = jnp.take_along_axis(logits - log_z, targets[..., None], axis=-1)
    totals.append(jnp.sum(log_probs[..., 0] * mask, axis=-1))
  correct, incorrect = totals
  return correct - jnp.log(jnp.exp(correct) + jnp.exp(incorrect))


@pytest.fixture(scope="module")
def long_verdicts_log_s(long_verdicts, long_verdicts_vocabulary):
  """params -> log S [6] of the rows of the pairs."""
  models, _, batch = long_verdicts
  words = [
    long_verdicts_vocabulary.encode(f" {word}")
    for word in ("correct", "incorrect")
  ]
  assert [*map(tuple, words)] == [*models["xent"].verdict_words]
  inputs, weights = (
    np.asarray(batch[name]).reshape(6, -1)
    for name in ("decoder_input_tokens", "decoder_loss_weights")
  )
  assert weights.sum() == 3 * sum(map(len, words))
  return lambda params: _by_brute_force(
    models["xent"].module, params, words, inputs, weights
  )


@pytest.mark.parametrize("scan_layers", [True, False])
def test_words_are_scored_by_the_softmaxes_of_all_their_tokens(
  long_verdicts, long_verdicts_log_s, scan_layers
):
  models, params, batch = long_verdicts
  expected = long_verdicts_log_s(params)
  assert np.ptp(expected) > 0.1
  for name, model in models.items():
    config = dataclasses.replace(model.module.config, scan_layers=scan_layers)
    model = dataclasses.replace(model, module=transformer.Transformer(config))
    rows = batch
    if name == "xent":
      rows = {k: v.reshape(6, -1) for k, v in batch.items()}
    scores = jax.jit(model.score_batch)(params, rows)
    np.testing.assert_allclose(scores.reshape(-1), expected, atol=2e-5)


def test_the_margin_loss_of_words_and_its_gradient_are_those_of_brute_force(
  long_verdicts, long_verdicts_log_s
):
  models, params, batch = long_verdicts

  def expected(params):
    scores = long_verdicts_log_s(params).reshape(3, 2)
    return jnp.sum(jnp.maximum(0.0, scores[:, 0] - scores[:, 1] + 0.5))

  def found(params):
    return models["margin"].loss_fn(params, batch, None)[0]

  losses, gradients = zip(
    *(jax.jit(jax.value_and_grad(f))(params) for f in (found, expected)),
    strict=True,
  )
  assert float(losses[0]) == pytest.approx(float(losses[1]), abs=1e-4)
  assert losses[1] > 0.1
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), *gradients
  )


def test_the_cross_entropy_of_words_is_that_of_all_their_tokens(
  long_verdicts, long_verdicts_vocabulary
):
  models, params, batch = long_verdicts
  rows = {name: value.reshape(6, -1) for name, value in batch.items()}
  loss, _ = jax.jit(models["xent"].eval_fn)(params, rows)
  logits = models["xent"].module.apply(
    {"params": params}, rows["decoder_input_tokens"]
  )[0]
  logits = np.asarray(logits, np.float64)
  log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  total, texts = 0.0, []
  for row, weights in enumerate(np.asarray(rows["decoder_loss_weights"])):
    places = np.flatnonzero(weights)
    targets = np.asarray(rows["decoder_target_tokens"])[row, places]
    total -= log_probs[row, places, targets].sum()
    texts.append(long_verdicts_vocabulary.decode(targets.tolist()))
  assert texts == [" incorrect", " correct"] * 3
  assert float(loss) == pytest.approx(total, rel=1e-4)


def test_the_predicted_word_is_filled_up_with_eos(
  long_verdicts, long_verdicts_vocabulary
):
  models, params, batch = long_verdicts
  rows = {name: value.reshape(6, -1) for name, value in batch.items()}
  tokens, aux = jax.jit(models["xent"].predict_batch_with_aux)(params, rows)
  words = [long_verdicts_vocabulary.decode(row.tolist()) for row in tokens]
  assert words == [
    " correct" if score > math.log(0.5) else " incorrect"
    for score in aux["scores"]
  ]


def test_scoring_words_is_said_with_words_of_one_token(
  module, tmp_path, caplog
):
  from mathft_jax.data import vocabulary

  path = tmp_path / "plain.model"
  model = vocabulary.train_vocabulary(["abc " * 9], ["yes", "no"], 280)
  path.write_bytes(model)
  plain = vocabulary.load_vocabulary(str(path))
  caplog.clear()
  assert evaluator.Evaluator(module, plain).verdict_ids is None
  assert "verdicts are 7 and 9 tokens" in caplog.text
  assert "'yes'/'no'" in caplog.text


def test_words_of_several_tokens_cannot_share_rows_as_pairs(long_verdicts):
  models, params, batch = long_verdicts
  shape = batch["decoder_input_tokens"].shape
  packed = {
    **batch,
    "decoder_segment_ids": jnp.ones(shape, jnp.int32),
    "decoder_positions": jnp.zeros(shape, jnp.int32),
  }
  with pytest.raises(ValueError, match="pack = False"):
    models["margin"].loss_fn(params, packed, None)
