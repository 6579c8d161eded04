"""Tests of mathft_jax.inference.engine."""

import dataclasses
import functools
import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from mathft_jax import records
from mathft_jax.decoding import sampling
from mathft_jax.inference import engine
from mathft_jax.models import generator, transformer

_EOS = 1
_RULE = sampling.Nucleus(p=0.9, temperature=0.8)
_SHAPE = engine.Shape(
  num_lanes=4,
  rows_per_lane=16,
  num_places=2,
  num_requests=40,
  prompt_capacity=16,
  max_tokens=12,
)
_NUM_DRAWS = 3000
_PROMPTS = [[0, 5, 9, 2, 8], [0, 7], [0, *range(3, 18)]]


def _model(config) -> generator.Generator:
  vocabulary = types.SimpleNamespace(pad_id=0, eos_id=_EOS, bos_id=None)
  return generator.Generator(transformer.Transformer(config), vocabulary)


def _job(number: int, indices, max_tokens=12) -> engine.Job:
  indices = list(indices)
  return engine.Job(
    name=str(number),
    tokens=_PROMPTS[number % 3],
    prompt_hash=number,
    indices=indices,
    max_tokens=[max_tokens] * len(indices),
  )


def _run(engine_, params, jobs, shape=_SHAPE) -> list[engine.Sample]:
  run = engine_.start(params, shape, seed=3)
  for job in jobs:
    run.submit(job)
  samples = []
  while run.has_work:
    samples += run.step()
  return samples


def _by_key(samples) -> dict:
  return {
    (s.name, s.index): (s.tokens.tolist(), s.log_probs.tolist(), s.has_ended)
    for s in samples
  }


@pytest.fixture(scope="module")
def plain(make_config, make_params):
  config = make_config(
    model_dim=64, mlp_dim=128, head_dim=16, vocab_size=256, scan_layers=False
  )
  params = make_params(config)
  drawing = engine.Engine(_model(config), _RULE, steps_per_call=4)
  return drawing, params


@functools.cache
def _apply(config):
  return jax.jit(transformer.Transformer(config).apply)


def _last_logits(config, params, tokens) -> np.ndarray:
  """Logits behind the last token, without a cache."""
  padded = np.zeros((1, 32), np.int32)
  padded[0, : len(tokens)] = tokens
  logits, _ = _apply(config)({"params": params}, jnp.asarray(padded))
  return np.asarray(logits[0, len(tokens) - 1], np.float64)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
  shifted = logits - logits.max()
  return shifted - np.log(np.exp(shifted).sum())


@pytest.mark.slow
def test_greedy_is_argmax_of_full_forward_passes(family_config, make_params):
  params = make_params(family_config)
  drawing = engine.Engine(_model(family_config), _RULE, steps_per_call=5)
  jobs = [_job(i, [records.GREEDY_INDEX, 0]) for i in range(3)]
  samples = _run(drawing, params, jobs)
  greedy = [s for s in samples if s.index == records.GREEDY_INDEX]
  assert len(greedy) == 3
  for sample in greedy:
    tokens = list(_PROMPTS[int(sample.name)])
    for drawn, log_prob in zip(sample.tokens, sample.log_probs, strict=True):
      of_all = _log_softmax(_last_logits(family_config, params, tokens))
      assert drawn == np.argmax(of_all)
      assert log_prob == pytest.approx(of_all[drawn], abs=1e-4)
      tokens.append(int(drawn))
    assert sample.has_ended == (tokens[-1] == _EOS)
    assert sample.has_ended or len(sample.tokens) == 12


