"""Vectors and matrices are the same in each of their notations."""

import pytest

from mathft_jax.grading import grader

_COLUMN = "\\begin{pmatrix} 2 \\\\ -1 \\end{pmatrix}"
_DIAGONAL = "\\begin{pmatrix} 7 & 0 \\\\ 0 & -2 \\end{pmatrix}"
_SQUARE = "\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}"


@pytest.mark.parametrize(
  ("first", "second", "is_same"),
  [
    (_COLUMN, "2\\mathbf{i} - \\mathbf{j}", True),
    (_COLUMN, "-\\hat{j} + 2\\hat{i}", True),
    (_COLUMN, "2\\mathbf{i} + \\mathbf{j}", False),
    (_COLUMN, "\\langle 2, -1 \\rangle", True),
    (_COLUMN, "(2, -1)", True),
    (_COLUMN, "[2, -1]", True),
    (_COLUMN, "(-1, 2)", False),
    ("\\langle 2, 0, -1 \\rangle", "2\\vec{i} - \\vec{k}", True),
    ("\\langle 2, 0, -1 \\rangle", "2\\vec{i} - \\vec{j}", False),
    (_SQUARE, "[[1, 2], [3, 4]]", True),
    (_SQUARE, "[[1, 3], [2, 4]]", False),
    (_SQUARE, "\\frac12 [[2, 4], [6, 8]]", True),
    (_SQUARE, "[1, 2, 3, 4]", False),
    (
      "\\begin{pmatrix}7&0\\\\0&-2\\end{pmatrix}",
      "\\operatorname{diag}(7,-2)",
      True,
    ),
    (
      "\\begin{pmatrix}7&0\\\\0&-2\\end{pmatrix}",
      "\\operatorname{diag}(-2,7)",
      False,
    ),
    ("[1, 2]", "(1, 2)", False),
    ("[1, 2, 3]", "(1, 2, 3)", True),
  ],
)
def test_notations_of_vectors(first, second, is_same):
  assert grader.is_same(first, second) == is_same
