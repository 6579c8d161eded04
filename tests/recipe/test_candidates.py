"""Tests of candidates in shards: who draws, grades and scores them.

Processes that share out the shards are played by one after the other here;
`test_decode_kill.py` has two real ones.
"""

import collections
import shutil

import pytest

from mathft_jax import samples
from mathft_jax.recipe import candidates, shares
from mathft_jax.sources import arithmetic

_NUM_SHARDS = 3
_NUM_PROBLEMS = 10
_NUM_CANDIDATES = 2


@pytest.fixture(scope="module")
def problems():
  rows = arithmetic.problems("test", "terse", num_problems=_NUM_PROBLEMS)
  return [row.problem for row in rows]


@pytest.fixture(scope="module")
def models(make_config, make_params, arith_vocabulary):
  """(sampler, scorer, parameters) of a model that has learnt nothing."""
  from mathft_jax.inference import sampler, scorer
  from mathft_jax.models import evaluator, generator, transformer

  config = make_config(vocab_size=arith_vocabulary.vocab_size, num_layers=1)
  module = transformer.Transformer(config)
  return (
    sampler.Sampler(
      generator.Generator(module, arith_vocabulary),
      sampler.SamplingConfig(
        num_candidates=_NUM_CANDIDATES,
        max_prompt_tokens=32,
        max_tokens=12,
        num_slots=64,
        steps_per_call=4,
      ),
    ),
    scorer.Scorer(
      evaluator.Evaluator(module, arith_vocabulary),
      scorer.ScoringConfig(tokens_per_batch=256, problems_per_batch=2),
    ),
    make_params(config),
  )


@pytest.fixture(scope="module")
def decode(models, problems):
  """Decodes into a folder; `stop_after` so many problems the process is lost.

  Calls of `on_drawn` are counted in `decode.num_drawn`, by (problem, index).
  """
  sampler, _, params = models

  class Watched:
    num_per_problem = sampler.num_per_problem

    def __init__(self, stop_after):
      self.stop_after = stop_after

    def sample(self, *args, on_drawn, **options):
      def count(new):
        run.num_drawn.update((c.problem_id, c.index) for c in new)
        on_drawn(new)

      found = sampler.sample(*args, on_drawn=count, **options)
      for number, sampled in enumerate(found):
        if number == self.stop_after:
          raise KeyboardInterrupt
        yield sampled

  def run(directory, share=shares.WHOLE, num_shards=_NUM_SHARDS, stop_after=-1):
    return candidates.decode(
      directory,
      Watched(stop_after),
      params,
      problems,
      generator="g",
      num_shards=num_shards,
      share=share,
    )

  run.num_drawn = collections.Counter()
  return run


@pytest.fixture(scope="module")
def unbroken(decode, models, tmp_path_factory):
  """A folder that one process fills, with grades and scores."""
  directory = tmp_path_factory.mktemp("unbroken")
  facts = decode(directory)
  assert facts["num_problems"] == _NUM_PROBLEMS
  candidates.grade(directory)
  _score(directory, models)
  return directory


def _score(directory, models, share=shares.WHOLE):
  _, scorer, params = models
  candidates.score(directory, scorer, params, evaluator="e", share=share)


def _files(directory):
  return {
    path.name: path.read_bytes()
    for path in directory.iterdir()
    if path.is_file()
  }


def _candidates(directory):
  return {
    name: content
    for name, content in _files(directory).items()
    if not name.startswith(("grades", "scores"))
  }


def test_a_problems_shard_depends_on_its_place_alone(
  decode, unbroken, problems, tmp_path
):
  for shard in range(_NUM_SHARDS):
    path = unbroken / f"candidates-{shard:05d}-of-{_NUM_SHARDS:05d}.jsonl"
    found = {s.problem.problem_id for s in samples.read_candidates(path)}
    assert found == {p.problem_id for p in problems[shard::_NUM_SHARDS]}
  decode(tmp_path, num_shards=1)
  assert list(_files(tmp_path)) == ["candidates-00000-of-00001.jsonl"]
  one, several = (
    {s.problem.problem_id: s for s in samples.read_candidates(directory)}
    for directory in (tmp_path, unbroken)
  )
  assert one == several


