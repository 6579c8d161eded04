"""The raw rows of a source's files, made into what their reader wants."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from mathft_jax import jsonl

Row = Mapping[str, Any]
_Made = TypeVar("_Made")

_PARQUET = ".parquet"
_ROWS_AT_ONCE = 1024


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a row stands, as an error says it.

  `number` counts the file's lines, or a Parquet file's rows, from 1; `index`
  counts rows from 0, through all files that are read together.
  """

  path: pathlib.Path
  number: int
  index: int

  def __str__(self) -> str:
    if self.path.suffix == _PARQUET:
      return f"{self.path}, row {self.number}"
    return f"{self.path}:{self.number}"


def find(directory: str | os.PathLike, stem: str) -> list[pathlib.Path]:
  """Returns the file of a stem in a directory, or its shards, or nothing.

  That is `stem`.jsonl, .jsonl.gz or .parquet, the first that is there, or
  `stem`-00000-of-00002.parquet and so on, as dataset hubs name them. Raises
  ValueError if a shard is missing.
  """
  directory = pathlib.Path(directory)
  for suffix in (".jsonl", ".jsonl.gz", _PARQUET):
    path = directory / f"{stem}{suffix}"
    if path.is_file():
      return [path]
  found = sorted(directory.glob(f"{stem}-?????-of-?????{_PARQUET}"))
  if found:
    total = found[0].stem[-5:]
    for shard in range(int(total)):
      path = directory / f"{stem}-{shard:05}-of-{total}{_PARQUET}"
      if path not in found:
        raise ValueError(f"{path} is missing; there are {len(found)} shards")
  return found


def read(
  paths: Iterable[pathlib.Path], make: Callable[[Row, Place], _Made]
) -> Iterator[_Made]:
  """Yields what `make` makes of each row of the files, one after the other.

  Raises FileNotFoundError, and ValueError with file and line for a bad row:
  one that cannot be read or that `make` refuses with a ValueError.
  """
  index = 0
  for path in paths:
    is_parquet = path.suffix == _PARQUET
    for number, row in _parquet_rows(path) if is_parquet else jsonl.read(path):
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


def _parquet_rows(path: pathlib.Path) -> Iterator[tuple[int, Row]]:
  """As `jsonl.read`, of a Parquet file."""
  if not path.is_file():
    raise FileNotFoundError(f"{path} does not exist or is no file")
  jsonl.refuse_pointer(path)
  try:
    import pyarrow
    from pyarrow import parquet
  except ImportError as error:
    raise ValueError(
      f"{path} cannot be read without pyarrow ({error}); run"
      " `pip install pyarrow`"
    ) from error
  number = 0
  try:
    with path.open("rb") as file:
      for batch in parquet.ParquetFile(file).iter_batches(_ROWS_AT_ONCE):
        for i in range(batch.num_rows):
          number += 1
          yield number, _parquet_row(batch, i, f"{path}, row {number}")
  except (pyarrow.ArrowException, OSError) as error:
    raise ValueError(
      f"{path}, row {number + 1}: the Parquet file is damaged or cut short"
      f" ({error}); fetch or write it again"
    ) from error


def _parquet_row(batch: Any, i: int, where: str) -> Row:
  try:
    return batch.slice(i, 1).to_pylist()[0]
  except UnicodeDecodeError as error:
    raise ValueError(f"{where}: not UTF-8: {error}") from error
