"""Units convert by their definitions."""

from fractions import Fraction

import pytest

from mathft_jax.grading import grader, units


def _measure(**powers: int) -> units.Measure:
  return frozenset(powers.items())


@pytest.mark.parametrize(
  ("given", "wanted", "factor"),
  [
    (_measure(meter=1), _measure(cm=1), 100),
    (_measure(mile=1), _measure(foot=1), 5280),
    (_measure(foot=2), _measure(inch=2), 144),
    (_measure(mile=1, hour=-1), _measure(foot=1, second=-1), Fraction(22, 15)),
    (_measure(liter=1), _measure(cm=3), 1000),
    (_measure(ml=1), _measure(cm=3), 1),
    (_measure(week=1), _measure(hour=1), 168),
    (_measure(dollar=1), _measure(cent=1), 100),
    (_measure(meter=1), _measure(meter=2), None),
    (_measure(meter=1), _measure(second=1), None),
    (_measure(dollar=1), _measure(euro=1), None),
    (_measure(pound=1), _measure(kg=1), None),
  ],
)
def test_factors_between_units(given, wanted, factor):
  assert units.factor(given, wanted) == factor


@pytest.mark.parametrize(
  ("reference", "candidate", "is_same"),
  [
    ("3\\text{ m}", "300 cm", True),
    ("3\\text{ m}", "30 cm", False),
    ("3\\text{ m}^2", "30000 \\text{ cm}^2", True),
    ("3\\text{ m}^2", "300 cm^2", False),
    ("\\$1.50", "150 cents", True),
    ("5.5 \\text{ feet}", "5 feet 6 inches", True),
    ("22.5^\\circ", "22°30'", True),
    ("180^\\circ", "\\pi", True),
    ("\\frac{\\pi}{6}", "\\frac{\\pi}{6}^\\circ", False),
    ("30 mph", "44 ft/s", True),
    ("30 mph", "45 ft/s", False),
  ],
)
def test_the_same_amount_in_another_unit(reference, candidate, is_same):
  assert grader.is_equivalent(reference, candidate) == is_same
  assert grader.is_same(candidate, reference) == is_same
