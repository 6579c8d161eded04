import cmath
import math

import pytest

from mathft_jax.grading import trees
from mathft_jax.grading.comparing import numeric
from mathft_jax.grading.reading import normalize, parse


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


@pytest.mark.parametrize(
  ("series", "closed"),
  [
    ("\\sum_{k=1}^{10} k^2", str(sum(k * k for k in range(1, 11)))),
    ("\\prod_{i=2}^{6} (i+1)", str(math.prod(i + 1 for i in range(2, 7)))),
    ("\\sum_{k=1}^{n} k^2", "\\frac{n(n+1)(2n+1)}{6}"),
    ("\\sum_{k=0}^{n-1} 2^k", "2^n - 1"),
    ("(x-1)\\sum_{k=0}^{4}x^k", "x^5-1"),
    ("\\sum_{k=0}^{n} \\binom{n}{k} x^k", "(1+x)^n"),
    ("\\prod_{k=1}^{n} k", "n!"),
    ("\\sum_{k=1}^{3} \\sqrt{k}", "1+\\sqrt2+\\sqrt3"),
  ],
)
def test_finite_series_have_their_sum(series, closed):
  assert numeric.equal(_tree(series), _tree(closed)) is True
  assert numeric.equal(_tree(series), _tree(f"{closed}+1")) is False


@pytest.mark.parametrize(
  ("text", "value"),
  [
    ("\\zeta(2)", math.pi**2 / 6),
    ("\\Gamma(\\frac12)", math.sqrt(math.pi)),
    ("\\cosh^{-1} 2", math.acosh(2)),
    ("\\operatorname{arcsinh}(1)", math.asinh(1)),
    ("13!!", math.prod(range(1, 14, 2))),
  ],
)
def test_functions_of_numbers(text, value):
  assert float(numeric.value_at(_tree(text), 0)) == pytest.approx(value, 1e-14)


@pytest.mark.parametrize(
  ("first", "second", "is_same"),
  [
    # On the common domain, by convention; what |x| adds to it counts.
    ("\\sqrt{x-1}\\sqrt{x+1}", "\\sqrt{x^2-1}", True),
    ("\\ln|x|", "\\ln x", False),
    ("\\ln|x+1|+C", "\\ln(x+1)+C", False),
    ("\\sqrt{x^2}", "|x|", True),
    ("\\sqrt{x^2}", "x", False),
    ("x^{1/3}", "\\sqrt[3]{x}", True),
  ],
)
def test_functions_are_compared_where_they_are_real(first, second, is_same):
  assert numeric.equal(_tree(first), _tree(second)) is is_same


@pytest.mark.parametrize(
  ("first", "second", "verdict"),
  [
    ("\\frac12\\sin^2 x + C", "-\\frac14\\cos 2x + C", True),
    ("\\ln|x|+C", "\\ln|5x|+C", True),
    ("x^2+C", "x^2+x+C", False),
  ],
)
def test_antiderivatives_differ_by_a_constant(first, second, verdict):
  assert numeric.differ_by_constant(_tree(first), _tree(second)) is verdict


def _tree(text: str) -> trees.Tree:
  return parse.parse(normalize.normalize(text)).tree


def test_complex_numbers_have_no_least_one():
  for text in ("\\min(i, 2)", "\\max(2, 1 + i)"):
    assert numeric.value_at(_tree(text), 0) is None
  assert numeric.value_at(_tree("\\max(i^2, -3)"), 0) == -1


def test_what_is_not_computed_is_no_gap_and_a_fault_is_none(monkeypatch):
  """Else it would pass for a point where an expression has no value."""

  def refuses(error):
    def compute(context, x):
      raise error

    return compute

  tree = trees.Call("sin", (trees.number(2),))
  for error, raised in (
    (NotImplementedError("here"), trees.BoundExceeded),
    (TypeError("ours"), TypeError),
  ):
    numeric.value_at.cache_clear()
    monkeypatch.setitem(numeric._OPERATIONS, "sin", refuses(error))
    with pytest.raises(raised):
      numeric.value_at(tree, 0)
  numeric.value_at.cache_clear()
