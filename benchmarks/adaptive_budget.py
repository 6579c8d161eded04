"""What adaptive budgets would have saved on stored samples of MATH and GSM8K.

Grades 32 samples of each of 250 problems of MATH-500, and as many of GSM8K, by
this project's grader, then takes them in order and stops each problem once its
vote is settled, at several certainties. Below, majority vote over the first k
samples of each problem. Differences are in points, paired by problem, with
their 95 % intervals; "as many each" is the first k, k the rounded mean. "drawn"
is what `SamplingConfig.stopping` draws, wave by wave, while no slot would idle.

  python benchmarks/adaptive_budget.py --shared ../shared
"""

import argparse
import os
import pathlib
import platform
import time

import grade
import numpy as np

from mathft_jax.inference import budgets
from mathft_jax.report import document, manifest, results
from mathft_jax.rerank import clusters, estimators, stopping

_NUM_CANDIDATES = 32
_BUDGETS = (1, 2, 4, 6, 8, 12, 16, 24, 32)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--shared", type=pathlib.Path, required=True)
  shared = parser.parse_args().shared
  print(f"Python {platform.python_version()}, numpy {np.__version__}")
  for name in ("math500", "gsm8k"):
    _replay(shared, name)


def _replay(shared: pathlib.Path, name: str) -> None:
  start = time.perf_counter()
  problems = tuple(grade.sampled_problems(shared, name))
  graded = tuple(clusters.grade_problems(problems, os.cpu_count() or 1))
  generator = manifest.Generator(name=name, label=name)
  generated = results.GeneratorResults(generator, problems, graded)
  print(
    f"\n{name}: {len(problems)} problems, {_NUM_CANDIDATES} samples each, read"
    f" and graded in {time.perf_counter() - start:.1f} s"
  )
  start = time.perf_counter()
  votes = generated.tallies
  print(
    f"{'':>10}{'samples':>9}{'drawn':>7}{'fewer':>8}{'accuracy':>10}"
    f"  {f'to Maj1@{_NUM_CANDIDATES}':>18}  {'to as many each':>18}"
  )
  for threshold in (*results.STOPPING_THRESHOLDS, 0.9999):
    rule = stopping.BetaStopping(threshold)
    replay = stopping.replay(votes, rule)
    as_many = round(replay.num_samples.mean())
    wave = budgets.wave_size(_NUM_CANDIDATES, rule)
    in_waves = -(-replay.num_samples // wave) * wave
    _print(
      f"P > {threshold}",
      replay.num_samples.mean(),
      np.minimum(in_waves, _NUM_CANDIDATES).mean(),
      replay.is_correct,
      generated.majority,
      votes.is_correct[:, as_many - 1],
    )
  for budget in _BUDGETS:
    is_correct = votes.is_correct[:, budget - 1]
    _print(f"all {budget}", budget, budget, is_correct, generated.majority)
  print(f"replayed in {time.perf_counter() - start:.1f} s")


def _print(
  label, num_samples, num_drawn, is_correct, majority, fixed=None
) -> None:
  cells = [
    _points(estimators.paired_difference(is_correct, other))
    for other in (majority, fixed)
    if other is not None
  ]
  print(
    f"{label:>10}{num_samples:9.1f}{num_drawn:7.1f}"
    f"{_NUM_CANDIDATES / num_drawn:7.1f}x"
    f"{is_correct.mean() * 100:8.1f} %"
    + "".join(f"  {cell:>18}" for cell in cells)
  )


def _points(estimate: estimators.Estimate) -> str:
  return document.Column("", document.POINTS).text(estimate)


if __name__ == "__main__":
  main()
