"""Tests of mathft_jax.inference.sampler."""

import collections
import dataclasses

import numpy as np
import pytest
import scipy.stats

from mathft_jax import prompts, records
from mathft_jax.decoding import sampling
from mathft_jax.grading import extract
from mathft_jax.inference import sampler
from mathft_jax.models import generator, transformer
from mathft_jax.rerank import stopping
from mathft_jax.sources import arithmetic

_CONFIG = sampler.SamplingConfig(
  num_candidates=3,
  next_token=sampling.Nucleus(0.95, 1.0),
  max_prompt_tokens=40,
  max_tokens=6,
  num_slots=64,
  seed=7,
)


@pytest.fixture(scope="module")
def model(make_config, arith_vocabulary) -> generator.Generator:
  config = make_config(
    num_layers=1, vocab_size=arith_vocabulary.vocab_size, tie_embeddings=False
  )
  return generator.Generator(transformer.Transformer(config), arith_vocabulary)


@pytest.fixture(scope="module")
def params(model, make_params):
  params = make_params(model.module.config)
  params["head"][:, 1] *= 5  # EOS is likely here and there.
  return params


@pytest.fixture(scope="module")
def small_batches(model) -> sampler.Sampler:
  return sampler.Sampler(model, _CONFIG)


@pytest.fixture(scope="module")
def sampled(small_batches, params, problems) -> list[records.SampledProblem]:
  """As they come: problems with short prompts first."""
  return list(small_batches.sample(params, problems, generator="tiny"))


def test_each_problem_has_its_candidates_in_order(
  sampled, problems, arith_vocabulary
):
  sizes = [len(arith_vocabulary.encode(s.problem.text)) for s in sampled]
  assert sizes == sorted(sizes)
  assert {s.problem for s in sampled} == set(problems)
  assert len(sampled) == len(problems)
  for s in sampled:
    assert [c.index for c in s.candidates] == [0, 1, 2]
    assert s.greedy.index == records.GREEDY_INDEX
    assert {c.problem_id for c in (s.greedy, *s.candidates)} == {
      s.problem.problem_id
    }
    assert s.generator == "tiny"
    assert s.sampling == {
      "num_candidates": 3,
      "seed": 7,
      "max_tokens": 6,
      "takes_last_number": False,
      "rule": "nucleus",
      "p": 0.95,
      "temperature": 1.0,
    }
  # Different keys draw different candidates.
  assert len({c.solution for s in sampled for c in s.candidates}) > 5


def test_a_solution_without_an_answer_may_yield_its_last_number(
  model, params, problems
):
  config = dataclasses.replace(_CONFIG, takes_last_number=True)
  for s in sampler.Sampler(model, config).sample(
    params, problems, generator="tiny"
  ):
    assert s.sampling["takes_last_number"]
    for c in s.candidates:
      assert c.answer == extract.extract_answer(c.solution, True)
      if any(map(str.isdecimal, c.solution)):
        return
  pytest.fail("no solution with a digit was drawn")


def test_candidates_end_with_eos_or_at_the_limit(sampled, arith_vocabulary):
  candidates = [c for s in sampled for c in (s.greedy, *s.candidates)]
  assert {c.finish_reason for c in candidates} == {"eos", "length"}
  for c in candidates:
    assert 1 <= c.num_tokens <= 6 and c.log_prob < 0
    if c.finish_reason == "length":
      assert c.num_tokens == 6


@pytest.mark.parametrize("steps_per_call", [1, 50])
def test_order_and_calls_do_not_change_a_bit_of_the_candidates(
  model, params, problems, sampled, steps_per_call
):
  config = dataclasses.replace(_CONFIG, steps_per_call=steps_per_call)
  other = sampler.Sampler(model, config)
  found = other.sample(params, problems[::-1], generator="tiny")
  assert {s.problem.problem_id: s for s in found} == {
    s.problem.problem_id: s for s in sampled
  }


def test_a_resumed_run_gives_the_other_problems_to_the_bit(
  small_batches, params, problems, sampled
):
  finished = {sampled[i].problem.problem_id for i in (0, 2, 3)}
  rest = small_batches.sample(
    params, problems, generator="tiny", finished=finished
  )
  assert list(rest) == [sampled[1], sampled[4]]


def test_greedy_alone_is_the_greedy_of_sampling(
  small_batches, params, problems, sampled
):
  found = small_batches.greedy(params, problems)
  by_id = {s.problem.problem_id: s.greedy for s in sampled}
  assert found == [by_id[problem.problem_id] for problem in problems]


