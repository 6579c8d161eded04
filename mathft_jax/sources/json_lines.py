"""JSON Lines files of solved problems: anyone's to read, ours to write."""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mathft_jax import jsonl
from mathft_jax.records import Problem, SolvedProblem
from mathft_jax.sources import splits

# What a field of ours is called in somebody's file, where it differs.
Fields = Mapping[str, str]


def field(row: Mapping[str, Any], name: str, where: str) -> str:
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
  path: str | os.PathLike, fields: Fields | None = None
) -> Iterator[SolvedProblem]:
  """Yields the rows of a file with `problem`, `solution` and `answer`.

  `fields` maps these names, and `problem_id`, `level`, `type`, `source` and
  `split`, to the file's own where they differ. A row without a `problem_id`
  is known by the hash of its problem's text, one without a `split` gets one
  by the hash of its id (`splits.three_way`), and one without a `source` is
  named after the file.

  `path` may also be a directory with train.jsonl, validation.jsonl and
  test.jsonl (each with .gz or without; those that exist), whose rows have the
  split that the file is named after.
  """
  path = pathlib.Path(path)
  if not path.is_dir():
    yield from _read_file(path, fields or {}, split=None)
    return
  found = [(s, p) for s in splits.SPLITS if (p := find(path, s)) is not None]
  if not found:
    raise FileNotFoundError(
      f"{path} holds none of train.jsonl, validation.jsonl, test.jsonl (or"
      " .jsonl.gz); give a directory with such files or a single file"
    )
  for split, file in found:
    yield from _read_file(file, fields or {}, split=split)


def find(directory: str | os.PathLike, stem: str) -> pathlib.Path | None:
  """Returns `stem`.jsonl or `stem`.jsonl.gz in a directory, or None."""
  for suffix in (".jsonl", ".jsonl.gz"):
    path = pathlib.Path(directory) / f"{stem}{suffix}"
    if path.is_file():
      return path
  return None


def read_split(
  directory: str | os.PathLike,
  split: str,
  shard_index: int = 0,
  num_shards: int = 1,
) -> Iterator[SolvedProblem]:
  """Yields one split's rows of a directory that `write_splits` filled.

  Shards are those of `jsonl.read`.

  Raises FileNotFoundError, and ValueError with file and line for a bad row.
  """
  path = pathlib.Path(directory) / f"{split}.jsonl"
  if not path.is_file():
    raise FileNotFoundError(
      f"{path} does not exist; `mathft data prepare --output {directory}`"
      " writes it"
    )
  return _read_file(path, {}, split, shard_index, num_shards)


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

  `left_out` are `prm800k.Dropped` and `splits.Leak`.
  """
  path = pathlib.Path(directory) / "left_out.jsonl"
  with path.open("w", encoding="utf-8", newline="\n") as file:
    for record in left_out:
      file.write(json.dumps(vars(record), ensure_ascii=False) + "\n")


def text_id(text: str) -> str:
  """Returns the id of a problem that has none: a hash of its text."""
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read_file(
  path: pathlib.Path,
  fields: Fields,
  split: str | None,
  shard_index: int = 0,
  num_shards: int = 1,
) -> Iterator[SolvedProblem]:
  for number, row in jsonl.read(path, shard_index, num_shards):
    yield _solved_problem(row, fields, split, path, f"{path}:{number}")


def _solved_problem(
  row: Mapping[str, Any],
  fields: Fields,
  split: str | None,
  path: pathlib.Path,
  where: str,
) -> SolvedProblem:
  def text(name: str, default: str | None = None) -> str:
    theirs = fields.get(name, name)
    if default is not None and theirs not in row:
      return default
    return field(row, theirs, where)

  problem = text("problem")
  problem_id = text("problem_id", default=text_id(problem))
  split = split or text("split", default=splits.three_way(problem_id))
  if split not in splits.SPLITS:
    raise ValueError(
      f"{where}: split {split!r} must be one of {', '.join(splits.SPLITS)}"
    )
  return SolvedProblem(
    problem=Problem(
      problem_id=problem_id,
      text=problem,
      reference_answer=text("answer"),
      level=_level(row.get(fields.get("level", "level"), ""), where),
      type=text("type", default=""),
    ),
    solution=text("solution"),
    source=text("source", default=path.name.split(".")[0]),
    split=split,
  )


def _level(level: Any, where: str) -> str:
  if isinstance(level, int):
    return str(level)
  if isinstance(level, str):
    return level
  raise ValueError(f"{where}: field 'level' must be text but is {level!r:.80}")