@pytest.mark.slow
def test_tokens_have_the_frequencies_of_the_nucleus(family_config, make_params):
  """Those behind the prompt, and those behind the most frequent of them."""
  params = make_params(family_config)
  drawing = engine.Engine(_model(family_config), _RULE, steps_per_call=4)
  shape = engine.Shape(32, 16, 2, _NUM_DRAWS, 16, 2)
  samples = _run(drawing, params, [_job(0, range(_NUM_DRAWS), 2)], shape)
  firsts = np.array([s.tokens[0] for s in samples])
  _check_frequencies(family_config, params, _PROMPTS[0], firsts)
  first = np.argmax(np.bincount(firsts[firsts != _EOS]))
  seconds = np.array([s.tokens[1] for s in samples if s.tokens[0] == first])
  _check_frequencies(family_config, params, [*_PROMPTS[0], first], seconds)


def _check_frequencies(config, params, tokens, drawn: np.ndarray) -> None:
  probs = np.exp(_log_softmax(_last_logits(config, params, tokens) / 0.8))
  falling = np.argsort(-probs)
  size = np.searchsorted(np.cumsum(probs[falling]), 0.9) + 1
  kept = falling[:size]
  counts = np.bincount(drawn, minlength=len(probs))
  assert counts.sum() == counts[kept].sum() > 100
  expected = probs[kept] / probs[kept].sum() * counts.sum()
  if size > 1:
    assert scipy.stats.chisquare(counts[kept], expected).pvalue > 1e-4


def test_places_are_free_until_jobs_are_in_them_or_wait_for_them(plain):
  drawing, params = plain
  run = drawing.start(params, _SHAPE, seed=3)
  assert run.num_free_places == 4 * 2
  for number in range(10):
    run.submit(_job(number, range(40)))
  assert run.num_free_places == -2
  run.step()
  assert run.num_free_places == -2
  for number in range(10):
    run.cancel(str(number), range(40))
  assert run.num_free_places == 4 * 2


def test_more_lanes_give_the_same_samples_to_the_bit(plain):
  """Products of much smaller arrays round by the number of rows."""
  drawing, params = plain
  jobs = [_job(i, range(i, 40), 24) for i in range(6)]
  shape = engine.Shape(4, 16, 2, 40, 32, 24)
  expected = _by_key(_run(drawing, params, jobs, shape))
  assert expected.keys() == {
    (job.name, index) for job in jobs for index in job.indices
  }
  assert len({tuple(tokens) for tokens, *_ in expected.values()}) > 100
  for num_lanes in (8, 16):
    shape = dataclasses.replace(shape, num_lanes=num_lanes)
    assert _by_key(_run(drawing, params, jobs[::-1], shape)) == expected


def test_other_lanes_give_the_same_samples_but_for_roundings(plain):
  drawing, params = plain
  jobs = [_job(i, range(i, 40)) for i in range(3)]
  expected = _by_key(_run(drawing, params, jobs))
  found = _by_key(
    _run(drawing, params, jobs, engine.Shape(8, 8, 3, 40, 16, 12))
  )
  assert found.keys() == expected.keys()
  for key, (tokens, log_probs, has_ended) in expected.items():
    assert (found[key][0], found[key][2]) == (tokens, has_ended)
    np.testing.assert_allclose(found[key][1], log_probs, atol=1e-5)


def test_a_few_jobs_are_shared_out_over_all_lanes(plain):
  drawing, params = plain
  run = drawing.start(params, _SHAPE, seed=3)
  run.submit(_job(0, range(40)))
  run.step()
  # 40 samples, two parts of at least a lane's rows each.
  assert run.work.num_inserted == 2
  assert run.work.num_tokens <= 40 * 4


def test_what_waits_in_busy_lanes_moves_to_idle_ones(plain):
  drawing, params = plain
  run = drawing.start(params, _SHAPE, seed=3)
  for i in range(4):
    run.submit(_job(i, range(40) if i < 2 else range(1)))
  samples = []
  while run.has_work:
    samples += run.step()
  assert run.work.num_inserted > 4
  expected = _run(drawing, params, [_job(0, range(40)), _job(1, range(40))])
  found = _by_key(s for s in samples if s.name in "01")
  assert found == _by_key(expected)


