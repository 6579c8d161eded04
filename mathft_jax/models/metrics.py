"""The metrics of a batch, which merge over microbatches and steps."""

from clu import metrics as clu_metrics
from jaxtyping import Array, Float


def average(
  total: Float[Array, ""], weight: Float[Array, ""]
) -> clu_metrics.Average:
  """total / weight, once all parts are merged."""
  # Flax makes the constructor, which type checkers do not see.
  return clu_metrics.Average(
    total=total,  # pyright: ignore[reportCallIssue]
    count=weight,  # pyright: ignore[reportCallIssue]
  )
