"""The evaluator's scores of real samples, beside padded full forward passes.

  pip install torch transformers
  python benchmarks/score.py --shared ../shared

Three sides score all candidates of the same problems of MATH-500 with the same
random weights, a model in Llama's shape (6 layers of width 256), in float32:

- `mathft`: `inference.scorer`, texts in, scores out;
- `mathft, padded`: our model over all tokens of each candidate, padded to the
  longest of its batch, with all logits of all positions;
- `transformers, padded`: the same by the transformers library.

The padded sides are given tokens, a batch has the candidates of one problem in
the order of the file. The vocabulary is trained on MATH in the way of the
shipped one, with 8,192 pieces; `--vocabulary math_2k` is the shipped one. Each
side has a process of its own, all cores, and takes turns; the faster of two
rounds counts, compilation left out. A side's rate is that of candidates, of
which repeated ones count as often as they stand in the file; the ratio is that
of our rate to it.
"tokens" are those its forward passes computed, "places" the same with padding.
"""

import argparse
import dataclasses
import functools
import gzip
import importlib.metadata
import itertools
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_ROUNDS = 2
_TOLERANCE = 1e-5
_SIDES = {
  "mathft": "ours",
  "mathft, padded": "padded",
  "transformers, padded": "theirs",
}


def main() -> None:
  args = _parser().parse_args()
  if args.side:
    sides = {"ours": _ours, "padded": _padded, "theirs": _theirs}
    print(json.dumps(sides[args.side](args.folder)))
    return
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    _write(folder, args)
    found: dict[str, dict[str, Any]] = {}
    for _, (label, side) in itertools.product(range(_ROUNDS), _SIDES.items()):
      python = args.peer_python if side == "theirs" else sys.executable
      measured = _run(python, side, folder)
      if label not in found or measured["seconds"] < found[label]["seconds"]:
        found[label] = measured
    _print(found, json.loads((folder / "tokens.json").read_text()))


