"""The report before it has a format: tables, figures, problems.

Markdown, JSON and HTML are three views of one `Document`, so that they hold
the same numbers.
"""

import dataclasses

from mathft_jax.rerank.estimators import Estimate

NOT_RUN = "not run"

# What stands in a table: None where the run that it needs was not made.
Value = Estimate | float | int | str | None


@dataclasses.dataclass(frozen=True)
class Unit:
  """How the numbers of a column are written."""

  scale: float = 1.0
  digits: int = 0
  suffix: str = ""
  is_signed: bool = False

  def number(self, value: float | int) -> str:
    sign = "+" if self.is_signed else ""
    text = f"{value * self.scale:{sign},.{self.digits}f}"
    if float(text.replace(",", "")) == 0:
      text = text.lstrip("+-")  # No "-0.0".
    return text.replace("-", "\N{MINUS SIGN}")

  def interval(self, estimate: Estimate) -> str:
    return f"[{self.number(estimate.low)}, {self.number(estimate.high)}]"


COUNT = Unit()
DECIMAL = Unit(digits=1)
PERCENT = Unit(scale=100.0, digits=1, suffix=" %")
POINTS = Unit(scale=100.0, digits=1, is_signed=True)
RATIO = Unit(digits=3)
SECONDS = Unit(digits=1, suffix=" s")
MEBIBYTES = Unit(scale=2**-20, suffix=" MiB")


@dataclasses.dataclass(frozen=True)
class Column:
  """A column; without a unit it holds text."""

  name: str
  unit: Unit | None = None

  def main(self, value: Value) -> str:
    """The value as text, without its interval."""
    if value is None:
      return NOT_RUN
    if isinstance(value, str):
      return value
    number = value.value if isinstance(value, Estimate) else value
    unit = self.unit or COUNT
    return unit.number(number) + unit.suffix

  def interval(self, value: Value) -> str:
    """The interval as text, empty where there is none."""
    if not isinstance(value, Estimate):
      return ""
    return (self.unit or COUNT).interval(value)

  def text(self, value: Value) -> str:
    return " ".join(filter(None, [self.main(value), self.interval(value)]))


@dataclasses.dataclass(frozen=True)
class Table:
  """A table; `notes` stand below it."""

  key: str
  title: str
  columns: tuple[Column, ...]
  rows: tuple[tuple[Value, ...], ...]
  notes: tuple[str, ...] = ()

  def __post_init__(self):
    for row in self.rows:
      if len(row) != len(self.columns):
        raise ValueError(
          f"table {self.key!r} has {len(self.columns)} columns but a row of"
          f" {len(row)}: {row}"
        )


@dataclasses.dataclass(frozen=True)
class Line:
  """A line of a figure, with the band of its intervals if it has some."""

  label: str
  y: tuple[Estimate | float, ...]
  has_band: bool = False

  @property
  def values(self) -> list[float]:
    return [v.value if isinstance(v, Estimate) else v for v in self.y]


@dataclasses.dataclass(frozen=True)
class Points:
  """Points beside the lines of a figure, joined in this order."""

  label: str
  x: tuple[float, ...]
  y: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Panel:
  """One pair of axes; every line has one y for each x, and points their own."""

  title: str
  x_label: str
  y_label: str
  x: tuple[int, ...]
  lines: tuple[Line, ...]
  unit: Unit
  points: tuple[Points, ...] = ()


@dataclasses.dataclass(frozen=True)
class Figure:
  key: str
  title: str
  caption: str
  panels: tuple[Panel, ...]


@dataclasses.dataclass(frozen=True)
class Exemplar:
  """A candidate that is shown in full; `log_score` is in nats."""

  index: int
  solution: str
  log_score: float | None


@dataclasses.dataclass(frozen=True)
class ClusterView:
  """One cluster; `total_scores` has a sum of S for each evaluator."""

  answer: str
  is_correct: bool
  size: int
  total_scores: tuple[float, ...]
  best_scores: tuple[float, ...]
  exemplar: Exemplar | None


@dataclasses.dataclass(frozen=True)
class Pick:
  """What one strategy answers; None if there was nothing to pick from."""

  strategy: str
  answer: str | None
  is_correct: bool


@dataclasses.dataclass(frozen=True)
class ProblemView:
  """A problem to look at; `tags` are those of `Browser.filters`."""

  problem_id: str
  level: str
  type: str
  text: str
  reference_answer: str
  num_candidates: int
  num_correct: int
  num_unanswered: int
  clusters: tuple[ClusterView, ...]
  picks: tuple[Pick, ...]
  tags: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Browser:
  """One generator's problems; `filters` maps a tag to what it means."""

  title: str
  evaluators: tuple[str, ...]
  filters: dict[str, str]
  problems: tuple[ProblemView, ...]

  def num_tagged(self, tag: str) -> int:
    return sum(tag in problem.tags for problem in self.problems)


@dataclasses.dataclass(frozen=True)
class Document:
  """The whole report.

  `warnings` are what the runs say about themselves (a smoke run does), and
  `headlines` what a hurried reader wants.
  """

  title: str
  warnings: tuple[str, ...]
  notes: tuple[str, ...]
  headlines: tuple[Table, ...]
  body: tuple[Table | Figure, ...]
  browsers: tuple[Browser, ...]