@pytest.mark.parametrize("num_parts", [2, 3])
def test_shares_leave_the_bytes_of_one_process(
  decode, models, unbroken, num_parts, tmp_path
):
  parts = [shares.Share(part, num_parts) for part in range(num_parts)]
  for share in parts:
    assert "num_problems" not in decode(tmp_path, share)
  assert _candidates(tmp_path) == _candidates(unbroken)
  assert candidates.finish_decoding(tmp_path)["num_problems"] == _NUM_PROBLEMS
  for share in parts:
    candidates.grade(tmp_path, share)
    _score(tmp_path, models, share)
  assert _files(tmp_path).keys() > _files(unbroken).keys() - {
    "scores-e.jsonl",
    candidates.grades_path(unbroken).name,
  }
  facts = candidates.finish_grading(tmp_path)
  assert facts == candidates.grade(unbroken)
  candidates.finish_scoring(tmp_path, "e")
  assert _files(tmp_path) == _files(unbroken)


def test_scores_are_those_of_each_shard_on_its_own(models, unbroken):
  _, scorer, params = models
  found = samples.read_scores(unbroken / "scores-e.jsonl")
  by_shard = samples.read_shards(unbroken)
  order = [s.problem.problem_id for shard in by_shard for s in shard]
  assert list(found) == order
  for sampled in by_shard:
    for scored in scorer.score(params, sampled, evaluator="e"):
      assert found[scored.problem_id] == scored


def test_a_lost_share_is_taken_by_others(decode, unbroken, tmp_path):
  """Three processes; the first ends, the others are lost on the way."""
  decode.num_drawn.clear()
  decode(tmp_path, shares.Share(0, 3))
  for part in (1, 2):
    with pytest.raises(KeyboardInterrupt):
      decode(tmp_path, shares.Share(part, 3), stop_after=part)
  assert (tmp_path / samples.drawn_name(1, 3)).stat().st_size > 0
  with pytest.raises(KeyboardInterrupt):
    decode(tmp_path, shares.Share(0, 2), stop_after=0)
  for part in (0, 1):
    decode(tmp_path, shares.Share(part, 2))
  assert _candidates(tmp_path) == _candidates(unbroken)
  # Each candidate, the greedy ones too, was drawn once.
  assert len(decode.num_drawn) == _NUM_PROBLEMS * (_NUM_CANDIDATES + 1)
  assert set(decode.num_drawn.values()) == {1}


def test_grading_and_scoring_that_stopped_go_on(models, unbroken, tmp_path):
  shutil.copytree(unbroken, tmp_path, dirs_exist_ok=True)
  grades = tmp_path / candidates.grades_path(unbroken).name
  expected = _files(unbroken)
  grades.unlink()
  (tmp_path / "scores-e.jsonl").unlink()
  candidates.grade(tmp_path, shares.Share(1, 2))
  _score(tmp_path, models, shares.Share(0, 2))
  # A torn last line of shard 2, whose row is made again.
  path = tmp_path / samples.part_name("scores-e.jsonl", 2, 3)
  path.write_bytes(path.read_bytes()[:-9])
  with pytest.raises(ValueError, match="no row for .*let the run that writes"):
    candidates.finish_grading(tmp_path)
  for _ in range(2):  # The second finds it done.
    candidates.grade(tmp_path)
    _score(tmp_path, models)
    assert _files(tmp_path) == expected


def test_who_computes_together_with_a_writer_writes_nothing(
  decode, models, unbroken, tmp_path
):
  with pytest.raises(KeyboardInterrupt):
    decode(tmp_path, stop_after=4)
  before = _files(tmp_path)
  assert "drawn-00000-of-00003.jsonl" in before
  assert "num_problems" not in decode(tmp_path, shares.Share(is_writing=False))
  assert _files(tmp_path) == before
  shutil.copytree(unbroken, tmp_path, dirs_exist_ok=True)
  for shard in range(_NUM_SHARDS):
    (tmp_path / samples.drawn_name(shard, _NUM_SHARDS)).unlink()
    (tmp_path / samples.part_name("scores-e.jsonl", shard, 3)).touch()
  (tmp_path / "scores-e.jsonl").unlink()
  before = _files(tmp_path)
  _score(tmp_path, models, shares.Share(is_writing=False))
  assert _files(tmp_path) == before


def test_more_shards_than_problems_are_there_too(decode, tmp_path):
  decode(tmp_path, num_shards=_NUM_PROBLEMS + 2)
  assert len(samples.read_shards(tmp_path)) == _NUM_PROBLEMS + 2
  assert len(samples.read_candidates(tmp_path)) == _NUM_PROBLEMS


def test_given_candidates_are_parted_too(unbroken, problems, tmp_path):
  facts = candidates.copy(str(unbroken), tmp_path, 4)
  assert facts["num_problems"] == _NUM_PROBLEMS
  assert candidates.copy(str(unbroken), tmp_path, 4) == facts
  given = samples.read_candidates(unbroken)
  assert samples.read_shards(tmp_path) == [given[s::4] for s in range(4)]