def test_fewer_rows_do_what_is_left_and_more_what_comes_then(plain):
  """To the bit: neither changes how anything is computed."""
  drawing, params = plain
  lengths = [24 if i % 8 == 0 else 2 for i in range(40)]
  jobs = [
    dataclasses.replace(_job(i, range(40)), max_tokens=lengths)
    for i in range(6)
  ]
  few = engine.Shape(2, 32, 2, 40, 32, 24)
  expected = _by_key(_run(drawing, params, jobs, few))
  many = dataclasses.replace(few, rows_per_lane=64)
  run = drawing.start(params, many, seed=3)
  for job in jobs[:3]:
    run.submit(job)
  samples, num_rows = [], []
  while run.has_work:
    before = run.work.num_row_steps, run.work.num_steps
    samples += run.step()
    steps = run.work.num_steps - before[1]
    num_rows.append((run.work.num_row_steps - before[0]) // steps)
    if num_rows[-1] == 64 and len(jobs) > 3:
      for job in jobs[3:]:
        run.submit(job)
      del jobs[3:]
  # Down, up again for those that came, and down once more.
  changes = [n for n, _ in itertools.groupby(num_rows)]
  assert changes == [128, 64, 128, 64]
  assert _by_key(samples) == expected
  assert run.work.occupancy == pytest.approx(
    sum(map(len, (s.tokens for s in samples))) / run.work.num_row_steps
  )


def test_a_prompt_waits_behind_rows_that_are_all_busy(plain):
  """So that a row begins with it in the midst of a step of the run."""
  drawing, params = plain
  shape = engine.Shape(64, 1, 2, 1, 16, 12)
  run = drawing.start(params, shape, seed=3)
  for i in range(128):
    run.submit(_job(i, [0], 1))
  samples = run.step()
  assert len(samples) == 128 and run.work.num_steps == 2


def test_cancelled_samples_never_come(plain):
  drawing, params = plain
  jobs = [_job(0, range(40)), _job(1, range(40))]
  expected = _by_key(_run(drawing, params, jobs))
  run = drawing.start(params, _SHAPE, seed=3)
  for job in jobs:
    run.submit(job)
  samples = run.step()
  # Those of the first that have not begun, and some that have.
  began = {s.index for s in run.running() if s.name == "0"}
  kept = sorted(began)[:3]
  drawn = {s.index for s in samples if s.name == "0"}
  run.cancel("0", set(range(40)) - drawn - set(kept))
  while run.has_work:
    samples += run.step()
  found = _by_key(samples)
  wanted = {("0", i) for i in {*drawn, *kept}} | {("1", i) for i in range(40)}
  assert found == {key: expected[key] for key in wanted}


def test_running_samples_show_what_they_have_so_far(plain):
  drawing, params = plain
  expected = _by_key(_run(drawing, params, [_job(0, range(20))]))
  run = drawing.start(params, _SHAPE, seed=3)
  run.submit(_job(0, range(20)))
  done = {s.index for s in run.step()}
  running = run.running()
  # A lane has 16 rows; half of a lane's samples at least go to another.
  assert {s.index for s in running} == set(range(16)) - done
  for sample in running:
    tokens, log_probs, _ = expected[sample.name, sample.index]
    assert sample.tokens.tolist() == tokens[:4]
    assert sample.log_probs.tolist() == log_probs[:4]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"tokens": [0] * 17}, "0 has 17 prompt tokens; there is room for 16"),
    ({"max_tokens": [13]}, "0 has 13 tokens a sample; there is room for 12"),
    ({"indices": range(41)}, "0 has 41 samples; there is room for 40"),
  ],
)
def test_a_job_without_room_is_refused(plain, changes, message):
  drawing, params = plain
  job = _job(0, [0])
  job = engine.Job(**{**vars(job), **changes})
  with pytest.raises(ValueError, match=message):
    drawing.start(params, _SHAPE, seed=0).submit(job)
