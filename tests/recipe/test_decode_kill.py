"""Decoding that is killed ends with the bytes of one that was not."""

import json
import os
import random
import signal
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
