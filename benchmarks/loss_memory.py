"""Memory and time of a loss over 262,144 words, in chunks and all at once.

The loss and its gradients by hidden states and head, without the layers below.
Memory is what XLA plans for the compiled program, beside its arguments: what
it holds on the way, and its results (the gradients, the same on both sides).
Only the shortest rows are run too, each side in a process of its own, which
gives the time, the fastest of three, and the growth of the peak of the
process's resident memory from before the first run.

  python benchmarks/loss_memory.py
"""

import argparse
import importlib.metadata
import json
import os
import resource
import subprocess
import sys
import time

_VOCABULARY = 2**18
_ROWS = 2
_CHUNK_LENGTH = 64
_SIDES = ("all at once", "in chunks")
# (T, width of the model, whether it is run)
_SIZES = [
  (1024, 256, True),
  (4096, 256, False),
  (16384, 256, False),
  (4096, 2048, False),
  (16384, 2048, False),
]
_REPETITIONS = 3


def main() -> None:
  versions = [
    f"{name} {importlib.metadata.version(name)}" for name in ("jax", "jaxlib")
  ]
  print(f"{', '.join(versions)}, {os.cpu_count()} cores, {os.uname().machine}")
  print(
    f"vocabulary {_VOCABULARY:,}, {_ROWS} rows, chunks of {_CHUNK_LENGTH}"
    " positions; float32; GiB, seconds; ratios are to all at once"
  )
  print(
    f"{'T':>5}{'width':>7}  {'':12}{'on the way':>11}"
    f"{'+ results':>11}{'ratio':>7}{'measured':>10}{'ratio':>7}{'time':>8}"
    f"{'ratio':>7}"
  )
  for length, width, is_run in _SIZES:
    found = [_in_own_process(side, length, width, is_run) for side in _SIDES]
    base = found[0]
    for side, numbers in zip(_SIDES, found, strict=True):
      line = f"{length:5}{width:7}  {side:12}"
      line += f"{numbers['temporary'] / 2**30:11.2f}"
      line += f"{numbers['peak'] / 2**30:11.2f}{_ratio(numbers, base, 'peak')}"
      if is_run:
        line += f"{numbers['resident'] / 2**30:10.2f}"
        line += _ratio(numbers, base, "resident")
        line += f"{numbers['seconds']:8.2f}{_ratio(numbers, base, 'seconds')}"
      print(line, flush=True)


def measure(
  side: str, length: int, width: int, is_run: bool
) -> dict[str, float]:
  """Bytes, and seconds where it is run, of one side."""
  import jax
  import jax.numpy as jnp

  from mathft_jax import losses

  def loss(hidden, head, targets, weights):
    if side == "in chunks":
      tokens = losses.chunked_token_log_probs(
        hidden, head, targets, chunk_length=_CHUNK_LENGTH
      )
    else:
      logits = (hidden.reshape(-1, width) @ head).reshape(*targets.shape, -1)
      tokens = losses.token_log_probs(logits, targets)
    return losses.cross_entropy(tokens, weights, z_loss=1e-4)[0]

  shapes = (
    jax.ShapeDtypeStruct((_ROWS, length, width), jnp.float32),
    jax.ShapeDtypeStruct((width, _VOCABULARY), jnp.float32),
    jax.ShapeDtypeStruct((_ROWS, length), jnp.int32),
    jax.ShapeDtypeStruct((_ROWS, length), jnp.float32),
  )
  compiled = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*shapes).compile()
  memory = compiled.memory_analysis()
  assert memory is not None  # CPU and GPU tell.
  temporary = memory.temp_size_in_bytes
  found = {
    "temporary": float(temporary),
    "peak": float(temporary + memory.output_size_in_bytes),
  }
  if not is_run:
    return found

  keys = jax.random.split(jax.random.key(0), 3)
  arguments = (
    jax.random.normal(keys[0], shapes[0].shape),
    jax.random.normal(keys[1], shapes[1].shape) / width**0.5,
    jax.random.randint(keys[2], shapes[2].shape, 0, _VOCABULARY),
    jnp.ones(shapes[3].shape),
  )
  jax.block_until_ready(arguments)
  before, seconds = _resident(), []
  for _ in range(_REPETITIONS):
    start = time.perf_counter()
    jax.block_until_ready(compiled(*arguments))
    seconds.append(time.perf_counter() - start)
  return {
    **found,
    "resident": float(_peak_resident() - before),
    "seconds": min(seconds),
  }


def _in_own_process(*arguments: str | int | bool) -> dict[str, float]:
  done = subprocess.run(
    [sys.executable, __file__, "--measure", json.dumps(arguments)],
    stdout=subprocess.PIPE,
    check=True,
  )
  return json.loads(done.stdout)


def _ratio(numbers: dict[str, float], base: dict[str, float], name: str) -> str:
  return f"{numbers[name] / base[name]:7.3f}"


def _resident() -> int:
  """Bytes of this process in memory now (Linux)."""
  with open("/proc/self/statm", encoding="ascii") as file:
    return int(file.read().split()[1]) * resource.getpagesize()


def _peak_resident() -> int:
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
  parser = argparse.ArgumentParser(description="Memory and time of a loss.")
  parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)
  if (asked := parser.parse_args().measure) is not None:
    print(json.dumps(measure(*asked)))
  else:
    main()
