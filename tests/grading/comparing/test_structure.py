import pytest

from mathft_jax.grading import trees
from mathft_jax.grading.comparing import numeric, structure
from mathft_jax.grading.reading import normalize, parse


def _compare(first: str, second: str) -> bool | None:
  a, b = (parse.parse(normalize.normalize(text)) for text in (first, second))
  verdict = structure.compare(a, b, numeric)
  assert structure.compare(b, a, numeric) is verdict  # Always symmetric.
  return verdict


@pytest.mark.parametrize(
  ("first", "second"),
  [
    ("(\\frac12, 3)", "(0.5, 6/2)"),
    ("\\{1, 2\\}", "2, 1"),
    ("2, 3, \\text{ and } 4", "4, 3, 2"),
    ("-2 \\text{ or } -12", "-12, -2"),
    ("1 \\pm \\sqrt{19}", "1 - \\sqrt{19}, 1 + \\sqrt{19}"),
    ("\\{1\\pm\\sqrt{5},-2\\}", "-2, 1+\\sqrt5, 1-\\sqrt5"),
    ("(-4, 27);(2, 15)", "(2, 15), (-4, 27)"),
    ("(0,1) \\cup [2,3)", "[2,3) \\cup (0,1)"),
    ("x > 3", "(3, \\infty)"),
    ("x \\ne 3", "(-\\infty,3) \\cup (3,\\infty)"),
    ("-1 < x \\le 3", "(-1, 3]"),
    ("3 \\ge x > -1", "(-1, 3]"),
    ("x < -1 \\text{ or } x > 1", "(-\\infty,-1) \\cup (1,\\infty)"),
    ("-80\\leq g(x)\\leq 82", "[-80, 82]"),
    ("x \\in [-2,7]", "[-2,7]"),
    ("(-\\infty,\\infty)", "All real numbers"),
    ("f(2) < f(1) < f(4)", "f(4) > f(1) > f(2)"),
    ("s^2 \\le 8r^2", "8r^2 - s^2 \\ge 0"),
    ("x = 5", "5"),
    ("5 = x", "x = 5"),
    ("AB = 12 + 12\\sqrt{3}", "12(1+\\sqrt3)"),
    ("f(x) = 2x", "2x"),
    ("h^{-1}(x) = \\frac{x+2}{7}", "(x+2)/7"),
    ("\\text{Area} = 4", "A = 4"),
    ("0.56 = 56\\%", "56\\%"),
    ("\\dfrac23 \\approx 0.67", "0.67"),
    ("y = 2x + 3", "2x - y = -3"),
    ("2x - y + 2z - 18 = 0", "4x - 2y + 4z = 36"),
    ("10\\%", "0.1"),
    ("10\\%", "10"),
    ("1061_9", "1061"),
    ("24_{10}", "30_8"),
    ("-221_3", "-221"),
    ("6:9", "2:3"),
    ("1:2", "\\frac12"),
    ("\\text{1:03 PM}", "1:03 p.m."),
    ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "(1, 2)"),
    ("\\langle 1, 2 \\rangle", "(1, 2)"),
    (
      "\\frac12 \\begin{pmatrix} 1 & 2 \\end{pmatrix}",
      "\\begin{bmatrix} 0.5 & 1 \\end{bmatrix}",
    ),
    ("\\text{Softball, Kickball}", "kickball, softball"),
    ("\\text{(B)}", "B"),
    ("\\text{MAKE}", "make"),
    ("x = \\text{odd}", "odd"),
    ("x = \\{1 \\pm \\sqrt2\\}", "1-\\sqrt2, 1+\\sqrt2"),
    ("15\\mbox{ cm}^2", "15 square centimeters"),
    ("\\emptyset", "no solution"),
  ],
)
def test_these_are_the_same(first, second):
  assert _compare(first, second) is True


@pytest.mark.parametrize(
  ("first", "second"),
  [
    ("(1, 2)", "(2, 1)"),
    ("(1, 2)", "[1, 2]"),
    ("(1, 2]", "[1, 2)"),
    ("(1, 2)", "1, 2"),
    ("(1, 2)", "(1, 2, 3)"),
    ("1, 2, 3", "1, 2"),
    ("1, 1, 2", "1, 2, 2"),
    ("x = 5", "y = 5"),
    ("x = 5", "6"),
    ("1 = 2", "2"),
    ("x + y", "x + z"),
    ("x > 3", "x < 3"),
    ("x > 3", "x \\ge 3"),
    ("x > 3", "[3, \\infty)"),
    ("x < y", "y < x"),
    ("y = 2x + 3", "y = 2x - 3"),
    ("10\\%", "0.01"),
    ("1011_2", "1011_3"),
    ("1011_2", "11"),
    ("1:2", "2:1"),
    ("0:5", "5:0"),
    ("8:34 \\text{ a.m.}", "8:34 \\text{ p.m.}"),
    ("8:34 \\text{ p.m.}", "4:17 \\text{ p.m.}"),
    ("5 feet", "5 inches"),
    (
      "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}",
      "\\begin{pmatrix} 1 & 2 \\end{pmatrix}",
    ),
    ("\\begin{pmatrix} 1 & 2 \\end{pmatrix}", "(1, 2)"),
    ("\\text{odd}", "\\text{even}"),
    ("\\text{circle}", "5"),
    ("B", "C"),
    ("(0,1) \\cup (2,3)", "(0,1)"),
  ],
)
def test_these_are_different(first, second):
  assert _compare(first, second) is False


def test_a_list_with_one_open_comparison_is_open():
  assert _compare("1, \\sin \\pi", "0, 1") is None
  assert _compare("1, \\sin \\pi", "0, 2") is False


def test_long_lists_are_refused():
  items = [f"\\sqrt{{{k}.5}}" for k in range(structure.MAX_ITEMS + 1)]
  with pytest.raises(trees.BoundExceeded):
    _compare(", ".join(items), ", ".join(items[::-1]))