def test_the_prompt_is_the_start_and_the_generators_text(
  small_batches, problems, arith_vocabulary
):
  tokens = small_batches._prompt(problems[0])
  text = prompts.generator_inputs(problems[0].text)
  expected = [0, *arith_vocabulary.encode(text)]
  assert tokens == expected


def test_shots_stand_before_each_problem(model, params, problems):
  shot = records.SolvedProblem(problems[0], "6", "arith", "train")
  config = dataclasses.replace(_CONFIG, max_prompt_tokens=80)
  seen = sampler.Sampler(model, config, [shot])
  tokens = seen._prompt(problems[1])
  text = prompts.few_shot_inputs([shot.texts], problems[1].text)
  expected = [model.start_id, *model.vocabulary.encode(text)]
  assert tokens == expected
  (drawn,) = seen.sample(params, problems[1:2], generator="tiny")
  assert drawn.sampling["shots"] == [problems[0].problem_id]


def _ended_before(
  one: records.Candidate, stop: tuple[str, ...]
) -> tuple[str, str]:
  """Solution and reason to end, had sampling watched for these texts."""
  ends = [one.solution.find(text) for text in stop if text in one.solution]
  if not ends:
    return one.solution, one.finish_reason
  return one.solution[: min(ends)], "stop"


@pytest.mark.parametrize("steps_per_call", [1, 4, 16])
def test_a_solution_ends_before_a_text_to_stop_at(
  model, params, problems, sampled, steps_per_call
):
  texts = [c.solution for s in sampled for c in s.candidates]
  longest = sorted(texts, key=len)[-1]
  # What some solutions contain in their midst, across tokens too.
  stop = (longest[1:4], texts[0][0])
  config = dataclasses.replace(
    _CONFIG, stop=stop, steps_per_call=steps_per_call
  )
  found = list(
    sampler.Sampler(model, config).sample(params, problems, generator="tiny")
  )
  reasons = set()
  for one, other in zip(sampled, found, strict=True):
    assert other.sampling["stop"] == list(stop)
    for whole, cut in zip(one.candidates, other.candidates, strict=True):
      expected = _ended_before(whole, stop)
      assert (cut.solution, cut.finish_reason) == expected
      assert (cut.num_tokens == whole.num_tokens) or expected[1] == "stop"
      if expected[1] == "stop":
        assert 0 < cut.num_tokens <= whole.num_tokens
        assert whole.log_prob <= cut.log_prob < 0
      reasons.add(cut.finish_reason)
  assert reasons == {"eos", "length", "stop"}


@pytest.mark.parametrize("stop", [("a", ""), ["", "b"], "###"])
def test_texts_to_stop_at_are_several_and_not_empty(stop):
  with pytest.raises(ValueError, match="a list of texts, and each text needs"):
    dataclasses.replace(_CONFIG, stop=stop)


@pytest.fixture(scope="module")
def answering(make_config, make_params, arith_vocabulary):
  """A model whose solutions are a few numbers, on which samples may agree."""
  config = make_config(
    num_layers=1,
    model_dim=64,  # Much smaller products round by the number of rows.
    mlp_dim=128,
    head_dim=16,
    vocab_size=arith_vocabulary.vocab_size,
    tie_embeddings=False,
    scan_layers=False,
  )
  params = make_params(config)
  params["embedding"][:, 0] = 2.0
  params["head"][:] = 0
  ids = [arith_vocabulary.encode(number)[-1] for number in ("3", "5", "20")]
  ids.append(arith_vocabulary.eos_id)
  rng = np.random.default_rng(0)
  # All but these are rare, and they depend on the prompt.
  params["head"][0, ids] = 6.0
  params["head"][1:, ids] = rng.normal(size=(63, 4)) * 0.7
  model = generator.Generator(transformer.Transformer(config), arith_vocabulary)
  return model, params


_ANSWERING = dataclasses.replace(
  _CONFIG,
  num_candidates=16,
  next_token=sampling.Temperature(1.0),
  max_tokens=3,
  takes_last_number=True,
)


@pytest.fixture(scope="module")
def many_problems() -> list[records.Problem]:
  rows = arithmetic.problems("test", "terse", num_problems=24)
  return [row.problem for row in rows]


@pytest.fixture(scope="module")
def budgeted(answering) -> sampler.Sampler:
  config = dataclasses.replace(_ANSWERING, stopping=stopping.BetaStopping(0.9))
  return sampler.Sampler(answering[0], config)


