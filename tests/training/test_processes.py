"""Runs of `mathft train` in two processes of four devices, and in one of eight.

They meet by jax.distributed on this machine's loopback address.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

pytestmark = pytest.mark.slow

_NUM_STEPS = 12
_PERIOD = 4
_BINDINGS = (
  "TransformerConfig.vocab_size=512",
  "TransformerConfig.num_layers=1",
  "TransformerConfig.model_dim=16",
  "TransformerConfig.mlp_dim=16",
  "TransformerConfig.num_heads=2",
  "TransformerConfig.num_kv_heads=2",
  "TransformerConfig.head_dim=16",
  "BATCH_SIZE=16",
  f"TRAIN_STEPS={_NUM_STEPS}",
  f"EVAL_PERIOD={_PERIOD}",
  "TrainingConfig.log_period=1",
  "WarmupCosine.warmup_steps=1",
  "INITIAL_CHECKPOINT_PATH=None",
  "ArithmeticProblems.num_problems=3",
  "SamplingConfig.max_tokens=4",
)
_SHARDED = 'TrainingConfig.mesh_shape={"fsdp": 4, "tensor": 2}'


class _Run:
  """The processes of a run in a folder, started together."""

  def __init__(self, folder, num_processes, *bindings):
    self.folder = folder
    folder.mkdir(exist_ok=True)
    command = [
      sys.executable,
      *("-m", "mathft_jax.cli.main", "train"),
      "--gin_file=recipes/arith_generator.gin",
      f"--gin.MODEL_DIR='{folder}'",
      *(f"--gin.{binding}" for binding in (*_BINDINGS, *bindings)),
    ]
    devices = f"--xla_force_host_platform_device_count={8 // num_processes}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": devices}
    address = f"127.0.0.1:{_free_port()}"
    self._logs = [
      folder.with_suffix(f".{index}.log") for index in range(num_processes)
    ]
    self.processes = []
    for index, path in enumerate(self._logs):
      flags = [
        f"--coordinator_address={address}",
        f"--process_count={num_processes}",
        f"--process_index={index}",
      ]
      with path.open("w") as log:
        self.processes.append(
          subprocess.Popen(
            [*command, *(flags if num_processes > 1 else [])],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
          )
        )

  def told(self, index: int) -> str:
    return self._logs[index].read_text()

  def ends(self, *codes: int) -> None:
    """Waits for all processes, which end with these exit codes."""
    found = [process.wait(timeout=400) for process in self.processes]
    assert found == [*codes], "\n".join(map(self.told, range(len(found))))

  def wait_for_step(self, step: int) -> None:
    while max(self.steps(), default=0) < step:
      assert all(p.poll() is None for p in self.processes), self.told(0)
      time.sleep(0.02)

  def steps(self) -> list[int]:
    return [row["step"] for row in self.metrics() if "loss" in row]

  def metrics(self) -> list[dict]:
    path = self.folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]

  def state(self, step: int = _NUM_STEPS):
    # The devices that saved it are not there.
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return ocp.Checkpointer(ocp.StandardCheckpointHandler()).restore(
      self.folder / "checkpoints" / str(step) / "state",
      args=ocp.args.StandardRestore(fallback_sharding=here),
    )


def _free_port() -> int:
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    return free.getsockname()[1]


def _assert_close(state, other):
  """Sums over devices are added up in another order: float32 rounding."""
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6),
    state,
    other,
  )


@pytest.fixture(scope="module")
def one(tmp_path_factory):
  run = _Run(tmp_path_factory.mktemp("runs") / "one", 1, _SHARDED)
  run.ends(0)
  return run


def test_two_processes_end_with_the_parameters_of_one(one, tmp_path):
  two = _Run(tmp_path / "two", 2, _SHARDED)
  two.ends(0, 0)
  _assert_close(two.state(), one.state())
  for row, expected in zip(two.metrics(), one.metrics(), strict=True):
    assert row.keys() == expected.keys() and row["step"] == expected["step"]
    if "loss" in row:
      assert row["loss"] == pytest.approx(expected["loss"], rel=1e-5)
      assert row["tokens_per_step"] == expected["tokens_per_step"]
  assert "Best: " in two.told(0) and "Best: " not in two.told(1)
  best = [(run.folder / "best.json").read_text() for run in (one, two)]
  assert best[0] == best[1]


def test_two_processes_go_on_with_a_run_of_one_on_another_mesh(one, tmp_path):
  folder = tmp_path / "two"
  shutil.copytree(one.folder, folder)
  shutil.rmtree(folder / "checkpoints" / str(_NUM_STEPS))
  (folder / "metrics.jsonl").unlink()
  two = _Run(
    folder,
    2,
    'TrainingConfig.mesh_shape={"replica": 2, "data": 2, "tensor": 2}',
  )
  two.ends(0, 0)
  assert two.steps() == list(range(_NUM_STEPS - _PERIOD + 1, _NUM_STEPS + 1))
  losses = [
    {row["step"]: row["loss"] for row in run.metrics() if "loss" in row}
    for run in (one, two)
  ]
  for step in two.steps():
    assert losses[1][step] == pytest.approx(losses[0][step], rel=1e-5)
  _assert_close(two.state(), one.state())


def test_two_processes_start_from_a_checkpoint_of_another_run(one, tmp_path):
  bindings = (
    _SHARDED,
    f"INITIAL_CHECKPOINT_PATH='{one.folder}'",
    f"TRAIN_STEPS={_PERIOD}",
  )
  runs = [_Run(tmp_path / str(n), n, *bindings) for n in (1, 2)]
  for run, codes in zip(runs, [(0,), (0, 0)], strict=True):
    run.ends(*codes)
  first, second = (run.state(_PERIOD) for run in runs)
  _assert_close(second, first)


def test_where_one_process_is_killed_the_others_say_so_and_a_restart_goes_on(
  tmp_path,
):
  longer = f"TRAIN_STEPS={1000 * _NUM_STEPS}"
  killed = _Run(tmp_path / "killed", 2, longer, _SHARDED)
  killed.wait_for_step(_PERIOD + 2)
  killed.processes[1].kill()
  assert killed.processes[1].wait() == -signal.SIGKILL
  code = killed.processes[0].wait(timeout=300)
  assert code not in (0, None)
  told = killed.told(0)
  assert "go on with the newest checkpoint" in told  # From the start.
  assert re.search(r"lost another one|another task died", told)
  reached = killed.steps()
  # The rest is trained by both, and later by one that is left.
  again = _Run(tmp_path / "killed", 2, longer, _SHARDED)
  while len(again.steps()) < len(reached) + 3:
    assert all(p.poll() is None for p in again.processes), again.told(0)
    time.sleep(0.02)
  first = again.steps()[len(reached)]
  assert first % _PERIOD == 1 and 1 < first <= reached[-1] + 1
  again.processes[1].send_signal(signal.SIGTERM)  # One is told, both end.
  again.ends(143, 143)
  assert "the same command goes on from it" in again.told(0)
  last = again.steps()[-1]
  assert (again.folder / "checkpoints" / str(last)).is_dir()


def test_a_checkpoint_that_one_process_cannot_read_is_read_by_none(
  one, tmp_path
):
  folder = tmp_path / "two"
  _Run(folder, 2, _SHARDED).ends(0, 0)
  (folder / "metrics.jsonl").unlink()
  # What process 1 wrote, which has half of the parameters.
  state = folder / "checkpoints" / str(_NUM_STEPS) / "state"
  for path in (state / "ocdbt.process_1" / "d").iterdir():
    path.unlink()
  two = _Run(folder, 2, _SHARDED)
  two.ends(0, 0)
  for index in range(2):
    assert f"{_NUM_STEPS} cannot be read" in two.told(index)
  assert "(by another process" in two.told(0)
  assert two.steps()[0] == _NUM_STEPS - _PERIOD + 1
  assert (folder / "checkpoints" / f"{_NUM_STEPS}.damaged").is_dir()
  _assert_close(two.state(), one.state())
