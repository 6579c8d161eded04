"""The six ways to pick one answer from clusters and scores (§5.3).

Each reranker takes the clusters of one problem and returns the answer of one
of them. A score is log S in nats; what is summed is S itself (Eq. 16), and
exactly, so that the order of members never decides. All raise ValueError if
there is no cluster (the caller owns that case) and, where they need scores,
if a cluster has none.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from mathft_jax.records import Cluster


def majority_vote(clusters: Sequence[Cluster]) -> str:
  """Eq. 18, Maj1: the answer of most candidates.

  Ties go to the cluster whose first member is the earliest.
  """
  return _earliest(leaders(clusters, size)).answer


def weighted_vote(clusters: Sequence[Cluster]) -> str:
  """Eq. 16, W.RR: the answer whose candidates' S sum highest.

  Ties go to the cluster whose first member is the earliest.
  """
  return _earliest(leaders(clusters, total_score)).answer


def best_of_n(clusters: Sequence[Cluster]) -> str:
  """Eq. 14, RR.All: the answer of the candidate with the highest score.

  Ties go to the earliest of the candidates with that score.
  """
  return min(leaders(clusters, best_score), key=_earliest_best).answer


def best_of_top_clusters(
  clusters: Sequence[Cluster], num_clusters: int = 8
) -> str:
  """Eq. 15, RR.MajK: `best_of_n` among the largest clusters."""
  return best_of_n(top_clusters(clusters, num_clusters))


def weighted_vote_top_clusters(
  clusters: Sequence[Cluster], num_clusters: int = 8
) -> str:
  """Eq. 17, W.RR.MajK: `weighted_vote` among the largest clusters."""
  return weighted_vote(top_clusters(clusters, num_clusters))


def majority_vote_top_n(
  clusters: Sequence[Cluster], num_candidates: int = 8
) -> str:
  """Eq. 19, Maj1.TopN: the answer of most of the best-scored candidates.

  Ties go to the cluster with the better best score, then to the earliest
  first member.
  """
  best = best_candidates(clusters, num_candidates)
  return _earliest(leaders(best, size_then_best_score)).answer


def top_clusters(
  clusters: Sequence[Cluster], num_clusters: int
) -> list[Cluster]:
  """The `num_clusters` largest clusters (or all), the largest first.

  Ties go to the cluster whose first member is the earliest.
  """
  _check_positive(num_clusters, "clusters")
  ranked = sorted(clusters, key=lambda c: (-size(c), c.members[0]))
  return ranked[:num_clusters]


def best_candidates(
  clusters: Sequence[Cluster], num_candidates: int
) -> list[Cluster]:
  """The clusters reduced to the `num_candidates` best-scored candidates.

  Ties go to the earlier candidate. Clusters that are left empty drop out;
  the others keep their answers.
  """
  _check_positive(num_candidates, "candidates")
  for cluster in clusters:
    _check_scored(cluster)
  ranked = sorted(
    (-score, member)
    for cluster in clusters
    for member, score in zip(cluster.members, cluster.scores, strict=True)
  )
  kept = {member for _, member in ranked[:num_candidates]}
  reduced = []
  for cluster in clusters:
    positions = [i for i, m in enumerate(cluster.members) if m in kept]
    if positions:
      reduced.append(
        dataclasses.replace(
          cluster,
          members=tuple(cluster.members[i] for i in positions),
          scores=tuple(cluster.scores[i] for i in positions),
        )
      )
  return reduced


def leaders(
  clusters: Sequence[Cluster], tally: Callable[[Cluster], Any]
) -> list[Cluster]:
  """The clusters of the highest tally: more than one means a tie."""
  if not clusters:
    raise ValueError("no cluster to choose from: no candidate had an answer")
  tallies = [tally(cluster) for cluster in clusters]
  highest = max(tallies)
  return [
    cluster
    for cluster, value in zip(clusters, tallies, strict=True)
    if value == highest
  ]


def size(cluster: Cluster) -> int:
  """How many candidates gave this answer."""
  return len(cluster.members)


def total_score(cluster: Cluster) -> float:
  """The sum of its candidates' S = P(correct)."""
  _check_scored(cluster)
  return math.fsum(map(math.exp, cluster.scores))


def best_score(cluster: Cluster) -> float:
  """The highest log S, in nats, of its candidates."""
  _check_scored(cluster)
  return max(cluster.scores)


def size_then_best_score(cluster: Cluster) -> tuple[int, float]:
  """What `majority_vote_top_n` counts, and what decides its ties."""
  return size(cluster), best_score(cluster)


def _earliest(clusters: Sequence[Cluster]) -> Cluster:
  return min(clusters, key=lambda c: c.members[0])


def _earliest_best(cluster: Cluster) -> int:
  return cluster.members[cluster.scores.index(max(cluster.scores))]


def _check_scored(cluster: Cluster) -> None:
  if not cluster.scores:
    raise ValueError(
      f"the cluster of answer {cluster.answer!r} has no scores; join them"
      " with clusters.with_scores"
    )


def _check_positive(count: int, noun: str) -> None:
  if count < 1:
    raise ValueError(f"{count} {noun} leave nothing to choose from; at least 1")
