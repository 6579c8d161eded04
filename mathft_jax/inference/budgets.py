"""Which candidates of a problem are drawn next, and when it has enough."""

import collections
from collections.abc import Mapping

from mathft_jax import records
from mathft_jax.rerank import stopping


def wave_size(num_candidates: int, rule: stopping.BetaStopping | None) -> int:
  """How many candidates of a problem are begun together, the greedy one aside.

  As many as settle the vote if they agree; without a rule all.
  """
  if rule is None:
    return num_candidates
  return min(num_candidates, stopping.Vote(rule).least_needed)


class Budget:
  """The candidates of one problem: 0 ... N - 1, and the greedy one.

  With a rule, its vote takes answers in order of their index, and candidates
  behind the one that settles it are not wanted. So what a problem ends with is
  a function of its answers alone, whenever and in whatever order they come.
  """

  def __init__(
    self,
    num_candidates: int,
    rule: stopping.BetaStopping | None = None,
    drawn: Mapping[int, records.Candidate] | None = None,
  ):
    """Those in `drawn`, by index, are there already."""
    self._given = drawn or {}
    self._found = dict(self._given)
    self._wave = wave_size(num_candidates, rule)
    self._vote = stopping.Vote(rule) if rule else None
    self._num_counted = 0
    self._num_wanted = self._num_needed = num_candidates
    self._waiting = collections.deque(
      index for index in self._wanted() if index not in self._found
    )
    self._underway: set[int] = set()
    self._count()

  @property
  def num_left(self) -> int:
    """Candidates that are still to come, at most."""
    return len(self._underway) + len(self._waiting)

  @property
  def may_begin(self) -> bool:
    """Whether a candidate waits that may be wanted."""
    return bool(self._waiting)

  @property
  def has_to_begin(self) -> bool:
    """Whether one waits that will be wanted, whatever the others answer."""
    return self.may_begin and self._waiting[0] < self._num_needed

  @property
  def num_new_tokens(self) -> int:
    """Tokens of the candidates it ends with that were not given to it."""
    return sum(
      candidate.num_tokens
      for index, candidate in self.candidates().items()
      if index not in self._given
    )

  def candidates(self) -> dict[int, records.Candidate]:
    """Those that it ends with, by index; none may be left."""
    return {index: self._found[index] for index in self._wanted()}

  def begin(self) -> list[int]:
    """The indices of the next candidates, which are underway from now on."""
    size = self._wave + (self._waiting[0] == records.GREEDY_INDEX)
    size = min(size, len(self._waiting))
    begun = [self._waiting.popleft() for _ in range(size)]
    self._underway.update(begun)
    return begun

  def add(self, candidate: records.Candidate) -> None:
    """One that was underway has ended."""
    self._underway.discard(candidate.index)
    self._found[candidate.index] = candidate
    self._count()

  def release(self) -> list[int]:
    """Those underway that are not wanted any more; they are not waited for."""
    released = [i for i in self._underway if i >= self._num_wanted]
    self._underway.difference_update(released)
    return released

  def _wanted(self) -> tuple[int, ...]:
    return (records.GREEDY_INDEX, *range(self._num_wanted))

  def _count(self) -> None:
    """The vote takes the answers that are next in order."""
    vote = self._vote
    if vote is None:
      return
    while vote.num_needed is None and self._num_counted in self._found:
      vote.add(self._found[self._num_counted].answer)
      self._num_counted += 1
    self._num_needed = vote.least_needed
    if vote.num_needed is not None:
      self._num_wanted = vote.num_needed
      while self._waiting and self._waiting[-1] >= self._num_wanted:
        self._waiting.pop()
