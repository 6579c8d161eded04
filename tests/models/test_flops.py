"""Tests of mathft_jax.models.flops against counts of XLA and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mathft_jax.models import (
  evaluator,
  flops,
  generator,
  lora,
  multitask,
  transformer,
)


def _count(function, *shapes) -> float:
  analysis = jax.jit(function).lower(*shapes).compile().cost_analysis()
  return analysis["flops"]


def _attended(length, windows):
  return sum(
    sum(i - j < w for i in range(length) for j in range(i + 1)) for w in windows
  )


@pytest.mark.parametrize("windows", [(None,), (3, None), (5,), (100, 1)])
def test_attended_positions_are_those_that_the_mask_lets_through(
  make_config, windows
):
  config = make_config(windows=windows, num_layers=3)
  each = [windows[i % len(windows)] or 10**9 for i in range(3)]
  assert flops.attended_positions(config, 9) == _attended(9, each)


@pytest.mark.parametrize("adapters", [None, lora.LoraConfig(rank=8)])
@pytest.mark.parametrize("what", ["forward", "train"])
def test_the_formula_is_what_xla_counts(make_config, what, adapters):
  # Wide, so that norms and softmaxes are small, and written out: XLA counts
  # the body of a loop once.
  config = make_config(
    vocab_size=512,
    num_layers=3,
    model_dim=128,
    mlp_dim=256,
    num_heads=4,
    num_kv_heads=2,
    head_dim=32,
    scan_layers=False,
    lora=adapters,
  )
  rows, length = 4, 64
  model = generator.Generator(transformer.Transformer(config), None)
  params = jax.eval_shape(
    lambda: model.get_initial_variables(jax.random.key(0), {})["params"]
  )
  shape = jax.ShapeDtypeStruct((rows, length), np.int32)
  batch = {
    "decoder_input_tokens": shape,
    "decoder_target_tokens": shape,
    "decoder_loss_weights": jax.ShapeDtypeStruct(shape.shape, np.float32),
  }

  trained, frozen = lora.split(params)

  def loss(trained, frozen, batch):
    return model.loss_fn(lora.join(trained, frozen), batch, None)[0]

  if what == "forward":
    counted, found = _count(loss, trained, frozen, batch), flops.forward
  else:
    step = jax.grad(loss)
    counted, found = _count(step, trained, frozen, batch), flops.train
  expected = found(config, rows, length)
  if what == "train" and adapters:
    # Nothing that is trained lies before the first layer: what its queries,
    # keys and values and their adapters are made of has no gradient.
    widths = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
    first = config.model_dim * (widths + 3 * adapters.rank)
    expected -= 2 * rows * length * first
  # XLA also counts what the mask hides, half of attention.
  pairs = 3 * length**2 - flops.attended_positions(config, length)
  times = 1 if what == "forward" else 3
  hidden = times * rows * pairs * 4 * config.num_heads * config.head_dim
  assert 0 < counted / (expected + hidden) - 1 < 0.03


def test_the_base_of_adapters_counts_twice_and_they_three_times(make_config):
  adapters = lora.LoraConfig(rank=3, targets=("key", "down"))
  plain, config = make_config(), make_config(lora=adapters)
  # Key is [16, 16] and down is [24, 16], in two layers.
  added = 2 * 3 * (16 + 16) + 2 * 3 * (24 + 16)
  forward = flops.forward(plain, 1, 10)
  assert flops.forward(config, 1, 10) == forward + 2 * 10 * added
  seen = 2 * 10 * 11 // 2
  attending = 4 * seen * config.num_heads * config.head_dim
  expected = 2 * (forward - attending) + 3 * attending + 6 * 10 * added
  assert flops.train(config, 1, 10) == expected


def test_the_number_of_wanted_logits_counts(make_config):
  config = make_config()
  head = 2 * config.model_dim * config.vocab_size
  whole = flops.forward(config, 3, 10)
  assert whole - flops.forward(config, 3, 10, 1) == 3 * 9 * head
  assert flops.train(config, 3, 10) == 3 * whole


def test_steps_of_decoding_are_what_rows_grow_by(make_config):
  config = make_config()
  # Rows that grow from 7 tokens to 8, with a logit of the last.
  grown = flops.forward(config, 4, 8, num_logits=1)
  alone = grown - flops.forward(config, 4, 7, num_logits=0)
  assert flops.decode(config, 4, 1, 8) == alone
  assert flops.decode(config, 8, 5, 8) == 10 * alone


def test_a_batch_counts_its_rows_and_pairs(make_config, arith_vocabulary):
  config = make_config(vocab_size=512)
  module = transformer.Transformer(config)
  batch = {"decoder_input_tokens": jnp.zeros((3, 2, 10), jnp.int32)}
  margin = evaluator.MarginEvaluator(module, arith_vocabulary)
  assert flops.train_step(margin, batch) == flops.train(config, 6, 10, 0)
  xent = evaluator.Evaluator(module, arith_vocabulary)
  rows = {"decoder_input_tokens": jnp.zeros((6, 10), jnp.int32)}
  assert flops.train_step(xent, rows) == flops.train(config, 6, 10, 0)
  mle = generator.Generator(module, arith_vocabulary)
  assert flops.train_step(mle, rows) == flops.train(config, 6, 10)
  # Of two rows, and of three, the last is a solution.
  both = multitask.MultitaskEvaluator(module, arith_vocabulary)
  head = 3 * 2 * 10 * config.model_dim * 512
  expected = flops.train(config, 6, 10, 0) + 3 * head
  assert flops.train_step(both, batch) == expected
  both = multitask.MultitaskMarginEvaluator(module, arith_vocabulary)
  groups = {"decoder_input_tokens": jnp.zeros((2, 3, 10), jnp.int32)}
  expected = flops.train(config, 6, 10, 0) + 2 * head
  assert flops.train_step(both, groups) == expected
