"""The demo model's steps on a CPU, with and without what makes them faster.

Times a training step (loss and gradient, 32 rows of 128 tokens) and a decode
step (16 prompts, 64 samples each, 72 tokens, nucleus sampling) with layers in
a loop or written out, and with large allocations on pages of 4 KiB or on huge
pages. Each side runs in a process of its own, in turn, and its fastest time of
several counts. Ratios are to the first side.

  python benchmarks/model_step.py
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import time
from typing import Any

_SIDES = [
  ("layers in a loop, 4 KiB pages", True, False),
  ("layers in a loop, huge pages", True, True),
  ("layers written out, 4 KiB pages", False, False),
  ("layers written out, huge pages", False, True),
]
_ROUNDS = 2
_NUM_PROMPTS, _NUM_SAMPLES, _PROMPT_LENGTH, _MAX_TOKENS = 16, 64, 32, 72


def main() -> None:
  best: dict[str, dict[str, float]] = {}
  for _ in range(_ROUNDS):
    for label, scan_layers, huge_pages in _SIDES:
      tunables = "glibc.malloc.hugetlb=1" if huge_pages else ""
      done = subprocess.run(
        [sys.executable, __file__, str(int(scan_layers))],
        env={**os.environ, "GLIBC_TUNABLES": tunables},
        stdout=subprocess.PIPE,
        check=True,
      )
      times = json.loads(done.stdout)
      known = best.setdefault(label, times)
      best[label] = {name: min(known[name], times[name]) for name in times}
  versions = [
    f"{name} {importlib.metadata.version(name)}" for name in ("jax", "flax")
  ]
  print(f"{', '.join(versions)}, {os.cpu_count()} cores")
  base = best[_SIDES[0][0]]
  print(f"{'':34}{'training':>10}{'ratio':>7}{'decoding':>11}{'ratio':>7}")
  for label, times in best.items():
    train, decode = times["train"], times["decode"]
    print(
      f"{label:34}{train * 1e3:7.0f} ms{base['train'] / train:7.2f}"
      f"{decode * 1e3:8.1f} ms{base['decode'] / decode:7.2f}"
    )


def measure(scan_layers: bool) -> dict[str, float]:
  """Seconds of a training step and of a decode step of this process."""
  import jax
  import jax.numpy as jnp
  import numpy as np

  from mathft_jax import losses
  from mathft_jax.decoding import generate, prefix_cache, sampling
  from mathft_jax.models import transformer

  module = transformer.Transformer(
    transformer.TransformerConfig(
      vocab_size=400,
      num_layers=6,
      model_dim=128,
      mlp_dim=384,
      num_heads=4,
      num_kv_heads=4,
      head_dim=32,
      scan_layers=scan_layers,
    )
  )
  rng = np.random.default_rng(0)

  def tokens(*shape):
    return jnp.asarray(rng.integers(1, 400, shape))

  rows, prompts = tokens(32, 128), tokens(_NUM_PROMPTS, _PROMPT_LENGTH)
  params = module.init(jax.random.key(0), rows[:1])["params"]

  def apply(params, *args, **kwargs) -> Any:
    return module.apply({"params": params}, *args, **kwargs)

  def loss(params):
    logits, _ = apply(params, rows)
    return losses.token_cross_entropy(logits, rows, jnp.ones(rows.shape))[0]

  def decode(params):
    _, (keys, values) = apply(params, prompts, with_head=False)
    cache = prefix_cache.from_prompts(
      keys,
      values,
      jnp.full(_NUM_PROMPTS, _PROMPT_LENGTH - 1),
      rows_per_prompt=_NUM_SAMPLES,
      max_generated=_MAX_TOKENS,
      stacked=scan_layers,
    )
    return generate.generate(
      lambda tokens, cache: apply(params, tokens, cache=cache),
      cache,
      prompts[:, -1],
      jax.random.split(jax.random.key(1), _NUM_PROMPTS * _NUM_SAMPLES),
      next_token=sampling.Nucleus(),
      eos_id=-1,  # Never: all rows run to the end.
    ).tokens

  def fastest(function, repetitions: int) -> float:
    function = jax.jit(function)
    jax.block_until_ready(function(params))
    seconds = []
    for _ in range(repetitions):
      start = time.perf_counter()
      jax.block_until_ready(function(params))
      seconds.append(time.perf_counter() - start)
    return min(seconds)

  return {
    "train": fastest(jax.grad(loss), 8),
    "decode": fastest(decode, 2) / _MAX_TOKENS,
  }


if __name__ == "__main__":
  if len(sys.argv) > 1:
    print(json.dumps(measure(sys.argv[1] == "1")))
  else:
    main()