@pytest.fixture(scope="module")
def all_or_settled(answering, many_problems):
  """All candidates of each problem, cut by counting votes."""
  model, params = answering
  found = []
  for s in sampler.Sampler(model, _ANSWERING).sample(
    params, many_problems, generator="tiny"
  ):
    votes, number = collections.Counter(), 0
    for c in s.candidates:
      number += 1
      votes.update([] if c.answer is None else [c.answer])
      (_, first), (_, second) = [*votes.most_common(2), ("", 0), ("", 0)][:2]
      if scipy.stats.beta.sf(0.5, first + 1, second + 1) > 0.9:
        break
    described = s.sampling | {"stopping": {"rule": "beta", "threshold": 0.9}}
    found.append(
      dataclasses.replace(
        s, candidates=s.candidates[:number], sampling=described
      )
    )
  return found


@pytest.mark.parametrize("num_slots", [64, 128])
def test_problems_end_with_the_candidates_that_settle_their_votes(
  budgeted, answering, many_problems, all_or_settled, num_slots
):
  other = budgeted
  if num_slots != _ANSWERING.num_slots:
    config = dataclasses.replace(budgeted._config, num_slots=num_slots)
    other = sampler.Sampler(answering[0], config)
  drawn, told = [], []
  found = other.sample(
    answering[1],
    many_problems[::-1],
    generator="tiny",
    on_drawn=drawn.extend,
    on_progress=told.append,
  )
  found = {s.problem.problem_id: s for s in found}
  assert found == {s.problem.problem_id: s for s in all_or_settled}
  sizes = {len(s.candidates) for s in found.values()}
  assert len(sizes) > 4 and {3, 16} <= sizes
  # What was not drawn, and what was drawn for nothing.
  kept = [c for s in found.values() for c in (s.greedy, *s.candidates)]
  assert len(kept) <= len(drawn) < 0.8 * 17 * len(many_problems)
  assert told[-1].num_candidates == len(drawn)
  assert told[-1].num_left == 0
  assert told[-1].num_kept_tokens == sum(c.num_tokens for c in kept)
  assert told[-1].num_tokens >= sum(c.num_tokens for c in drawn)
  lefts = [progress.num_left for progress in told]
  assert lefts == sorted(lefts, reverse=True)


class _KilledError(Exception):
  pass


@pytest.mark.parametrize("num_steps", [2, 4])
def test_votes_go_on_where_a_run_was_killed(
  budgeted, answering, many_problems, all_or_settled, num_steps
):
  written, journal = [], {}
  steps = 0

  def keep(candidates):
    nonlocal steps
    for c in candidates:
      journal.setdefault(c.problem_id, {})[c.index] = c
    steps += 1
    if steps == num_steps:
      raise _KilledError

  def go_on(on_drawn):
    finished = {s.problem.problem_id for s in written}
    for s in budgeted.sample(
      answering[1],
      many_problems,
      generator="tiny",
      finished=finished,
      drawn={k: v for k, v in journal.items() if k not in finished},
      on_drawn=on_drawn,
    ):
      written.append(s)

  with pytest.raises(_KilledError):
    go_on(keep)
  assert sum(map(len, journal.values())) > 30
  assert len(written) < len(many_problems)

  def check_new(candidates):
    for c in candidates:
      assert c.index not in journal.get(c.problem_id, {})

  go_on(check_new)
  assert written == all_or_settled


def test_fewer_than_64_slots_are_refused():
  with pytest.raises(ValueError, match="num_slots is 63; .* at least 64"):
    dataclasses.replace(_CONFIG, num_slots=63)


def test_a_prompt_that_is_too_long_is_named(model, params, problems):
  config = dataclasses.replace(_CONFIG, max_prompt_tokens=4)
  with pytest.raises(ValueError, match="problem arith/.* tokens, .* = 4; r"):
    sampler.Sampler(model, config).greedy(params, problems)


def test_id_0_is_a_token_where_the_vocabulary_says_so(
  byte_level_vocabulary, make_config, make_params, problems
):
  config = make_config(vocab_size=300, tie_embeddings=False)
  model = generator.Generator(
    transformer.Transformer(config), byte_level_vocabulary
  )
  params = make_params(config)
  # "!" has a logit of 10, the end 9, everything else 0.
  params["embedding"][:, 0] = 1000
  params["final_norm"]["scale"][:] = 10 / np.sqrt(config.model_dim)
  params["head"][:] = 0
  params["head"][0, [0, byte_level_vocabulary.eos_id]] = 1.0, 0.9
  sampling_config = dataclasses.replace(
    _CONFIG, max_prompt_tokens=200, num_candidates=8
  )
  found = sampler.Sampler(model, sampling_config)
  tokens = found._prompt(dataclasses.replace(problems[0], text="!"))
  text = prompts.generator_inputs("!")
  assert tokens[0] == byte_level_vocabulary.pad_id
  assert tokens[1:] == byte_level_vocabulary.encode(text)
  candidates = [
    c
    for s in found.sample(params, problems, generator="tiny")
    for c in s.candidates
  ]
  for c in candidates:
    assert c.solution == "!" * (c.num_tokens - (c.finish_reason == "eos"))
  assert len({c.solution for c in candidates}) > 3


