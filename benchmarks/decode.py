"""Sampling solutions beside the transformers library, on a CPU.

  pip install torch transformers
  python benchmarks/decode.py --shared ../shared

Both sides draw 64 samples of the same problems of MATH-500 with the same random
weights, read from one safetensors file, in float32, temperature 0.6, top-p
0.95. Random weights never end a solution, so each sample ends after as many
tokens as a real one has: those of samples that a model drew for these problems.
Transformers' `generate` takes some problems at a time, each prompt repeated 64
times, and goes on until the longest sample ends. Tokens are those of samples.

Each side has a process of its own and all cores; compilation is left out and
told. Before that both decode greedily, and have to agree token by token.
"""

import argparse
import dataclasses
import gzip
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

_NUM_SAMPLES = 64
_NUM_GREEDY = 24
# As the sampler has them: each lane of rows stores two prompts.
_ROWS_PER_LANE = 64
_NUM_PLACES = 2
_SIDES = {"mathft": "ours", "transformers": "theirs"}
_SAMPLES = "samples/strictprm_math500_n32_even.jsonl.gz"


def main() -> None:
  args = _parser().parse_args()
  if args.side:
    work = json.loads((args.folder / "work.json").read_text())
    sides = {"ours": _ours, "theirs": _theirs}
    print(json.dumps(sides[args.side](args.folder, work)))
    return
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    _write(folder, args)
    found = {label: _run(side, folder) for label, side in _SIDES.items()}
  _print(found)


def _write(folder: pathlib.Path, args: argparse.Namespace) -> None:
  """The weights, the prompts, and how many tokens each sample has."""
  import jax

  from mathft_jax.data import features, vocabulary
  from mathft_jax.models import transformer
  from mathft_jax.pretrained import llama

  words = vocabulary.load_vocabulary("math_2k")
  config = transformer.TransformerConfig(
    vocab_size=8192,
    num_layers=6,
    model_dim=256,
    mlp_dim=1024,
    num_heads=8,
    num_kv_heads=4,
    head_dim=32,
  )
  module = transformer.Transformer(config)
  params = module.init(jax.random.key(0), np.zeros((1, 2), np.int32))["params"]
  llama.write(folder / "model", config, jax.device_get(params))
  with gzip.open(args.shared / "data" / _SAMPLES, "rt", encoding="utf-8") as f:
    rows = [json.loads(line) for line in f]
  step = len(rows) // args.problems
  prompts, lengths = [], []
  for row in rows[::step][: args.problems]:
    problem = row["problem"]["question"]
    prompts.append([0, *features.generator_input_tokens(words, problem)])
    of_problem = [candidate["num_tokens"] for candidate in row["candidates"]]
    # The file has 32 samples of each problem.
    lengths.append([min(n, args.max_tokens) for n in of_problem * 2])
  work = {
    "prompts": prompts,
    "lengths": lengths,
    "max_tokens": args.max_tokens,
    "slots": args.slots,
    "together": args.together,
  }
  (folder / "work.json").write_text(json.dumps(work))


def _run(side: str, folder: pathlib.Path) -> dict[str, Any]:
  done = subprocess.run(
    [sys.executable, __file__, "--side", side, "--folder", str(folder)],
    stdout=subprocess.PIPE,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    check=True,
  )
  return json.loads(done.stdout.splitlines()[-1])


class _Endless:
  """A vocabulary whose end is never drawn."""

  eos_id = -1


def _ours(folder: pathlib.Path, work: Mapping[str, Any]) -> dict[str, Any]:
  from mathft_jax import records
  from mathft_jax.decoding import sampling
  from mathft_jax.inference import engine
  from mathft_jax.models import generator, transformer
  from mathft_jax.pretrained import llama

  config, params = llama.read(folder / "model")
  # Layers written out, as the demo has them: faster on a CPU than a loop.
  config = dataclasses.replace(config, scan_layers=False)
  model = generator.Generator(transformer.Transformer(config), _Endless())
  rule = sampling.Nucleus(p=0.95, temperature=0.6)
  sampler = engine.Engine(model, rule, steps_per_call=16)
  prompts, lengths = work["prompts"], work["lengths"]
  shape = engine.Shape(
    num_lanes=work["slots"] // _ROWS_PER_LANE,
    rows_per_lane=_ROWS_PER_LANE,
    num_places=_NUM_PLACES,
    num_requests=_NUM_SAMPLES + 1,
    prompt_capacity=max(map(len, prompts)),
    max_tokens=work["max_tokens"],
  )

  def draw(indices, max_tokens) -> tuple[engine.Run, list[engine.Sample]]:
    run = sampler.start(params, shape, seed=0)
    for name, tokens in enumerate(prompts):
      run.submit(engine.Job(str(name), tokens, name, indices, max_tokens[name]))
    samples = []
    while run.has_work:
      samples += run.step()
    return run, samples

  start = time.perf_counter()
  _, best = draw([records.GREEDY_INDEX], [[_NUM_GREEDY]] * len(prompts))
  compiling = time.perf_counter() - start
  # Whatever else is to be compiled, the steps of fewer rows among it.
  few = _NUM_SAMPLES // 8
  draw(
    range(_NUM_SAMPLES),
    [[1] * (_NUM_SAMPLES - few) + [work["max_tokens"]] * few] * len(prompts),
  )
  start = time.perf_counter()
  run, samples = draw(range(_NUM_SAMPLES), lengths)
  seconds = time.perf_counter() - start
  assert sum(len(s.tokens) for s in samples) == sum(map(sum, lengths))
  per_token = _cache_bytes(config)
  copies = run.work.num_inserted / len(prompts)
  return {
    "greedy": {s.name: s.tokens.tolist() for s in best},
    "tokens": run.work.num_tokens,
    "seconds": seconds,
    "steps": run.work.num_steps,
    "occupancy": run.work.occupancy,
    "prompt_copies": copies,
    "prompt_bytes": (
      shape.num_lanes * shape.num_places * shape.prompt_capacity * per_token
    ),
    "compiling": compiling,
  }


