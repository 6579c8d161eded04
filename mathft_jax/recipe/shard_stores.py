"""The files of some shards of a folder, written as if they were one."""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mathft_jax import processes, records, samples
from mathft_jax.recipe import shares


class CandidateStore:
  """The shards of a share, while their candidates are drawn.

  `problems` are those of all its shards, in the order of the list; `finished`
  the ids of those that are whole; `drawn` the candidates of others, by problem
  id and index. Leaving it without an exception removes the journals.
  """

  def __init__(
    self,
    directory: pathlib.Path,
    problems: Sequence[records.Problem],
    num_shards: int,
    share: shares.Share,
  ):
    self._mine = share.shards(num_shards)
    self._shard_of = {
      problem.problem_id: place % num_shards
      for place, problem in enumerate(problems)
    }
    self._paths = {
      shard: directory / samples.shard_name(shard, num_shards)
      for shard in self._mine
    }
    self._journals = {
      shard: directory / samples.drawn_name(shard, num_shards)
      for shard in self._mine
    }
    self._share = share
    self.problems = [
      problem
      for problem in problems
      if self._shard_of[problem.problem_id] in self._mine
    ]

  def __enter__(self) -> "CandidateStore":
    with contextlib.ExitStack() as stack, _opening_in_turn(self._share):
      self._stores = _opened(stack, self._paths, "problem_id", self._share)
      self._drawn = _opened(stack, self._journals, "sample", self._share)
      self.finished = frozenset(
        problem_id
        for store in self._stores.values()
        for problem_id in store.finished
      )
      self.drawn = {
        problem_id: candidates
        for path in self._journals.values()
        for problem_id, candidates in samples.read_drawn(path).items()
        if problem_id not in self.finished
      }
      self._close = stack.pop_all().close
    return self

  def __exit__(self, kind: Any, *unused) -> None:
    self._close()
    if kind is None and self._share.is_writing:
      for path in self._journals.values():
        path.unlink()

  def append(self, sampled: records.SampledProblem) -> None:
    """Writes a problem with all its candidates."""
    shard = self._shard_of[sampled.problem.problem_id]
    self._stores[shard].append(sampled.to_json())

  def extend_drawn(self, new: Sequence[records.Candidate]) -> None:
    """Writes candidates of problems that are not whole yet."""
    by_shard: dict[int, list[records.Candidate]] = {}
    for candidate in new:
      shard = self._shard_of[candidate.problem_id]
      by_shard.setdefault(shard, []).append(candidate)
    for shard, candidates in by_shard.items():
      self._drawn[shard].extend(map(samples.drawn_row, candidates))


class PartStore:
  """What grading or scoring adds to the candidates of a share.

  Of several shards each has a part of the file, until `join`. `finished` are
  the ids of the problems that are there, `num_problems` the share has.
  """

  def __init__(self, directory: pathlib.Path, name: str, share: shares.Share):
    by_shard = samples.read_shards(directory)
    self._sampled = {
      shard: by_shard[shard] for shard in share.shards(len(by_shard))
    }
    self._whole = directory / name
    paths = _parts(self._whole, len(by_shard))
    self._paths = {shard: paths[shard] for shard in self._sampled}
    self._share = share
    self.num_problems = sum(map(len, self._sampled.values()))

  def __enter__(self) -> "PartStore":
    with contextlib.ExitStack() as stack, _opening_in_turn(self._share):
      self._stores = _opened(stack, self._paths, "problem_id", self._share)
      found = {i for one in self._stores.values() for i in one.finished}
      if self._whole not in self._paths.values() and self._whole.exists():
        # They were joined, or somebody else wrote the file.
        with samples.JsonLinesStore(self._whole, is_writing=False) as joined:
          found |= joined.finished
      self.finished = frozenset(
        one.problem.problem_id
        for sampled in self._sampled.values()
        for one in sampled
        if one.problem.problem_id in found
      )
      self._close = stack.pop_all().close
    return self

  def __exit__(self, *unused) -> None:
    self._close()

  def shards(
    self,
  ) -> Iterator[tuple[samples.JsonLinesStore, list[records.SampledProblem]]]:
    """The store of each shard, and the shard's candidates."""
    for shard, sampled in self._sampled.items():
      yield self._stores[shard], sampled


def join(directory: pathlib.Path, name: str) -> None:
  """Makes one file of the parts of a `PartStore`, all shards of which are done.

  Problems stand in it as they do in the shards of candidates. It may be called
  again after a kill.
  """
  by_shard = samples.read_shards(directory)
  if len(by_shard) > 1:
    samples.join(
      directory / name,
      _parts(directory / name, len(by_shard)),
      [one.problem.problem_id for shard in by_shard for one in shard],
    )


def _parts(whole: pathlib.Path, num_shards: int) -> list[pathlib.Path]:
  """Where the rows of each shard are written."""
  if num_shards == 1:
    return [whole]
  return [
    whole.with_name(samples.part_name(whole.name, shard, num_shards))
    for shard in range(num_shards)
  ]


@contextlib.contextmanager
def _opening_in_turn(share: shares.Share) -> Iterator[None]:
  """Those that write open first, and write once the others have read.

  So that what a kill has torn is cut off before anybody else reads it.
  """
  if not share.is_writing:
    processes.wait_for_others()
  yield
  if share.is_writing:
    processes.wait_for_others()
  processes.wait_for_others()


def _opened(
  stack: contextlib.ExitStack,
  paths: Mapping[int, pathlib.Path],
  key: str,
  share: shares.Share,
) -> dict[int, samples.JsonLinesStore]:
  return {
    shard: stack.enter_context(
      samples.JsonLinesStore(path, key, share.is_writing)
    )
    for shard, path in paths.items()
  }
