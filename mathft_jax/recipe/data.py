"""Where a recipe's problems come from."""

import dataclasses
import importlib
import itertools
import pathlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mathft_jax import records
from mathft_jax.data import generated, locations, registration
from mathft_jax.grading import grader
from mathft_jax.sources import (
  arithmetic,
  hendrycks_math,
  json_lines,
  prm800k,
  splits,
)

_JSON = "json"

# A line of Table 1, as the manifest has it.
Counts = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class ArithmeticData:
  """The embedded default: generated problems, split by hash."""

  def prepare(self, directory: pathlib.Path, vocabulary: Any) -> list[Counts]:
    """Nothing to prepare; returns Table 1's lines."""
    del directory
    lines = []
    for style in arithmetic.STYLES:
      by_split = {
        split: list(arithmetic.problems(split, style, num_problems=number))
        for split, number in generated.NUM_ARITHMETIC.items()
      }
      lines.append(count(f"arith_{style}", by_split, vocabulary))
    return lines

  def bind(self, directory: pathlib.Path) -> None:
    """Nothing to bind: the tasks generate their rows."""

  def solved_problems(
    self, directory: pathlib.Path, split: str, number: int
  ) -> list[records.SolvedProblem]:
    """The first `number` problems of a split, solved in the first style."""
    del directory
    style = arithmetic.STYLES[0]
    return list(arithmetic.problems(split, style, num_problems=number))


@dataclasses.dataclass(frozen=True)
class MathData:
  """MATH and PRM800K from the folders of their files.

  Problems to sample from are MATH's. Both sources keep MATH's validation and
  test problems out of their training rows.
  """

  math_dir: str
  prm800k_dir: str

  def prepare(self, directory: pathlib.Path, vocabulary: Any) -> list[Counts]:
    """Writes the rows of both sources; returns Table 1's lines.

    Beside the rows, `left_out.jsonl` has what was dropped, and why.
    """
    dropped: list[prm800k.Dropped] = []
    math_rows = list(hendrycks_math.read(self.math_dir))
    prm_rows = list(
      prm800k.read(
        self.prm800k_dir, grader.is_equivalent, dropped.append, math=math_rows
      )
    )
    math, math_leaks = splits.without_leaks(math_rows)
    prm, prm_leaks = splits.without_leaks(
      prm_rows, [*math["validation"], *math["test"]]
    )
    lines = []
    for source, rows, by_split, left_out in (
      ("math", math_rows, math, math_leaks),
      ("prm800k", prm_rows, prm, [*dropped, *prm_leaks]),
    ):
      json_lines.write_splits(directory / source, by_split)
      json_lines.write_left_out(directory / source, left_out)
      num_leaks = len(rows) - sum(map(len, by_split.values()))
      lines.append(count(source, by_split, vocabulary, num_leaks))
    return lines

  def bind(self, directory: pathlib.Path) -> None:
    """Tells the tasks where the prepared rows lie."""
    locations.bind({name: directory / name for name in ("math", "prm800k")})

  def solved_problems(
    self, directory: pathlib.Path, split: str, number: int
  ) -> list[records.SolvedProblem]:
    """The first `number` problems of a split of MATH, with its solutions."""
    rows = json_lines.read_split(directory / "math", split)
    return list(itertools.islice(_distinct(rows), number))


@dataclasses.dataclass(frozen=True)
class JsonLinesData:
  """Anyone's problems: a file, or a folder with a file for each split.

  `fields` are the file's names for ours where they differ, such as
  {"problem": "question"}. `against` are folders of prepared rows whose
  validation and test problems are kept out of training too. The tasks are
  `json_generate` and `json_evaluate_...` of `mathft_jax.tasks.json_lines`.
  """

  path: str
  fields: Mapping[str, str] = dataclasses.field(default_factory=dict)
  against: Sequence[str] = ()

  def prepare(self, directory: pathlib.Path, vocabulary: Any) -> list[Counts]:
    """Writes the rows and `left_out.jsonl`; returns Table 1's line.

    Raises FileNotFoundError, and ValueError with file and line.
    """
    rows = list(json_lines.read(self.path, self.fields))
    by_split, leaks = splits.without_leaks(
      rows, json_lines.held_out(self.against)
    )
    json_lines.write_splits(directory / _JSON, by_split)
    json_lines.write_left_out(directory / _JSON, leaks)
    num_leaks = len(rows) - sum(map(len, by_split.values()))
    return [count(_JSON, by_split, vocabulary, num_leaks)]

  def bind(self, directory: pathlib.Path) -> None:
    """Tells the tasks where the prepared rows lie."""
    locations.bind({_JSON: directory / _JSON})

  def solved_problems(
    self, directory: pathlib.Path, split: str, number: int
  ) -> list[records.SolvedProblem]:
    """The first `number` problems of a split, with their first solutions."""
    rows = json_lines.read_split(directory / _JSON, split)
    return list(itertools.islice(_distinct(rows), number))


RecipeData = ArithmeticData | MathData | JsonLinesData


@dataclasses.dataclass(frozen=True)
class ArithmeticProblems:
  """The first problems of a split of the generated ones."""

  num_problems: int
  split: str = "test"

  def __call__(self) -> list[records.Problem]:
    rows = arithmetic.problems(
      self.split, arithmetic.STYLES[0], num_problems=self.num_problems
    )
    return [row.problem for row in rows]


@dataclasses.dataclass(frozen=True)
class PreparedProblems:
  """The first problems of a folder that `mathft data prepare` wrote."""

  directory: str
  split: str = "test"
  num_problems: int | None = None

  def __call__(self) -> list[records.Problem]:
    """Raises FileNotFoundError if the folder lacks the split."""
    found = json_lines.problems(self.directory, self.split)
    return found[: self.num_problems]


Problems = ArithmeticProblems | PreparedProblems


def register_tasks(modules: Sequence[str], tasks: Iterable[str]) -> None:
  """Imports the modules that register tasks.

  Raises ValueError for a module that does not exist, and for a task or
  mixture that none of them registers.
  """
  for module in modules:
    try:
      importlib.import_module(module)
    except ModuleNotFoundError as error:
      if error.name != module:
        raise
      raise ValueError(
        f"there is no module of tasks {module!r}; those of this package are"
        " mathft_jax.tasks.arithmetic and the like"
      ) from error
  registration.check_registered(tasks)


def count(
  source: str,
  by_split: Mapping[str, Sequence[records.SolvedProblem]],
  vocabulary: Any,
  num_leaks: int = 0,
) -> Counts:
  """A line of Table 1: rows of each split, mean lengths in tokens.

  `num_leaks` are those that were taken out, as a later split holds them.
  """
  rows = [row for split_rows in by_split.values() for row in split_rows]

  def mean_tokens(texts: Iterable[str]) -> float:
    return statistics.fmean(len(vocabulary.encode(text)) for text in texts)

  return {
    "source": source,
    **{split: len(split_rows) for split, split_rows in by_split.items()},
    "leaks": num_leaks,
    "problem_tokens": mean_tokens(row.problem.text for row in rows),
    "solution_tokens": mean_tokens(row.solution for row in rows),
  }


def _distinct(
  rows: Iterable[records.SolvedProblem],
) -> Iterable[records.SolvedProblem]:
  """The first solution of each problem."""
  seen: set[str] = set()
  for row in rows:
    if row.problem.problem_id not in seen:
      seen.add(row.problem.problem_id)
      yield row
