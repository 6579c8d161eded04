import shutil

import pytest

from mathft_jax import samples
from mathft_jax.cli import convert, decode_and_rerank
from mathft_jax.recipe import initial


def _flags(run, finished_run, *bindings):
  return [
    "--gin_file=recipes/arith_decode_and_rerank.gin",
    f"--gin.MODEL_DIR='{run}'",
    f"--gin.GENERATOR_CHECKPOINT='{finished_run}/generator_both'",
    f"--gin.EVALUATOR_CHECKPOINT='{finished_run}/evaluator_xent'",
    "--gin.NUM_PROBLEMS=6",
    "--gin.NUM_CANDIDATES=3",
    "--gin.SamplingConfig.max_tokens=8",
    "--gin.SamplingConfig.num_slots=64",
    *(f"--gin.{binding}" for binding in bindings),
  ]


def _tables(run):
  report = samples.read_json(run / "report" / "report.json")
  return {table["key"]: table["rows"] for table in report["tables"]}


def _solutions(directory):
  return {
    s.problem.problem_id: [c.solution for c in (s.greedy, *s.candidates)]
    for s in samples.read_candidates(directory)
  }


@pytest.fixture(scope="module")
def whole(finished_run, tmp_path_factory):
  """A run of all stages with the models of the tiny recipe."""
  run = tmp_path_factory.mktemp("decode") / "whole"
  assert decode_and_rerank.main(_flags(run, finished_run)) == 0
  return run


def test_it_draws_and_scores_what_the_recipe_does(whole, finished_run):
  place = finished_run / "generator_both_test"
  assert _solutions(whole / "candidates") == _solutions(place)
  ours = samples.read_scores(whole / "candidates" / "scores-evaluator.jsonl")
  theirs = samples.read_scores(place / "scores-evaluator_xent.jsonl")
  assert {k: v.scores for k, v in ours.items()} == {
    k: pytest.approx(v.scores, abs=1e-5) for k, v in theirs.items()
  }


def test_the_report_has_the_generator_and_its_evaluator(whole):
  tables = _tables(whole)
  assert tables["table_2"][-1]["Fine-tuned on"] == "generator"
  assert None not in tables["table_2"][-1].values()
  scored = {r["Loss function"]: r for r in tables["table_3"]}
  assert None not in scored["cls_xent"].values()
  assert scored["cls_margin"]["RR.All"] is None
  assert (whole / "operative_config.gin").is_file()


def test_stages_can_be_run_one_at_a_time(whole, finished_run, tmp_path, capsys):
  run = tmp_path / "parts"

  def start(stages):
    return decode_and_rerank.main(_flags(run, finished_run, f"STAGES={stages}"))

  assert start(["score"]) == 2
  assert "needs candidates, not finished" in capsys.readouterr().err
  assert start(["decode"]) == 0
  assert (
    not list(run.glob("candidates/[gs]*")) and not (run / "report").exists()
  )
  assert start(["score"]) == 0
  assert [p.name for p in run.glob("candidates/[gs]*")] == [
    "scores-evaluator.jsonl"
  ]
  assert start(["grade", "report"]) == 0
  assert _tables(run)["table_3"] == _tables(whole)["table_3"]
  assert start(["rerank"]) == 2
  assert "no stages ['rerank']" in capsys.readouterr().err


def test_a_decoding_that_stopped_goes_on(whole, finished_run, tmp_path):
  run = tmp_path / "stopped"
  (run / "candidates").mkdir(parents=True)
  (shard,) = (whole / "candidates").glob("candidates-*")
  lines = shard.read_bytes().splitlines(keepends=True)
  torn = b"".join(lines[:2]) + lines[2][:20]
  (run / "candidates" / shard.name).write_bytes(torn)
  flags = _flags(run, finished_run, "STAGES=['decode']")
  assert decode_and_rerank.main(flags) == 0
  assert (run / "candidates" / shard.name).read_bytes() == b"".join(lines)


def test_problems_may_end_once_their_votes_are_settled(
  finished_run, tmp_path, capsys
):
  run = tmp_path / "settled"

  def start(threshold):
    bindings = (
      "SamplingConfig.takes_last_number=True",
      "STOPPING=@stopping.BetaStopping()",
      f"stopping.BetaStopping.threshold={threshold}",
    )
    return decode_and_rerank.main(_flags(run, finished_run, *bindings))

  assert start(0.5) == 0
  sizes = []
  for s in samples.read_candidates(run / "candidates"):
    assert s.sampling["stopping"] == {"rule": "beta", "threshold": 0.5}
    has_answer = [c.answer is not None for c in s.candidates]
    # The first answer settles it.
    assert not any(has_answer[:-1])
    assert has_answer[-1] or len(has_answer) == 3
    sizes.append(len(has_answer))
  assert sum(sizes) < 3 * len(sizes) == 18
  (stage, *_) = samples.read_json(run / "recipe.json")["finished"]
  facts = stage["facts"]
  assert 0 < facts["num_tokens"] < facts["num_kept_tokens"]
  assert facts["num_kept_tokens"] <= facts["num_drawn_tokens"]
  assert None not in _tables(run)["table_2"][-1].values()
  assert start(0.6) == 2
  assert "stopping.threshold: 0.5 there, 0.6 here" in capsys.readouterr().err


