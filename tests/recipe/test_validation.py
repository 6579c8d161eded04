"""Tests of mathft_jax.recipe.validation."""

import math

import numpy as np
import pytest
import seqio

from mathft_jax import checkpoint, records
from mathft_jax.data import stream
from mathft_jax.inference import sampler, scorer
from mathft_jax.models import generator, transformer
from mathft_jax.recipe import validation
from mathft_jax.rerank import clusters


def _candidate(problem_id: str, index: int, answer: str | None):
  return records.Candidate(problem_id, index, "", answer, 1, -1.0, "eos")


def _problem(problem_id: str) -> records.Problem:
  return records.Problem(problem_id, "p", "1")


class _Sampler(sampler.Sampler):
  """Answers what it was told to."""

  def __init__(self, *answers):
    self._answers = answers

  def greedy(self, params, problems):
    return [
      _candidate(problem.problem_id, records.GREEDY_INDEX, answer)
      for problem, answer in zip(problems, self._answers, strict=True)
    ]


def test_greedy_accuracy_is_the_share_of_equivalent_answers():
  evaluate = validation.greedy_accuracy(
    _Sampler("1", "2", None, "2/2"), [_problem(name) for name in "abcd"]
  )
  assert evaluate({}) == {checkpoint.BEST: 0.5}


class _Scorer(scorer.Scorer):
  """Gives P(correct) that it was told to, by problem."""

  def __init__(self, scores):
    self._scores = scores

  def score(self, params, sampled, *, evaluator, finished=()):
    for s in sampled:
      values = self._scores[s.problem.problem_id]
      yield records.ScoredProblem(
        s.problem.problem_id,
        evaluator,
        {i: math.log(p) for i, p in enumerate(values)},
      )


def test_reranking_accuracy_is_the_mean_of_three_strategies():
  answers = {
    # Best single 2 is wrong, but 1 has more weight together.
    "a": ["1", "1", "2"],
    # Correct by all strategies.
    "b": ["3", "1", None],
    # No candidate has an answer.
    "c": [None, None, None],
  }
  scores = {"a": [0.5, 0.5, 0.9], "b": [0.1, 0.8, 0.9], "c": [0.1, 0.2, 0.3]}
  sampled = [
    records.SampledProblem(
      _problem(name),
      None,
      tuple(_candidate(name, i, answer) for i, answer in enumerate(found)),
      "g",
      {},
    )
    for name, found in answers.items()
  ]
  graded = {s.problem.problem_id: clusters.grade_problem(s) for s in sampled}
  found = validation.reranking_accuracy(_Scorer(scores), sampled, graded)({})
  assert found["best_of_n"] == pytest.approx(1 / 3)
  assert found["best_of_top_clusters"] == pytest.approx(1 / 3)
  assert found["weighted_vote"] == pytest.approx(2 / 3)
  assert found[checkpoint.BEST] == pytest.approx(4 / 9)
  # a: both correct ones below the wrong; b: above the wrong one that has an
  # answer, the other does not count.
  assert found["auc_within_problems"] == pytest.approx((0 + 1) / 2)


@pytest.fixture(scope="module")
def model(make_config, arith_vocabulary) -> generator.Generator:
  config = make_config(num_layers=1, vocab_size=arith_vocabulary.vocab_size)
  return generator.Generator(transformer.Transformer(config), arith_vocabulary)


@pytest.fixture(scope="module")
def task(arith_vocabulary) -> str:
  """Forty documents for validation."""
  import tensorflow as tf

  from mathft_jax.data import features, preprocessors

  def dataset(split, shuffle_files, seed=None):
    texts = [f"{i} + 1 = {i + 1}" for i in range(40)]
    return tf.data.Dataset.from_tensor_slices({"text": texts})

  name = "validation_test_text"
  if name not in seqio.TaskRegistry.names():
    seqio.TaskRegistry.add(
      name,
      source=seqio.FunctionDataSource(dataset, splits=("validation",)),
      preprocessors=[
        preprocessors.plain_text,
        seqio.preprocessors.tokenize,
        seqio.preprocessors.append_eos,
        preprocessors.drop_too_long,
      ],
      output_features=features.output_features(arith_vocabulary),
    )
  return name


def test_the_held_out_loss_is_the_mean_over_all_tokens(
  model, task, make_params, arith_vocabulary
):
  lengths = {"inputs": 8, "targets": 8}
  held_out = validation.HeldOutLoss(lengths, batch_size=2)
  params = make_params(model.module.config)
  found = held_out(model, task)(params)
  config = stream.StreamConfig(
    task,
    "validation",
    lengths,
    batch_size=1,
    feature_converter=model.FEATURE_CONVERTER_CLS(pack=False),
    shuffle=False,
    num_epochs=1,
  )
  total = weight = 0.0
  rows = list(stream.BatchStream(config))
  batch = {name: np.concatenate([r[name] for r in rows]) for name in rows[0]}
  import jax

  scores = jax.jit(model.score_batch)(params, batch)
  total, weight = -float(scores.sum()), batch["decoder_loss_weights"].sum()
  assert found["validation_loss"] == pytest.approx(total / weight, rel=1e-4)
  assert found[checkpoint.BEST] == -found["validation_loss"]
  assert 0 <= found["validation_accuracy"] <= 1


def test_a_split_that_fills_no_batch_is_an_error(model, task, make_params):
  held_out = validation.HeldOutLoss(
    {"inputs": 8, "targets": 8}, batch_size=1000
  )
  with pytest.raises(ValueError, match="does not fill one batch of 1000"):
    held_out(model, task)(make_params(model.module.config))
