"""Where a recipe's problems come from, and what is trained on them."""

import dataclasses
import itertools
import pathlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mathft_jax import records
from mathft_jax.data import generated, locations
from mathft_jax.grading import grader
from mathft_jax.sources import (
  arithmetic,
  hendrycks_math,
  json_lines,
  prm800k,
  splits,
)

# A line of Table 1, as the manifest has it.
Counts = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class ArithmeticData:
  """The embedded default: generated problems, split by hash."""

  styles: tuple[str, ...] = arithmetic.STYLES

  def prepare(self, directory: pathlib.Path, vocabulary: Any) -> list[Counts]:
    """Nothing to prepare; returns Table 1's lines."""
    del directory
    lines = []
    for style in self.styles:
      by_split = {
        split: list(arithmetic.problems(split, style, num_problems=number))
        for split, number in generated.NUM_ARITHMETIC.items()
      }
      lines.append(count(f"arith_{style}", by_split, vocabulary))
    return lines

  def bind(self, directory: pathlib.Path) -> None:
    """Nothing to bind: the tasks generate their rows."""

  def problems(
    self, directory: pathlib.Path, split: str, number: int
  ) -> list[records.Problem]:
    """The first `number` problems of a split."""
    del directory
    drawn = arithmetic.problems(split, self.styles[0], num_problems=number)
    return [row.problem for row in drawn]


@dataclasses.dataclass(frozen=True)
class MathData:
  """MATH and PRM800K from the folders of their files.

  Problems to sample from are MATH's. Both sources keep MATH's validation and
  test problems out of their training rows.
  """

  math_dir: str
  prm800k_dir: str

  def prepare(self, directory: pathlib.Path, vocabulary: Any) -> list[Counts]:
    """Writes the rows of both sources; returns Table 1's lines."""
    math_rows = list(hendrycks_math.read(self.math_dir))
    math, _ = splits.without_leaks(math_rows)
    prm_rows = prm800k.read(
      self.prm800k_dir, grader.is_equivalent, lambda dropped: None
    )
    prm, _ = splits.without_leaks(
      list(prm_rows), [*math["validation"], *math["test"]]
    )
    lines = []
    for source, by_split in (("math", math), ("prm800k", prm)):
      json_lines.write_splits(directory / source, by_split)
      lines.append(count(source, by_split, vocabulary))
    return lines

  def bind(self, directory: pathlib.Path) -> None:
    """Tells the tasks where the prepared rows lie."""
    locations.bind({name: directory / name for name in ("math", "prm800k")})

  def problems(
    self, directory: pathlib.Path, split: str, number: int
  ) -> list[records.Problem]:
    """The first `number` problems of a split of MATH."""
    found = json_lines.problems(directory / "math", split)
    return list(itertools.islice(found, number))


RecipeData = ArithmeticData | MathData


def count(
  source: str,
  by_split: Mapping[str, Sequence[records.SolvedProblem]],
  vocabulary: Any,
) -> Counts:
  """A line of Table 1: rows of each split, mean lengths in tokens."""
  rows = [row for split_rows in by_split.values() for row in split_rows]

  def mean_tokens(texts: Iterable[str]) -> float:
    return statistics.fmean(len(vocabulary.encode(text)) for text in texts)

  return {
    "source": source,
    **{split: len(split_rows) for split, split_rows in by_split.items()},
    "problem_tokens": mean_tokens(row.problem.text for row in rows),
    "solution_tokens": mean_tokens(row.solution for row in rows),
  }
