"""Decoding that is killed ends with the bytes of one that was not.

By one process, and by several, which meet on this machine's loopback address.
"""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from mathft_jax import records, samples

_NUM_PROBLEMS = 24
_NUM_KILLS = 5

# argv: the folder of candidates, that of compiled programs, the temperature;
# the threshold that settles votes, if problems are to end then.
_DECODE = f"""
import pathlib, sys
import jax
from mathft_jax.data import vocabulary
from mathft_jax.decoding import sampling
from mathft_jax.inference import sampler
from mathft_jax.models import generator, transformer
from mathft_jax.recipe import candidates
from mathft_jax.rerank import stopping
from mathft_jax.sources import arithmetic

directory, cache = map(pathlib.Path, sys.argv[1:3])
jax.config.update("jax_compilation_cache_dir", str(cache))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
words = vocabulary.load_vocabulary("arith")
model = generator.Generator(
  transformer.Transformer(transformer.TransformerConfig(
    vocab_size=words.vocab_size, num_layers=2, model_dim=64, mlp_dim=128,
    num_heads=4, num_kv_heads=2, head_dim=16)),
  words)
params = model.get_initial_variables(jax.random.key(0), {{}})["params"]
config = sampler.SamplingConfig(
  num_candidates=8, next_token=sampling.Temperature(float(sys.argv[3])),
  max_prompt_tokens=32, max_tokens=150, num_slots=64, steps_per_call=8,
  takes_last_number=True,
  stopping=stopping.BetaStopping(float(sys.argv[4])) if sys.argv[4:] else None)
rows = arithmetic.problems("test", "terse", num_problems={_NUM_PROBLEMS})
candidates.decode(
  directory, sampler.Sampler(model, config), params,
  [row.problem for row in rows], generator="g")
"""


@pytest.fixture
def begin(tmp_path):
  """Folder and options -> the process that decodes into it."""

  def start(folder, options) -> subprocess.Popen:
    places = [str(folder), str(tmp_path / "cache")]
    return subprocess.Popen(
      [sys.executable, "-c", _DECODE, *places, *options],
      env={**os.environ, "JAX_PLATFORMS": "cpu"},
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    )

  return start


def _finish(process: subprocess.Popen) -> None:
  _, errors = process.communicate()
  assert process.returncode == 0, errors


@pytest.mark.slow
@pytest.mark.parametrize("options", [["0.3"], ["0.03", "0.8"]])
def test_a_run_that_is_killed_leaves_the_bytes_of_one_that_was_not(
  begin, tmp_path, options
):
  unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
  _finish(begin(unbroken, options))
  drawn_path = killed / samples.drawn_name(0, 1)
  total = _NUM_PROBLEMS * 9
  waits = random.Random(0)
  num_kept = []
  for _ in range(_NUM_KILLS):
    process = begin(killed, options)
    before = drawn_path.stat().st_size if drawn_path.exists() else 0
    while process.poll() is None:
      if drawn_path.exists() and drawn_path.stat().st_size > before:
        time.sleep(waits.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        break
      time.sleep(0.002)
    process.communicate()
    if not drawn_path.exists():
      break  # It came to its end before the signal.
    with samples.JsonLinesStore(drawn_path, key="sample") as store:
      num_kept.append(len(store.finished))
  assert num_kept == sorted(set(num_kept)) and len(num_kept) >= 2
  assert 0 < num_kept[0] < total
  # What was drawn is not drawn again: that would raise ValueError.
  _finish(begin(killed, options))
  (shard,) = unbroken.glob("candidates-*")
  assert (killed / shard.name).read_bytes() == shard.read_bytes()
  assert not drawn_path.exists()
  found = samples.read_candidates(killed)
  assert len(found) == _NUM_PROBLEMS
  for sampled in found:
    assert sampled.greedy.index == records.GREEDY_INDEX
    size = len(sampled.candidates)
    assert [c.index for c in sampled.candidates] == list(range(size))
  sizes = {len(sampled.candidates) for sampled in found}
  assert sizes == {8} if options == ["0.3"] else len(sizes) > 2
  lines = (killed / "decoding" / "metrics.jsonl").read_text().splitlines()
  assert json.loads(lines[-1]).keys() >= {
    *("num_problems", "num_candidates", "num_tokens"),
    *("tokens_per_second", "occupancy", "memory_gib"),
  }


class _Run:
  """Processes of `mathft decode-and-rerank` on some devices each."""

  def __init__(self, models, folder, num_processes, num_devices, *bindings):
    self._logs = [
      folder.with_suffix(f".{index}.log") for index in range(num_processes)
    ]
    with socket.socket() as free:
      free.bind(("127.0.0.1", 0))
      address = f"127.0.0.1:{free.getsockname()[1]}"
    self.processes = []
    for index, path in enumerate(self._logs):
      flags = [
        f"--coordinator_address={address}",
        f"--process_count={num_processes}",
        f"--process_index={index}",
      ]
      command = [
        sys.executable,
        *("-m", "mathft_jax.cli.main", "decode-and-rerank"),
        "--gin_file=recipes/arith_decode_and_rerank.gin",
        f"--gin.MODEL_DIR='{folder}'",
        f"--gin.GENERATOR_CHECKPOINT='{models}/generator'",
        f"--gin.EVALUATOR_CHECKPOINT='{models}/evaluator'",
        "--gin.NUM_CANDIDATES=8",
        "--gin.SamplingConfig.num_slots=64",
        *(f"--gin.{binding}" for binding in bindings),
        *(flags if num_processes > 1 else []),
      ]
      devices = f"--xla_force_host_platform_device_count={num_devices}"
      with path.open("w") as log:
        self.processes.append(
          subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": devices},
          )
        )

  def told(self, index: int) -> str:
    return self._logs[index].read_text()

  def end(self) -> None:
    codes = [process.wait(timeout=400) for process in self.processes]
    assert not any(codes), "\n".join(map(self.told, range(len(codes))))


