"""Tests of mathft_jax.recipe.graph."""

import dataclasses
import json
import pathlib

import pytest

from mathft_jax.recipe import graph
from mathft_jax.training import optimizer


class _Work:
  """Stages a, b and c that note when they run; some are killed."""

  def __init__(self):
    self.ran = []
    self.killed = set()
    self.progress = []
    self.starts = []

  def stages(self, names="abc") -> list[graph.Stage]:
    def stage(name):
      def run():
        self.ran.append(name)
        if name in self.killed:
          raise KeyboardInterrupt
        return {"number": len(self.ran)}

      # b is of the only kind that needs another stage.
      needs = ("a",) if name == "b" else ()
      return graph.Stage(name, "kind of " + name, run, needs)

    return [stage(name) for name in names]

  def run(self, directory, configuration=None, names="abc", kinds=None):
    return graph.run_stages(
      self.stages(names),
      directory,
      {"seed": 0} if configuration is None else configuration,
      on_start=lambda: self.starts.append(len(self.ran)),
      on_progress=lambda progress: self.progress.append(
        (progress.created, list(progress.finished))
      ),
      kinds=kinds,
    ).finished


@pytest.fixture
def work() -> _Work:
  return _Work()


def test_stages_run_in_order_and_leave_their_facts(work, tmp_path):
  finished = work.run(tmp_path)
  assert work.ran == ["a", "b", "c"]
  assert work.starts == [0]
  assert [f.facts["number"] for f in finished.values()] == [1, 2, 3]
  assert finished["b"].kind == "kind of b"
  assert all(
    f.seconds >= 0 and f.peak_rss_bytes > 2**20 for f in finished.values()
  )
  assert [names for _, names in work.progress] == [
    [],
    ["a"],
    ["a", "b"],
    ["a", "b", "c"],
  ]
  rows = json.loads((tmp_path / graph.PROGRESS).read_text())
  assert [row["name"] for row in rows["finished"]] == ["a", "b", "c"]


def test_a_start_that_fails_in_its_data_binds_nobody_to_its_configuration(
  tmp_path,
):
  ran = []

  def stages(folder):
    def read():
      if folder != "there":
        raise FileNotFoundError(folder)
      return {}

    return [
      graph.Stage("data", "data", read),
      graph.Stage("train", "train", lambda: ran.append(folder) or {}),
    ]

  def run(folder):
    graph.run_stages(
      stages(folder),
      tmp_path,
      {"folder": folder},
      on_start=lambda: None,
      on_progress=lambda progress: None,
    )

  with pytest.raises(FileNotFoundError):
    run("ther")
  run("there")
  assert ran == ["there"]
  with pytest.raises(ValueError, match="folder: 'there' there, 'ther' here"):
    run("ther")


def test_finished_stages_are_not_run_again(work, tmp_path, capsys):
  first = work.run(tmp_path)
  work.ran.clear()
  assert work.run(tmp_path) == first
  assert work.ran == []
  assert len(work.starts) == 2
  assert len({created for created, _ in work.progress}) == 1
  assert "[2/3] b: finished before" in capsys.readouterr().err


def test_a_killed_stage_is_run_again_and_those_before_it_are_not(
  work, tmp_path
):
  work.killed = {"b"}
  with pytest.raises(KeyboardInterrupt):
    work.run(tmp_path)
  assert work.ran == ["a", "b"]
  work.killed = set()
  work.ran.clear()
  finished = work.run(tmp_path)
  assert work.ran == ["b", "c"]
  assert list(finished) == ["a", "b", "c"]


@pytest.mark.parametrize(
  ("configuration", "message"),
  [
    ({"seed": 1}, "seed: 0 there, 1 here"),
    ({"seed": 0, "steps": 3}, "steps: None there, 3 here"),
    ({}, "seed: 0 there, None here"),
    ({"seed": {"of": [1]}}, "seed: 0 there"),
  ],
)
def test_a_run_of_another_configuration_is_refused(
  work, tmp_path, configuration, message
):
  work.run(tmp_path)
  work.ran.clear()
  with pytest.raises(ValueError, match=f"{message}.* new MODEL_DIR"):
    work.run(tmp_path, configuration)
  assert work.ran == [] and len(work.starts) == 1


def test_what_differs_is_named_by_its_path(work, tmp_path):
  work.run(tmp_path, {"runs": [{"steps": 1}, {"steps": 2}]})
  with pytest.raises(ValueError, match="runs.1.steps: 2 there, 3 here;"):
    work.run(tmp_path, {"runs": [{"steps": 1}, {"steps": 3}]})
  with pytest.raises(ValueError, match="runs: 2 entries there, 1 here"):
    work.run(tmp_path, {"runs": [{"steps": 1}]})


def test_stages_of_other_kinds_are_left_out(work, tmp_path, capsys):
  finished = work.run(tmp_path, kinds={"kind of a", "kind of c"})
  assert list(finished) == ["a", "c"]
  assert "[2/3] b: left out" in capsys.readouterr().err
  assert set(work.run(tmp_path)) == {"a", "b", "c"}
  assert work.ran == ["a", "c", "b"]


def test_a_stage_without_what_it_needs_is_an_error(work, tmp_path):
  with pytest.raises(ValueError, match="'b' needs a, not finished in"):
    work.run(tmp_path, kinds={"kind of b"})
  assert work.ran == []
  work.run(tmp_path, kinds={"kind of a"})
  assert list(work.run(tmp_path, kinds={"kind of b"})) == ["a", "b"]


def test_a_finished_stage_that_the_recipe_lacks_is_refused(work, tmp_path):
  work.run(tmp_path)
  with pytest.raises(ValueError, match=r"finished stages \['c'\], which"):
    work.run(tmp_path, names="ab")


@dataclasses.dataclass(frozen=True)
class _Config:
  rule: object
  sizes: tuple[int, ...]
  path: pathlib.Path


def test_a_description_is_json_that_comes_back_the_same():
  config = _Config(
    optimizer.AdamW(optimizer.WarmupCosine(peak=0.1)), (1, 2), pathlib.Path("a")
  )
  described = graph.describe({"config": config, "f": graph.describe, 3: None})
  assert json.loads(json.dumps(described)) == described
  assert described["config"]["type"] == "_Config"
  assert described["config"]["sizes"] == [1, 2]
  assert described["config"]["path"] == "a"
  assert described["config"]["rule"]["schedule"]["peak"] == 0.1
  assert described["f"] == "describe" and described["3"] is None
  changed = dataclasses.replace(config, rule=optimizer.AdamW())
  assert graph.describe(changed) != described["config"]
