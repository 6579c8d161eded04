"""Puts the figures of a finished demo run into README.md and docs/.

  python benchmarks/update_docs.py runs/arith_cpu

A block of a page from `<!-- demo: NAME -->` to `<!-- end -->` becomes what the
run measured; NAME is a key of `blocks`. Nothing else of a page is touched.
"""

import json
import pathlib
import re
import sys
from collections.abc import Mapping

_ROOT = pathlib.Path(__file__).parents[1]
_PAGES = ("README.md", "docs/demo.md", "docs/benchmarks.md")
_BLOCK = re.compile(
  r"(<!-- demo: (\w+) -->\n)(?:(?!<!-- ).)*?(<!-- end -->)", re.DOTALL
)
_NUM_CANDIDATES = 64
_TABLES = {
  "accuracy": "Accuracy at a glance",
  "findings": "Do the paper's findings hold here?",
  "table_2": "Table 2",
  "table_3": "Table 3",
  "table_4": "Table 4",
  "table_7": "Table 7",
  "evaluators": "Evaluators:",
  "levels": "Accuracy by level",
  "types": "Accuracy by type",
}


def main(argv: list[str]) -> None:
  run = pathlib.Path(argv[0])
  found = blocks(run)
  for page in _PAGES:
    path = _ROOT / page
    text = filled(path.read_text(encoding="utf-8"), found)
    path.write_text(text, encoding="utf-8")
    print(f"{page}: {', '.join(m[2] for m in _BLOCK.finditer(text))}")


def filled(text: str, found: Mapping[str, str]) -> str:
  """A page with what was found in its blocks; KeyError for one that is not."""
  return _BLOCK.sub(lambda m: f"{m[1]}{found[m[2]]}\n{m[3]}", text)


def blocks(run: pathlib.Path) -> dict[str, str]:
  """What may stand in a page, by the name of its block."""
  report = (run / "report" / "report.md").read_text(encoding="utf-8")
  stages = json.loads((run / "manifest.json").read_text())["stages"]
  by_name = {stage["name"]: stage for stage in stages}
  facts = {
    stage["name"]: stage["facts"]
    for stage in json.loads((run / "recipe.json").read_text())["finished"]
  }
  total = sum(stage["seconds"] for stage in stages)
  peak = max(stage["peak_rss_bytes"] for stage in stages) / 2**30

  def per_second(stage: str, count: float) -> float:
    return count / by_name[stage]["seconds"]

  def training(name: str) -> float:
    rows = (run / name / "metrics.jsonl").read_text().splitlines()
    speeds = [json.loads(row).get("tokens_per_second") for row in rows if row]
    return max(speed for speed in speeds if speed is not None)

  sampled = "decode_generator_stepwise_test"
  num_problems = facts[sampled]["num_problems"]
  num_candidates = num_problems * _NUM_CANDIDATES
  measured = {
    "all stages, after installation": f"{total:.0f} s",
    "peak memory": f"{peak:.2f} GiB",
    "training a generator": f"{training('generator_stepwise'):,.0f} tokens/s",
    "sampling": f"{per_second(sampled, facts[sampled]['num_tokens']):,.0f}"
    " tokens/s",
    "scoring": f"{per_second('score_evaluator_xent', num_candidates):,.0f}"
    " candidates/s",
    "grading, problems of 64 candidates": "{:,.0f} problems/s".format(
      per_second("grade_generator_stepwise_test", num_problems)
    ),
  }
  return {
    **{name: _table(report, title) for name, title in _TABLES.items()},
    "stages": _markdown(
      ("stage", "seconds"),
      [(f"`{s['name']}`", f"{s['seconds']:.1f}") for s in stages],
    ),
    "cost": f"{total:.0f} seconds, at most {peak:.2f} GiB of memory.",
    "measured": _markdown(("what", "measured"), list(measured.items())),
  }


def _table(report: str, title: str) -> str:
  """The first table under a heading of the report."""
  start = report.index(f"## {title}")
  rows = []
  for line in report[start:].splitlines()[1:]:
    if line.startswith("|"):
      rows.append(re.sub(r"\\([_\[\]])", r"\1", line))
    elif rows:
      break
  return "\n".join(rows)


def _markdown(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
  lines = [" | ".join(row) for row in (head, ("---", "---:"), *rows)]
  return "\n".join(f"| {line} |" for line in lines)


if __name__ == "__main__":
  main(sys.argv[1:])
