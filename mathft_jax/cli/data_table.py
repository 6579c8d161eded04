"""Table 1 of prepared rows, beside the paper's."""

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from mathft_jax.records import SolvedProblem

_WIDTHS = (-12, 10, 10, 16, 17)
_PAPER_WIDTHS = (-12, 8, 8, 8, 11, 10, 16, 17)


@dataclasses.dataclass(frozen=True)
class PaperCounts:
  """A line of the paper's Table 1: solutions by split, mean lengths.

  Lengths are in tokens of PaLM 2; whether over all splits it does not say.
  """

  solutions: Mapping[str, int]
  problem_length: float
  solution_length: float


PAPER: Mapping[str, PaperCounts] = {
  "math": PaperCounts(
    {"train": 11_000, "validation": 1_000, "test": 500}, 90.2, 249.6
  ),
  "prm800k": PaperCounts(
    {"train": 6_473, "validation": 564, "test": 512}, 57.3, 305.2
  ),
}


@dataclasses.dataclass(frozen=True)
class _Counts:
  """Solutions, their problems, and mean lengths in tokens."""

  num_solutions: int
  num_problems: int
  problem_length: float
  solution_length: float

  def cells(self, name: str) -> list[str]:
    return [
      name,
      f"{self.num_solutions:,}",
      f"{self.num_problems:,}",
      f"{self.problem_length:.1f}",
      f"{self.solution_length:.1f}",
    ]


def lines(
  source: str,
  by_split: Mapping[str, Sequence[SolvedProblem]],
  encode: Callable[[str], Sequence[int]],
  vocabulary: str,
  num_rows: Mapping[str, int],
  reasons: Sequence[str] = (),
) -> Iterator[str]:
  """Yields the table, and how far it is from the paper's if that has one.

  `num_rows` are those of each split before leaks were taken out of it, which
  is what the paper counts. `reasons` say in words why there may be others.
  """
  counts = {name: _count(rows, encode) for name, rows in by_split.items()}
  header = ["split", "solutions", "problems", "problem length"]
  cells = [[*header, "solution length"]]
  yield f"{source}, lengths in tokens of {vocabulary}:"
  paper = PAPER.get(source)
  if paper is None:
    cells += [line.cells(name) for name, line in counts.items()]
    yield from (_padded(line, _WIDTHS) for line in cells)
    return
  everything = [row for rows in by_split.values() for row in rows]
  total = _count(everything, encode)
  cells += [line.cells(name) for name, line in {**counts, "all": total}.items()]
  columns = [
    ["rows", *_with_sum(num_rows[name] for name in counts)],
    ["paper", *_with_sum(paper.solutions[name] for name in counts)],
    [
      "leaks",
      *_with_sum(counts[n].num_solutions - num_rows[n] for n in counts),
    ],
  ]
  yield from (
    _padded([name, *added, *line], _PAPER_WIDTHS)
    for (name, *line), *added in zip(cells, *columns, strict=True)
  )
  lengths = f"{paper.problem_length:.1f}", f"{paper.solution_length:.1f}"
  yield _padded(["paper", *[""] * 5, *lengths], _PAPER_WIDTHS)
  num_more = {n: num_rows[n] - paper.solutions[n] for n in counts}
  yield from _differences(num_more, total, paper, vocabulary, reasons)


def _count(
  rows: Sequence[SolvedProblem], encode: Callable[[str], Sequence[int]]
) -> _Counts:
  def mean_length(texts: list[str]) -> float:
    if not texts:
      return math.nan
    return statistics.fmean(len(encode(text)) for text in texts)

  return _Counts(
    num_solutions=len(rows),
    num_problems=len({row.problem.problem_id for row in rows}),
    problem_length=mean_length([row.problem.text for row in rows]),
    solution_length=mean_length([row.solution for row in rows]),
  )


def _with_sum(numbers: Iterable[int]) -> list[str]:
  numbers = list(numbers)
  return [f"{n:,}" for n in (*numbers, sum(numbers))]


def _padded(cells: Sequence[str], widths: Sequence[int]) -> str:
  """One line: a negative width puts the text to the left."""
  return "".join(
    cell.ljust(-width) if width < 0 else cell.rjust(width)
    for cell, width in zip(cells, widths, strict=True)
  )


def _differences(
  num_more: Mapping[str, int],
  total: _Counts,
  paper: PaperCounts,
  vocabulary: str,
  reasons: Sequence[str],
) -> Iterator[str]:
  told = ", ".join(f"{name} {number:+,}" for name, number in num_more.items())
  problem = total.problem_length - paper.problem_length
  solution = total.solution_length - paper.solution_length
  yield (
    f"Beside the paper's Table 1: {told} rows; {problem:+.1f} and"
    f" {solution:+.1f} tokens a problem and a solution."
  )
  if any(num_more.values()):
    yield f"Other counts: {'; '.join(reasons) or 'for no reason known here'}."
  differ = total.num_solutions != sum(paper.solutions.values())
  yield (
    f"Other lengths: {vocabulary} is not the vocabulary of PaLM 2, so the same"
    " text has another number of tokens"
    f"{'; and not all solutions are the same' if differ else ''}."
  )
