"""A folder of candidates, filled problem by problem.

A function that is called again after a kill goes on with what is missing.
"""

import contextlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import tqdm

from mathft_jax import records, samples
from mathft_jax.grading import grader
from mathft_jax.inference import sampler as sampler_lib
from mathft_jax.inference import scorer as scorer_lib
from mathft_jax.recipe import decoding_progress, shard_stores, shares
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
  num_shards: int = 1,
  share: shares.Share = shares.WHOLE,
) -> Facts:
  """Draws the candidates of all problems, or of a share of their shards.

  Shard s has the problems s, s + `num_shards`, ... of the list, whoever draws
  them; those of all shards of a share are drawn together. Each candidate is on
  disk soon after it has ended, so that a kill costs those that were being
  drawn. Problems are in an order that does not depend on what ended first, nor
  on what was drawn beside them, so that a run which was killed, or went on in
  other shares, leaves the same bytes as another. How it went is in
  `decoding/metrics.jsonl`, and `decoding_<part>` of other parts than the first.

  Where there are several parts, `finish_decoding` has the rest of the facts.
  """
  part = f"_{share.part}" if share.part else ""
  with (
    shard_stores.CandidateStore(
      directory, problems, num_shards, share
    ) as store,
    metric_writer.MetricWriter(
      directory / f"decoding{part}", share.is_writing
    ) as writer,
  ):
    num_done = len(store.finished) * sampler.num_per_problem
    with decoding_progress.DecodingProgress(
      directory.name,
      len(store.problems) * sampler.num_per_problem,
      num_done + sum(map(len, store.drawn.values())),
      writer,
    ) as progress:
      for sampled in sampler.sample(
        params,
        store.problems,
        generator=generator,
        finished=store.finished,
        drawn=store.drawn,
        on_drawn=store.extend_drawn,
        on_progress=progress.update,
      ):
        store.append(sampled)
  whole = finish_decoding(directory) if share.is_whole else {}
  return {**whole, **progress.facts}


def finish_decoding(directory: pathlib.Path) -> Facts:
  """The facts of candidates that are all there."""
  sampled = samples.read_candidates(directory)
  return {
    "num_problems": len(sampled),
    "num_tokens": sum(c.num_tokens for s in sampled for c in s.candidates),
  }


def copy(source: str, directory: pathlib.Path, num_shards: int = 1) -> Facts:
  """Takes over candidates that somebody drew, all shards of a folder.

  Here they are in `num_shards`, as `decode` parts them.
  """
  given = samples.read_candidates(source)
  with contextlib.ExitStack() as stack:
    stores = [
      stack.enter_context(
        samples.JsonLinesStore(directory / samples.shard_name(s, num_shards))
      )
      for s in range(num_shards)
    ]
    num_done = sum(len(store.finished) for store in stores)
    with _progress(directory, len(given), num_done) as progress:
      for place, sampled in enumerate(given):
        store = stores[place % num_shards]
        if sampled.problem.problem_id not in store.finished:
          store.append(sampled.to_json())
          progress.update()
  return finish_decoding(directory)


def grade(directory: pathlib.Path, share: shares.Share = shares.WHOLE) -> Facts:
  """Grades and clusters the candidates, or those of a share of the shards.

  Where there are several parts, `finish_grading` is called once all are done.
  """
  name = grades_path(directory).name
  with (
    shard_stores.PartStore(directory, name, share) as parts,
    _progress(directory, parts.num_problems, len(parts.finished)) as progress,
  ):
    for store, sampled in parts.shards():
      for problem in sampled:
        if problem.problem.problem_id not in parts.finished:
          store.append(clusters.grade_problem(problem).to_json())
          progress.update()
  return finish_grading(directory) if share.is_whole else {}


def finish_grading(directory: pathlib.Path) -> Facts:
  """Makes one file of all grades, and tells how many are correct."""
  shard_stores.join(directory, grades_path(directory).name)
  grades = [g.grades.values() for g in read_grades(directory).values()]
  return {"num_correct": sum(g.is_correct for one in grades for g in one)}


def score(
  directory: pathlib.Path,
  scorer: scorer_lib.Scorer,
  params: Any,
  *,
  evaluator: str,
  share: shares.Share = shares.WHOLE,
) -> Facts:
  """Scores the candidates with one evaluator, or those of a share of shards.

  The facts tell what this start of it took: problems that were scored before
  do not count, but for those that share batches with others. Problems of
  different shards share none, so that scores do not depend on the parts. Where
  there are several, `finish_scoring` is called once all are done.
  """
  name = samples.scores_name(evaluator)
  before = scorer.counts
  with (
    shard_stores.PartStore(directory, name, share) as parts,
    _progress(directory, parts.num_problems, len(parts.finished)) as progress,
  ):
    for store, sampled in parts.shards():
      for scored in scorer.score(
        params, sampled, evaluator=evaluator, finished=parts.finished
      ):
        store.append(scored.to_json())
        progress.update()
  if share.is_whole:
    finish_scoring(directory, evaluator)
  return (scorer.counts - before).describe()


def finish_scoring(directory: pathlib.Path, evaluator: str) -> Facts:
  """Makes one file of all scores."""
  shard_stores.join(directory, samples.scores_name(evaluator))
  return {}


def _progress(directory: pathlib.Path, total: int, num_done: int) -> Any:
  return tqdm.tqdm(
    total=total,
    initial=num_done,
    desc=directory.name,
    unit="problem",
    mininterval=1.0,
  )
