"""Tests of mathft_jax.cli.data_table."""

import collections
import statistics

import pytest
import sentencepiece

from mathft_jax import jsonl
from mathft_jax.cli import data_table
from mathft_jax.data import math_vocabulary
from mathft_jax.records import Problem, SolvedProblem
from mathft_jax.sources import hendrycks_math, splits


def _row(problem_id: str, text: str, solution: str) -> SolvedProblem:
  return SolvedProblem(Problem(problem_id, text, "1"), solution, "s", "train")


def _lines(source, by_split, reasons=(), leaks=0):
  num_rows = {name: len(rows) for name, rows in by_split.items()}
  num_rows["train"] += leaks
  return list(
    data_table.lines(source, by_split, str.split, "blanks", num_rows, reasons)
  )


_ROWS = {
  "train": [_row("a", "1 2 3", "1"), _row("a", "1 2 3", "1 2"),
            _row("b", "1", "1 2 3 4 5 6")],
  "validation": [_row("c", "1 2 3 4 5", "1")],
  "test": [],
}  # fmt: skip


def test_a_source_without_a_line_in_the_paper_has_a_plain_table():
  title, *table = _lines("mine", _ROWS)
  assert title == "mine, lengths in tokens of blanks:"
  assert [line.split() for line in table[1:]] == [
    ["train", "3", "2", f"{7 / 3:.1f}", "3.0"],
    ["validation", "1", "1", "5.0", "1.0"],
    ["test", "0", "0", "nan", "nan"],
  ]
  assert len({len(line) for line in table}) == 1


def test_the_papers_counts_and_the_differences_stand_beside_ours():
  reasons = ["only a part", "two are malformed"]
  lines = _lines("prm800k", _ROWS, reasons, leaks=2)
  table, (told, counts, lengths) = lines[1:7], lines[7:]
  assert [line.split() for line in table[1:]] == [
    ["train", "5", "6,473", "-2", "3", "2", "2.3", "3.0"],
    ["validation", "1", "564", "0", "1", "1", "5.0", "1.0"],
    ["test", "0", "512", "0", "0", "0", "nan", "nan"],
    ["all", "6", "7,549", "-2", "4", "3", "3.0", "2.5"],
    ["paper", "57.3", "305.2"],
  ]
  assert len({len(line) for line in table}) == 1
  assert "train -6,468, validation -563, test -512 rows" in told
  assert "-54.3 and -302.7 tokens" in told
  assert counts == "Other counts: only a part; two are malformed."
  assert "blanks is not the vocabulary of PaLM 2" in lengths


def test_the_papers_own_counts_need_no_reason():
  rows = {
    split: [_row(str(i), "p", "s") for i in range(number)]
    for split, number in data_table.PAPER["math"].solutions.items()
  }
  lines = _lines("math", rows, ["why"])
  assert "train +0, validation +0, test +0" in lines[-2]
  assert "why" not in "".join(lines)


def test_the_papers_numbers_are_those_of_its_text(shared_dir):
  (text,) = (shared_dir / "paper").glob("*.txt")
  lines = [line.split() for line in text.read_text("utf-8").splitlines()]
  for name, source in (("MATH", "math"), ("PRM800K", "prm800k")):
    paper = data_table.PAPER[source]
    numbers = [*paper.solutions.values()]
    numbers += [paper.problem_length, paper.solution_length]
    assert [name, *map(str, numbers)] in lines


def test_the_lengths_of_math_500_are_those_of_its_published_file(shared_dir):
  directory = shared_dir / "data/math"
  rows = list(hendrycks_math.read(directory))
  num_rows = collections.Counter(row.split for row in rows)
  by_split, _ = splits.without_leaks(rows)
  pieces = sentencepiece.SentencePieceProcessor(str(math_vocabulary.PATH))
  lines = data_table.lines("math", by_split, pieces.encode, "math_2k", num_rows)
  cells = {line.split()[0]: line.split()[1:] for line in lines}
  raw = [r for _, r in jsonl.read(directory / "lightman_test500.jsonl.gz")]
  means = [
    statistics.fmean(len(pieces.encode(row[name])) for row in raw)
    for name in ("problem", "solution")
  ]
  lengths = [f"{mean:.1f}" for mean in means]
  assert cells["test"] == ["500", "500", "0", "500", "500", *lengths]
  assert cells["train"][:4] == ["11,000", "11,000", "-30", "10,970"]
  assert cells["validation"][:4] == ["1,000", "1,000", "0", "1,000"]
  assert float(cells["all"][5]) == pytest.approx(79.3, abs=0.05)
