"""Tests of mathft_jax.training.optimizer."""

import math

import jax
import numpy as np
import pytest

from mathft_jax.training import optimizer


def test_the_rate_warms_up_to_its_peak_and_falls_by_a_cosine():
  schedule = optimizer.WarmupCosine(
    peak=0.4, warmup_steps=10, final_share=0.25
  )(50)
  assert [float(schedule(n)) for n in (0, 5, 10)] == pytest.approx(
    [0.0, 0.2, 0.4]
  )
  for n in (20, 30, 50):
    share = (1 + math.cos(math.pi * (n - 10) / 40)) / 2
    expected = 0.1 + 0.3 * share
    assert float(schedule(n)) == pytest.approx(expected, rel=1e-5)


def test_a_warm_up_as_long_as_the_run_is_an_error():
  with pytest.raises(ValueError, match="10 warm-up steps leave nothing of 10"):
    optimizer.WarmupCosine(warmup_steps=10)(10)


def test_matrices_decay_and_scales_and_biases_do_not(make_config, make_params):
  config = make_config(use_qkv_bias=True, tie_embeddings=False)
  params = make_params(config)
  rule = optimizer.AdamW(
    optimizer.WarmupCosine(peak=0.1, final_share=1.0), weight_decay=0.5
  )(10)
  zeros = jax.tree.map(np.zeros_like, params)
  updates, _ = rule.update(zeros, rule.init(params), params)
  flat, _ = jax.tree_util.tree_flatten_with_path(updates)
  before = dict(jax.tree_util.tree_flatten_with_path(params)[0])
  for path, update in flat:
    name = path[-1].key
    if name == "scale" or name.endswith("_bias"):
      assert not np.any(update), path
    else:
      np.testing.assert_allclose(update, -0.05 * before[path], rtol=1e-5)
  assert len(flat) > 10


def test_a_large_gradient_is_clipped_to_its_norm():
  rule = optimizer.AdamW(max_grad_norm=1.0)(10)
  clipped = optimizer.AdamW(max_grad_norm=1e9)(10)
  params = {"w": np.ones((2, 2), np.float32)}
  large = {"w": np.full((2, 2), 50.0, np.float32)}
  unit = {"w": np.full((2, 2), 0.5, np.float32)}
  _, found = rule.update(large, rule.init(params), params)
  _, expected = clipped.update(unit, clipped.init(params), params)
  moments = [jax.tree.leaves(s)[1] for s in (found, expected)]
  np.testing.assert_allclose(moments[0], moments[1], rtol=1e-5)
