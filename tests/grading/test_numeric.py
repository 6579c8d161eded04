import cmath
import math

import pytest

from mathft_jax.grading import normalize, numeric, parse, trees


def _tree(text: str) -> trees.Tree:
  return parse.parse(normalize.normalize(text)).tree


@pytest.mark.parametrize(
  ("text", "value"),
  [
    ("\\frac{2\\sqrt{5}}{3}\\pi", 2 * math.sqrt(5) / 3 * math.pi),
    ("\\cos 60^\\circ", 0.5),
    ("\\sin^2 2", math.sin(2) ** 2),
    ("\\sin^{-1} 1", math.pi / 2),
    ("\\tan(\\pi/8)", math.tan(math.pi / 8)),
    ("\\log 2", math.log10(2)),
    ("\\log_2 3", math.log2(3)),
    ("\\ln 2 + e^2", math.log(2) + math.e**2),
    ("(1 + 2i)^3", (1 + 2j) ** 3),
    ("e^{2i}", cmath.exp(2j)),
    ("\\sqrt[3]{-2}", -(2 ** (1 / 3))),
    ("|3 - 4i|", 5),
  ],
)
def test_constants_have_their_value(text, value):
  found = numeric.value_at(_tree(text), 0)
  assert complex(found) == pytest.approx(complex(value), rel=1e-14)


@pytest.mark.parametrize(
  ("first", "second", "verdict"),
  [
    ("(x+1)^2", "x^2+2x+1", True),
    ("\\sqrt{x^2}", "|x|", True),
    ("\\sqrt{x^2}", "x", False),
    ("x y", "x z", False),
    ("\\sqrt{-x^2-1}", "\\sqrt{-x^2-2}", None),
    ("\\sqrt2", "1.4142135623730950488", False),
    # Fifty right digits are too many to differ and too few to agree.
    (
      "\\sqrt2",
      "1.41421356237309504880168872420969807856967187537694",
      None,
    ),
    ("\\sin \\pi", "0", None),
    ("10^{-50}\\pi", "2\\pi 10^{-50}", None),
    ("\\frac{1}{x-x}", "\\frac{2}{x-x}", None),
  ],
)
def test_a_fingerprint_decides_what_it_can(first, second, verdict):
  assert numeric.equal(_tree(first), _tree(second)) is verdict


@pytest.mark.parametrize(
  ("first", "second", "verdict"),
  [("2x+2y", "3x+3y", True), ("2x+y", "3x+3y", False), ("x", "-x", True)],
)
def test_proportional_ignores_a_constant_factor(first, second, verdict):
  assert numeric.proportional(_tree(first), _tree(second)) is verdict


def test_a_positive_factor_may_be_asked_for():
  x, minus_x = _tree("x"), _tree("-x")
  assert numeric.proportional(x, minus_x, is_positive=True) is False


@pytest.mark.parametrize(
  "text",
  [
    "9^{9^{9^{9}}}",
    "10000000!",
    "\\binom{10^9}{5 \\cdot 10^8}",
    "e^{e^{e^{e^{e}}}}",
    "(2^{\\pi})^{99999}",
  ],
)
def test_large_numbers_are_refused(text):
  with pytest.raises(trees.BoundExceeded):
    numeric.value_at(_tree(text), 0)
