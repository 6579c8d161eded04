"""When the answers drawn so far settle a problem's majority vote.

Aggarwal et al. (2023), Let's Sample Step by Step: Adaptive-Consistency. Of the
answers with the two most votes, v1 and v2, the first is taken to win each
further vote that one of the two gets with an unknown probability, of which
Beta(v1 + 1, v2 + 1) is what these votes say. The vote is settled once that
probability is above 1/2 with enough certainty.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from mathft_jax.rerank import clusters


@dataclasses.dataclass(frozen=True)
class BetaStopping:
  """Settled when the leading answer stays ahead with P > `threshold`.

  Answers that all agree settle it after 4 at the default, the paper's, after 6
  at 0.99 and 9 at 0.999. Raises ValueError if `threshold` is not in [0.5, 1):
  two equal tallies would be settled below, and nothing from 1 on.
  """

  threshold: float = 0.95

  def __post_init__(self):
    if not 0.5 <= self.threshold < 1.0:
      raise ValueError(
        f"the stopping threshold is {self.threshold}; it must lie in [0.5, 1)"
      )

  def describe(self) -> dict[str, Any]:
    """The rule as plain JSON values."""
    return {"rule": "beta", "threshold": self.threshold}

  def is_settled(self, first: int, second: int) -> bool:
    """With so many votes for the leading answer and for the next."""
    return lead_probability(first, second) > self.threshold

  def num_needed(
    self,
    answers: Iterable[str | None],
    is_equivalent: Callable[[str, str], bool] | None = None,
  ) -> int | None:
    """How many of the answers, in order of their index, settle the vote.

    The smallest number that does; None if all of them do not. No answer (None,
    a blank) counts, and votes for nothing. `is_equivalent` is that of
    `clusters.cluster`.
    """
    vote = Vote(self, is_equivalent)
    for answer in answers:
      vote.add(answer)
      if vote.num_needed is not None:
        break
    return vote.num_needed


class Vote:
  """One problem's vote while its answers come in, in order of their index.

  Answers are the same as in `clusters.cluster`; each is looked at once.
  """

  def __init__(
    self,
    rule: BetaStopping,
    is_equivalent: Callable[[str, str], bool] | None = None,
  ):
    self._rule = rule
    self._grouping = clusters.Grouping(is_equivalent)
    self._num_answers = 0
    self._num_needed: int | None = None

  @property
  def num_needed(self) -> int | None:
    """How many answers settled the vote; None while it is open."""
    return self._num_needed

  @property
  def least_needed(self) -> int:
    """How many answers settle the vote if all to come are for the leading one.

    Fewer never do, whatever they are. `num_needed` once the vote is settled.
    """
    if self._num_needed is not None:
      return self._num_needed
    first, second = self._tallies()
    further = next(
      number
      for number in itertools.count(1)
      if self._rule.is_settled(first + number, second)
    )
    return self._num_answers + further

  def add(self, answer: str | None) -> None:
    """Counts the next answer; one that comes after the end changes nothing."""
    if self._num_needed is not None:
      return
    self._num_answers += 1
    if self._grouping.add(answer) is None:
      return
    if self._rule.is_settled(*self._tallies()):
      self._num_needed = self._num_answers

  def _tallies(self) -> tuple[int, int]:
    """The votes of the two answers with the most."""
    sizes = sorted(map(len, self._grouping.members), reverse=True)
    first, second, *_ = [*sizes, 0, 0]
    return first, second


@functools.cache
def lead_probability(first: int, second: int) -> float:
  """P(x > 1/2) of x ~ Beta(first + 1, second + 1), from exact integers.

  That is the chance of at most `first` heads in first + second + 1 throws.
  """
  num_throws = first + second + 1
  favourable = sum(math.comb(num_throws, i) for i in range(first + 1))
  return favourable / 2**num_throws


@dataclasses.dataclass(frozen=True)
class Tallies:
  """The votes of P problems after each of their N candidates.

  The leader is the cluster that majority vote picks, -1 before any answer;
  `is_correct` is whether that answer is.
  """

  leader: Int[np.ndarray, "P N"]
  first: Int[np.ndarray, "P N"]
  second: Int[np.ndarray, "P N"]
  is_correct: Bool[np.ndarray, "P N"]


@dataclasses.dataclass(frozen=True)
class Replay:
  """Stored candidates, as if each problem had stopped when it was settled.

  A problem that is not settled has used all candidates that it has.
  """

  num_samples: Int[np.ndarray, " P"]
  is_correct: Bool[np.ndarray, " P"]  # of majority vote among them
  is_settled: Bool[np.ndarray, " P"]


def tallies(
  labels: Int[np.ndarray, "P N"], is_correct: Bool[np.ndarray, "P C"]
) -> Tallies:
  """Counts votes candidate by candidate, in order of the columns.

  `labels` are the candidates' clusters, numbered by first member, and -1 for
  no answer; `is_correct` says which clusters are.
  """
  num_problems, num_candidates = labels.shape
  rows = np.arange(num_problems)
  # One more cluster, the last, takes the candidates without an answer.
  correct = np.pad(is_correct, ((0, 0), (0, 1)))
  counts = np.zeros(correct.shape, np.int64)
  leader = np.full(num_problems, -1)
  first = np.zeros(num_problems, np.int64)
  second = np.zeros(num_problems, np.int64)
  found = Tallies(
    *(np.zeros(labels.shape, np.int64) for _ in range(3)),
    is_correct=np.zeros(labels.shape, bool),
  )
  for k, label in enumerate(labels.T):
    counts[rows, label] += 1
    tally = np.where(label >= 0, counts[rows, label], 0)
    is_rival = (label >= 0) & (label != leader)
    # Of a rival that draws level, and of the leader, the earlier leads.
    leads = is_rival & ((tally > first) | ((tally == first) & (label < leader)))
    # A rival brings the next tally up to its own, or to the one it overtook.
    level = np.where(is_rival, np.minimum(tally, first), 0)
    second = np.maximum(second, level)
    first = np.maximum(first, tally)
    leader = np.where(leads, label, leader)
    found.leader[:, k] = leader
    found.first[:, k], found.second[:, k] = first, second
    found.is_correct[:, k] = correct[rows, leader]
  return found


def replay(
  votes: Tallies,
  rule: BetaStopping,
  sizes: Int[np.ndarray, " P"] | None = None,
) -> Replay:
  """What `rule` would have used of each problem's candidates, and got.

  `sizes` say how many candidates each problem has, all N by default; in the
  columns behind them, votes have to stay as they are.
  """
  num_problems, num_candidates = votes.first.shape
  most = num_candidates if sizes is None else sizes
  pairs, where = np.unique(
    np.stack([votes.first, votes.second], axis=-1).reshape(-1, 2),
    axis=0,
    return_inverse=True,
  )
  by_pair = np.array([rule.is_settled(int(a), int(b)) for a, b in pairs])
  settles = by_pair[where.ravel()].reshape(votes.first.shape)
  is_settled = np.asarray(np.any(settles, axis=1))
  last = np.where(is_settled, np.argmax(settles, axis=1), most - 1)
  is_correct = votes.is_correct[np.arange(num_problems), last]
  return Replay(last + 1, is_correct, is_settled)
