"""Rows of solved problems: files of anyone to read, JSON Lines to write."""

import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mathft_jax.records import Problem, SolvedProblem
from mathft_jax.sources import raw_rows, splits

# What a field of ours is called in somebody's file, where it differs.
Fields = Mapping[str, str]

FIELDS = (
  "problem_id",
  "problem",
  "solution",
  "answer",
  "level",
  "type",
  "source",
  "split",
)


def field(
  row: Mapping[str, Any], name: str, where: str | raw_rows.Place
) -> str:
  """Returns a row's text field; ValueError that begins with `where` if none."""
  if name not in row:
    raise ValueError(
      f"{where}: field {name!r} is missing; the row has {sorted(row)}"
    )
  if not isinstance(row[name], str):
    raise ValueError(
      f"{where}: field {name!r} must be text but is {row[name]!r:.80}"
    )
  return row[name]


def read(
  path: str | os.PathLike,
  fields: Fields | None = None,
  on_bad_row: raw_rows.OnBadRow | None = None,
) -> Iterator[SolvedProblem]:
  """Yields the rows of a file with `problem`, `solution` and `answer`.

  `fields` maps these names, and `problem_id`, `level`, `type`, `source` and
  `split`, to the file's own where they differ. A row without a `problem_id`
  is known by the hash of its problem's text, one without a `split` gets one
  by the hash of its id (`splits.three_way`), and one without a `source` is
  named after the file.

  `path` may also be a directory with train.jsonl, validation.jsonl and
  test.jsonl (those that exist), whose rows have the split that the file is
  named after. Each file may be a .jsonl.gz or .parquet. What a row need not
  have may be null too; what `fields` names must be there.

  Raises FileNotFoundError, ValueError for a name in `fields` that is none of
  ours, and ValueError with file and line for a bad row unless `on_bad_row`
  takes it.
  """
  unknown = sorted(set(fields or {}) - set(FIELDS))
  if unknown:
    raise ValueError(
      f"there is no field {unknown[0]!r} of ours to be called otherwise; there"
      f" are {', '.join(FIELDS)}"
    )
  path = pathlib.Path(path)
  if not path.is_dir():
    yield from _read_files([path], fields or {}, None, on_bad_row)
    return
  found = {split: raw_rows.find(path, split) for split in splits.SPLITS}
  if not any(found.values()):
    raise FileNotFoundError(
      f"{path} holds none of train.jsonl, validation.jsonl, test.jsonl (or"
      " .jsonl.gz, .parquet); give a directory with such files or a single file"
    )
  for split, files in found.items():
    yield from _read_files(files, fields or {}, split, on_bad_row)


def read_split(
  directory: str | os.PathLike,
  split: str,
  shard_index: int = 0,
  num_shards: int = 1,
) -> Iterator[SolvedProblem]:
  """Yields one split's rows of a directory that `write_splits` filled.

  Shards are those of `raw_rows.read`.

  Raises FileNotFoundError, and ValueError with file and line for a bad row.
  """
  path = pathlib.Path(directory) / f"{split}.jsonl"
  if not path.is_file():
    raise FileNotFoundError(
      f"{path} does not exist; `mathft data prepare --output {directory}`"
      " writes it"
    )
  return _read_files([path], {}, split, None, shard_index, num_shards)


def held_out(directories: Iterable[str | os.PathLike]) -> list[SolvedProblem]:
  """Returns the validation and test rows of folders of prepared rows."""
  return [
    row
    for directory in directories
    for split in ("validation", "test")
    for row in read_split(directory, split)
  ]


def problems(directory: str | os.PathLike, split: str) -> list[Problem]:
  """Returns the distinct problems of a split, in order of first solution."""
  found: dict[str, Problem] = {}
  for row in read_split(directory, split):
    found.setdefault(row.problem.problem_id, row.problem)
  return list(found.values())


def write(path: str | os.PathLike, rows: Iterable[SolvedProblem]) -> int:
  """Writes rows to a file, whole or not at all, and returns their number."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(path.name + ".partial")
  num_rows = 0
  with partial.open("w", encoding="utf-8", newline="\n") as file:
    for row in rows:
      file.write(json.dumps(row.to_json(), ensure_ascii=False) + "\n")
      num_rows += 1
    file.flush()
    os.fsync(file.fileno())
  partial.replace(path)
  return num_rows


def write_splits(
  directory: str | os.PathLike,
  by_split: Mapping[str, Iterable[SolvedProblem]],
) -> None:
  """Writes <directory>/{train,validation,test}.jsonl."""
  for split, rows in by_split.items():
    write(pathlib.Path(directory) / f"{split}.jsonl", rows)


def write_left_out(
  directory: str | os.PathLike, left_out: Iterable[Any]
) -> None:
  """Writes <directory>/left_out.jsonl: what was dropped or found, and why.

  `left_out` are `raw_rows.BadRow`, `prm800k.Dropped` and `splits.Leak`.
  """
  path = pathlib.Path(directory) / "left_out.jsonl"
  with path.open("w", encoding="utf-8", newline="\n") as file:
    for record in left_out:
      file.write(json.dumps(vars(record), ensure_ascii=False) + "\n")


def text_id(text: str) -> str:
  """Returns the id of a problem that has none: a hash of its text."""
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read_files(
  paths: Iterable[pathlib.Path],
  fields: Fields,
  split: str | None,
  on_bad_row: raw_rows.OnBadRow | None = None,
  shard_index: int = 0,
  num_shards: int = 1,
) -> Iterator[SolvedProblem]:
  make = functools.partial(_solved_problem, fields=fields, file_split=split)
  return raw_rows.read(paths, make, on_bad_row, shard_index, num_shards)


def _solved_problem(
  row: raw_rows.Row,
  where: raw_rows.Place,
  *,
  fields: Fields,
  file_split: str | None,
) -> SolvedProblem:
  def value(name: str) -> Any:
    """None where the row says nothing of what it need not say."""
    if name in fields and fields[name] not in row:
      field(row, fields[name], where)  # What is named must be there.
    return row.get(fields.get(name, name))

  def text(name: str, default: str | None = None) -> str:
    if default is not None and value(name) is None:
      return default
    theirs = fields.get(name, name)
    if theirs == name and name not in row:
      raise ValueError(
        f"{where}: field {name!r} is missing; the row has {sorted(row)}; if one"
        f" of these is it, say so by --field {name}=NAME (JsonLinesData.fields)"
      )
    given = row.get(theirs)
    if name == "answer" and type(given) in (int, float):
      return str(given)
    found = field(row, theirs, where)
    if name == "problem" and not found.strip():
      raise ValueError(f"{where}: field {theirs!r} is blank")
    return found

  problem = text("problem")
  problem_id = text("problem_id", default=text_id(problem))
  split = file_split or text("split", default=splits.three_way(problem_id))
  if split not in splits.SPLITS:
    raise ValueError(
      f"{where}: split {split!r} must be one of {', '.join(splits.SPLITS)}"
    )
  return SolvedProblem(
    problem=Problem(
      problem_id=problem_id,
      text=problem,
      reference_answer=text("answer"),
      level=_level(value("level"), fields.get("level", "level"), where),
      type=text("type", default=""),
    ),
    solution=text("solution"),
    source=text("source", default=where.path.name.split(".")[0]),
    split=split,
  )


def _level(level: Any, name: str, where: raw_rows.Place) -> str:
  if level is None:
    return ""
  if isinstance(level, int):
    return str(level)
  if isinstance(level, str):
    return level
  raise ValueError(f"{where}: field {name!r} must be text but is {level!r:.80}")
