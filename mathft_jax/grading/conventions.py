"""What a reference answer lets pass beyond equality: not symmetric.

A candidate may show how it got its answer ("m + n = 256 + 37 = 293"), and where
the reference is a rounded decimal, the exact value is right as well.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from mathft_jax.grading import numeric, parse, trees

_DECIMAL = re.compile(r"-?\d*\.\d+")
# 0.3 as a reference is three tenths; 0.33 may be a third.
_MIN_DIGITS = 2
_JOINED_THOUSANDS = re.compile(r"(?<![\d.,])\d{2,3}(?:,\d{3})+(?![\d,])")
_EQUALS = re.compile(r"(?<![<>!:\\])=")


def readings(reference: str, candidate: str) -> Iterator[tuple[str, str]]:
  """Yields other pairs: the candidate is right if one of them is equal.

  Both texts are as given, not normalized.
  """
  value = _last_side(candidate)
  if value is not None and not _EQUALS.search(reference):
    yield reference, value
  # "70,110" may be two numbers; only a list tells.
  if "," in reference and _JOINED_THOUSANDS.fullmatch(reference.strip()):
    yield reference.replace(",", ", "), candidate


def is_rounded(reference: parse.Answer, candidate: parse.Answer) -> bool:
  """Whether the reference is a decimal to which the exact value rounds.

  A candidate that is a finite decimal itself is another number.
  """
  text = reference.text
  if not _DECIMAL.fullmatch(text) or not trees.is_constant(candidate.tree):
    return False
  digits = text.lstrip("-0.").replace(".", "")
  if len(digits) < _MIN_DIGITS or _is_finite_decimal(candidate.tree):
    return False
  value: Any = numeric.real_value(candidate.tree)
  if value is None or abs(value) == float("inf"):
    return False
  half_unit = Fraction(1, 2 * 10 ** len(text.partition(".")[2]))
  off = abs(value - numeric.number(Fraction(text)))
  return bool(off <= numeric.number(half_unit))


def _is_finite_decimal(tree: trees.Tree) -> bool:
  if not isinstance(tree, trees.Number):
    return False
  rest = tree.value.denominator
  for prime in (2, 5):
    while rest % prime == 0:
      rest //= prime
  return rest == 1


def _last_side(text: str) -> str | None:
  """What follows the last "=", where something with a letter goes before it.

  "... = 0" is an equation, and no value.
  """
  sides = _EQUALS.split(text)
  value = sides[-1].strip()
  if len(sides) < 2 or not value or value.strip("$. ") == "0":
    return None
  if value.count("{") != value.count("}") or any(
    mark in text for mark in ("\\begin{cases", "\\begin{array", "<", ">")
  ):
    return None
  return value if any(map(str.isalpha, sides[0])) else None
