"""Dots in a list stand for the rest of an arithmetic progression."""

import pytest

from mathft_jax.grading import grader


@pytest.mark.parametrize(
  ("dotted", "numbers"),
  [
    ("1, 2, \\ldots, 6", range(1, 7)),
    ("1, \\dots, 6", range(1, 7)),
    ("2, 4, ..., 10", range(2, 11, 2)),
    ("\\{-3, -2, …, 3\\}", range(-3, 4)),
    ("10, 8, \\cdots, 0", range(10, -1, -2)),
    ("1, 2, \\ldots, 9, 10", range(1, 11)),
    ("all integers from 1 to 100", range(1, 101)),
  ],
)
def test_dots_are_filled_in(dotted, numbers):
  listed = ", ".join(map(str, numbers))
  assert grader.is_same(dotted, listed)
  assert not grader.is_same(dotted, ", ".join(map(str, list(numbers)[:-1])))


@pytest.mark.parametrize(
  ("dotted", "listed"),
  [
    ("1, 2, 4, \\ldots, 16", "1, 2, 4, 16"),
    ("1, 3, \\ldots, 6", "1, 3, 6"),
    ("1, 2, \\ldots", "1, 2"),
    ("1, 2, \\ldots, 10^{9}", "1, 2, 1000000000"),
  ],
)
def test_other_dots_stay(dotted, listed):
  assert grader.is_same(dotted, dotted.replace("ldots", "dots"))
  assert not grader.is_same(dotted, listed)