def _write(folder: pathlib.Path, args: argparse.Namespace) -> None:
  """The weights, the candidates, and the tokens of each candidate's text."""
  import jax

  from mathft_jax.data import features, vocabulary
  from mathft_jax.models import evaluator, transformer
  from mathft_jax.pretrained import llama

  data = args.shared / "data"
  path = args.vocabulary
  if not path:
    path = str(folder / "words.model")
    pathlib.Path(path).write_bytes(_trained_vocabulary(data / "math"))
  words = vocabulary.load_vocabulary(path)
  config = transformer.TransformerConfig(
    vocab_size=words.vocab_size,
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
  with gzip.open(data / "samples" / "strictprm_math500_n32_even.jsonl.gz") as f:
    rows = [json.loads(line) for line in f]
  chosen = rows[:: max(1, len(rows) // args.problems)][: args.problems]
  problems = [
    {
      "text": row["problem"]["question"],
      "solutions": [
        candidate["raw_text"].partition("\nassistant\n")[2]
        for candidate in row["candidates"]
      ],
    }
    for row in chosen
  ]
  start = features.start_token_id(words)
  tokens = [
    [
      [start, *features.evaluator_input_tokens(words, problem["text"], text)]
      for text in problem["solutions"]
    ]
    for problem in problems
  ]
  verdicts = evaluator.Evaluator(module, words).verdict_ids
  for name, value in (
    ("problems", problems),
    ("tokens", tokens),
    ("verdicts", verdicts),
    ("vocabulary", path),
  ):
    (folder / f"{name}.json").write_text(json.dumps(value))


def _trained_vocabulary(math: pathlib.Path) -> bytes:
  from mathft_jax import prompts
  from mathft_jax.data import vocabulary
  from mathft_jax.sources import hendrycks_math

  texts = (
    prompts.generator_inputs(row.problem.text)
    + prompts.generator_targets(row.solution, row.problem.reference_answer)
    for row in hendrycks_math.read(math)
    if row.split == "train"
  )
  return vocabulary.train_vocabulary(
    texts,
    user_defined_symbols=[prompts.INCORRECT, prompts.CORRECT],
    vocab_size=8192,
  )


def _run(python: str, side: str, folder: pathlib.Path) -> dict[str, Any]:
  done = subprocess.run(
    [python, __file__, "--side", side, "--folder", str(folder)],
    stdout=subprocess.PIPE,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    check=True,
  )
  return json.loads(done.stdout.splitlines()[-1])


def _read(folder: pathlib.Path, name: str) -> Any:
  return json.loads((folder / f"{name}.json").read_text())


def _ours(folder: pathlib.Path) -> dict[str, Any]:
  from mathft_jax import records
  from mathft_jax.data import vocabulary
  from mathft_jax.inference import scorer
  from mathft_jax.models import evaluator, transformer
  from mathft_jax.pretrained import llama

  config, params = llama.read(folder / "model")
  config = dataclasses.replace(config, scan_layers=False)
  model = evaluator.Evaluator(
    transformer.Transformer(config),
    vocabulary.load_vocabulary(_read(folder, "vocabulary")),
  )
  sampled = [
    records.SampledProblem(
      problem=records.Problem(str(i), problem["text"], ""),
      greedy=None,
      candidates=tuple(
        records.Candidate(str(i), j, text, None, 1, 0.0, "eos")
        for j, text in enumerate(problem["solutions"])
      ),
      generator="",
      sampling={},
    )
    for i, problem in enumerate(_read(folder, "problems"))
  ]
  # Rows so few that what they need stays in a CPU's cache.
  engine = scorer.Scorer(model, scorer.ScoringConfig(tokens_per_batch=4096))
  list(engine.score(params, sampled, evaluator=""))  # Compiles.
  once = engine.counts
  start = time.perf_counter()
  scored = list(engine.score(params, sampled, evaluator=""))
  seconds = time.perf_counter() - start
  scores = [s for problem in scored for s in problem.scores.values()]
  return {
    "seconds": seconds,
    "scores": scores,
    "places": once.num_places,
    "tokens": once.num_tokens,
    "versions": _versions("jax", "jaxlib", "flax"),
  }


def _padded(folder: pathlib.Path) -> dict[str, Any]:
  import jax

  from mathft_jax.models import transformer
  from mathft_jax.pretrained import llama

  config, params = llama.read(folder / "model")
  config = dataclasses.replace(config, scan_layers=False)
  params = jax.device_put(params)
  module = transformer.Transformer(config)

  def forward(params, ids):
    return module.apply({"params": params}, ids)[0]

  @functools.cache
  def compiled(shape: tuple[int, int]) -> Any:
    ids = jax.ShapeDtypeStruct(shape, np.int32)
    return jax.jit(forward).lower(params, ids).compile()

  def score(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    logits = compiled(ids.shape)(params, ids.astype(np.int32))
    return np.asarray(logits[np.arange(len(ids)), mask.sum(-1) - 1])

  for ids, _ in _batches(folder):
    compiled(ids.shape)
  return _of_batches(folder, score, _versions("jax", "jaxlib", "flax"))


def _theirs(folder: pathlib.Path) -> dict[str, Any]:
  import torch  # pyright: ignore
  import transformers  # pyright: ignore

  torch.set_num_threads(os.cpu_count() or 1)
  model = transformers.AutoModelForCausalLM.from_pretrained(folder / "model")
  model.eval()

  @torch.inference_mode()
  def score(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    logits = model(torch.from_numpy(ids), torch.from_numpy(mask)).logits
    return logits[torch.arange(len(ids)), torch.from_numpy(mask.sum(-1) - 1)]

  ids, mask = next(iter(_batches(folder)))
  score(ids[:, :64], mask[:, :64])
  return _of_batches(folder, score, _versions("torch", "transformers"))


def _batches(
  folder: pathlib.Path,
) -> list[tuple[np.ndarray, np.ndarray]]:
  """Tokens and mask of each problem's candidates, int64 as torch wants them."""
  batches = []
  for rows in _read(folder, "tokens"):
    shape = len(rows), max(map(len, rows))
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for i, row in enumerate(rows):
      ids[i, : len(row)] = row
      mask[i, : len(row)] = 1
    batches.append((ids, mask))
  return batches


def _of_batches(
  folder: pathlib.Path, score: Any, versions: Mapping[str, str]
) -> dict[str, Any]:
  verdicts = _read(folder, "verdicts")
  batches = _batches(folder)
  scores: list[float] = []
  start = time.perf_counter()
  for ids, mask in batches:
    correct, incorrect = np.asarray(score(ids, mask))[:, verdicts].T
    scores += (-np.logaddexp(0.0, incorrect - correct)).tolist()
  return {
    "seconds": time.perf_counter() - start,
    "scores": scores,
    "places": sum(ids.size for ids, _ in batches),
    "tokens": int(sum(mask.sum() for _, mask in batches)),
    "versions": versions,
  }


def _versions(*packages: str) -> dict[str, str]:
  return {name: importlib.metadata.version(name) for name in packages}


def _print(
  found: Mapping[str, Mapping[str, Any]],
  tokens: Sequence[Sequence[Sequence[int]]],
) -> None:
  versions = {"Python": platform.python_version()}
  for side in found.values():
    versions |= side["versions"]
  listed = ", ".join(" ".join(item) for item in versions.items())
  print(f"{listed}, {os.cpu_count()} cores")
  num_candidates = sum(map(len, tokens))
  num_tokens = sum(len(row) for rows in tokens for row in rows)
  print(
    f"{len(tokens)} problems, {num_candidates} candidates of"
    f" {num_tokens / num_candidates:.0f} tokens"
  )
  print(
    f"{'':22}{'candidates/s':>13}{'ratio':>7}{'tokens':>10}{'places':>10}"
    f"{'max difference':>16}"
  )
  ours = found["mathft"]
  for label, side in found.items():
    difference = np.abs(np.subtract(side["scores"], ours["scores"])).max()
    print(
      f"{label:22}{num_candidates / side['seconds']:13.2f}"
      f"{side['seconds'] / ours['seconds']:7.2f}"
      f"{side['tokens']:10,}{side['places']:10,}"
      f"{difference:16.1e}"
    )
    if difference > _TOLERANCE:
      raise SystemExit("the sides do not compute the same scores")


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument(
    "--shared",
    type=pathlib.Path,
    default=pathlib.Path(os.environ.get("MATHFT_SHARED", "../shared")),
  )
  parser.add_argument(
    "--problems", type=int, default=16, help="how many problems are scored"
  )
  parser.add_argument(
    "--vocabulary", help="a shipped one or a path; else one is trained"
  )
  parser.add_argument(
    "--peer-python",
    default=sys.executable,
    help="the interpreter that has torch and transformers",
  )
  parser.add_argument("--side", help=argparse.SUPPRESS)
  parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
  return parser


if __name__ == "__main__":
  main()
