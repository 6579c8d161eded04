"""The MATH data set with the split of Lightman et al. (2023)."""

import functools
import os
import pathlib
import re
from collections.abc import Iterator

from mathft_jax.records import Problem, SolvedProblem
from mathft_jax.sources import json_lines, raw_rows, splits

SOURCE = "math"

_LAYOUTS = """\
  math_train.jsonl, math_test.jsonl and lightman_split.jsonl, rows with
    unique_id, problem, level, type, solution, and unique_id, split, answer;
  train/<subject>/<number>.json and test/<subject>/<number>.json, as in the
    release of MATH, and test.jsonl of PRM800K's math_splits, which tells the
    500 test problems by unique_id;
  train.jsonl and test.jsonl of PRM800K's math_splits, rows with unique_id,
    problem, solution, answer, subject, level
  (each .jsonl may be a .jsonl.gz or .parquet)"""


def read(
  directory: str | os.PathLike, on_bad_row: raw_rows.OnBadRow | None = None
) -> Iterator[SolvedProblem]:
  """Yields MATH: 12,500 rows in 11,000 train, 1,000 validation, 500 test.

  The directory may have one of the layouts that the error names. Problem ids
  are the paths of the release ("train/algebra/0.json"). Test is MATH-500;
  validation is drawn from the other 12,000 by the hash of the id.

  Raises FileNotFoundError for another layout, ValueError for a bad row unless
  `on_bad_row` takes it. A bad row of a list that only tells the test problems
  is an error always: its problem would be trained on.
  """
  directory = pathlib.Path(directory)
  if not directory.is_dir():
    raise FileNotFoundError(f"{directory} is no directory; give MATH's")
  files = {
    stem: raw_rows.find(directory, stem)
    for stem in (
      "math_train", "math_test", "lightman_split", "train", "test"
    )
  }  # fmt: skip
  if files["math_train"] and files["math_test"] and files["lightman_split"]:
    paths = files["math_train"] + files["math_test"]
    test_ids = _test_ids_of_split(files["lightman_split"])
  elif files["train"] and files["test"]:
    paths = files["train"] + files["test"]
    # Here the list is rows as well: a bad one is told when it is read as one.
    test_ids = _ids(files["test"], on_bad_row and (lambda bad_row: None))
  elif (directory / "train").is_dir() and files["test"]:
    return _read_release(directory, _ids(files["test"]), on_bad_row)
  else:
    raise FileNotFoundError(
      f"{directory} is not laid out as one of:\n{_LAYOUTS}"
    )
  make = functools.partial(_solved_problem, test_ids)
  return raw_rows.read(paths, make, on_bad_row)


def last_box(solution: str) -> str | None:
  """Returns what the last \\boxed or \\fbox holds, None if there is none.

  MATH's own rows only: they are well formed. Model text is for
  `grading.extract`.
  """
  boxes = list(re.finditer(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*", solution))
  if not boxes:
    return None
  start = boxes[-1].end()
  if start == len(solution):
    return None
  if solution[start] != "{":  # "\boxed 3" boxes one word.
    return re.split(r"[\s$]", solution[start:], maxsplit=1)[0]
  depth = 0
  for position in range(start, len(solution)):
    depth += {"{": 1, "}": -1}.get(solution[position], 0)
    if depth == 0:
      return solution[start + 1 : position]
  return None


def _read_release(
  directory: pathlib.Path,
  test_ids: set[str],
  on_bad_row: raw_rows.OnBadRow | None,
) -> Iterator[SolvedProblem]:
  def make(row: raw_rows.Row, where: raw_rows.Place) -> SolvedProblem:
    unique_id = where.path.relative_to(directory).as_posix()
    return _solved_problem(test_ids, {**row, "unique_id": unique_id}, where)

  paths = sorted(directory.glob("t*/*/*.json"))
  return raw_rows.read_single(paths, make, on_bad_row)


def _solved_problem(
  test_ids: set[str], row: raw_rows.Row, where: raw_rows.Place
) -> SolvedProblem:
  problem_id = json_lines.field(row, "unique_id", where)
  solution = json_lines.field(row, "solution", where)
  answer = _optional(row, "answer", where) or last_box(solution)
  if answer is None:
    raise ValueError(
      f"{where}: the solution of {problem_id} holds no closed \\boxed{{}}"
      " and the row has no 'answer'"
    )
  return SolvedProblem(
    problem=Problem(
      problem_id=problem_id,
      text=json_lines.field(row, "problem", where),
      reference_answer=answer,
      level=_level(row, where),
      type=_optional(row, "type", where) or _optional(row, "subject", where),
    ),
    solution=solution,
    source=SOURCE,
    split=(
      "test"
      if problem_id in test_ids
      else splits.train_or_validation(problem_id)
    ),
  )


def _test_ids_of_split(paths: list[pathlib.Path]) -> set[str]:
  def make(row: raw_rows.Row, where: raw_rows.Place) -> tuple[str, str]:
    problem_id = json_lines.field(row, "unique_id", where)
    return problem_id, json_lines.field(row, "split", where)

  return {name for name, split in raw_rows.read(paths, make) if split == "test"}


def _ids(
  paths: list[pathlib.Path], on_bad_row: raw_rows.OnBadRow | None = None
) -> set[str]:
  def make(row: raw_rows.Row, where: raw_rows.Place) -> str:
    return json_lines.field(row, "unique_id", where)

  return set(raw_rows.read(paths, make, on_bad_row))


def _optional(row: raw_rows.Row, name: str, where: raw_rows.Place) -> str:
  """Returns a text field, "" if it is missing or null."""
  return "" if row.get(name) is None else json_lines.field(row, name, where)


def _level(row: raw_rows.Row, where: raw_rows.Place) -> str:
  """ "Level 3" and 3 are "3"; "Level ?", which two rows have, is ""."""
  if isinstance(row.get("level"), int):
    return str(row["level"])
  level = _optional(row, "level", where).removeprefix("Level ")
  return "" if level == "?" else level
