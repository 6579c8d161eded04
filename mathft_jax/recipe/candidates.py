"""A folder of candidates, filled problem by problem.

A function that is called again after a kill goes on with what is missing.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import tqdm

from mathft_jax import records, samples
from mathft_jax.grading import grader
from mathft_jax.inference import sampler as sampler_lib
from mathft_jax.inference import scorer as scorer_lib
from mathft_jax.recipe import decoding_progress
from mathft_jax.rerank import clusters
from mathft_jax.training import metric_writer

Facts = Mapping[str, Any]


def grades_path(directory: pathlib.Path) -> pathlib.Path:
  """Where `grade` writes."""
  return directory / samples.grades_name(grader.GRADER)


def read_grades(directory: pathlib.Path) -> dict[str, records.GradedProblem]:
  """What `grade` wrote, by problem id."""
  return samples.read_grades(grades_path(directory))


def decode(
  directory: pathlib.Path,
  sampler: sampler_lib.Sampler,
  params: Any,
  problems: Sequence[records.Problem],
  *,
  generator: str,
) -> Facts:
  """Draws the candidates of all problems.

  Each candidate is on disk soon after it has ended, so that a kill costs those
  that were being drawn; problems are in an order that does not depend on what
  ended first, so that a run which was killed leaves the same bytes as another.
  How it went is in `decoding/metrics.jsonl`.
  """
  drawn_path = directory / samples.drawn_name(0, 1)
  with (
    samples.JsonLinesStore(directory / samples.shard_name(0, 1)) as store,
    samples.JsonLinesStore(drawn_path, key="sample") as drawn,
    metric_writer.MetricWriter(directory / "decoding") as writer,
  ):
    finished = frozenset(store.finished)
    begun = {
      problem_id: candidates
      for problem_id, candidates in samples.read_drawn(drawn_path).items()
      if problem_id not in finished
    }
    num_done = len(finished) * sampler.num_per_problem
    with decoding_progress.DecodingProgress(
      directory.name,
      len(problems) * sampler.num_per_problem,
      num_done + sum(map(len, begun.values())),
      writer,
    ) as progress:
      for sampled in sampler.sample(
        params,
        problems,
        generator=generator,
        finished=finished,
        drawn=begun,
        on_drawn=lambda new: drawn.extend(map(samples.drawn_row, new)),
        on_progress=progress.update,
      ):
        store.append(sampled.to_json())
  drawn_path.unlink()
  return {**_facts(directory), **progress.facts}


def copy(source: str, directory: pathlib.Path) -> Facts:
  """Takes over candidates that somebody drew, all shards of a folder."""
  given = samples.read_candidates(source)
  with (
    samples.JsonLinesStore(directory / samples.shard_name(0, 1)) as store,
    _progress(len(given), store) as progress,
  ):
    for sampled in given:
      if sampled.problem.problem_id not in store.finished:
        store.append(sampled.to_json())
        progress.update()
  return _facts(directory)


def grade(directory: pathlib.Path) -> Facts:
  """Grades and clusters the candidates."""
  sampled = samples.read_candidates(directory)
  with (
    samples.JsonLinesStore(grades_path(directory)) as store,
    _progress(len(sampled), store) as progress,
  ):
    for problem in sampled:
      if problem.problem.problem_id not in store.finished:
        store.append(clusters.grade_problem(problem).to_json())
        progress.update()
  grades = [g.grades.values() for g in read_grades(directory).values()]
  return {"num_correct": sum(g.is_correct for one in grades for g in one)}


def score(
  directory: pathlib.Path,
  scorer: scorer_lib.Scorer,
  params: Any,
  *,
  evaluator: str,
) -> Facts:
  """Scores the candidates with one evaluator.

  The facts tell what this start of it took: problems that were scored before
  do not count, but for those that share batches with others.
  """
  sampled = samples.read_candidates(directory)
  before = scorer.counts
  with (
    samples.JsonLinesStore(directory / samples.scores_name(evaluator)) as store,
    _progress(len(sampled), store) as progress,
  ):
    for scored in scorer.score(
      params,
      sampled,
      evaluator=evaluator,
      finished=frozenset(store.finished),
    ):
      store.append(scored.to_json())
      progress.update()
  return (scorer.counts - before).describe()


def _facts(directory: pathlib.Path) -> Facts:
  sampled = samples.read_candidates(directory)
  return {
    "num_problems": len(sampled),
    "num_tokens": sum(c.num_tokens for s in sampled for c in s.candidates),
  }


def _progress(total: int, store: samples.JsonLinesStore) -> Any:
  return tqdm.tqdm(
    total=total,
    initial=len(store.finished),
    desc=store.path.parent.name,
    unit="problem",
    mininterval=1.0,
  )
