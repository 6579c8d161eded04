"""The raw rows of a source's files, made into what their reader wants."""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from mathft_jax import jsonl

Row = Mapping[str, Any]
_Parse = Callable[[str], Row]  # What an error begins with -> the row.
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


@dataclasses.dataclass(frozen=True)
class BadRow:
  """A row that was passed over, or the rest of a damaged file, and why.

  `line` is a `Place.number`.
  """

  file: str
  line: int
  reason: str


OnBadRow = Callable[[BadRow], None]


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
  paths: Iterable[pathlib.Path],
  make: Callable[[Row, Place], _Made],
  on_bad_row: OnBadRow | None = None,
  shard_index: int = 0,
  num_shards: int = 1,
) -> Iterator[_Made]:
  """Yields what `make` makes of each row of the files, one after the other.

  Of several shards, each has every `num_shards`-th row, and does not look into
  the others'.

  A bad row is one that cannot be read or that `make` refuses with a
  ValueError. Reading ends with an error that names file and line, unless there
  is `on_bad_row`: it is told, and the row passed over. The lost rest of a
  damaged file counts as one row. A file that is not there, or that only
  stands for one (Git LFS), is an error always.
  """
  index = 0
  for path in paths:
    is_parquet = path.suffix == _PARQUET
    try:
      for number, parse in (_parquet_rows if is_parquet else _lines)(path):
        if index % num_shards == shard_index:
          yield from _make_one(
            parse, make, Place(path, number, index), on_bad_row
          )
        index += 1
    except jsonl.Damaged as error:
      _pass_over(error, Place(path, error.number, index), on_bad_row)


def read_single(
  paths: Iterable[pathlib.Path],
  make: Callable[[Row, Place], _Made],
  on_bad_row: OnBadRow | None = None,
) -> Iterator[_Made]:
  """As `read`, of files that are one JSON object each."""
  for index, path in enumerate(paths):
    jsonl.refuse_pointer(path)
    parse = functools.partial(_parsed, path.read_bytes())
    yield from _make_one(parse, make, Place(path, 1, index), on_bad_row)


def _make_one(
  parse: _Parse,
  make: Callable[[Row, Place], _Made],
  where: Place,
  on_bad_row: OnBadRow | None,
) -> Iterator[_Made]:
  """Yields one row, or none if it is bad and passed over."""
  try:
    made = make(parse(str(where)), where)
  except ValueError as error:
    _pass_over(error, where, on_bad_row)
  else:
    yield made


def _pass_over(
  error: ValueError, where: Place, on_bad_row: OnBadRow | None
) -> None:
  if on_bad_row is None:
    raise error
  reason = str(error).removeprefix(f"{where}: ")
  on_bad_row(BadRow(str(where.path), where.number, reason))


def _lines(path: pathlib.Path) -> Iterator[tuple[int, _Parse]]:
  for number, line in jsonl.lines(path):
    yield number, functools.partial(_parsed, line)


def _parsed(line: bytes, where: str) -> Row:
  row = jsonl.parse(line, where)
  # JSON can spell half a character, which no file in UTF-8 can hold.
  if b"\\ud" in line.lower():
    try:
      json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
      raise ValueError(
        f"{where}: not UTF-8: {error.object[error.start]!r} is half a character"
      ) from error
  return row


def _parquet_rows(path: pathlib.Path) -> Iterator[tuple[int, _Parse]]:
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
          yield number, functools.partial(_parquet_row, batch, i)
  except (pyarrow.ArrowException, OSError) as error:
    raise jsonl.Damaged(
      f"{path}, row {number + 1}: the Parquet file is damaged or cut short"
      f" ({error}); fetch or write it again",
      number + 1,
    ) from error


def _parquet_row(batch: Any, i: int, where: str) -> Row:
  try:
    return batch.slice(i, 1).to_pylist()[0]
  except UnicodeDecodeError as error:
    raise ValueError(f"{where}: not UTF-8: {error}") from error
