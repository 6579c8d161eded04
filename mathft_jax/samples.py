"""The samples store: append-only JSON Lines on disk.

A directory of candidates holds its shards and, beside them, one file of
grades for each grader version and one file of scores for each evaluator.
`docs/data-formats.md` describes the rows. A store has one writer at a time.
"""

import json
import logging
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from mathft_jax import jsonl, records

_Record = TypeVar("_Record")

_SHARD = re.compile(r"candidates-(\d{5,})-of-(\d{5,})\.jsonl(\.gz)?")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")

_log = logging.getLogger(__name__)


def shard_name(shard: int, num_shards: int) -> str:
  """The file name of one shard of candidates; shards count from 0."""
  if not 0 <= shard < num_shards:
    raise ValueError(
      f"shard {shard} does not exist: {num_shards} shards count from 0 to"
      f" {num_shards - 1}"
    )
  return f"candidates-{shard:05d}-of-{num_shards:05d}.jsonl"


def drawn_name(shard: int, num_shards: int) -> str:
  """The file of candidates whose problems are not in a shard yet.

  Its rows are those of `drawn_row`; it is there while the shard is filled.
  """
  return shard_name(shard, num_shards).replace("candidates", "drawn", 1)


def drawn_row(candidate: records.Candidate) -> dict[str, Any]:
  """A row of one candidate, for a store whose key is "sample"."""
  sample = f"{candidate.problem_id} {candidate.index}"
  row = {"sample": sample, "problem_id": candidate.problem_id}
  return row | candidate.to_json()


def grades_name(grader: str) -> str:
  """The name of the file that holds one grader version's grades."""
  return f"grades-{_plain(grader)}.jsonl"


def scores_name(evaluator: str) -> str:
  """The name of the file that holds one evaluator's scores."""
  return f"scores-{_plain(evaluator)}.jsonl"


def part_name(name: str, shard: int, num_shards: int) -> str:
  """Where the rows of one shard stand until `join` makes them one file."""
  stem = name.removesuffix(".jsonl")
  return shard_name(shard, num_shards).replace("candidates", stem, 1)