_ON_EIGHT_DEVICES = """
import dataclasses, json, re
import jax, numpy as np
from mathft_jax import partitioning
from mathft_jax.data import vocabulary
from mathft_jax.decoding import sampling
from mathft_jax.inference import sampler, scorer
from mathft_jax.models import evaluator, generator, transformer
from mathft_jax.sources import arithmetic
from mathft_jax.training import state

words = vocabulary.load_vocabulary("arith")
rows = arithmetic.problems("test", "terse", num_problems=8)
problems = [row.problem for row in rows]
config = sampler.SamplingConfig(
  num_candidates=8, max_prompt_tokens=32, max_tokens=16, num_slots=64)
found = {}
for stacked in (True, False):
  model = generator.Generator(
    transformer.Transformer(
      transformer.TransformerConfig(
        vocab_size=words.vocab_size, num_layers=2, model_dim=16, mlp_dim=32,
        num_heads=4, num_kv_heads=2, head_dim=8, scan_layers=stacked)),
    words)
  draws = sampler.Sampler(model, config)  # One of all meshes.
  scores = scorer.Scorer(
    evaluator.Evaluator(model.module, words), scorer.ScoringConfig(2048))
  params = model.get_initial_variables(jax.random.key(0), {})["params"]
  for name, shape in {
    "one": {}, "data": {"data": 8},
    "all": {"replica": 2, "fsdp": 2, "tensor": 2}}.items():
    mesh = partitioning.make_mesh(shape, jax.devices()[: 8 if shape else 1])
    abstract = state.abstract_params(model, mesh)
    placed = jax.tree.map(
      lambda x, like: jax.device_put(x, like.sharding), params, abstract)
    text = draws.lower(abstract)[0].compile().as_text()
    sampled = list(draws.sample(placed, problems, generator="g"))
    found[f"{name} {stacked}"] = {
      "texts": [[c.solution for c in s.candidates] for s in sampled],
      "log_probs": [[c.log_prob for c in s.candidates] for s in sampled],
      "scores": [
        list(s.scores.values())
        for s in scores.score(placed, sampled, evaluator="e")],
      # Rows, key heads, generated tokens, width: of all layers or of one.
      "suffixes": sorted(set(
        re.findall(r"f32\\[(?:2,)?(\\d+,\\d+,16,8)\\]", text))),
    }
# As many slots on each device as one has alone.
model = generator.Generator(
  transformer.Transformer(
    transformer.TransformerConfig(
      vocab_size=words.vocab_size, num_layers=1, model_dim=64, mlp_dim=128,
      num_heads=4, num_kv_heads=2, head_dim=16)),
  words)
params = model.get_initial_variables(jax.random.key(0), {})["params"]
for shape in {}, {"data": 4}, {"fsdp": 2, "data": 2}:
  # Not the first devices, as those of a process may be.
  devices = jax.devices()[4:] if shape else jax.devices()[:1]
  mesh = partitioning.make_mesh(shape, devices)
  like = state.abstract_params(model, mesh)
  draws = sampler.Sampler(
    model, dataclasses.replace(config, num_slots=64 * len(devices)))
  sampled = draws.sample(
    partitioning.place(params, like), problems, generator="g")
  found[str(shape)] = [s.to_json() for s in sampled]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_rows_and_their_keys_are_spread_over_the_devices_of_the_parameters(
  run_on_eight_devices,
):
  found, _ = run_on_eight_devices(_ON_EIGHT_DEVICES)
  for stacked in (True, False):
    one = found[f"one {stacked}"]
    # 64 rows, 2 heads: on 8 devices by rows, on 4 by rows and 2 by heads.
    for name, suffix in (("data", "8,2,16,8"), ("all", "16,1,16,8")):
      other = found[f"{name} {stacked}"]
      assert other["texts"] == one["texts"]
      np.testing.assert_allclose(
        other["log_probs"], one["log_probs"], atol=1e-3
      )
      np.testing.assert_allclose(other["scores"], one["scores"], atol=1e-5)
      assert suffix in other["suffixes"]
      assert "64,2,16,8" not in other["suffixes"]
    assert "64,2,16,8" in one["suffixes"]
    assert np.ptp(one["scores"]) > 0.01
  # Without sums over devices, not a bit differs.
  assert found["{}"] == found["{'data': 4}"]
  assert found["{}"] == found["{'fsdp': 2, 'data': 2}"]