@pytest.fixture(scope="module")
def models(make_config, make_params, arith_vocabulary, tmp_path_factory):
  """A folder of a generator and an evaluator that have learnt nothing."""
  from mathft_jax.pretrained import llama

  folder = tmp_path_factory.mktemp("models")
  config = make_config(vocab_size=arith_vocabulary.vocab_size)
  for seed, name in enumerate(("generator", "evaluator")):
    llama.write(folder / name, config, make_params(config, seed))
  return folder


def _files(folder):
  return {
    path.name: path.read_bytes()
    for path in (folder / "candidates").iterdir()
    if path.is_file()
  }


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_what_a_lost_process_left_is_drawn_by_one_that_starts_again(
  models, tmp_path, lost
):
  many = "NUM_PROBLEMS=160"
  unbroken = tmp_path / "unbroken"
  _Run(models, unbroken, 1, 1, many, "Decoding.num_shards=16").end()
  folder = tmp_path / "killed"
  killed = _Run(models, folder, 2, 1, many)
  drawn_path = folder / "candidates" / samples.drawn_name(lost, 16)
  while not drawn_path.exists() or not drawn_path.stat().st_size:
    assert all(p.poll() is None for p in killed.processes), killed.told(lost)
    time.sleep(0.01)
  time.sleep(random.Random(lost).random() * 0.3)
  killed.processes[lost].kill()
  assert killed.processes[lost].wait() == -signal.SIGKILL
  assert killed.processes[1 - lost].wait(timeout=300) != 0
  told = killed.told(1 - lost)
  assert "or with the candidates that are there" in told  # From the start.
  assert re.search(r"lost another one|another task died", told)
  assert 0 < drawn_path.stat().st_size
  # What was drawn is not drawn again: that would raise ValueError.
  _Run(models, folder, 1, 1, many).end()
  assert _files(folder) == _files(unbroken)
  assert (folder / "report" / "index.html").is_file()


def _numbers(folder):
  """Solutions and scores, by problem and index."""
  scores = samples.read_scores(folder / "candidates" / "scores-evaluator.jsonl")
  return {
    (c.problem_id, c.index): (
      c.solution,
      c.log_prob,
      scores[c.problem_id].scores.get(c.index),
    )
    for sampled in samples.read_candidates(folder / "candidates")
    for c in (sampled.greedy, *sampled.candidates)
  }


@pytest.mark.slow
def test_processes_on_meshes_draw_and_score_what_one_device_does(
  models, tmp_path
):
  """Each on its four devices, or both together on eight."""
  few = ("NUM_PROBLEMS=12", "SamplingConfig.max_tokens=16")
  _Run(models, tmp_path / "one", 1, 1, *few).end()
  expected = _numbers(tmp_path / "one")
  for name, shape, num_shards in (
    ("each", {"data": 2, "tensor": 2}, 16),
    ("together", {"data": 2, "fsdp": 2, "tensor": 2}, 1),
  ):
    mesh = f"decode_and_rerank.run.mesh_shape={shape}"
    _Run(models, tmp_path / name, 2, 4, *few, mesh).end()
    assert len(samples.read_shards(tmp_path / name / "candidates")) == (
      num_shards
    )
    found = _numbers(tmp_path / name)
    assert found.keys() == expected.keys()
    for key, (solution, log_prob, score) in expected.items():
      assert found[key][0] == solution
      assert found[key][1] == pytest.approx(log_prob, abs=1e-3)
      if score is not None:
        assert found[key][2] == pytest.approx(score, abs=1e-5)
    assert len({score for _, _, score in found.values()}) > 3
