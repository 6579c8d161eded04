"""The figures of a report, and their drawing as SVG text."""

import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import matplotlib.figure
import numpy as np
from matplotlib import ticker

from mathft_jax.report import document, selection
from mathft_jax.report.document import Figure, Line, Panel, Points
from mathft_jax.report.results import (
  STOPPING_THRESHOLDS,
  EvaluatorResults,
  GeneratorResults,
  RunResults,
)
from mathft_jax.rerank import estimators, sweeps

# Told apart without colour too: each line has its own dashes.
_COLOURS = (
  "#0072b2",
  "#d55e00",
  "#009e73",
  "#cc79a7",
  "#555555",
  "#b8860b",
  "#56b4e9",
  "#000000",
)
_DASHES = ("-", "--", "-.", ":", (0, (6, 1)), (0, (3, 1, 1, 1)))

_ID = re.compile(r'(\bid="|url\(#|href="#)')


def strategies(runs: Sequence[RunResults]) -> Iterator[Figure]:
  """Figure 1 for each evaluator on its own generator's candidates."""
  for run in runs:
    for _, _, evaluated in selection.by_loss(run):
      if evaluated is not None:
        yield _figure_1(run, evaluated, with_run=len(runs) > 1)


def oracle(runs: Sequence[RunResults]) -> Iterator[Figure]:
  """Figure 3: what a perfect evaluator would reach."""
  for run in runs:
    evaluated = selection.main_evaluated(run)
    if evaluated is None:
      continue
    results = evaluated.generated
    n, label = results.num_candidates, results.num_label
    top = estimators.bootstrap_columns(results.top_clusters)
    panel = Panel(
      title="Oracle among the K largest clusters",
      x_label="K clusters",
      y_label="Accuracy or ratio, %",
      x=tuple(range(1, n + 1)),
      lines=(
        Line(f"MajK@{label}", tuple(top), has_band=True),
        Line(f"Maj1@{label}", (estimators.bootstrap(results.majority),) * n),
        Line(
          "Ratio of samples in them",
          tuple(evaluated.cost_ratio.tolist()),
        ),
      ),
      unit=document.PERCENT,
    )
    yield Figure(
      f"figure_3_{_slug(run.manifest.name)}",
      f"Figure 3: Upper bound of cluster re-ranking ({run.manifest.name},"
      f" {results.generator.label})",
      "MajK selects a correct answer wherever one of the K largest clusters"
      " holds it.",
      (panel,),
    )


def sampling(runs: Sequence[RunResults]) -> Iterator[Figure]:
  """pass@k and maj@k of every generator of a run."""
  for run in runs:
    found = list(run.generators.values())
    if not found:
      continue
    smallest = min(results.num_shared for results in found)
    panels = [
      Panel(
        title=title,
        x_label="k samples",
        y_label="Accuracy, %",
        x=tuple(range(1, smallest + 1)),
        lines=tuple(
          Line(
            results.generator.label,
            tuple(estimators.bootstrap_columns(curves(results)[:, :smallest])),
            has_band=True,
          )
          for results in found
        ),
        unit=document.PERCENT,
      )
      for title, curves in (
        ("pass@k", lambda results: results.pass_at_k),
        ("maj@k", lambda results: results.maj_at_k),
      )
    ]
    yield Figure(
      f"sampling_{_slug(run.manifest.name)}",
      f"Accuracy against the number of samples ({run.manifest.name})",
      "pass@k is the unbiased estimate over all subsets of k samples; maj@k"
      f" is the mean over {estimators.NUM_SUBSETS} random subsets for"
      " each problem. Bands are 95 % intervals over problems.",
      tuple(panels),
    )


def adaptive_budgets(runs: Sequence[RunResults]) -> Iterator[Figure]:
  """Accuracy against the samples used, had problems stopped when settled."""
  for run in runs:
    found = list(run.generators.values())
    if not found:
      continue
    smallest = min(results.num_shared for results in found)
    thresholds = ", ".join(map(str, STOPPING_THRESHOLDS))
    panel = Panel(
      title="Majority vote",
      x_label="Samples a problem, on average",
      y_label="Accuracy, %",
      x=tuple(range(1, smallest + 1)),
      lines=tuple(
        Line(
          f"{results.generator.label}, all as many",
          tuple(results.maj_first_k[:, :smallest].mean(axis=0).tolist()),
        )
        for results in found
      ),
      unit=document.PERCENT,
      points=tuple(map(_replays, found)),
    )
    yield Figure(
      f"adaptive_budgets_{_slug(run.manifest.name)}",
      f"Accuracy against the samples used ({run.manifest.name})",
      "Lines: majority vote over the first k samples of each problem. Points:"
      " each problem ends once its vote is settled, with a certainty above"
      f" {thresholds}.",
      (panel,),
    )


