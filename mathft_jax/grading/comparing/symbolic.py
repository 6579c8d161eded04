"""Comparison of expressions by computer algebra; may take for ever.

Only a worker process, which can be killed, calls this module's functions.
Trees become SymPy objects node by node; no text ever reaches SymPy.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from mathft_jax.grading import trees, values
from mathft_jax.grading.comparing import numeric

# SymPy computes such powers and factorials at once, however large they are.
_MAX_EXPONENT = 2_000
_MAX_FACTORIAL = 2_000


def equal(first: trees.Tree, second: trees.Tree) -> bool | None:
  """Whether two expressions are equal; None if SymPy cannot tell."""
  known = _numerically(numeric.equal, first, second)
  if known is not None:
    return known
  import sympy

  difference = sympy.simplify(build(first) - build(second))
  if difference == 0:
    return True
  return difference.equals(0)


def proportional(
  first: trees.Tree, second: trees.Tree, is_positive: bool = False
) -> bool | None:
  """Whether first = c * second for one constant c, > 0 if `is_positive`."""
  known = _numerically(numeric.proportional, first, second, is_positive)
  if known is not None:
    return known
  import sympy

  left, right = build(first), build(second)
  if left == 0 or right == 0:
    return left == right
  ratio = sympy.simplify(left / right)
  if ratio.free_symbols:
    return None
  return ratio.is_positive if is_positive else True


def _numerically(decide: Callable[..., bool | None], *args: Any) -> bool | None:
  try:
    return decide(*args)
  except trees.BoundExceeded:
    return None


def build(tree: trees.Tree) -> Any:
  """Returns the expression as a SymPy object; symbols are real.

  Raises BoundExceeded for what SymPy would compute without end, or as we do
  not.
  """
  import sympy

  if isinstance(tree, trees.Number):
    return sympy.Rational(tree.value.numerator, tree.value.denominator)
  if isinstance(tree, trees.Based):
    value = values.value_of(tree)
    assert isinstance(value, Fraction)
    return sympy.Rational(value.numerator, value.denominator)
  if isinstance(tree, trees.Symbol):
    return sympy.Symbol(tree.name, real=True)
  if isinstance(tree, trees.Constant):
    return {
      "pi": sympy.pi,
      "e": sympy.E,
      "i": sympy.I,
      "infinity": sympy.oo,
    }[tree.name]
  if not isinstance(tree, trees.Call) or tree.name in values.SERIES:
    raise trees.BoundExceeded(f"{type(tree).__name__} is no expression")
  if tree.name == "apply":
    return sympy.Function(str(tree.args[0]))(build(tree.args[1]))
  args = [build(arg) for arg in tree.args]
  _check(tree.name, args)
  return _operation(sympy, tree.name)(*args)


def _check(name: str, args: list[Any]) -> None:
  if name == "power" and args == [0, 0]:
    raise trees.BoundExceeded("0^0, which SymPy takes for 1")
  if name == "power" and args[1].is_number:
    if abs(args[1]) > _MAX_EXPONENT:
      raise trees.BoundExceeded("an exponent out of bounds")
  if name in ("factorial", "binomial") and args[0].is_number:
    if abs(args[0]) > _MAX_FACTORIAL:
      raise trees.BoundExceeded("a factorial out of bounds")


def _operation(sympy: Any, name: str) -> Callable[..., Any]:
  operations = {
    "add": sympy.Add,
    "multiply": sympy.Mul,
    "power": sympy.Pow,
    "root": sympy.real_root,
    "abs": sympy.Abs,
    "sgn": sympy.sign,
    "percent": lambda x: x / 100,
    "cis": lambda x: sympy.cos(x) + sympy.I * sympy.sin(x),
    "log": sympy.log,
    "arcsin": sympy.asin,
    "arccos": sympy.acos,
    "arctan": sympy.atan,
    "arsinh": sympy.asinh,
    "arcosh": sympy.acosh,
    "artanh": sympy.atanh,
    "min": sympy.Min,
    "max": sympy.Max,
  }
  # sqrt, sin, factorial, floor, ... have the same name there.
  return operations.get(name) or getattr(sympy, name)
