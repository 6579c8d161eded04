"""Tests of mathft_jax.losses against numpy in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mathft_jax import losses


def _batch(seed: int = 0, scale: float = 3.0):
  rng = np.random.default_rng(seed)
  logits = rng.normal(size=(3, 5, 7)).astype(np.float32) * np.float32(scale)
  targets = rng.integers(0, 7, (3, 5)).astype(np.int32)
  weights = rng.integers(0, 2, (3, 5)).astype(np.float32)
  weights[0, 0] = 0.5
  return jnp.asarray(logits), jnp.asarray(targets), jnp.asarray(weights)


def _cross_entropy_by_hand(logits, targets, weights, z_loss) -> float:
  logits, targets, weights = map(np.asarray, (logits, targets, weights))
  total = 0.0
  for row in range(targets.shape[0]):
    for position in range(targets.shape[1]):
      values = logits[row, position].astype(np.float64)
      log_z = math.log(np.exp(values).sum())
      loss = log_z - values[targets[row, position]] + z_loss * log_z**2
      total += weights[row, position] * loss
  return total


@pytest.mark.parametrize("z_loss", [0.0, 0.1])
def test_token_cross_entropy_is_that_by_hand(z_loss):
  logits, targets, weights = _batch()
  total, weight = losses.token_cross_entropy(
    logits, targets, weights, z_loss=z_loss
  )
  expected = _cross_entropy_by_hand(logits, targets, weights, z_loss)
  assert float(total) == pytest.approx(expected, rel=1e-5)
  assert float(weight) == weights.sum()


def test_only_weighted_positions_have_a_gradient():
  logits, targets, weights = _batch()
  gradient = jax.grad(
    lambda x: losses.token_cross_entropy(x, targets, weights, z_loss=0.01)[0]
  )(logits)
  assert np.array_equal(np.any(gradient != 0, axis=-1), weights > 0)


def test_a_batch_without_weight_has_no_loss_and_no_gradient():
  logits, targets, weights = _batch()
  (total, weight), gradient = jax.value_and_grad(
    lambda x: losses.token_cross_entropy(x, targets, 0 * weights),
    has_aux=True,
  )(logits)
  assert (float(total), float(weight)) == (0.0, 0.0)
  assert not np.any(gradient)


def test_huge_logits_give_finite_losses_and_gradients():
  logits, targets, weights = _batch(scale=1e4)
  total, gradient = jax.value_and_grad(
    lambda x: losses.token_cross_entropy(x, targets, weights, z_loss=1e-4)[0]
  )(logits)
  assert np.isfinite(total) and np.all(np.isfinite(gradient))


def test_log_p_correct_is_the_two_way_softmax():
  rng = np.random.default_rng(1)
  correct, incorrect = rng.normal(size=(2, 50)).astype(np.float32) * 4
  expected = np.log(
    np.exp(correct.astype(np.float64))
    / (np.exp(correct.astype(np.float64)) + np.exp(incorrect))
  )
  found = losses.log_p_correct(jnp.asarray(correct), jnp.asarray(incorrect))
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_log_p_correct_stays_finite_where_a_softmax_underflows():
  logits = jnp.array([-500.0, 500.0])
  scores, gradient = jax.value_and_grad(
    lambda x: losses.log_p_correct(x, -x).sum()
  )(logits)
  assert float(scores) == pytest.approx(-1000.0)
  assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("margin", [math.log(2), 0.0, 1.5])
def test_verdict_margin_is_that_by_hand(margin):
  rng = np.random.default_rng(2)
  incorrect, correct = -rng.random((2, 20)).astype(np.float32) * 2
  weights = rng.integers(0, 2, 20).astype(np.float32)
  expected = sum(
    w * max(0.0, float(i) - float(c) + margin)
    for i, c, w in zip(incorrect, correct, weights, strict=True)
  )
  total, weight = losses.verdict_margin(
    *map(jnp.asarray, (incorrect, correct, weights)), margin=margin
  )
  assert float(total) == pytest.approx(expected, rel=1e-5)
  assert float(weight) == weights.sum()


def test_the_margin_is_log_2_unless_it_is_given():
  zero = jnp.zeros(1)
  total, _ = losses.verdict_margin(zero, zero, jnp.ones(1))
  assert float(total) == pytest.approx(0.693147, abs=1e-6)


def test_padding_pairs_have_no_margin_loss_and_no_gradient():
  scores, weights = jnp.full(4, -0.5), jnp.zeros(4)
  total, gradient = jax.value_and_grad(
    lambda x: losses.verdict_margin(x, scores, weights)[0]
  )(scores)
  assert float(total) == 0.0
  assert not np.any(gradient)
