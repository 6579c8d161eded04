"""A small run directory, written as a recipe would write it."""

import dataclasses
import math
import pathlib
import random
from collections.abc import Callable
from typing import Any

import pytest

from mathft_jax import records, samples
from mathft_jax.rerank import clusters, stopping

NUM_PROBLEMS = 12
NUM_CANDIDATES = 16
HOSTILE = "<script>alert('x')</script> & \"quoted\" | *star*"

MakeRun = Callable[..., pathlib.Path]


@pytest.fixture
def make_run(tmp_path) -> MakeRun:
  """Makes a run directory; keyword arguments replace manifest entries."""

  def make(name: str = "demo", **changes) -> pathlib.Path:
    return _make(tmp_path / name, changes)

  return make


@pytest.fixture(scope="session")
def default_run(tmp_path_factory) -> pathlib.Path:
  """A run directory that tests only read."""
  return _make(tmp_path_factory.mktemp("runs") / "demo", {})


@pytest.fixture(scope="session")
def uneven_run(tmp_path_factory) -> pathlib.Path:
  """The same, but each problem ends once its vote is settled (P > 0.9)."""
  directory = tmp_path_factory.mktemp("runs") / "uneven"
  return _make(directory, {}, stopping.BetaStopping(0.9))


def _make(
  directory: pathlib.Path,
  changes: dict[str, Any],
  rule: stopping.BetaStopping | None = None,
) -> pathlib.Path:
  _decode(directory, "decode_terse", "terse", 0.3, rule)
  _decode(directory, "decode_stepwise", "stepwise", 0.6, rule)
  _decode(directory, "decode_second", "second", 0.65, rule)
  _score(directory, "decode_stepwise", "evaluator_xent")
  manifest = {
    "name": directory.name,
    "note": "A smoke run: accuracies mean nothing.",
    "created": "2024-01-01T00:00:00Z",
    "versions": {"mathft_jax": "0.1.0"},
    "seed": 0,
    "data": [
      {
        "source": "arith_terse",
        "train": 1000,
        "validation": 100,
        "test": NUM_PROBLEMS,
        "problem_tokens": 20.13,
        "solution_tokens": None,
      }
    ],
    "generators": [
      _generator("generator_terse", "terse", "decode_terse"),
      _generator("generator_stepwise", "stepwise", "decode_stepwise"),
      _generator("generator_both", "terse + stepwise", None),
      {
        **_generator("generator_second", "second", "decode_second"),
        "initial": "evaluator_xent",
        "evaluator_loss": "cls_xent",
      },
    ],
    "evaluators": [
      {
        "name": "evaluator_xent",
        "loss": "cls_xent",
        "initial": "generator_stepwise",
        "num_steps": 10,
        "best_step": 10,
        "scores": {
          "generator_stepwise": "decode_stepwise/scores-evaluator_xent.jsonl"
        },
      }
    ],
    "stages": [
      {
        "name": "train_terse",
        "kind": "train",
        "seconds": 12.34,
        "peak_rss_bytes": 300 * 2**20,
      }
    ],
  }
  samples.write_json(directory / "manifest.json", manifest | changes)
  return directory


def _generator(name: str, label: str, decode: str | None) -> dict:
  return {
    "name": name,
    "label": label,
    "data": f"arith_{label}",
    "initial": "base",
    "evaluator_loss": None,
    "num_steps": 10,
    "best_step": 10,
    "num_params": 1234567,
    "candidates": decode,
    "grades": decode and f"{decode}/grades-mathft-1.jsonl",
  }


def _decode(
  directory: pathlib.Path,
  stage: str,
  generator: str,
  accuracy: float,
  rule: stopping.BetaStopping | None,
) -> None:
  rng = random.Random(generator)
  folder = directory / stage
  with (
    samples.JsonLinesStore(folder / samples.shard_name(0, 1)) as candidates,
    samples.JsonLinesStore(folder / samples.grades_name("mathft-1")) as grades,
  ):
    for number in range(NUM_PROBLEMS):
      sampled = _sampled(rng, f"p{number:02d}", generator, accuracy)
      if rule:
        answers = [c.answer for c in sampled.candidates]
        kept = sampled.candidates[: rule.num_needed(answers, str.__eq__)]
        sampled = dataclasses.replace(sampled, candidates=kept)
      candidates.append(sampled.to_json())
      grades.append(_graded(sampled).to_json())


def _sampled(
  rng: random.Random, problem_id: str, generator: str, accuracy: float
) -> records.SampledProblem:
  problem = records.Problem(
    problem_id, HOSTILE, "42", str(rng.randint(1, 5)), "chains"
  )

  def candidate(index: int) -> records.Candidate:
    if rng.random() < accuracy:
      answer = "42"
    else:
      answer = rng.choice([None, "<b>41</b>", "7", "8", "9"])
    text = f"{HOSTILE} solution {index}"
    return records.Candidate(
      problem_id, index, text, answer, 9, -2.5, "eos" if answer else "length"
    )

  return records.SampledProblem(
    problem,
    candidate(records.GREEDY_INDEX),
    tuple(candidate(i) for i in range(NUM_CANDIDATES)),
    generator,
    {"temperature": 0.6},
  )


def _graded(sampled: records.SampledProblem) -> records.GradedProblem:
  assert sampled.greedy
  every = [sampled.greedy, *sampled.candidates]
  return records.GradedProblem(
    sampled.problem.problem_id,
    "mathft-1",
    {c.index: records.Grade(c.answer == "42", "text") for c in every},
    tuple(clusters.cluster([c.answer for c in every[1:]], str.__eq__)),
  )


def _score(directory: pathlib.Path, stage: str, evaluator: str) -> None:
  rng = random.Random(evaluator)
  folder = directory / stage
  with samples.JsonLinesStore(
    folder / samples.scores_name(evaluator)
  ) as scores:
    for sampled in samples.read_candidates(folder):
      scores.append(
        records.ScoredProblem(
          sampled.problem.problem_id,
          evaluator,
          {
            c.index: math.log(
              rng.uniform(0.3, 1.0)
              if c.answer == "42"
              else rng.uniform(0.01, 0.7)
            )
            for c in sampled.candidates
          },
        ).to_json()
      )
