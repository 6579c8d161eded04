"""Tests of mathft_jax.cli.data_table."""

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


def _lines(source, by_split, reasons=()):
  return list(data_table.lines(source, by_split, str.split, "blanks", reasons))


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
  lines = _lines("prm800k", _ROWS, ["only a part", "two are malformed"])
  table, (told, counts, lengths) = lines[1:7], lines[7:]
  assert [line.split() for line in table[1:]] == [
    ["train", "3", "6,473", "2", "2.3", "3.0"],
    ["validation", "1", "564", "1", "5.0", "1.0"],
    ["test", "0", "512", "0", "nan", "nan"],
    ["all", "4", "7,549", "3", "3.0", "2.5"],
    ["paper", "57.3", "305.2"],
  ]
  assert len({len(line) for line in table}) == 1
  assert "train -6,470, validation -563, test -512 solutions" in told
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
  by_split, _ = splits.without_leaks(hendrycks_math.read(directory))
  pieces = sentencepiece.SentencePieceProcessor(str(math_vocabulary.PATH))
  lines = data_table.lines("math", by_split, pieces.encode, "math_2k")
  cells = {line.split()[0]: line.split()[1:] for line in lines}
  raw = [r for _, r in jsonl.read(directory / "lightman_test500.jsonl.gz")]
  means = [
    statistics.fmean(len(pieces.encode(row[name])) for row in raw)
    for name in ("problem", "solution")
  ]
  assert cells["test"] == ["500", "500", "500", *(f"{m:.1f}" for m in means)]
  assert cells["validation"][:3] == ["1,000"] * 3
  assert float(cells["all"][3]) == pytest.approx(79.3, abs=0.05)
