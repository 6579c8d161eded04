"""Tests of mathft_jax.models.contrastive against sequences read alone."""

import functools
import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

from mathft_jax.data import converters, preprocessors
from mathft_jax.models import contrastive, decoder_model, protocol, transformer

_NUM_PAIRS = 4  # Two of each of the problems that have both kinds.


@pytest.fixture(scope="module")
def module(make_config, arith_vocabulary):
  config = make_config(num_layers=1, vocab_size=arith_vocabulary.vocab_size)
  return transformer.Transformer(config)


@pytest.fixture(scope="module")
def params(module, make_params):
  return make_params(module.config)


@pytest.fixture(scope="module")
def batches(grouped):
  return functools.cache(
    lambda pack: {
      name: jnp.asarray(value)
      for name, value in grouped(
        preprocessors.solution_pairs,
        preprocessors.tokenize_solution_pairs,
        2,
        pack,
      ).items()
    }
  )


@pytest.fixture
def by_hand(graded, sequences, module, arith_vocabulary):
  """(margin, mle_weight, normalize) -> numpy or jax -> params -> the sum."""
  texts = sequences(module)
  pairs = []
  for problem, candidates in graded:
    kinds = [
      [solution for solution, is_correct in candidates if is_correct is kind]
      for kind in (False, True)
    ]
    for pair in itertools.product(*kinds):
      lengths = [len(arith_vocabulary.encode(text)) + 1 for text in pair]
      numbers = [texts.add_solution(problem, text) for text in pair]
      pairs.append((numbers, lengths))
  assert len(pairs) == _NUM_PAIRS

  def make(xp, margin, mle_weight, normalize):
    log_probs = texts.log_probs(xp)

    def loss(params):
      found = log_probs(params)
      total = 0.0
      for (incorrect, correct), lengths in pairs:
        scores = [found[incorrect], found[correct]]
        if normalize:
          scores = [s / n for s, n in zip(scores, lengths, strict=True)]
        total += xp.maximum(0.0, scores[0] - scores[1] + margin)
        total -= mle_weight * found[correct]
      return total / 8.0

    return loss

  return make


_OPTIONS = {"loss_normalizing_factor": 8.0, "margin": 1.5}


@pytest.mark.parametrize(
  ("pack", "normalize"), [(True, False), (False, True), (False, False)]
)
def test_seq_margin_and_its_steps_are_those_by_hand(
  pack, normalize, module, params, batches, by_hand, arith_vocabulary,
  assert_trains_as,
):  # fmt: skip
  model = contrastive.MarginGenerator(
    module, arith_vocabulary, normalize_length=normalize, **_OPTIONS
  )
  expected = float(by_hand(np, 1.5, 0.0, normalize)(params))
  metrics = assert_trains_as(
    model,
    params,
    batches(pack),
    expected,
    by_hand(jnp, 1.5, 0.0, normalize),
  )
  assert metrics["loss"] == pytest.approx(8 * expected / _NUM_PAIRS, rel=1e-5)
  assert metrics["accuracy"] in {i / _NUM_PAIRS for i in range(5)}


@pytest.mark.parametrize("pack", [True, False])
def test_contrastive_adds_the_correct_solutions_cross_entropy(
  pack, module, params, batches, by_hand, arith_vocabulary, assert_trains_as
):
  model = contrastive.ContrastiveGenerator(
    module, arith_vocabulary, mle_weight=0.25, **_OPTIONS
  )
  expected = float(by_hand(np, 1.5, 0.25, False)(params))
  hinges = float(by_hand(np, 1.5, 0.0, False)(params))
  metrics = assert_trains_as(
    model, params, batches(pack), expected, by_hand(jnp, 1.5, 0.25, False)
  )
  assert metrics["loss"] == pytest.approx(8 * expected / _NUM_PAIRS, rel=1e-5)
  assert metrics["margin_loss"] == pytest.approx(
    8 * hinges / _NUM_PAIRS, rel=1e-5
  )
  assert metrics["mle_loss"] == pytest.approx(
    8 * (expected - hinges) / 0.25 / _NUM_PAIRS, rel=1e-4
  )


def test_contrastive_in_chunks_is_the_same(
  monkeypatch, module, params, batches, by_hand, arith_vocabulary,
  assert_trains_as,
):  # fmt: skip
  monkeypatch.setattr(decoder_model, "_FEW_LOGITS", 0)
  model = contrastive.ContrastiveGenerator(
    module, arith_vocabulary, mle_weight=0.25, loss_chunk_length=7, **_OPTIONS
  )
  expected = float(by_hand(np, 1.5, 0.25, False)(params))
  loss = by_hand(jnp, 1.5, 0.25, False)
  assert_trains_as(model, params, batches(True), expected, loss)


def test_pairs_share_rows_where_they_are_packed(batches):
  assert len(batches(True)["decoder_input_tokens"]) == 3  # One of padding, two
  assert len(batches(False)["decoder_input_tokens"]) == 6  # of four pairs.


def test_they_are_generators_of_pairs(module, arith_vocabulary):
  model = contrastive.ContrastiveGenerator(module, arith_vocabulary)
  assert isinstance(model, protocol.LanguageModel)
  converter = model.FEATURE_CONVERTER_CLS(pack=True)
  assert isinstance(converter, converters.PairFeatureConverter)
  assert model.margin == pytest.approx(math.log(2))
