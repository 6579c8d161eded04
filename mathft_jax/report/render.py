"""A report as Markdown, as JSON and as one HTML page."""

import dataclasses
import os
import pathlib
from typing import Any

import jinja2
import markupsafe

from mathft_jax import samples
from mathft_jax.report import document, figures, results
from mathft_jax.report.document import Document, Figure, Panel, Table
from mathft_jax.rerank.estimators import Estimate

_TEMPLATES = pathlib.Path(__file__).parent / "templates"

# The K that Markdown, which has no plots, lists of a figure.
_SHOWN_X = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def write(report: Document, directory: str | os.PathLike[str]) -> pathlib.Path:
  """Writes index.html, report.md and report.json; returns the page's path."""
  directory = pathlib.Path(directory)
  samples.write_json(directory / "report.json", as_json(report))
  samples.write_text(directory / "report.md", markdown(report))
  samples.write_text(directory / "index.html", html(report))
  return directory / "index.html"


def markdown(report: Document) -> str:
  """Tables in full; of figures the values at some K; no single problems."""
  parts = [f"# Report: {_escaped(report.title)}"]
  parts += [f"**{_escaped(warning)}**" for warning in report.warnings]
  parts += [_escaped(note) for note in report.notes]
  for item in [*report.headlines, *report.body]:
    parts.append(f"## {_escaped(item.title)}")
    if isinstance(item, Table):
      parts += [_markdown_table(item), *map(_escaped, item.notes)]
    else:
      parts.append(_escaped(item.caption) + " The plot is in index.html.")
      for panel in item.panels:
        parts.append(f"**{_escaped(panel.title)}**")
        parts.append(_markdown_table(_panel_table(panel)))
  return "\n\n".join(parts) + "\n"


def text_table(table: Table) -> str:
  """A table for a terminal."""
  rows = [
    [column.name for column in table.columns],
    *(_texts(table, row) for row in table.rows),
  ]
  widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
  lines = [
    "  ".join(
      cell.ljust(width) for cell, width in zip(row, widths, strict=True)
    ).rstrip()
    for row in rows
  ]
  return "\n".join([table.title, *("  " + line for line in lines)])


def as_json(report: Document) -> dict[str, Any]:
  """Everything but the solutions; an estimate is an object, not run null."""
  return {
    "title": report.title,
    "warnings": list(report.warnings),
    "notes": list(report.notes),
    "tables": [
      _json_table(item)
      for item in [*report.headlines, *report.body]
      if isinstance(item, Table)
    ],
    "figures": [
      _json_figure(item) for item in report.body if isinstance(item, Figure)
    ],
    "problems": [
      {
        "title": browser.title,
        "problems": [
          {
            "problem_id": problem.problem_id,
            "level": problem.level,
            "type": problem.type,
            "num_candidates": problem.num_candidates,
            "num_correct": problem.num_correct,
            "num_clusters": len(problem.clusters),
            "picks": {
              pick.strategy: {
                "answer": pick.answer,
                "is_correct": pick.is_correct,
              }
              for pick in problem.picks
            },
          }
          for problem in browser.problems
        ],
      }
      for browser in report.browsers
    ],
  }


def html(report: Document) -> str:
  """One page that needs no network; whatever models wrote shows as text."""
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_TEMPLATES),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.tests["table"] = lambda item: isinstance(item, Table)
  environment.filters["svg"] = lambda panel, key: markupsafe.Markup(
    figures.svg(panel, key)  # Drawn here: its labels are escaped already.
  )
  environment.filters["css_class"] = lambda is_correct: (
    "right" if is_correct else "wrong"
  )
  template = environment.get_template("index.html")
  return template.render(
    report=report, not_run=document.NOT_RUN, default_k=results.DEFAULT_K
  )


def _markdown_table(table: Table) -> str:
  def line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"

  return "\n".join(
    [
      line([_escaped(column.name) for column in table.columns]),
      line(["---:" if c.unit else "---" for c in table.columns]),
      *(
        line([_escaped(text) for text in _texts(table, row)])
        for row in table.rows
      ),
    ]
  )


def _panel_table(panel: Panel) -> Table:
  shown = [
    i for i, x in enumerate(panel.x) if x in _SHOWN_X or i == len(panel.x) - 1
  ]
  return Table(
    key="",
    title=panel.title,
    columns=(
      document.Column(panel.x_label, document.COUNT),
      *(document.Column(line.label, panel.unit) for line in panel.lines),
    ),
    rows=tuple(
      (panel.x[i], *(line.values[i] for line in panel.lines)) for i in shown
    ),
  )


def _texts(table: Table, row: tuple[document.Value, ...]) -> list[str]:
  return [
    column.text(value) for column, value in zip(table.columns, row, strict=True)
  ]


def _escaped(text: str) -> str:
  """Text that Markdown shows as it is, on one line."""
  escaped = "".join(
    f"\\{c}" if c in "\\`*_[]<>|#" else c for c in " ".join(text.split())
  )
  return escaped


def _json_table(table: Table) -> dict[str, Any]:
  return {
    "key": table.key,
    "title": table.title,
    "columns": [column.name for column in table.columns],
    "rows": [
      {
        column.name: _json_value(value)
        for column, value in zip(table.columns, row, strict=True)
      }
      for row in table.rows
    ],
    "notes": list(table.notes),
  }


def _json_figure(figure: Figure) -> dict[str, Any]:
  return {
    "key": figure.key,
    "title": figure.title,
    "caption": figure.caption,
    "panels": [
      {
        "title": panel.title,
        "x_label": panel.x_label,
        "y_label": panel.y_label,
        "x": list(panel.x),
        "lines": [
          {"label": line.label, "y": [_json_value(y) for y in line.y]}
          for line in panel.lines
        ],
        "points": [dataclasses.asdict(points) for points in panel.points],
      }
      for panel in figure.panels
    ],
  }


def _json_value(value: document.Value) -> Any:
  return dataclasses.asdict(value) if isinstance(value, Estimate) else value
