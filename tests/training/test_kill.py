"""Runs that are killed, and end with the bits of one that was not."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

_NUM_STEPS = 240
_NUM_KILLS = 6

# A run of its own, so that it can be killed; argv: the folder of rows, that of
# the run. Its score depends on the parameters alone.
_RUN = f"""
import pathlib, sys
import jax, jax.numpy as jnp
from mathft_jax import checkpoint
from mathft_jax.data import locations, prepared, registration, vocabulary
from mathft_jax.models import generator, transformer
from mathft_jax.training import finetune, optimizer

rows, model_dir = map(pathlib.Path, sys.argv[1:])
jax.config.update("jax_compilation_cache_dir", str(rows / "cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
locations.bind({{"killed": rows}})
registration.add_generator_task(
  "killed", prepared.solved_problems("killed"), "arith"
)
words = vocabulary.load_vocabulary("arith")
config = transformer.TransformerConfig(
  vocab_size=words.vocab_size, num_layers=2, model_dim=64, mlp_dim=128,
  num_heads=4, num_kv_heads=2, head_dim=16,
)
model = generator.Generator(
  transformer.Transformer(config), words, loss_normalizing_factor=500.0
)


def evaluate(params):
  total = sum(float(jnp.sum(leaf)) for leaf in jax.tree.leaves(params))
  return {{checkpoint.BEST: total % 1.0}}


try:
  finetune.finetune(
    model, "killed",
    finetune.TrainingConfig(
      num_steps={_NUM_STEPS},
      batch_size=8,
      feature_lengths={{"inputs": 32, "targets": 32}},
      eval_period=20,
      log_period=1,
      make_optimizer=optimizer.AdamW(optimizer.WarmupCosine(peak=1e-3)),
    ),
    evaluate, model_dir=model_dir, seed=3,
  )
except KeyboardInterrupt as error:
  sys.exit(f"{{error.exit_code}} {{error}}")
"""


@pytest.fixture(scope="module")
def start(tmp_path_factory):
  """folder -> the process of a run in it."""
  from mathft_jax.sources import arithmetic, json_lines

  rows = tmp_path_factory.mktemp("rows")
  problems = arithmetic.problems("train", "stepwise", num_problems=300)
  json_lines.write(rows / "train.jsonl", problems)

  def begin(folder) -> subprocess.Popen:
    return subprocess.Popen(
      [sys.executable, "-c", _RUN, str(rows), str(folder)],
      env={**os.environ, "JAX_PLATFORMS": "cpu"},
      stderr=subprocess.PIPE,
      text=True,
    )

  return begin


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
  folder = tmp_path_factory.mktemp("whole")
  _, err = (process := start(folder)).communicate()
  assert process.returncode == 0, err
  return folder


def _num_lines(folder) -> int:
  path = folder / "metrics.jsonl"
  return path.read_bytes().count(b"\n") if path.exists() else 0


def _is_saving(folder) -> bool:
  checkpoints = folder / "checkpoints"
  return any("tmp" in path.name for path in checkpoints.glob("*"))


def _assert_same_files(folder, other):
  """All arrays, the stream's place and the scores of all checkpoints left."""
  import orbax.checkpoint as ocp

  steps = sorted(p.name for p in (folder / "checkpoints").iterdir())
  expected = sorted(p.name for p in (other / "checkpoints").iterdir())
  assert steps == expected and str(_NUM_STEPS) in steps
  for step in steps:
    ours, theirs = (
      ocp.StandardCheckpointer().restore(run / "checkpoints" / step / "state")
      for run in (folder, other)
    )
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    for name in ("stream/metadata", "metrics/metrics"):
      files = [run / "checkpoints" / step / name for run in (folder, other)]
      assert json.loads(files[0].read_text()) == json.loads(
        files[1].read_text()
      )
  assert (folder / "best.json").read_text() == (other / "best.json").read_text()


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_bits_of_a_whole_one(
  start, whole, tmp_path
):
  """SIGKILL, after some steps or while a checkpoint is being written."""
  rng = random.Random(0)
  killed_while_saving = 0
  for kill in range(_NUM_KILLS):
    process, lines = start(tmp_path), _num_lines(tmp_path)
    while_saving = kill % 2 == 1
    wanted = lines + rng.randrange(5, 60)
    while process.poll() is None:
      if _num_lines(tmp_path) >= wanted and (
        not while_saving or _is_saving(tmp_path)
      ):
        killed_while_saving += while_saving
        process.send_signal(signal.SIGKILL)
        break
      time.sleep(0.001)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
  assert killed_while_saving == _NUM_KILLS // 2
  assert not (tmp_path / "best.json").exists()
  _, err = (process := start(tmp_path)).communicate()
  assert process.returncode == 0, err
  _assert_same_files(tmp_path, whole)


@pytest.mark.slow
def test_a_run_that_is_told_to_end_saves_its_step_first(start, whole, tmp_path):
  process = start(tmp_path)
  while _num_lines(tmp_path) < 30:
    assert process.poll() is None
    time.sleep(0.001)
  process.terminate()
  _, err = process.communicate()
  *_, told = err.splitlines()
  assert told.startswith("143 told to end at step ")
  step = int(told.split()[6])
  assert (tmp_path / "checkpoints" / str(step)).is_dir()
  assert step % 20  # None that is saved anyway.
  lines = _num_lines(tmp_path)
  _, err = (process := start(tmp_path)).communicate()
  assert process.returncode == 0, err
  rows = (tmp_path / "metrics.jsonl").read_text().splitlines()[lines:]
  first = next(json.loads(row) for row in rows if row)
  assert first["step"] == step + 1
  _assert_same_files(tmp_path, whole)
