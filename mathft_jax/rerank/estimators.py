"""Accuracies and AUCs with their uncertainty over problems.

Every interval is the 95 % percentile interval of a bootstrap that draws the
problems with replacement. The same seed draws the same problems, so results
repeat, and quantities of the same problems stay paired.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt

NUM_RESAMPLES = 10_000
NUM_SUBSETS = 100

# Resamples that are held in memory at once.
_CHUNK = 1_000
_PERCENTILES = (2.5, 97.5)


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A mean over problems with its 95 % interval."""

  value: float
  low: float
  high: float
  num_problems: int


def pass_at_k(num_candidates: int, num_correct: int, k: int) -> float:
  """P(at least one of k candidates is correct), unbiased.

  1 - C(n - c, k) / C(n, k) of Chen et al. (2021), in exact integers.
  """
  if not 0 <= num_correct <= num_candidates:
    raise ValueError(
      f"{num_correct} of {num_candidates} candidates cannot be correct"
    )
  if not 1 <= k <= num_candidates:
    raise ValueError(f"k is {k}, but must be 1 to {num_candidates}")
  all_subsets = math.comb(num_candidates, k)
  wrong_subsets = math.comb(num_candidates - num_correct, k)
  return (all_subsets - wrong_subsets) / all_subsets


def pass_at_k_curves(
  num_candidates: int, num_correct: Sequence[int]
) -> Float[np.ndarray, "P N"]:
  """`pass_at_k` of each problem for k = 1 ... num_candidates."""
  table = {
    correct: [
      pass_at_k(num_candidates, correct, k)
      for k in range(1, num_candidates + 1)
    ]
    for correct in set(num_correct)
  }
  return np.array([table[correct] for correct in num_correct])


def maj_at_k_curve(
  labels: Int[np.ndarray, " N"],
  is_correct: Bool[np.ndarray, " C"],
  seed: int,
  num_resamples: int = NUM_SUBSETS,
) -> Float[np.ndarray, " N"]:
  """How often majority vote over k of one problem's candidates is correct.

  `labels` are the candidates' clusters, -1 for no answer; `is_correct` says
  which clusters are. Entry k - 1 is the mean over `num_resamples` random
  subsets of size k, so its own standard error is at most
  0.5 / sqrt(num_resamples); at k = N it is exact. Ties go to the cluster
  whose first member in the subset is the earliest. A subset without an
  answer is wrong.
  """
  num_candidates = len(labels)
  rng = np.random.default_rng(seed)
  orders = rng.permuted(
    np.tile(np.arange(num_candidates), (num_resamples, 1)), axis=1
  )
  rows = np.arange(num_resamples)
  # One more cluster, the last, takes the candidates without an answer.
  counts = np.zeros((num_resamples, len(is_correct) + 1), np.int64)
  firsts = np.full_like(counts, num_candidates)
  best = np.zeros(num_resamples, np.int64)
  leader = np.full(num_resamples, -1)
  curve = np.zeros(num_candidates)
  correct = np.append(is_correct, False)
  for k, drawn in enumerate(orders.T):
    label = labels[drawn]  # [num_resamples]
    counts[rows, label] += 1
    firsts[rows, label] = np.minimum(firsts[rows, label], drawn)
    # Only the cluster that grew can take the lead.
    tally = counts[rows, label] * (num_candidates + 1) - firsts[rows, label]
    leads = (label >= 0) & (tally > best)
    best = np.where(leads, tally, best)
    leader = np.where(leads, label, leader)
    curve[k] = correct[leader].mean()
  return curve


def bootstrap(
  values: Float[np.ndarray, " P"],
  seed: int = 0,
  num_resamples: int = NUM_RESAMPLES,
) -> Estimate:
  """The mean of one value for each problem."""
  return bootstrap_columns(values[:, None], seed, num_resamples)[0]


def bootstrap_columns(
  values: Float[np.ndarray, "P M"],
  seed: int = 0,
  num_resamples: int = NUM_RESAMPLES,
) -> list[Estimate]:
  """The mean of each column; all columns see the same resamples."""
  values = np.asarray(values, np.float64)
  # On a busy machine BLAS wakes threads for longer than a thin product takes.
  is_thin = values.shape[1] < 4
  means = np.concatenate(
    [
      (np.einsum("rp,pm->rm", weights, values) if is_thin else weights @ values)
      / len(values)
      for weights in _resamples(len(values), seed, num_resamples)
    ]
  )  # [num_resamples, M]
  lows, highs = np.percentile(means, _PERCENTILES, axis=0)
  return [
    Estimate(float(value), float(low), float(high), len(values))
    for value, low, high in zip(values.mean(axis=0), lows, highs, strict=True)
  ]


def paired_difference(
  first: Float[np.ndarray, " P"],
  second: Float[np.ndarray, " Q"],
  seed: int = 0,
  num_resamples: int = NUM_RESAMPLES,
) -> Estimate:
  """Mean of first - second, of the same problems in the same order.

  Raises ValueError if there are not as many of one as of the other.
  """
  if first.shape != second.shape:
    raise ValueError(
      f"{len(first)} and {len(second)} problems cannot be paired; compare"
      " results on the same problems"
    )
  difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
  return bootstrap(difference, seed, num_resamples)