def test_shards_change_no_result_and_stay_as_many(
  whole, finished_run, tmp_path, capsys
):
  run = tmp_path / "shards"

  def start(*bindings):
    return decode_and_rerank.main(_flags(run, finished_run, *bindings))

  assert start("Decoding.num_shards=4", "STAGES=['decode']") == 0
  assert start("MESH_SHAPE={'data': 1}") == 0  # In as many shards.
  names = {path.name for path in (run / "candidates").glob("*.jsonl")}
  assert names == {
    *(samples.shard_name(shard, 4) for shard in range(4)),
    *(path.name for path in (whole / "candidates").glob("[gs]*.jsonl")),
  }
  assert _solutions(run / "candidates") == _solutions(whole / "candidates")
  ours, theirs = (
    samples.read_scores(one / "candidates" / "scores-evaluator.jsonl")
    for one in (run, whole)
  )
  assert {k: v.scores for k, v in ours.items()} == {
    k: pytest.approx(v.scores, abs=1e-5) for k, v in theirs.items()
  }
  assert "table_3" in _tables(run)
  capsys.readouterr()
  assert start("Decoding.num_shards=2") == 2
  assert "num_shards: 4 there, 2 here" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("binding", "message"),
  [
    ("Decoding.num_shards=0", "num_shards is 0; it must be >= 1"),
    ("MESH_SHAPE={'tensor': 2}", "does not hold the 1 devices of this run"),
    ("MESH_SHAPE={'model': 1}", "no mesh axis ['model']"),
  ],
)
def test_shards_and_meshes_that_cannot_be_bind_no_folder(
  finished_run, tmp_path, capsys, binding, message
):
  run = tmp_path / "run"
  assert decode_and_rerank.main(_flags(run, finished_run, binding)) == 2
  assert message in capsys.readouterr().err
  assert not run.exists()


def test_given_candidates_need_no_generator(whole, finished_run, tmp_path):
  given = tmp_path / "given"
  given.mkdir()
  (shard,) = (whole / "candidates").glob("candidates-*")
  shutil.copy(shard, given)
  run = tmp_path / "run"
  flags = [
    "--gin_file=recipes/arith_decode_and_rerank.gin",
    f"--gin.MODEL_DIR='{run}'",
    "--gin.CANDIDATES=@decode_and_rerank.GivenCandidates()",
    f"--gin.GivenCandidates.path='{given}'",
    "--gin.EVALUATORS=[]",
  ]
  assert decode_and_rerank.main(flags) == 0
  assert [path.name for path in given.iterdir()] == [shard.name]
  assert _solutions(run / "candidates") == _solutions(given)
  assert _tables(run)["table_2"][-1] == _tables(whole)["table_2"][-1]


def test_exported_weights_are_the_best_checkpoint(
  finished_run, tmp_path, capsys
):
  stage = finished_run / "generator_both"
  assert convert.main([str(stage), "--output", str(tmp_path / "out")]) == 0
  best = samples.read_json(stage / "best.json")["step"]
  config, params = initial.Pretrained(str(tmp_path / "out"))()
  for place in (
    stage,
    stage / "checkpoints",
    stage / "checkpoints" / str(best),
  ):
    expected_config, expected = initial.Pretrained(str(place))()
    assert config == expected_config
    assert _flat(params) == _flat(expected)
  missing = str(stage / "checkpoints" / "3")
  capsys.readouterr()
  assert convert.main([missing, "--output", str(tmp_path / "out")]) == 2
  assert "no checkpoint of step 3" in capsys.readouterr().err


def test_a_run_without_a_configuration_says_what_writes_it(
  finished_run, tmp_path, capsys
):
  stage = tmp_path / "stage"
  shutil.copytree(finished_run / "generator_both", stage)
  (stage / "config.json").unlink()
  assert convert.main([str(stage), "--output", str(tmp_path / "out")]) == 2
  assert "no config.json" in capsys.readouterr().err


def test_a_misspelt_checkpoint_binds_no_folder(finished_run, tmp_path, capsys):
  run = tmp_path / "run"
  flags = [
    flag.replace("evaluator_xent", "evaluator_xenf")
    for flag in _flags(run, finished_run)
  ]
  assert decode_and_rerank.main(flags) == 2
  assert "no model in" in capsys.readouterr().err
  assert not run.exists()


def _flat(params):
  import jax
  import numpy as np

  leaves, _ = jax.tree_util.tree_flatten_with_path(params)
  return {
    jax.tree_util.keystr(path): np.asarray(leaf).tobytes()
    for path, leaf in leaves
  }
