"""Tests of mathft_jax.models.evaluator."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mathft_jax.data import features
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
  assert model.FEATURE_CONVERTER_CLS.__name__ == "DecoderOnlyFeatureConverter"
  assert margin_model.FEATURE_CONVERTER_CLS.__name__ == "PairFeatureConverter"


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


def test_a_vocabulary_without_the_verdicts_is_an_error(module, tmp_path):
  from mathft_jax.data import vocabulary

  path = tmp_path / "plain.model"
  path.write_bytes(vocabulary.train_vocabulary(["abc " * 9], ["yes"], 280))
  with pytest.raises(ValueError, match="'correct' and 'incorrect' must be one"):
    evaluator.Evaluator(module, vocabulary.load_vocabulary(str(path)))