class JsonLinesStore:
  """An append-only file of rows, each on disk for good once appended.

  Opening it reads what is there: `finished` holds the keys of all its rows,
  so that a restarted job repeats none. A last line that was torn by a kill
  is cut off, with a warning; any other damage raises ValueError with file
  and line. Missing folders are made.

  Of several processes with the same rows one is writing. The others open the
  file once that one has, and from then on know of their own rows.
  """

  def __init__(
    self,
    path: str | os.PathLike[str],
    key: str = "problem_id",
    is_writing: bool = True,
  ):
    self.path = pathlib.Path(path)
    self.key = key
    self._is_writing = is_writing
    self.finished: set[str] = set()
    if self.path.suffix == ".gz":
      raise ValueError(f"{self.path}: cannot append to a compressed file")
    if not is_writing:
      self.finished.update(
        _key_of(row, key, f"{self.path}:{number}")
        for number, row in jsonl.read(self.path)
      )
      return
    self.path.parent.mkdir(parents=True, exist_ok=True)
    self._file = open(self.path, "a+b")
    try:
      self._file.truncate(self._read_finished())
      _sync_directory(self.path.parent)
    except BaseException:
      self._file.close()
      raise

  def append(self, row: Mapping[str, Any]) -> None:
    """Writes one row and returns when it is on disk.

    Raises ValueError for a row without the key, one whose key is there
    already, and one that holds NaN or an infinity.
    """
    self.extend([row])

  def extend(self, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows as `append` does; all are on disk once it returns."""
    for row in rows:
      key = _key_of(row, self.key, f"a new row for {self.path}")
      if key in self.finished:
        raise ValueError(
          f"{self.path} has a row for {self.key} {key!r} already"
        )
      if self._is_writing:
        self._file.write(_line(row, self.path))
      self.finished.add(key)
    if self._is_writing:
      self._file.flush()
      os.fsync(self._file.fileno())

  def close(self) -> None:
    if self._is_writing:
      self._file.close()

  def __enter__(self) -> "JsonLinesStore":
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()

  def _read_finished(self) -> int:
    """Fills `finished`; returns the length of the part that is whole."""
    end = self._file.seek(0, os.SEEK_END)
    self._file.seek(0)
    whole = 0
    for number, line in enumerate(self._file, start=1):
      where = f"{self.path}:{number}"
      if line.strip():
        try:
          row = jsonl.parse(line, where)
        except ValueError:
          if whole + len(line) < end:
            raise  # Damage in the middle is nothing that a kill leaves.
          _log.warning(
            "%s: the last line was torn by an interrupted run; it is dropped"
            " and its row will be made again",
            where,
          )
          return whole
        key = _key_of(row, self.key, where)
        if key in self.finished:
          raise ValueError(f"{where}: a second row for {self.key} {key!r}")
        self.finished.add(key)
      whole += len(line)
      if not line.endswith(b"\n"):  # A whole row that lacks its line end.
        whole += self._file.write(b"\n")
        break
    return whole


def read_candidates(
  directory: str | os.PathLike[str],
) -> list[records.SampledProblem]:
  """Reads all shards of a directory (or the one file that it names).

  Problems come in the order of shards and lines. Raises FileNotFoundError if
  there is no shard, ValueError where a shard is missing, a row is malformed
  or a problem stands twice.
  """
  return [sampled for shard in read_shards(directory) for sampled in shard]


def read_shards(
  directory: str | os.PathLike[str],
) -> list[list[records.SampledProblem]]:
  """What `read_candidates` reads, shard by shard."""
  directory = pathlib.Path(directory)
  paths = [directory] if directory.is_file() else _shards(directory)
  shards: list[list[records.SampledProblem]] = []
  seen: dict[str, str] = {}
  for path in paths:
    shards.append([])
    for where, sampled in _read_records(path, _sampled_problem):
      problem_id = sampled.problem.problem_id
      if problem_id in seen:
        raise ValueError(
          f"{where}: problem {problem_id!r} stands in {seen[problem_id]}"
          " already; remove one of the two lines"
        )
      seen[problem_id] = where
      shards[-1].append(sampled)
  return shards


def read_drawn(
  path: str | os.PathLike[str],
) -> dict[str, dict[int, records.Candidate]]:
  """The candidates of rows of `drawn_row`, by problem id and index."""
  drawn: dict[str, dict[int, records.Candidate]] = {}
  for _, candidate in _read_records(pathlib.Path(path), _drawn_candidate):
    drawn.setdefault(candidate.problem_id, {})[candidate.index] = candidate
  return drawn


def read_grades(
  path: str | os.PathLike[str],
) -> dict[str, records.GradedProblem]:
  """The graded problems of one grader, by problem id, in file order."""
  return _by_problem(path, _graded_problem)


def read_scores(
  path: str | os.PathLike[str],
) -> dict[str, records.ScoredProblem]:
  """The scored problems of one evaluator, by problem id, in file order."""
  return _by_problem(path, _scored_problem)


def join(
  path: str | os.PathLike[str],
  parts: Iterable[str | os.PathLike[str]],
  problem_ids: Sequence[str],
) -> None:
  """Makes `path` hold the rows of `parts`, by problem, and removes these.

  Rows that stand in `path` already stay. Readers see all rows or those that
  were there before; it may be called again after a kill. Raises ValueError for
  a problem without a row.
  """
  path = pathlib.Path(path)
  parts = [part for part in map(pathlib.Path, parts) if part.exists()]
  rows: dict[str, str] = {}
  for source in [*([path] if path.exists() else []), *parts]:
    for number, row in jsonl.read(source):
      key = _key_of(row, "problem_id", f"{source}:{number}")
      rows.setdefault(key, _line(row, path).decode())
  missing = [one for one in problem_ids if one not in rows]
  if missing:
    raise ValueError(
      f"no row for {path} of problem {missing[0]!r} ({len(missing)} in all);"
      " let the run that writes its parts finish"
    )
  write_text(path, "".join(rows[one] for one in problem_ids))
  for part in parts:
    part.unlink()


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
  """Reads one JSON object; raises ValueError that names the file."""
  return jsonl.parse(pathlib.Path(path).read_bytes(), str(path))


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
  """Writes JSON so that readers see the old file or the new, never a part."""
  text = json.dumps(obj, ensure_ascii=False, indent=2, allow_nan=False)
  write_text(path, text + "\n")


def write_text(path: str | os.PathLike[str], text: str) -> None:
  """Writes text so that readers see the old file or the new, never a part."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    with open(temporary, "wb") as file:
      # Text of models may hold lone surrogates, which UTF-8 has no bytes for.
      file.write(text.encode("utf-8", errors="replace"))
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise
  _sync_directory(path.parent)


def _plain(name: str) -> str:
  if not _PLAIN_NAME.fullmatch(name):
    raise ValueError(
      f"{name!r} cannot be part of a file name; use letters, digits and"
      " . _ + - only, a letter or digit first"
    )
  return name


def _key_of(row: Mapping[str, Any], key: str, where: str) -> str:
  value = row.get(key)
  if not isinstance(value, str):
    raise ValueError(
      f"{where}: the field {key!r} must be a string, not {value!r}"
    )
  return value


def _line(row: Mapping[str, Any], path: pathlib.Path) -> bytes:
  try:
    text = json.dumps(row, ensure_ascii=False, allow_nan=False)
  except (TypeError, ValueError) as error:
    raise ValueError(f"a new row for {path} is not JSON: {error}") from error
  try:
    return text.encode("utf-8") + b"\n"
  except UnicodeEncodeError:  # A lone surrogate: escaped, it survives.
    return json.dumps(row).encode("ascii") + b"\n"


def _sync_directory(directory: pathlib.Path) -> None:
  descriptor = os.open(directory, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def _shards(directory: pathlib.Path) -> list[pathlib.Path]:
  if not directory.is_dir():
    raise FileNotFoundError(f"there is no directory of candidates {directory}")
  found: dict[int, pathlib.Path] = {}
  totals: set[int] = set()
  for path in sorted(directory.iterdir()):
    match = _SHARD.fullmatch(path.name)
    if match:
      shard, total = int(match[1]), int(match[2])
      if shard in found and total in totals:
        raise ValueError(f"{found[shard]} and {path} are the same shard")
      found[shard] = path
      totals.add(total)
  if not found:
    raise FileNotFoundError(
      f"{directory} holds no shard of candidates such as {shard_name(0, 1)}"
    )
  if len(totals) > 1:
    raise ValueError(
      f"{directory} mixes shards of runs with {sorted(totals)} shards; keep"
      " the shards of one run"
    )
  total = totals.pop()
  missing = sorted(set(range(total)) - set(found))
  if missing or len(found) > total:
    raise ValueError(
      f"{directory} holds {len(found)} of {total} shards"
      + (f"; missing: {shard_name(missing[0], total)}" if missing else "")
      + "; let the run that writes them finish"
    )
  return [found[shard] for shard in range(total)]


def _read_records(
  path: pathlib.Path, make: Callable[[dict[str, Any]], _Record]
) -> Iterator[tuple[str, _Record]]:
  for number, row in jsonl.read(path):
    where = f"{path}:{number}"
    try:
      yield where, make(row)
    except KeyError as error:
      raise ValueError(f"{where}: the field {error} is missing") from error
    except (TypeError, AttributeError, ValueError) as error:
      raise ValueError(f"{where}: {error}") from error


def _by_problem(
  path: str | os.PathLike[str], make: Callable[[dict[str, Any]], Any]
) -> dict[str, Any]:
  found: dict[str, Any] = {}
  for where, record in _read_records(pathlib.Path(path), make):
    if record.problem_id in found:
      raise ValueError(f"{where}: a second row for {record.problem_id!r}")
    found[record.problem_id] = record
  return found


def _sampled_problem(row: dict[str, Any]) -> records.SampledProblem:
  sampled = records.SampledProblem.from_json(row)
  for value, name in (
    (sampled.problem.problem_id, "problem_id"),
    (sampled.problem.text, "problem"),
    (sampled.problem.reference_answer, "reference_answer"),
    (sampled.generator, "generator"),
  ):
    _check_type(value, name, str)
  indices = [_checked_candidate(c).index for c in sampled.candidates]
  _check_indices(indices)
  if any(index < 0 for index in indices):
    raise ValueError("the index of a sampled candidate counts from 0")
  if sampled.greedy and _checked_candidate(sampled.greedy).index != (
    records.GREEDY_INDEX
  ):
    raise ValueError(
      f"the greedy candidate has the index {sampled.greedy.index}, not"
      f" {records.GREEDY_INDEX}"
    )
  return sampled


def _checked_candidate(candidate: records.Candidate) -> records.Candidate:
  _check_type(candidate.index, "index", int)
  _check_type(candidate.solution, "solution", str)
  if candidate.answer is not None:
    _check_type(candidate.answer, "answer", str)
  _check_type(candidate.num_tokens, "num_tokens", int)
  _check_type(candidate.log_prob, "log_prob", (int, float))
  return candidate


def _drawn_candidate(row: dict[str, Any]) -> records.Candidate:
  _check_type(row["problem_id"], "problem_id", str)
  return _checked_candidate(records.Candidate.from_json(row["problem_id"], row))


def _graded_problem(row: dict[str, Any]) -> records.GradedProblem:
  graded = records.GradedProblem.from_json(row)
  _check_type(graded.problem_id, "problem_id", str)
  _check_indices([grade["index"] for grade in row["grades"]])
  for grade in graded.grades.values():
    _check_type(grade.is_correct, "is_correct", bool)
  _check_indices([i for c in graded.clusters for i in c.members])
  return graded


def _scored_problem(row: dict[str, Any]) -> records.ScoredProblem:
  scored = records.ScoredProblem.from_json(row)
  _check_type(scored.problem_id, "problem_id", str)
  _check_indices([score["index"] for score in row["scores"]])
  for index, score in scored.scores.items():
    _check_type(score, "log_p_correct", (int, float))
    if score > 0:
      raise ValueError(
        f"candidate {index} has log_p_correct {score}; a log-probability is"
        " at most 0"
      )
  return scored


def _check_type(value: Any, name: str, kind: type | tuple[type, ...]) -> None:
  is_stray_bool = isinstance(value, bool) and kind is not bool
  if is_stray_bool or not isinstance(value, kind):
    kinds = kind if isinstance(kind, tuple) else (kind,)
    raise ValueError(
      f"the field {name!r} is {value!r}, which is no"
      f" {' or '.join(k.__name__ for k in kinds)}"
    )


def _check_indices(indices: list[int]) -> None:
  for index in indices:
    _check_type(index, "index", int)
  if len(set(indices)) < len(indices):
    twice = next(i for i in indices if indices.count(i) > 1)
    raise ValueError(f"the candidate index {twice} stands twice")
