"""Vocabularies, and packing by hand, that the tests of data share."""

import pytest
import seqio

from mathft_jax.data import vocabulary


@pytest.fixture(scope="session")
def math_vocabulary() -> seqio.SentencePieceVocabulary:
  return vocabulary.load_vocabulary("math_2k")


@pytest.fixture(scope="session")
def plain_vocabulary(tmp_path_factory) -> seqio.SentencePieceVocabulary:
  """Bytes and a few pieces; "yes" and "no" are its only one-token verdicts."""
  path = tmp_path_factory.mktemp("vocabulary") / "plain.model"
  model = vocabulary.train_vocabulary(["abc " * 9], ["yes", "no"], 280)
  path.write_bytes(model)
  return vocabulary.load_vocabulary(str(path))


@pytest.fixture(scope="session")
def pack_by_hand():
  """(lengths, capacity) -> each row's examples, by best-fit decreasing."""

  def pack(lengths: list[int], capacity: int) -> list[list[int]]:
    rows: list[list[int]] = []
    rooms: list[int] = []
    filled_last: list[int] = []
    falling = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    for time, number in enumerate(falling):
      fits = [r for r, room in enumerate(rooms) if room >= lengths[number]]
      if fits:
        row = min(fits, key=lambda r: (rooms[r], -filled_last[r]))
      else:
        row = len(rows)
        rows.append([])
        rooms.append(capacity)
        filled_last.append(time)
      rows[row].append(number)
      rooms[row] -= lengths[number]
      filled_last[row] = time
    return sorted(rows, key=lambda row: row[0])

  return pack
