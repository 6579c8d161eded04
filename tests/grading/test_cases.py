r"""Pairs of answers with what is right, by people's judgement.

`cases/math.jsonl`: real reference answers of MATH against rewritten forms, near
misses and real samples. `cases/trackers.jsonl`: pairs that public graders got
wrong, with the thread or table that tells. `cases/hard.jsonl`: forms that
graders are weak at. `cases/more.jsonl`: what language models write, put
together after the others had been learnt from; at first sight 91.0 % of it were
judged right. `cases/blind.jsonl`: two sets as that one, later; at first sight
89.5 and 94.8 % were judged right. None was made with this grader at hand.
"""

import collections
import json
import pathlib

import pytest

from mathft_jax.grading import grader

_CASES = pathlib.Path(__file__).parent / "cases"

# What we get wrong, and why. The list may only get shorter.
_MISSED = {
  "a matrix of rounded decimals": (
    "(\\begin{pmatrix}0.29\\\\0.196\\\\-0.186\\\\\\end{pmatrix})",
    "\\begin{pmatrix}0.290243531202435\\\\0.196008371385084\\\\"
    "-0.186381278538813\\end{pmatrix}",
  ),
  "a rounded decimal in scientific notation": (
    "2.314814814815 \\times 10^{-3}",
    "\\frac{1}{432}",
  ),
  "the distance of 2^(1/2^1000) from 1 is below our precision": (
    "[1,+\\infty)",
    "[2^{\\frac{1}{2^{1000}}}, \\infty)",
  ),
  "10m may be ten times m": ("10m", "10"),
  "pct is no unit that we know": ("28\\%", "28 pct"),
  "a quotient of segments as a name": (
    "\\frac{NO}{BO}=\\frac{1}{\\sqrt{6}}",
    "\\frac{1}{\\sqrt{6}}",
  ),
  "sums with an index are not read": (
    "F_n = \\sum_{k=0}^{n-1} F_k F_{n-k-1}",
    "F_n = \\sum_{k=0}^{n-1} F_{n-k-1} F_k",
  ),
  "prose": ("1 and odd prime numbers", "1 \\text{ and all odd prime numbers}"),
  "10/33 rounds to 0.303, and the reference is a decimal": (
    "0.303",
    "0.\\overline{30}",
  ),
  "a shape in words": ("\\triangle ABC", "triangle ABC"),
  "a noun more": ("\\text{isosceles}", "isosceles triangle"),
  "squares are no arithmetic progression": (
    "1,4,9,16,25",
    "1^2, 2^2, \\ldots, 5^2",
  ),
  "a name before an equation": (
    "f(x)=0",
    "The zero function, $f(x)=0$ for all real $x$.",
  ),
  "a matrix in words": (
    "\\begin{pmatrix} 0 & 0 \\\\ 0 & 0 \\end{pmatrix}",
    "the 2×2 zero matrix",
  ),
  "an upright letter may be a unit": ("a^2b", "a^{2}\\mathrm{b}"),
}
_NAMES = ("math", "trackers", "hard", "more", "blind")


@pytest.mark.parametrize("name", _NAMES)
def test_verdicts_are_those_of_people(name):
  rows = _read(name)
  assert len(rows) >= 400
  wrong = [
    row
    for row in _wrong(rows)
    if (row["reference"], row["candidate"]) not in _MISSED.values()
  ]
  assert wrong == []


def test_the_list_of_misses_is_up_to_date():
  missed = {
    (row["reference"], row["candidate"])
    for name in _NAMES
    for row in _wrong(_read(name))
  }
  assert missed == set(_MISSED.values())


def test_the_cases_cover_what_graders_are_weak_at():
  categories = collections.Counter(
    row["category"] for name in ("math", "hard") for row in _read(name)
  )
  assert len(categories) > 40
  verdicts = collections.Counter(
    row["equivalent"] for name in ("math", "hard") for row in _read(name)
  )
  assert min(verdicts.values()) > 1_500  # Neither verdict wins by default.


def _wrong(rows: list[dict]) -> list[dict]:
  return [
    row
    for row in rows
    if grader.is_equivalent(row["reference"], row["candidate"])
    != row["equivalent"]
  ]


def _read(name: str) -> list[dict]:
  text = (_CASES / f"{name}.jsonl").read_text(encoding="utf-8")
  return [json.loads(line) for line in text.split("\n") if line]
