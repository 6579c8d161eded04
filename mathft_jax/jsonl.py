"""JSON Lines files: one reader for all that the project reads."""

import gzip
import itertools
import json
import os
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any

_POINTER = b"version https://git-lfs.github.com/spec/v1\n"


class Damaged(ValueError):
  """A file that cannot be read on; its row `number` is the first one lost."""

  def __init__(self, message: str, number: int):
    super().__init__(message)
    self.number = number


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
  shard = itertools.islice(lines(path), shard_index, None, num_shards)
  for number, line in shard:
    yield number, parse(line, f"{path}:{number}")


def count(path: str | os.PathLike[str]) -> int:
  """Returns how many rows `read` yields, without looking into them."""
  return sum(1 for _ in lines(path))


def lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
  """As `read`, of lines that are not parsed. Raises Damaged too."""
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f"{path} does not exist or is no file")
  refuse_pointer(path)
  number = 0
  try:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
      for number, line in enumerate(file, start=1):
        if line.strip():
          yield number, line
  except (EOFError, gzip.BadGzipFile, zlib.error) as error:
    raise Damaged(
      f"{path}:{number + 1}: the compressed file is damaged or cut short"
      f" ({error}); fetch or write it again",
      number + 1,
    ) from error


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


def is_pointer(path: pathlib.Path) -> bool:
  """Whether a file is what a clone has without Git LFS: a name for the file."""
  with path.open("rb") as file:
    return file.read(len(_POINTER)) == _POINTER


def refuse_pointer(path: pathlib.Path) -> None:
  """Raises ValueError, with the remedies, if the file is a Git LFS pointer."""
  if is_pointer(path):
    raise ValueError(
      f"{path} is a Git LFS pointer, not the file that it stands for; run"
      " `git lfs pull` in its clone, or let `mathft data prepare --download`"
      " fetch the file"
    )


def _reject_constant(name: str):
  raise ValueError(f"{name} is no JSON number")
