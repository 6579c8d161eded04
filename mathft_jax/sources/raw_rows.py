"""The raw rows of a source's files, made into what their reader wants."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from mathft_jax import jsonl

_SUFFIXES = (".jsonl", ".jsonl.gz")

Row = Mapping[str, Any]
_Made = TypeVar("_Made")


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a row stands, as an error says it.

  `number` counts the file's lines from 1; `index` counts rows from 0, through
  all files that are read together.
  """

  path: pathlib.Path
  number: int
  index: int

  def __str__(self) -> str:
    return f"{self.path}:{self.number}"


def find(directory: str | os.PathLike, stem: str) -> pathlib.Path | None:
  """Returns `stem`.jsonl or `stem`.jsonl.gz in a directory, or None."""
  for suffix in _SUFFIXES:
    path = pathlib.Path(directory) / f"{stem}{suffix}"
    if path.is_file():
      return path
  return None


def read(
  paths: Iterable[pathlib.Path], make: Callable[[Row, Place], _Made]
) -> Iterator[_Made]:
  """Yields what `make` makes of each row of the files, one after the other.

  Raises FileNotFoundError, and ValueError with file and line for a bad row:
  one that cannot be read or that `make` refuses with a ValueError.
  """
  index = 0
  for path in paths:
    for number, row in jsonl.read(path):
      yield make(row, Place(path, number, index))
      index += 1


def read_single(
  paths: Iterable[pathlib.Path], make: Callable[[Row, Place], _Made]
) -> Iterator[_Made]:
  """As `read`, of files that are one JSON object each."""
  for index, path in enumerate(paths):
    jsonl.refuse_pointer(path)
    where = Place(path, 1, index)
    yield make(jsonl.parse(path.read_bytes(), str(where)), where)
