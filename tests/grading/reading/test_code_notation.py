"""What programs print is read as mathematics, and never run."""

import pytest

from mathft_jax.grading import grader
from mathft_jax.grading.reading import code_notation

_UNION = "(-\\infty, 1) \\cup [2, 3)"


@pytest.mark.parametrize(
  ("printed", "mathematics"),
  [
    ("Matrix([[1, 2], [3, 4]])", "[[1, 2], [3, 4]]"),
    ("np.array([1, 2])", "[1, 2]"),
    ("686*np.pi", "686*pi"),
    ("4*I-5", "4*i-5"),
    ("Interval(-oo, 1)", "(-oo, 1]"),
    ("Interval.Lopen(0, 1)", "(0, 1]"),
    (
      "Union(Interval.open(-oo, -7), Interval.open(1, 2))",
      "(-oo, -7)\\cup (1, 2)",
    ),
    ("FiniteSet(1, 2)", "\\{1, 2\\}"),
    ("(-oo, 1)U(2, 3)", "(-oo, 1)\\cup (2, 3)"),
    ("[1 2;3 4]", "\\begin{matrix}1&2 \\\\ 3&4\\end{matrix}"),
    ("I", "I"),
    ("IJ*K", "IJ*K"),
    ("[1, 2]", "[1, 2]"),
    ("\\text{Matrix}", "\\text{Matrix}"),
  ],
)
def test_notation_of_programs(printed, mathematics):
  assert code_notation.read(printed) == mathematics


@pytest.mark.parametrize(
  ("reference", "candidate", "is_right"),
  [
    (
      "\\begin{pmatrix} 1/2 \\\\ 3 \\end{pmatrix}",
      "Matrix([[Rational(1, 2)], [3]])",
      True,
    ),
    (
      "\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}",
      "array([[1, 3], [2, 4]])",
      False,
    ),
    (
      "(-\\infty, 1) \\cup [2, 3)",
      "Union(Interval.open(-oo, 1), Interval.Ropen(2, 3))",
      True,
    ),
    (
      "(-\\infty, 1) \\cup [2, 3)",
      "Union(Interval.open(-oo, 1), Interval(2, 3))",
      False,
    ),
    ("2 + 3i", "3*I + 2", True),
    ("2 + 3i", "2 - 3j", False),
    ("2 + 3i", "(2+3j)", True),
    ("1, 2", "[1, 2]", True),
    ("(1, 2)", "[1, 2]", False),
  ],
)
def test_printed_answers_are_graded(reference, candidate, is_right):
  assert grader.is_equivalent(reference, candidate) == is_right
