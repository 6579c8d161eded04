"""SeqIO's own job caches the tasks' tokens (extra `cache`)."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
import seqio

from mathft_jax.data import locations
from mathft_jax.records import Problem, SolvedProblem
from mathft_jax.sources import json_lines

_TASKS = (
  "json_generate",
  "json_evaluate_xent",
  "json_evaluate_pairs",
  "json_multitask_pairs",
)

_MODULE = """
from mathft_jax.data import locations
import mathft_jax.tasks.json_lines
locations.bind({bound!r})
"""


@pytest.fixture
def bound(tmp_path):
  rows = [
    SolvedProblem(Problem(str(i), f"{i} + 1", str(i + 1)), "So.", "json", split)
    for i, split in enumerate(["train"] * 20 + ["validation"] * 5 + ["test"])
  ]
  by_split = {
    split: [row for row in rows if row.split == split]
    for split in ("train", "validation", "test")
  }
  json_lines.write_splits(tmp_path / "rows", by_split)
  (tmp_path / "graded").mkdir()
  for split in ("train", "validation"):
    lines = [
      {
        "problem_id": row.problem.problem_id,
        "problem": row.problem.text,
        "candidates": [
          {"solution": "good", "is_correct": True},
          {"solution": "bad", "is_correct": False},
        ],
      }
      for row in by_split[split]
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "graded" / f"{split}.jsonl").write_text(text)
  return {
    "json": str(tmp_path / "rows"),
    "evaluator": str(tmp_path / "graded"),
  }


def test_cached_tasks_give_what_the_tasks_give(bound, tmp_path):
  if importlib.util.find_spec("apache_beam") is None:
    pytest.skip("Apache Beam is not installed: pip install -e '.[cache]'")
  (tmp_path / "my_tasks.py").write_text(_MODULE.format(bound=bound))
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      "seqio.scripts.cache_tasks_main",
      f"--tasks={','.join(_TASKS)}",
      f"--output_cache_dir={tmp_path / 'cache'}",
      "--module_import=my_tasks",
      "--pipeline_options=--runner=DirectRunner",
    ],
    cwd=tmp_path,
    env={**os.environ, "PYTHONPATH": str(tmp_path)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  importlib.import_module("mathft_jax.tasks.json_lines")
  locations.bind(bound)
  before = list(seqio.get_global_cache_dirs())
  seqio.set_global_cache_dirs([str(tmp_path / "cache")])
  try:
    for name in _TASKS:
      task = seqio.get_mixture_or_task(name)
      cached, fresh = (
        sorted(
          (e["problem_id"], e["inputs"].tolist(), e["targets"].tolist())
          for e in task.get_dataset(
            sequence_length={"inputs": 64, "targets": 64},
            split="train",
            use_cached=use_cached,
            shuffle=False,
          ).as_numpy_iterator()
        )
        for use_cached in (True, False)
      )
      assert cached == fresh and len(fresh) >= 20
  finally:
    seqio.set_global_cache_dirs(before)
