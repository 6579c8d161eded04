"""Tests of mathft_jax.models.multitask against sequences read alone."""

import functools
import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from mathft_jax.data import converters, preprocessors
from mathft_jax.models import multitask, protocol, transformer

_WEIGHT = 0.25
_OPTIONS = {"loss_normalizing_factor": 8.0, "mle_weight": _WEIGHT}


@pytest.fixture(scope="module")
def module(make_config, arith_vocabulary):
  config = make_config(num_layers=1, vocab_size=arith_vocabulary.vocab_size)
  return transformer.Transformer(config)


@pytest.fixture(scope="module")
def params(module, make_params):
  return make_params(module.config)


@pytest.fixture(scope="module")
def batches(grouped):
  def make(name, width, pack):
    found = grouped(
      getattr(preprocessors, name),
      getattr(preprocessors, f"tokenize_{name}"),
      width,
      pack,
    )
    return {name: jnp.asarray(value) for name, value in found.items()}

  return functools.cache(make)


@pytest.fixture
def xent_by_hand(graded, sequences, module):
  texts = sequences(module)
  verdicts, solutions = [], []
  for problem, candidates in graded:
    for solution, is_correct in candidates:
      word = "correct" if is_correct else "incorrect"
      verdicts.append(texts.add_verdict(problem, solution, word))
      if is_correct:
        solutions.append(texts.add_solution(problem, solution))
  assert (len(verdicts), len(solutions)) == (9, 4)

  def make(xp, mle_weight=_WEIGHT):
    log_probs = texts.log_probs(xp)

    def loss(params):
      found = log_probs(params)
      mle = -sum(found[number] for number in solutions)
      return (mle_weight * mle - sum(found[n] for n in verdicts)) / 8.0

    return loss

  return make


@pytest.fixture
def margin_by_hand(graded, sequences, module):
  texts = sequences(module)
  groups = []
  for problem, candidates in graded:
    kinds = [
      [solution for solution, is_correct in candidates if is_correct is kind]
      for kind in (False, True)
    ]
    for incorrect, correct in itertools.product(*kinds):
      words = [
        texts.add_verdict(problem, solution, word)
        for solution in (incorrect, correct)
        for word in ("correct", "incorrect")
      ]
      groups.append((words, texts.add_solution(problem, correct)))
  assert len(groups) == 4

  def make(xp, mle_weight=_WEIGHT):
    log_probs = texts.log_probs(xp)

    def loss(params):
      found = log_probs(params)
      total = 0.0
      for words, solution in groups:
        wrong, not_wrong, right, not_right = (found[n] for n in words)
        # log S of Eq. 7, from probabilities over the whole vocabulary.
        score = right - xp.log(xp.exp(right) + xp.exp(not_right))
        other = wrong - xp.log(xp.exp(wrong) + xp.exp(not_wrong))
        total += xp.maximum(0.0, other - score + 1.5)
        total -= mle_weight * found[solution]
      return total / 8.0

    return loss

  return make


@pytest.mark.parametrize("pack", [True, False])
def test_multitask_xent_and_its_steps_are_those_by_hand(
  pack, module, params, batches, xent_by_hand, arith_vocabulary,
  assert_trains_as,
):  # fmt: skip
  model = multitask.MultitaskEvaluator(module, arith_vocabulary, **_OPTIONS)
  expected = float(xent_by_hand(np)(params))
  metrics = assert_trains_as(
    model,
    params,
    batches("multitask_texts", 2, pack),
    expected,
    xent_by_hand(jnp),
  )
  verdicts = float(xent_by_hand(np, 0.0)(params))
  assert metrics["loss"] == pytest.approx(8 * expected / 9, rel=1e-5)
  assert metrics["verdict_loss"] == pytest.approx(8 * verdicts / 9, rel=1e-5)
  assert metrics["mle_loss"] == pytest.approx(
    8 * (expected - verdicts) / _WEIGHT / 9, rel=1e-4
  )


@pytest.mark.parametrize("pack", [True, False])
def test_multitask_margin_and_its_steps_are_those_by_hand(
  pack, module, params, batches, margin_by_hand, arith_vocabulary,
  assert_trains_as,
):  # fmt: skip
  model = multitask.MultitaskMarginEvaluator(
    module, arith_vocabulary, margin=1.5, **_OPTIONS
  )
  expected = float(margin_by_hand(np)(params))
  metrics = assert_trains_as(
    model,
    params,
    batches("multitask_pairs", 3, pack),
    expected,
    margin_by_hand(jnp),
  )
  hinges = float(margin_by_hand(np, 0.0)(params))
  assert metrics["loss"] == pytest.approx(8 * expected / 4, rel=1e-5)
  assert metrics["margin_loss"] == pytest.approx(8 * hinges / 4, rel=1e-5)
  assert metrics["mle_loss"] == pytest.approx(
    8 * (expected - hinges) / _WEIGHT / 4, rel=1e-4
  )


def test_an_incorrect_candidate_is_no_solution_to_write(
  batches, arith_vocabulary, graded
):
  batch = batches("multitask_texts", 2, False)
  tokens = np.asarray(batch["decoder_target_tokens"])
  weights = np.asarray(batch["decoder_loss_weights"])
  written = [
    arith_vocabulary.decode(row[mask > 0].tolist())
    for row, mask in zip(tokens[:, 1], weights[:, 1], strict=True)
  ]
  assert [text for text in written if text] == [
    solution
    for _, candidates in graded
    for solution, is_correct in candidates
    if is_correct
  ]
  empty = weights[:, 1].sum(axis=1) == 0
  assert empty.sum() == 5 and not tokens[empty, 1].any()


@pytest.mark.parametrize(
  ("cls", "width"),
  [(multitask.MultitaskEvaluator, 2), (multitask.MultitaskMarginEvaluator, 3)],
)
def test_they_are_evaluators_of_groups(cls, width, module, arith_vocabulary):
  model = cls(module, arith_vocabulary)
  assert isinstance(model, protocol.LanguageModel)
  converter = model.FEATURE_CONVERTER_CLS(pack=True)
  assert isinstance(converter, converters.PairFeatureConverter)
  assert converter.width == width
