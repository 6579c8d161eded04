"""Exact rational values of expressions, and their comparison."""

import functools
import math
from collections.abc import Callable
from fractions import Fraction

from mathft_jax.grading import trees

# Larger integers are left to floating point, or to nobody.
MAX_BITS = 20_000
_MAX_FACTORIAL = 500
_MAX_TERMS = 500
# Operations in all terms of a series.
_MAX_SERIES = 10_000

# A Fraction, or plus or minus infinity as a float.
Value = Fraction | float


def equal(first: trees.Tree, second: trees.Tree) -> bool | None:
  """Whether two expressions are the same rational number; None: not known."""
  left, right = value_of(first), value_of(second)
  if left is None or right is None:
    has_none = _divides_by_zero(first), _divides_by_zero(second)
    return None if has_none[0] == has_none[1] else False
  return left == right


def proportional(
  first: trees.Tree, second: trees.Tree, is_positive: bool = False
) -> bool | None:
  """Whether first = c * second with a constant c; None: not known."""
  del is_positive
  # Statements about numbers alone have no solution set to compare.
  return equal(first, second)


@functools.lru_cache(maxsize=1 << 12)
def value_of(tree: trees.Tree) -> Value | None:
  """Returns the exact value, None if it is not rational or very large."""
  if isinstance(tree, trees.Number):
    return tree.value
  if isinstance(tree, trees.Based):
    return _based(tree)
  if tree == trees.INFINITY:
    return math.inf
  if not isinstance(tree, trees.Call):
    return None
  if tree.name in SERIES:
    return _series(tree)
  compute = _OPERATIONS.get(tree.name)
  if compute is None:
    return None
  args = [value_of(arg) for arg in tree.args]
  known = [arg for arg in args if arg is not None]
  if len(known) < len(args):
    return None
  finite = [arg for arg in known if isinstance(arg, Fraction)]
  if len(finite) < len(known):
    return _with_infinity(tree.name, known)
  value = compute(*finite)
  if value is None or _bits(value) > MAX_BITS:
    return None
  return value


def index_range(low: Fraction | None, high: Fraction | None) -> range | None:
  """The values of a series' index, None where they are none or too many."""
  if low is None or high is None or {low.denominator, high.denominator} != {1}:
    return None
  if high - low >= _MAX_TERMS:
    return None
  return range(low.numerator, high.numerator + 1)


@functools.lru_cache(maxsize=1 << 12)
def _divides_by_zero(tree: trees.Tree) -> bool:
  """Whether an expression has no value for that reason, as 1/0 has none."""
  if not isinstance(tree, trees.Call):
    return False
  if tree.name == "power":
    base, exponent = map(value_of, tree.args)
    if base == 0 and exponent is not None and exponent < 0:
      return True
  return any(map(_divides_by_zero, tree.args))


def _series(tree: trees.Call) -> Fraction | None:
  term, index, *bounds = tree.args
  low, high = (
    value if isinstance(value, Fraction) else None
    for value in map(value_of, bounds)
  )
  indices = index_range(low, high)
  if indices is None or len(indices) * trees.num_nodes(term) > _MAX_SERIES:
    return None
  total: list[Fraction] = []
  for number in indices:
    value = value_of(trees.substitute(term, index, trees.number(number)))
    if not isinstance(value, Fraction):
      return None
    total.append(value)
  return SERIES[tree.name](*total)


def _double_factorial(n: Fraction) -> Fraction | None:
  if n.denominator != 1 or not 0 <= n <= _MAX_FACTORIAL:
    return None
  return Fraction(math.prod(range(n.numerator, 0, -2)))


def _based(tree: trees.Based) -> Fraction:
  whole, _, part = tree.digits.partition(".")
  shift = tree.base ** len(part)
  return Fraction(int(whole + part, tree.base), shift)