def svg(panel: Panel, key: str) -> str:
  """The panel as an `<svg>` element; its ids start with `key`."""
  settings: dict[Any, object] = {
    "svg.fonttype": "none",  # Text stays text: searchable, and small.
    "svg.hashsalt": key,
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
  }
  with matplotlib.rc_context(settings):
    drawing = matplotlib.figure.Figure(figsize=(5.2, 3.9), layout="constrained")
    _draw(drawing.subplots(), panel)
    buffer = io.StringIO()
    drawing.savefig(
      buffer, format="svg", metadata={"Date": None}, transparent=True
    )
  text = buffer.getvalue()
  text = text[text.index("<svg") :]
  return _ID.sub(rf"\g<1>{key}-", text)


def _replays(results: GeneratorResults) -> Points:
  replays = [
    replay
    for replay in map(results.replay, STOPPING_THRESHOLDS)
    if replay is not None
  ]
  return Points(
    f"{results.generator.label}, until settled",
    tuple(float(replay.num_samples.mean()) for replay in replays),
    tuple(float(replay.is_correct.mean()) for replay in replays),
  )


def _figure_1(
  run: RunResults, evaluated: EvaluatorResults, with_run: bool
) -> Figure:
  n = evaluated.generated.num_candidates
  sizes = tuple(range(1, n + 1))
  lines = []
  for strategy, name in selection.STRATEGIES.items():
    if strategy in sweeps.FIXED:
      estimate = estimators.bootstrap(evaluated.fixed[strategy])
      lines.append(Line(name, (estimate,) * n))
    else:
      estimates = estimators.bootstrap_columns(evaluated.swept[strategy])
      is_ours = strategy == "weighted_vote_top_clusters"
      lines.append(Line(name, tuple(estimates), has_band=is_ours))
  costs = evaluated.cost_ratio.tolist()
  x_label = "K clusters or N\N{PRIME} samples"
  key = f"figure_1_{_slug(run.manifest.name)}_{_slug(evaluated.evaluator.name)}"
  place = f"{run.manifest.name}, " if with_run else ""
  return Figure(
    key,
    "Figure 1: Re-ranking strategies"
    f" ({place}{evaluated.evaluator.loss}, {evaluated.evaluator.name})",
    "Left: accuracy; the band is the 95 % interval of W.RR.MajK. Right: the"
    " share of samples that the evaluator has to score.",
    (
      Panel(
        "Solution evaluator performance",
        x_label,
        "Accuracy, %",
        sizes,
        tuple(lines),
        document.PERCENT,
      ),
      Panel(
        "Evaluator computation cost",
        x_label,
        "Share of samples scored, %",
        sizes,
        (
          Line("RR.All, W.RR, Maj1.TopN", (1.0,) * n),
          Line("RR.MajK, W.RR.MajK", tuple(costs)),
          Line("Maj1", (0.0,) * n),
        ),
        document.PERCENT,
      ),
    ),
  )


def _draw(axis, panel: Panel) -> None:
  scale = panel.unit.scale
  for position, line in enumerate(panel.lines):
    colour = _COLOURS[position % len(_COLOURS)]
    axis.plot(
      panel.x,
      np.array(line.values) * scale,
      color=colour,
      linestyle=_DASHES[position % len(_DASHES)],
      linewidth=1.8,
      label=line.label,
    )
    if line.has_band:
      band = [y for y in line.y if isinstance(y, estimators.Estimate)]
      axis.fill_between(
        panel.x,
        [estimate.low * scale for estimate in band],
        [estimate.high * scale for estimate in band],
        color=colour,
        alpha=0.13,
        linewidth=0,
      )
  for position, points in enumerate(panel.points):
    axis.plot(
      points.x,
      np.array(points.y) * scale,
      color=_COLOURS[position % len(_COLOURS)],
      marker="o",
      markersize=4,
      linewidth=0.8,
      label=points.label,
    )
  axis.set_title(panel.title, fontsize=10)
  axis.set_xlabel(panel.x_label)
  axis.set_ylabel(panel.y_label)
  axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
  axis.grid(alpha=0.25)
  axis.legend(fontsize=8, framealpha=0.7)


def _slug(name: str) -> str:
  return re.sub(r"[^A-Za-z0-9]+", "_", name)
