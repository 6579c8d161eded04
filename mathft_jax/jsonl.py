"""JSON Lines files: one reader for all that the project reads."""

import gzip
import itertools
import json
import os
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any


def read(
  path: str | os.PathLike[str], shard_index: int = 0, num_shards: int = 1
) -> Iterator[tuple[int, dict[str, Any]]]:
  """Yields (line number from 1, object) of a `.jsonl` or `.jsonl.gz` file.

  Lines end in LF alone, since mathematical text may hold other line breaks of
  Unicode; blank lines are passed over. Of several shards, each has every
  `num_shards`-th row, and does not look into the others'.

  Raises FileNotFoundError, and ValueError with file and line where a line is
  no JSON object in UTF-8 or a compressed file is damaged or cut short.
  """
  lines = itertools.islice(_lines(path), shard_index, None, num_shards)
  for number, line in lines:
    yield number, parse(line, f"{path}:{number}")


def count(path: str | os.PathLike[str]) -> int:
  """Returns how many rows `read` yields, without looking into them."""
  return sum(1 for _ in _lines(path))


def parse(line: bytes, where: str) -> dict[str, Any]:
  """The object of one line; ValueError that begins with `where` if none."""
  try:
    row = json.loads(line.decode("utf-8"), parse_constant=_reject_constant)
  except UnicodeDecodeError as error:
    raise ValueError(f"{where}: not UTF-8: {error}") from error
  except (ValueError, RecursionError) as error:
    raise ValueError(
      f"{where}: not a line of JSON ({error}); mend or remove it"
    ) from error
  if not isinstance(row, dict):
    raise ValueError(f"{where}: expected a JSON object, not {row!r:.80}")
  return row


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
  """Yields (line number from 1, line) of the lines that are not blank."""
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f"{path} does not exist or is no file")
  number = 0
  try:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
      for number, line in enumerate(lines, start=1):
        if line.strip():
          yield number, line
  except (EOFError, gzip.BadGzipFile, zlib.error) as error:
    raise ValueError(
      f"{path}:{number + 1}: the compressed file is damaged or cut short"
      f" ({error}); fetch or write it again"
    ) from error


def _reject_constant(name: str):
  raise ValueError(f"{name} is no JSON number")