def _with_infinity(name: str, args: list[Value]) -> Value | None:
  """Multiplication alone: "-oo" is read as -1 times infinity."""
  if name != "multiply" or 0 in args:
    return None
  num_negative = sum(arg < 0 for arg in args)
  return -math.inf if num_negative % 2 else math.inf


def _bits(value: Fraction) -> int:
  return max(value.numerator.bit_length(), value.denominator.bit_length())


def _sum(*args: Fraction) -> Fraction | None:
  total = Fraction(0)
  for arg in args:
    total += arg
    if _bits(total) > MAX_BITS:
      return None
  return total


def _product(*args: Fraction) -> Fraction | None:
  total = Fraction(1)
  for arg in args:
    total *= arg
    if _bits(total) > MAX_BITS:
      return None
  return total


def _power(base: Fraction, exponent: Fraction) -> Fraction | None:
  root: Fraction | None = base
  if exponent.denominator != 1:
    # (-8)^(1/3) is not rational: its principal value is complex.
    root = _root(base, Fraction(exponent.denominator)) if base >= 0 else None
  if root is None or (root == 0 and exponent <= 0):
    return None  # 0^0 has no value that everybody agrees on.
  if abs(root) == 1:
    return root ** (exponent.numerator % 2)
  if _bits(root) * abs(exponent.numerator) > MAX_BITS:
    return None
  return root**exponent.numerator


def _square_root(radicand: Fraction) -> Fraction | None:
  return _root(radicand, Fraction(2))


def _root(radicand: Fraction, degree: Fraction) -> Fraction | None:
  if degree.denominator != 1 or not 1 <= degree.numerator <= 64:
    return None
  n = degree.numerator
  if radicand < 0:
    if n % 2 == 0:
      return None
    root = _root(-radicand, degree)
    return None if root is None else -root
  top = _integer_root(radicand.numerator, n)
  bottom = _integer_root(radicand.denominator, n)
  if top is None or bottom is None:
    return None
  return Fraction(top, bottom)


def _integer_root(radicand: int, n: int) -> int | None:
  """Returns the exact n-th root of an integer >= 0, or None."""
  if n == 2:
    root = math.isqrt(radicand)
  else:
    low, high = 0, 1 << (radicand.bit_length() // n + 1)
    while low < high:
      middle = (low + high + 1) // 2
      if middle**n <= radicand:
        low = middle
      else:
        high = middle - 1
    root = low
  return root if root**n == radicand else None


def _factorial(n: Fraction) -> Fraction | None:
  if n.denominator != 1 or not 0 <= n <= _MAX_FACTORIAL:
    return None
  return Fraction(math.factorial(n.numerator))


def _binomial(n: Fraction, k: Fraction) -> Fraction | None:
  if n.denominator != 1 or k.denominator != 1:
    return None
  if not (0 <= n <= _MAX_FACTORIAL and 0 <= k <= _MAX_FACTORIAL):
    return None
  return Fraction(math.comb(n.numerator, k.numerator))


def _of_integers(
  function: Callable[..., int],
) -> Callable[..., Fraction | None]:
  def compute(*args: Fraction) -> Fraction | None:
    if any(arg.denominator != 1 for arg in args):
      return None
    return Fraction(function(*(arg.numerator for arg in args)))

  return compute


SERIES = {"sum": _sum, "product": _product}
_OPERATIONS: dict[str, Callable[..., Fraction | None]] = {
  "double factorial": _double_factorial,
  "add": _sum,
  "multiply": _product,
  "power": _power,
  "sqrt": _square_root,
  "root": _root,
  "factorial": _factorial,
  "binomial": _binomial,
  "abs": lambda x: abs(x),
  "floor": lambda x: Fraction(math.floor(x)),
  "ceiling": lambda x: Fraction(math.ceil(x)),
  "percent": lambda x: x / 100,
  "min": lambda *args: min(args),
  "max": lambda *args: max(args),
  "gcd": _of_integers(math.gcd),
  "lcm": _of_integers(math.lcm),
}
