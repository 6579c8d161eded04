"""Tests of mathft_jax.inference.scorer."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mathft_jax import prompts, records
from mathft_jax.inference import scorer
from mathft_jax.models import evaluator, transformer

_CONFIG = scorer.ScoringConfig(tokens_per_batch=256, problems_per_batch=2)
_SOLUTIONS = ("x = 3", "2 + 2 = 4\n4 + 1 = 5", "x = 3", "", "x = 12, y = 7")


@pytest.fixture(scope="module")
def model(make_config, arith_vocabulary) -> evaluator.Evaluator:
  config = make_config(num_layers=1, vocab_size=arith_vocabulary.vocab_size)
  return evaluator.Evaluator(transformer.Transformer(config), arith_vocabulary)


@pytest.fixture(scope="module")
def params(model, make_params):
  return make_params(model.module.config)


@pytest.fixture(scope="module")
def sampled(problems) -> list[records.SampledProblem]:
  return [
    records.SampledProblem(
      problem=problem,
      greedy=None,
      candidates=tuple(
        records.Candidate(problem.problem_id, i, text, None, 3, -1.0, "eos")
        for i, text in enumerate(_SOLUTIONS)
      ),
      generator="g",
      sampling={},
    )
    for problem in problems
  ]


@pytest.fixture(scope="module")
def scored(model, params, sampled) -> list[records.ScoredProblem]:
  return list(
    scorer.Scorer(model, _CONFIG).score(params, sampled, evaluator="e")
  )


def test_scores_are_the_two_way_softmax_of_a_full_forward_pass(
  model, params, sampled, scored, arith_vocabulary
):
  forward = jax.jit(model.module.apply)
  correct, incorrect = (
    arith_vocabulary.encode(prompts.evaluator_inputs("p", "x") + word)[-1]
    for word in (prompts.CORRECT, prompts.INCORRECT)
  )
  for s, result in zip(sampled, scored, strict=True):
    assert result.problem_id == s.problem.problem_id
    assert result.evaluator == "e"
    assert list(result.scores) == [0, 1, 2, 3, 4]
    for c in s.candidates:
      text = prompts.evaluator_inputs(s.problem.text, c.solution)
      ids = arith_vocabulary.encode(text + prompts.CORRECT)[:-1]
      tokens = np.zeros((1, 80), np.int32)
      tokens[0, 1 : len(ids) + 1] = ids
      logits = forward({"params": params}, jnp.asarray(tokens))[0]
      two = np.asarray(logits[0, len(ids)], np.float64)[[correct, incorrect]]
      expected = np.log(np.exp(two[0]) / np.exp(two).sum())
      assert result.scores[c.index] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("problems_per_batch", [1, 5])
def test_other_batches_give_the_same_scores(
  model, params, sampled, scored, problems_per_batch
):
  config = scorer.ScoringConfig(4096, problems_per_batch)
  again = scorer.Scorer(model, config).score(params, sampled, evaluator="e")
  for one, other in zip(scored, again, strict=True):
    assert other.scores == pytest.approx(one.scores, abs=1e-5)


def _texts(vocabulary, s) -> set[tuple[int, ...]]:
  """The tokens before the verdict of each distinct candidate of a problem."""
  return {
    (
      0,
      *vocabulary.encode(
        prompts.evaluator_inputs(s.problem.text, c.solution) + prompts.CORRECT
      )[:-1],
    )
    for c in s.candidates
  }


def test_what_texts_share_and_identical_texts_are_computed_once(
  model, params, sampled, arith_vocabulary
):
  engine = scorer.Scorer(model, _CONFIG)
  list(engine.score(params, sampled, evaluator="e"))
  expected = 0
  for s in sampled:
    texts = _texts(arith_vocabulary, s)
    assert len(texts) == 4
    shared = 0
    while len({text[: shared + 1] for text in texts}) == 1:
      shared += 1
    assert shared > 10
    expected += shared + sum(len(text) - shared for text in texts)
  counts = engine.counts
  assert counts.num_candidates == 5 * len(sampled)
  assert counts.num_distinct == 4 * len(sampled)
  assert counts.num_tokens == expected
  assert counts.num_places > expected
  assert counts.padding == pytest.approx(1 - expected / counts.num_places)
  again = scorer.Scorer(model, _CONFIG)
  list(again.score(params, sampled[:2], evaluator="e"))
  list(again.score(params, sampled[2:], evaluator="e"))
  assert again.counts == counts


def test_rows_hold_each_distinct_text_once_behind_what_texts_share(
  model, params, sampled
):
  """What the compiled forward passes are given, put together again."""
  given = []

  class Watched(evaluator.Evaluator):
    def read_prefixes(self, params, tokens):
      jax.debug.callback(lambda *x: given.append(x), tokens, ordered=True)
      return super().read_prefixes(params, tokens)

    def log_p_correct_packed(self, params, shared, lengths, prompts, *rows):
      jax.debug.callback(
        lambda *x: given.append(x), prompts, *rows[:3], ordered=True
      )
      return super().log_p_correct_packed(
        params, shared, lengths, prompts, *rows
      )

  watched = Watched(model.module, model.vocabulary)
  config = scorer.ScoringConfig(tokens_per_batch=32, problems_per_batch=2)
  list(scorer.Scorer(watched, config).score(params, sampled, evaluator="e"))
  jax.effects_barrier()
  found, num_read = [], 0
  for arrays in given:
    if len(arrays) == 1:
      (beginnings,) = arrays
      num_read += 1
      continue
    for prompt, tokens, positions, segments in zip(*arrays, strict=True):
      for segment in range(1, segments.max() + 1):
        is_own = segments == segment
        start = positions[is_own][0]
        found.append((*beginnings[prompt][:start], *tokens[is_own]))
  expected = [_texts(model.vocabulary, s) for s in sampled]
  assert sorted(found) == sorted(itertools.chain(*expected))
  assert num_read == 3 < len(given) / 2


def test_a_resumed_run_gives_the_other_problems_to_the_bit(
  model, params, sampled, scored
):
  finished = {sampled[i].problem.problem_id for i in (0, 2, 3)}
  rest = scorer.Scorer(model, _CONFIG).score(
    params, sampled, evaluator="e", finished=finished
  )
  assert list(rest) == [scored[1], scored[4]]


_UNEVEN = (
  ("", "2", "2 + 2", "2 + 2 = 4", "2 + 2 = 4\n" * 60, "x" * 300, "x"),
  ("x = 3",),
  ("y = 4 + 4 = 8\n" * 30, "7" * 100, "", "7" * 100),
)


@pytest.mark.parametrize("scan_layers", [True, False])
def test_short_and_long_candidates_of_windowed_layers(
  sampled, make_config, make_params, arith_vocabulary, scan_layers
):
  config = make_config(
    num_layers=3,
    vocab_size=arith_vocabulary.vocab_size,
    windows=(40, None),
    attention_softcap=5.0,
    logit_softcap=3.0,
    use_qkv_bias=True,
    use_qk_norm=True,
    scan_layers=scan_layers,
  )
  model = evaluator.Evaluator(transformer.Transformer(config), arith_vocabulary)
  params = make_params(config)
  given = [
    dataclasses.replace(
      s,
      candidates=tuple(
        dataclasses.replace(s.candidates[0], index=i, solution=text)
        for i, text in enumerate(texts)
      ),
    )
    for s, texts in zip(sampled, _UNEVEN, strict=False)
  ]
  engine = scorer.Scorer(model, scorer.ScoringConfig(2048, 3))
  forward = jax.jit(model.module.apply)
  for s, found in zip(
    given, engine.score(params, given, evaluator="e"), strict=True
  ):
    for c in s.candidates:
      text = prompts.evaluator_inputs(s.problem.text, c.solution)
      ids = arith_vocabulary.encode(text + prompts.CORRECT)[:-1]
      tokens = np.zeros((1, 64 if len(ids) < 64 else 640), np.int32)
      tokens[0, 1 : len(ids) + 1] = ids
      logits = np.asarray(forward({"params": params}, tokens)[0][0, len(ids)])
      assert model.verdict_ids is not None
      correct, incorrect = logits[list(model.verdict_ids)].astype(np.float64)
      expected = -np.logaddexp(0, incorrect - correct)
      assert found.scores[c.index] == pytest.approx(expected, abs=1e-5)
  assert engine.counts.num_distinct == 11


def test_a_problem_without_candidates_has_no_scores(model, params, sampled):
  empty = dataclasses.replace(sampled[0], candidates=())
  (found,) = scorer.Scorer(model, _CONFIG).score(params, [empty], evaluator="e")
  assert found.scores == {}


def test_id_0_is_a_token_where_the_vocabulary_says_so(
  byte_level_vocabulary, make_config, make_params, sampled
):
  model = evaluator.Evaluator(
    transformer.Transformer(make_config(vocab_size=300)), byte_level_vocabulary
  )
  params = make_params(model.module.config)
  problem = dataclasses.replace(sampled[0].problem, text="!")
  texts = ("!", "!!", "$3! = 6$!!!")
  candidates = [
    dataclasses.replace(c, solution=text)
    for c, text in zip(sampled[0].candidates, texts, strict=False)
  ]
  (found,) = scorer.Scorer(model, _CONFIG).score(
    params,
    [
      dataclasses.replace(
        sampled[0], problem=problem, candidates=tuple(candidates)
      )
    ],
    evaluator="e",
  )
  forward = jax.jit(model.module.apply)
  for index, text in enumerate(texts):
    whole = prompts.evaluator_inputs("!", text) + prompts.CORRECT
    ids = byte_level_vocabulary.encode(whole)[:-1]
    assert 0 in ids
    tokens = jnp.asarray([[byte_level_vocabulary.pad_id, *ids]])
    logits = np.asarray(forward({"params": params}, tokens)[0][0, -1])
    assert model.verdict_ids is not None
    correct, incorrect = logits[list(model.verdict_ids)]
    expected = -np.logaddexp(0, incorrect - correct)
    assert found.scores[index] == pytest.approx(expected, abs=1e-5)


def test_verdicts_of_several_tokens_are_scored_by_all_of_them(
  long_verdicts_vocabulary, make_config, make_params, sampled
):
  vocabulary = long_verdicts_vocabulary
  config = make_config(vocab_size=vocabulary.vocab_size)
  model = evaluator.Evaluator(transformer.Transformer(config), vocabulary)
  params = make_params(config, seed=1)
  forward = jax.jit(model.module.apply)
  # Fewer rows than a batch has.
  found = list(
    scorer.Scorer(model, _CONFIG).score(params, sampled[:2], evaluator="e")
  )
  assert min(min(result.scores.values()) for result in found) < -0.1
  for s, result in zip(sampled, found, strict=False):
    for c in s.candidates:
      prompt = prompts.evaluator_inputs(s.problem.text, c.solution)
      num_common = len(vocabulary.encode(prompt.rstrip()))
      totals = []
      for word in (prompts.CORRECT, prompts.INCORRECT):
        ids = vocabulary.encode(prompt + word)
        tokens = np.zeros((1, 160), np.int32)
        tokens[0, : len(ids)] = [vocabulary.pad_id, *ids[:-1]]
        logits = forward({"params": params}, jnp.asarray(tokens))[0]
        logits = np.asarray(logits[0], np.float64)
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        places = range(num_common, len(ids))
        assert len(places) > 1
        totals.append(sum(log_probs[i, ids[i]] for i in places))
      expected = totals[0] - np.logaddexp(*totals)
      assert result.scores[c.index] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["tokens_per_batch", "problems_per_batch"])
def test_batches_of_nothing_are_an_error(name):
  with pytest.raises(ValueError, match=f"{name} is 0; it must be >= 1"):
    scorer.ScoringConfig(**{name: 0})
