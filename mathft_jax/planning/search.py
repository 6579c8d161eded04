"""The largest batch that fits, by trying."""

from collections.abc import Callable
from typing import NamedTuple


class Largest(NamedTuple):
  """What a search found, in numbers of units.

  `largest` fits, None if nothing did; `too_large` does not, None if everything
  did. Between the two nothing was tried if the trials ran out.
  """

  largest: int | None
  too_large: int | None
  num_trials: int


def largest_that_fits(
  fits: Callable[[int], bool],
  start: int,
  max_trials: int,
  known: bool | None = None,
) -> Largest:
  """The largest number of units for which `fits` holds, 1 at least.

  Doubles or halves from `start`, then bisects; `known` is whether `start`
  fits, where that was tried already. Tries `max_trials` numbers at most, so
  that `largest` and `too_large` may lie further apart than 1. Raises
  ValueError unless `start` is positive.
  """
  if start < 1:
    raise ValueError(f"a search starts from 1 unit or more, not {start}")
  largest, too_large = None, None
  trials, next_one = 0, start
  while True:
    if next_one == start and known is not None:
      fit = known
    elif trials == max_trials:
      break
    else:
      trials += 1
      fit = fits(next_one)
    if fit:
      largest = next_one
    else:
      too_large = next_one
    if too_large is None:
      next_one = 2 * next_one
    elif largest is None:
      if too_large == 1:
        break
      next_one = too_large // 2
    elif too_large - largest > 1:
      next_one = (largest + too_large) // 2
    else:
      break
  return Largest(largest, too_large, trials)