def auc(
  scores: Float[np.ndarray, " N"], is_correct: Bool[np.ndarray, " N"]
) -> float:
  """P(a correct candidate scores above an incorrect one); ties count half.

  Raises ValueError if all candidates are correct, or none is.
  """
  correct, incorrect = scores[is_correct], np.sort(scores[~is_correct])
  if not len(correct) or not len(incorrect):
    raise ValueError("an AUC needs correct and incorrect candidates")
  wins = _wins(correct, incorrect).sum()
  return float(wins / (len(correct) * len(incorrect)))


def auc_within_problems(
  scores: Sequence[Float[np.ndarray, " N"]],
  is_correct: Sequence[Bool[np.ndarray, " N"]],
  seed: int = 0,
  num_resamples: int = NUM_RESAMPLES,
) -> Estimate | None:
  """The mean of the AUCs of single problems.

  Problems whose candidates are all correct or all incorrect have no AUC and
  are left out of the mean and of its `num_problems`. None if all are so.
  """
  aucs = [
    auc(s, c)
    for s, c in zip(scores, is_correct, strict=True)
    if c.any() and not c.all()
  ]
  return bootstrap(np.array(aucs), seed, num_resamples) if aucs else None


def auc_over_candidates(
  scores: Sequence[Float[np.ndarray, " N"]],
  is_correct: Sequence[Bool[np.ndarray, " N"]],
  seed: int = 0,
  num_resamples: int = NUM_RESAMPLES,
) -> Estimate | None:
  """The AUC over the candidates of all problems together.

  It also rewards knowing which problems are easy. Whole problems are
  resampled; resamples without both kinds of candidates drop out. None if
  all candidates are correct, or none is.
  """
  num_problems = len(scores)
  num_correct = np.array([c.sum() for c in is_correct], np.float64)
  num_incorrect = np.array([(~c).sum() for c in is_correct], np.float64)
  if not num_correct.sum() or not num_incorrect.sum():
    return None
  wins = _wins_between_problems(scores, is_correct)  # [P, P]
  aucs = []
  for weights in _resamples(num_problems, seed, num_resamples):
    pairs = (weights @ num_correct) * (weights @ num_incorrect)
    weighted = np.einsum("rp,rp->r", weights @ wins, weights)
    aucs.append(weighted[pairs > 0] / pairs[pairs > 0])
  low, high = np.percentile(np.concatenate(aucs), _PERCENTILES)
  value = wins.sum() / (num_correct.sum() * num_incorrect.sum())
  return Estimate(float(value), float(low), float(high), num_problems)


def _resamples(
  num_problems: int, seed: int, num_resamples: int
) -> Iterator[Float[np.ndarray, "R P"]]:
  """Yields chunks that say how often each resample drew each problem."""
  if not num_problems:
    raise ValueError("no problem to average over")
  for counts in _resample_counts(num_problems, seed, num_resamples):
    yield counts.astype(np.float64)


# A report asks for the same resamples again and again.
@functools.lru_cache(maxsize=8)
def _resample_counts(
  num_problems: int, seed: int, num_resamples: int
) -> tuple[UInt[np.ndarray, "_ P"], ...]:
  rng = np.random.default_rng(seed)
  chunks = []
  for start in range(0, num_resamples, _CHUNK):
    rows = min(_CHUNK, num_resamples - start)
    drawn = rng.integers(num_problems, size=(rows, num_problems))
    drawn += np.arange(rows)[:, None] * num_problems
    counts = np.bincount(drawn.ravel(), minlength=rows * num_problems)
    chunks.append(counts.reshape(rows, num_problems).astype(np.uint16))
  return tuple(chunks)


def _wins(
  scores: Float[np.ndarray, " M"], sorted_others: Float[np.ndarray, " O"]
) -> Float[np.ndarray, " M"]:
  """How many others each score beats, ties counting half."""
  below = np.searchsorted(sorted_others, scores, side="left")
  not_above = np.searchsorted(sorted_others, scores, side="right")
  return (below + not_above) / 2


def _wins_between_problems(
  scores: Sequence[Float[np.ndarray, " N"]],
  is_correct: Sequence[Bool[np.ndarray, " N"]],
) -> Float[np.ndarray, "P P"]:
  """[p, q]: wins of p's correct candidates over q's incorrect ones."""
  owner = np.concatenate(
    [np.full(c.sum(), p) for p, c in enumerate(is_correct)]
  )
  correct = np.concatenate(
    [s[c] for s, c in zip(scores, is_correct, strict=True)]
  )
  wins = np.zeros((len(scores), len(scores)))
  for q, (s, c) in enumerate(zip(scores, is_correct, strict=True)):
    if not c.all():
      won = _wins(correct, np.sort(s[~c]))
      wins[:, q] = np.bincount(owner, weights=won, minlength=len(scores))
  return wins
