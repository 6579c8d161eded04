"""Which examples share a row: best-fit decreasing, on lengths alone."""

import dataclasses

import numpy as np
from jaxtyping import Int


@dataclasses.dataclass(frozen=True)
class Rows:
  """The examples of each row, one row after the other.

  Row i holds examples[starts[i]:starts[i + 1]].
  """

  examples: Int[np.ndarray, " E"]
  starts: Int[np.ndarray, " R+1"]

  def part(self, first: int, last: int) -> "Rows":
    """Returns the rows first ... last - 1."""
    starts = self.starts[first : last + 1]
    return Rows(self.examples[starts[0] : starts[-1]], starts - starts[0])


class Packing:
  """The rows of a set of examples, none of which is cut.

  The lengths alone decide how many rows there are and which lengths share
  one, so each arrangement of the same examples has `num_rows` rows. Which of
  the examples of a length stands where, and the order of the rows, are drawn.
  """

  def __init__(
    self, lengths: Int[np.ndarray, " E"], capacity: int, pack: bool = True
  ):
    """Without `pack`, each example has a row of its own.

    Raises ValueError if an example is longer than a row.
    """
    if len(lengths) and lengths.max() > capacity:
      raise ValueError(
        f"an example of {lengths.max()} tokens does not fit into a row of"
        f" {capacity}; drop it, or take longer rows"
      )
    # A sort of small whole numbers takes linear time.
    fits_short = capacity <= np.iinfo(np.int16).max
    self._falling = -lengths.astype(np.int16 if fits_short else np.int64)
    if pack:
      by_length = np.sort(lengths)[::-1]
      self._row_of_place = best_fit(by_length, capacity)
    else:
      self._row_of_place = np.arange(len(lengths))
    # Rows were opened in this order, and by their longest examples.
    self._openers = np.unique(self._row_of_place, return_index=True)[1]
    self.num_rows = len(self._openers)

  def rows(self, random: np.random.RandomState | None = None) -> Rows:
    """Returns an arrangement, in each row the longest example first.

    It is drawn from `random`; without it, rows stand in the order of their
    longest examples, and of examples of the same length the earlier one is
    placed first.
    """
    drawn = np.arange(len(self._falling))
    if random is not None:
      drawn = random.permutation(len(self._falling))
    placed = drawn[np.argsort(self._falling[drawn], kind="stable")]
    if random is None:
      ranks = np.empty(self.num_rows, np.int64)
      ranks[np.argsort(placed[self._openers])] = np.arange(self.num_rows)
    else:
      ranks = random.permutation(self.num_rows)
    rows = ranks[self._row_of_place]
    sizes = np.bincount(rows, minlength=self.num_rows)
    return Rows(
      examples=placed[np.argsort(rows, kind="stable")],
      starts=np.concatenate([[0], np.cumsum(sizes)]),
    )


def best_fit(
  lengths: Int[np.ndarray, " E"], capacity: int
) -> Int[np.ndarray, " E"]:
  """Returns each example's row: of those with room, the one with the least.

  Where no row has room a new one is opened; rows are numbered as they are
  opened. Of rows with the same room the one filled last is taken. On falling
  lengths this is best-fit decreasing, by which Krell et al. (2021,
  arXiv:2107.02027) pack.
  """
  rows = np.empty(len(lengths), np.int64)
  rows_with_room: list[list[int]] = [[] for _ in range(capacity + 1)]
  rooms = 0  # Bit r is set where a row has room r.
  num_rows = 0
  for number, length in enumerate(lengths.tolist()):
    large_enough = rooms >> length
    if large_enough:
      # The lowest set bit is the least room.
      room = length + (large_enough & -large_enough).bit_length() - 1
      row = rows_with_room[room].pop()
      if not rows_with_room[room]:
        rooms ^= 1 << room
    else:
      row, room = num_rows, capacity
      num_rows += 1
    rows[number] = row
    left = room - length
    if left:
      rows_with_room[left].append(row)
      rooms |= 1 << left
  return rows
