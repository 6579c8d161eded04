"""SeqIO data sources that read prepared rows from JSON Lines files."""

# The type stubs of TensorFlow and SeqIO lack a part of what stands here.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

import functools
import pathlib
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

from mathft_jax import jsonl
from mathft_jax.data import locations
from mathft_jax.sources import json_lines, splits

# Files of training and of test rows that were compared as they stand.
_CHECKED: set[tuple[tuple[pathlib.Path, int, int], ...]] = set()

# A row as columns hold it: texts, and lists of texts or of truth values.
_Row = Mapping[str, str | Sequence[str] | Sequence[bool]]


class _Rows(seqio.DataSource):
  """Rows of <location of source>/<split>.jsonl, held in memory.

  A split is shuffled whole, by seed, before SeqIO's own buffer shuffles it
  further. Any number of shards is possible.
  """

  def __init__(
    self,
    source: str,
    splits: Sequence[str],
    read: Callable[[pathlib.Path, str], Sequence[_Row]],
    to_dataset: Callable[[Sequence[_Row]], tf.data.Dataset],
  ):
    super().__init__(splits=splits, caching_permitted=True)
    self._source = source
    self._read = read
    self._to_dataset = to_dataset

  @property
  def supports_arbitrary_sharding(self) -> bool:
    return True

  def list_shards(self, split: str) -> Sequence[str]:
    return [f"{self._source}/{split}"]

  def num_input_examples(self, split: str) -> int:
    return len(self._rows(split))

  def get_dataset(
    self,
    split: str = "train",
    shuffle: bool = True,
    seed: int | None = None,
    shard_info: seqio.ShardInfo | None = None,
    **unused_kwargs,
  ) -> tf.data.Dataset:
    rows = list(self._rows(split))
    if shard_info:
      rows = rows[shard_info.index :: shard_info.num_shards]
    if not rows:
      raise ValueError(
        f"{self._path(split)} has too few rows for shard {shard_info}"
      )
    if shuffle:
      random.Random(seed).shuffle(rows)
    return self._to_dataset(rows)

  def _path(self, split: str) -> pathlib.Path:
    return locations.find(self._source) / f"{split}.jsonl"

  def _rows(self, split: str) -> Sequence[_Row]:
    path = self._path(split)
    if not path.is_file():
      raise FileNotFoundError(
        f"{path} does not exist, but split {split!r} of source"
        f" {self._source!r} was asked for"
      )
    # The file may be written anew between two runs in one process.
    stamp = path.stat()
    rows = _cached_rows(
      self._read, path, split, stamp.st_mtime_ns, stamp.st_size
    )
    if not rows:
      raise ValueError(f"{path} holds no row")
    if split == "train":
      _check_no_leak(path, rows)
    return rows


def solved_problems(source: str) -> seqio.DataSource:
  """Rows that `mathft data prepare` wrote, as examples of texts.

  Examples have problem_id, problem, solution, answer, level, type.
  """
  return _Rows(
    source, ("train", "validation", "test"), _read_solved, _texts_dataset
  )


def graded_candidates(source: str = "evaluator") -> seqio.DataSource:
  """Rows of problems with graded candidates: what evaluators learn from.

  A row is {"problem_id", "problem", "candidates": [{"solution",
  "is_correct"}, ...]}; an example has problem_id, problem, solutions [N],
  is_correct [N].
  """
  return _Rows(source, ("train", "validation"), _read_graded, _graded_dataset)


def _check_no_leak(path: pathlib.Path, rows: Sequence[_Row]) -> None:
  """Raises ValueError if training rows hold a problem of any bound test split.

  Whoever prepared the rows found such problems; this stops rows that were
  written or mixed by hand.
  """
  for directory in locations.bound():
    held_out = directory / "test.jsonl"
    if held_out.is_file():
      stamps = tuple(
        (p, p.stat().st_mtime_ns, p.stat().st_size) for p in (path, held_out)
      )
      if stamps not in _CHECKED:
        try:
          splits.check_no_leak(
            ((str(r["problem_id"]), str(r["problem"])) for r in rows),
            (
              (p.problem_id, p.text)
              for p in json_lines.problems(directory, "test")
            ),
          )
        except ValueError as error:
          raise ValueError(f"{path}: {error} (in {held_out})") from error
        _CHECKED.add(stamps)


@functools.lru_cache(maxsize=8)
def _cached_rows(
  read: Callable[[pathlib.Path, str], Sequence[_Row]],
  path: pathlib.Path,
  split: str,
  modified_ns: int,
  num_bytes: int,
) -> Sequence[_Row]:
  del modified_ns, num_bytes  # They are here to be part of the key.
  return read(path, split)


def _read_solved(path: pathlib.Path, split: str) -> Sequence[_Row]:
  return [
    {
      "problem_id": row.problem.problem_id,
      "problem": row.problem.text,
      "solution": row.solution,
      "answer": row.problem.reference_answer,
      "level": row.problem.level,
      "type": row.problem.type,
    }
    for row in json_lines.read_split(path.parent, split)
  ]


def _read_graded(path: pathlib.Path, split: str) -> Sequence[_Row]:
  del split
  return [
    _graded_row(row, f"{path}:{number}") for number, row in jsonl.read(path)
  ]


def _graded_row(row: Mapping[str, Any], where: str) -> _Row:
  candidates = row.get("candidates")
  if not isinstance(candidates, list):
    raise ValueError(f"{where}: field 'candidates' must be a list")
  for candidate in candidates:
    if not isinstance(candidate.get("is_correct"), bool):
      raise ValueError(
        f"{where}: each candidate needs 'is_correct', true or false"
      )
  return {
    "problem_id": json_lines.field(row, "problem_id", where),
    "problem": json_lines.field(row, "problem", where),
    "solutions": [json_lines.field(c, "solution", where) for c in candidates],
    "is_correct": [c["is_correct"] for c in candidates],
  }


def _texts_dataset(rows: Sequence[_Row]) -> tf.data.Dataset:
  return tf.data.Dataset.from_tensor_slices(
    {name: tf.constant([row[name] for row in rows]) for name in rows[0]}
  )


def _graded_dataset(rows: Sequence[_Row]) -> tf.data.Dataset:
  def column(name: str, dtype: tf.DType) -> tf.RaggedTensor:
    values = [value for row in rows for value in row[name]]
    return tf.RaggedTensor.from_row_lengths(
      tf.constant(values, dtype), [len(row[name]) for row in rows]
    )

  return tf.data.Dataset.from_tensor_slices(
    {
      "problem_id": tf.constant([row["problem_id"] for row in rows]),
      "problem": tf.constant([row["problem"] for row in rows]),
      "solutions": column("solutions", tf.string),
      "is_correct": column("is_correct", tf.bool),
    }
  )
