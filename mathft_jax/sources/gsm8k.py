"""GSM8K (Cobbe et al., 2021): grade-school word problems."""

import functools
import os
import pathlib
import re
from collections.abc import Iterator

from mathft_jax.records import Problem, SolvedProblem
from mathft_jax.sources import json_lines, raw_rows, splits

SOURCE = "gsm8k"

# Notes for a calculator, "<<48/2=24>>", which no reader of a solution sees.
_CALCULATION = re.compile(r"<<[^<>]*>>")
_ANSWER_MARK = "####"


def read(
  directory: str | os.PathLike, on_bad_row: raw_rows.OnBadRow | None = None
) -> Iterator[SolvedProblem]:
  """Yields the rows of train.jsonl and test.jsonl (or .jsonl.gz, .parquet).

  Ids are "gsm8k/test/0" with the line counted from 0. The calculator's notes
  are taken out of the solutions. Validation is drawn from train by hash.

  Raises FileNotFoundError, and ValueError with file and line for a bad row
  unless `on_bad_row` takes it.
  """
  for stem in ("train", "test"):
    paths = raw_rows.find(directory, stem)
    if not paths:
      raise FileNotFoundError(
        f"{pathlib.Path(directory) / stem}.jsonl (or .jsonl.gz, .parquet) does"
        " not exist; give the directory of GSM8K's files"
      )
    make = functools.partial(_solved_problem, stem=stem)
    yield from raw_rows.read(paths, make, on_bad_row)


def _solved_problem(
  row: raw_rows.Row, where: raw_rows.Place, *, stem: str
) -> SolvedProblem:
  text = json_lines.field(row, "answer", where)
  solution, mark, answer = text.rpartition(_ANSWER_MARK)
  if not mark:
    raise ValueError(f"{where}: no {_ANSWER_MARK} before the final answer")
  problem_id = f"gsm8k/{stem}/{where.index}"
  return SolvedProblem(
    problem=Problem(
      problem_id=problem_id,
      text=json_lines.field(row, "question", where),
      reference_answer=answer.strip(),
    ),
    solution=_CALCULATION.sub("", solution).strip(),
    source=SOURCE,
    split=(
      "test" if stem == "test" else splits.train_or_validation(problem_id)
    ),
  )
