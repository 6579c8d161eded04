"""What every reranker picks as K and N' grow, with what it costs."""

from collections.abc import Callable, Sequence

from mathft_jax.records import Cluster
from mathft_jax.rerank import rerankers

# The rerankers that K or N' does not change, and those that it does.
FIXED: dict[str, Callable[[Sequence[Cluster]], str]] = {
  "best_of_n": rerankers.best_of_n,
  "weighted_vote": rerankers.weighted_vote,
  "majority_vote": rerankers.majority_vote,
}
SWEPT: dict[str, Callable[[Sequence[Cluster], int], str]] = {
  "best_of_top_clusters": rerankers.best_of_top_clusters,
  "weighted_vote_top_clusters": rerankers.weighted_vote_top_clusters,
  "majority_vote_top_n": rerankers.majority_vote_top_n,
}


def fixed_picks(clusters: Sequence[Cluster]) -> dict[str, str | None]:
  """The answers that the `FIXED` rerankers pick; None without a cluster."""
  return {
    name: reranker(clusters) if clusters else None
    for name, reranker in FIXED.items()
  }


def swept_picks(
  clusters: Sequence[Cluster], num_candidates: int
) -> dict[str, list[str | None]]:
  """The answers that the `SWEPT` rerankers pick, for 1 ... num_candidates.

  Entry k - 1 belongs to K = k or N' = k.
  """
  num_answered = sum(map(rerankers.size, clusters))
  # Beyond these bounds a reranker sees all there is: nothing changes.
  bounds = {
    "best_of_top_clusters": len(clusters),
    "weighted_vote_top_clusters": len(clusters),
    "majority_vote_top_n": num_answered,
  }
  picks: dict[str, list[str | None]] = {}
  for name, reranker in SWEPT.items():
    found: list[str | None] = [
      reranker(clusters, k) for k in range(1, bounds[name] + 1)
    ] or [None]
    found += found[-1:] * (num_candidates - len(found))
    picks[name] = found[:num_candidates]
  return picks


def num_scored(clusters: Sequence[Cluster], num_candidates: int) -> list[int]:
  """How many candidates the K largest clusters hold, K = 1 ... N."""
  ranked = rerankers.top_clusters(clusters, max(1, len(clusters)))
  counts, total = [], 0
  for k in range(num_candidates):
    total += rerankers.size(ranked[k]) if k < len(ranked) else 0
    counts.append(total)
  return counts


def is_tied(
  clusters: Sequence[Cluster], num_clusters: int, num_candidates: int
) -> dict[str, bool]:
  """Which rerankers only their tie rule lets decide between answers.

  `num_clusters` is K, `num_candidates` N'. A problem without a cluster has
  no tie.
  """
  if not clusters:
    return {name: False for name in [*FIXED, *SWEPT]}
  top = rerankers.top_clusters(clusters, num_clusters)
  best = rerankers.best_candidates(clusters, num_candidates)
  elections = {
    "best_of_n": (clusters, rerankers.best_score),
    "weighted_vote": (clusters, rerankers.total_score),
    "majority_vote": (clusters, rerankers.size),
    "best_of_top_clusters": (top, rerankers.best_score),
    "weighted_vote_top_clusters": (top, rerankers.total_score),
    "majority_vote_top_n": (best, rerankers.size_then_best_score),
  }
  return {
    name: len(rerankers.leaders(seen, tally)) > 1
    for name, (seen, tally) in elections.items()
  }