def _cache_bytes(config: Any) -> int:
  """Of a token: keys and values of all layers, in float32."""
  return 2 * 4 * config.num_layers * config.num_kv_heads * config.head_dim


def _theirs(folder: pathlib.Path, work: Mapping[str, Any]) -> dict[str, Any]:
  import torch  # pyright: ignore
  import transformers  # pyright: ignore

  torch.set_num_threads(os.cpu_count() or 1)
  transformers.logging.set_verbosity_error()
  model = transformers.AutoModelForCausalLM.from_pretrained(folder / "model")
  model.eval()
  config = model.config
  per_token = (
    2
    * 4
    * config.num_hidden_layers
    * config.num_key_value_heads
    * config.head_dim
  )

  class EndsAfter(transformers.StoppingCriteria):
    """Each row ends after its own number of tokens."""

    def __init__(self, prompt_length: int, lengths: Any):
      self.prompt_length, self.lengths = prompt_length, lengths

    def __call__(self, input_ids, scores, **unused):
      return self.lengths <= input_ids.shape[1] - self.prompt_length

  def generate(first: int, last: int, **options) -> Any:
    prompts = work["prompts"][first:last]
    length = max(map(len, prompts))
    ids, mask = (np.zeros((len(prompts), length), np.int64) for _ in "ab")
    for row, prompt in enumerate(prompts):
      ids[row, length - len(prompt) :] = prompt
      mask[row, length - len(prompt) :] = 1
    if options.get("do_sample"):
      lengths = torch.tensor(np.concatenate(work["lengths"][first:last]))
      options["stopping_criteria"] = [EndsAfter(length, lengths)]
    with torch.no_grad():
      found = model.generate(
        torch.from_numpy(ids),
        attention_mask=torch.from_numpy(mask),
        pad_token_id=0,
        eos_token_id=None,
        **options,
      )
    return found[:, length:], length

  num_problems, together = len(work["prompts"]), work["together"]
  greedy, _ = generate(
    0, num_problems, max_new_tokens=_NUM_GREEDY, do_sample=False
  )
  start, steps, prompt_bytes = time.perf_counter(), 0, 0
  for first in range(0, num_problems, together):
    last = min(first + together, num_problems)
    drawn, length = generate(
      first,
      last,
      do_sample=True,
      temperature=0.6,
      top_p=0.95,
      top_k=0,
      num_return_sequences=_NUM_SAMPLES,
      max_new_tokens=work["max_tokens"],
    )
    steps += drawn.shape[1]
    rows = (last - first) * _NUM_SAMPLES
    prompt_bytes = max(prompt_bytes, rows * length * per_token)
  seconds = time.perf_counter() - start
  tokens = sum(map(sum, work["lengths"]))
  return {
    "greedy": {str(i): row.tolist() for i, row in enumerate(greedy)},
    "tokens": tokens,
    "seconds": seconds,
    "steps": steps,
    "occupancy": tokens / (steps * min(together, num_problems) * _NUM_SAMPLES),
    "prompt_copies": _NUM_SAMPLES,
    "prompt_bytes": prompt_bytes,
    "compiling": 0.0,
  }


def _print(found: Mapping[str, Mapping[str, Any]]) -> None:
  versions = [f"Python {platform.python_version()}"]
  for package in ("jax", "flax", "torch", "transformers"):
    versions.append(f"{package} {importlib.metadata.version(package)}")
  print(f"{', '.join(versions)}, {os.cpu_count()} cores")
  print(
    f"{'':20}{'samples’ tokens':>16}{'steps':>7}{'rows busy':>10}"
    f"{'seconds':>9}{'tokens/s':>10}{'ratio':>7}{'copies of a prompt':>20}"
    f"{'MiB for prompts':>17}{'compiling':>11}"
  )
  theirs = found["transformers"]
  for label, side in found.items():
    rate = side["tokens"] / side["seconds"]
    ratio = rate * theirs["seconds"] / theirs["tokens"]
    print(
      f"{label:20}{side['tokens']:16,}{side['steps']:7,}"
      f"{side['occupancy']:10.0%}{side['seconds']:9,.0f}{rate:10,.0f}"
      f"{ratio:7.1f}{side['prompt_copies']:20.1f}"
      f"{side['prompt_bytes'] / 2**20:17.1f}{side['compiling']:9.0f} s"
    )
  if any(side["greedy"] != theirs["greedy"] for side in found.values()):
    raise SystemExit("the sides do not decode the same tokens greedily")
  print(f"{_NUM_GREEDY} greedy tokens of each prompt are the same")


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument(
    "--shared",
    type=pathlib.Path,
    default=pathlib.Path(os.environ.get("MATHFT_SHARED", "../shared")),
  )
  parser.add_argument("--problems", type=int, default=4)
  parser.add_argument("--max_tokens", type=int, default=512)
  parser.add_argument(
    "--slots", type=int, default=128, help="rows that ours decodes at a time"
  )
  parser.add_argument(
    "--together",
    type=int,
    default=4,
    help="problems that transformers decodes at a time",
  )
  parser.add_argument("--side", help=argparse.SUPPRESS)
  parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
  return parser


if __name__ == "__main__":
  main()
