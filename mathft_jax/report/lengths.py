"""How long the examples of a task are, as text and as a drawing."""

import dataclasses
import html
import io
import itertools
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

# Files that `write` knows.
SUFFIXES = (".html", ".png", ".svg")

_SHARES = (50, 90, 95, 99)
# Bins reach so far; the few longer examples share the last one.
_LAST_SHARE = 99
_MAX_BINS = 12
_BAR = 40  # Characters of the longest bar.


@dataclasses.dataclass(frozen=True)
class Lengths:
  """Tokens of examples: [E] of each feature, and the most that are allowed.

  All arrays are of the same examples, at least one.
  """

  tokens: Mapping[str, np.ndarray]
  limits: Mapping[str, int]

  def num_too_long(self, name: str) -> int:
    return int(np.sum(self.tokens[name] > self.limits[name]))

  def num_left_out(self) -> int:
    """Examples of which any feature is longer than allowed."""
    too_long = [self.tokens[k] > limit for k, limit in self.limits.items()]
    return int(np.sum(np.any(too_long, axis=0))) if too_long else 0


def text(lengths: Lengths) -> Iterator[str]:
  """Yields the lines of a table and of a histogram of each feature.

  A column "90 %" holds the number of tokens that so many examples do not
  exceed.
  """
  yield from _table(lengths)
  for name, values in lengths.tokens.items():
    yield ""
    yield f"{name}, tokens | examples"
    yield from _bars(values)


def write(lengths: Lengths, title: str, path: str | pathlib.Path) -> None:
  """Draws the histograms into a file of one of `SUFFIXES`.

  A page holds the table too and needs no other file. Raises ValueError for
  another suffix.
  """
  path = pathlib.Path(path)
  check_suffix(path)
  if path.suffix == ".html":
    path.write_text(_page(lengths, title), encoding="utf-8")
  else:
    path.write_bytes(_drawing(lengths, title, path.suffix[1:]))


def check_suffix(path: pathlib.Path) -> None:
  """Raises ValueError unless `write` can write a file of this name."""
  if path.suffix not in SUFFIXES:
    raise ValueError(
      f"no histogram is written as {path}: its name has to end in"
      f" {', '.join(SUFFIXES)}"
    )


def _table(lengths: Lengths) -> Iterator[str]:
  columns = ("mean", *(f"{share} %" for share in _SHARES), "max")
  yield "tokens".ljust(9) + "".join(f"{column:>9}" for column in columns)
  for name, values in lengths.tokens.items():
    numbers = [
      f"{values.mean():,.1f}",
      *(f"{_at_share(values, share):,}" for share in _SHARES),
      f"{values.max():,}",
    ]
    line = name.ljust(9) + "".join(f"{number:>9}" for number in numbers)
    if name in lengths.limits:
      number = lengths.num_too_long(name)
      share = number / len(values)
      line += f"   {number:,} ({share:.1%}) above {lengths.limits[name]:,}"
    yield line


def _bars(values: np.ndarray) -> Iterator[str]:
  """Bins of a round width; the last holds all that is longer."""
  end = _at_share(values, _LAST_SHARE)
  width = _width(end - int(values.min()))
  first = int(values.min()) // width
  counts = np.bincount(np.minimum(values, end) // width - first)
  starts = [(first + i) * width for i in range(len(counts))]
  labels = [
    f"{start:,} - {start + width - 1:,}" if width > 1 else f"{start:,}"
    for start in starts
  ]
  if values.max() >= starts[-1] + width:
    labels[-1] = f"{starts[-1]:,} - {values.max():,}"
  label_width = max(map(len, labels))
  for label, count in zip(labels, counts, strict=True):
    bar = "#" * math.ceil(_BAR * count / counts.max())
    yield f"{label:>{label_width}} | {bar}{' ' if bar else ''}{count:,}"


def _width(span: int) -> int:
  """The least of 1, 2, 5, 10, 20 ... of which `_MAX_BINS` hold the span."""
  return next(
    digit * 10**exponent
    for exponent in itertools.count()
    for digit in (1, 2, 5)
    if span < digit * 10**exponent * (_MAX_BINS - 1)
  )


def _at_share(values: np.ndarray, share: int) -> int:
  """The number of tokens that `share` % of the examples do not exceed."""
  return int(np.percentile(values, share, method="inverted_cdf"))


def _page(lengths: Lengths, title: str) -> str:
  svg = _drawing(lengths, title, "svg").decode()
  numbers = html.escape("\n".join(_table(lengths)))
  return (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    f"<title>{html.escape(title)}</title>\n</head>\n<body>\n"
    f"{svg[svg.index('<svg') :]}\n<pre>{numbers}</pre>\n</body>\n</html>\n"
  )


def _drawing(lengths: Lengths, title: str, suffix: str) -> bytes:
  # Here, as the text needs no drawing.
  import matplotlib
  import matplotlib.figure

  # Text stays text, and the same lengths give the same bytes.
  settings: dict[Any, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lengths",
    "axes.spines.top": False,
    "axes.spines.right": False,
  }
  with matplotlib.rc_context(settings):
    drawing = matplotlib.figure.Figure(
      figsize=(4.2 * len(lengths.tokens), 3.4), layout="constrained"
    )
    drawing.suptitle(title, fontsize=11)
    axes = drawing.subplots(1, len(lengths.tokens), squeeze=False)[0]
    for axis, (name, values) in zip(axes, lengths.tokens.items(), strict=True):
      _draw(axis, name, values, lengths.limits.get(name))
    buffer = io.BytesIO()
    metadata = {"Date": None} if suffix == "svg" else None
    drawing.savefig(buffer, format=suffix, metadata=metadata, dpi=150)
  return buffer.getvalue()


def _draw(axis, name: str, values: np.ndarray, limit: int | None) -> None:
  # Bins of whole numbers, else some would hold one length more than others.
  width = 1 + (values.max() - values.min()) // 60
  edges = np.arange(values.min(), values.max() + width + 1, width) - 0.5
  axis.hist(values, bins=edges, color="#0072b2")
  for share in (50, 95):
    axis.axvline(
      _at_share(values, share),
      color="#555555",
      linestyle=":" if share == 50 else "--",
      linewidth=1,
      label=f"{share} %: {_at_share(values, share):,}",
    )
  if limit is not None:
    axis.axvline(
      limit, color="#d55e00", linewidth=1.5, label=f"most: {limit:,}"
    )
  axis.set_xlabel(f"{name}, tokens")
  axis.set_ylabel("Examples")
  axis.legend(fontsize=8, framealpha=0.7)
