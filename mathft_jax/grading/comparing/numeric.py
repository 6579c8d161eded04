"""Values of expressions at fixed points, to eighty digits."""

import contextlib
import functools
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

from mathft_jax.grading import trees, values

_DIGITS = 80
# Two values agree below the first relative difference and differ above the
# second; between them rounding may have spoilt either, and nobody decides.
_AGREE = 1e-60
_DIFFER = 1e-40
# A value smaller than this may be what is left of a zero.
_NOISE = 1e-40
# Beside a term as large as this, others are below our precision.
_SWAMPING = 1e50
# |log2| of the largest number looked at.
_MAX_MAGNITUDE = 20_000
_MAX_FACTORIAL = 3_000
_MAX_BINOMIAL = 100_000
_MAX_ZETA = 50
# Operations in all terms of a series.
_MAX_SERIES = 2_000

# Where the variables are looked at: (from, to) of each point's range. Near 1
# most functions have moderate values; the others are for what differs far off,
# and for roots, logarithms and arcs that are real there only.
_RANGES = (
  (0.05, 0.95),
  (0.05, 0.95),
  (0.5, 1.5),
  (-1.5, -0.5),
  (-9.0, -3.0),
  (3.0, 9.0),
  (3.0, 9.0),
  (2_000.0, 9_000.0),
  (-9_000.0, -2_000.0),
)
# Variables that stand for integers in roundings.
_INTEGERS = frozenset("nkmij")
# Beyond this point a function that grows too much is undefined, no more.
_FIRST_FAR_POINT = 7


# How long this thread may compute yet: its own time, so that neither a busy
# machine nor the import of mpmath decides a verdict.
_clock = threading.local()


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
  """Within it, evaluation raises BoundExceeded once the time is over."""
  before = getattr(_clock, "limit", None), getattr(_clock, "deadline", None)
  _clock.limit, _clock.deadline = seconds, None
  try:
    yield
  finally:
    _clock.limit, _clock.deadline = before


def _check_clock() -> None:
  if getattr(_clock, "limit", None) is None:
    return
  now = time.thread_time()
  if _clock.deadline is None:  # The first value within the limit.
    _clock.deadline = now + _clock.limit
  elif now > _clock.deadline:
    raise trees.BoundExceeded("values that take long")


class _Undefined(ValueError):
  pass


def equal(first: trees.Tree, second: trees.Tree) -> bool | None:
  """Whether two expressions agree wherever both are defined.

  None if they agree at fewer than two points, or agree only roughly. Raises
  BoundExceeded where a number gets too large.
  """
  known = values.equal(first, second)
  if known is not None:
    return known
  if _has_abs(first) != _has_abs(second) and _differ_in_domain(first, second):
    return False
  num_agreeing = 0
  for left, right in _defined_pairs(first, second):
    scale = max(abs(left), abs(right))
    if scale < _NOISE:  # Or both are exactly 0: rounded down, say.
      continue
    difference = abs(left - right) / scale
    if difference > _DIFFER:
      return False
    if difference > _AGREE:
      return None
    if scale < _SWAMPING or not (_has_sum(first) or _has_sum(second)):
      num_agreeing += 1
  enough = 1 if trees.is_constant(first) and trees.is_constant(second) else 2
  return True if num_agreeing >= enough else None


def differ_by_constant(first: trees.Tree, second: trees.Tree) -> bool | None:
  """Whether first - second is one constant, as of two antiderivatives."""
  if _has_abs(first) != _has_abs(second) and _differ_in_domain(first, second):
    return False
  differences = [a - b for a, b in _defined_pairs(first, second)]
  if len(differences) < 3:
    return None
  return all(agree(d, differences[0]) for d in differences)


def proportional(
  first: trees.Tree, second: trees.Tree, is_positive: bool = False
) -> bool | None:
  """Whether first = c * second for one constant c, > 0 if `is_positive`."""
  known = values.proportional(first, second, is_positive)
  if known is not None:
    return known
  ratios = []
  for left, right in _defined_pairs(first, second):
    small = (abs(left) < _NOISE, abs(right) < _NOISE)
    if small == (True, True):
      continue
    if any(small):
      return False
    ratios.append(left / right)
  if len(ratios) < 2:
    return None
  spread = max(abs(ratio / ratios[0] - 1) for ratio in ratios)
  if spread > _DIFFER:
    return False
  if spread > _AGREE:
    return None
  return not is_positive or ratios[0].real > 0


def _defined_pairs(
  first: trees.Tree, second: trees.Tree
) -> Iterator[tuple[Any, Any]]:
  for a, b in _values(first, second):
    if a is not None and b is not None:
      yield a, b


def _values(first: trees.Tree, second: trees.Tree) -> Iterator[tuple[Any, Any]]:
  """The values at the same points, None where there is none; lazily.

  Identities of real functions need not hold outside the reals. So of functions
  without the imaginary unit no step of the way may leave them.
  """
  is_constant = trees.is_constant(first) and trees.is_constant(second)
  is_real = not (is_constant or _has_imaginary(first) or _has_imaginary(second))
  # Bounds of a sum are integers.
  is_integral = any(
    trees.has_call(tree, values.SERIES) for tree in (first, second)
  )
  is_stepped = not is_constant and any(
    trees.has_call(tree, ("floor", "ceiling")) for tree in (first, second)
  )
  if is_stepped:  # They differ at integers, or are equal there alone.
    yield from _integral_values(first, second, is_real)
    if _INTEGERS.issuperset(
      trees.symbol_names(first) | trees.symbol_names(second)
    ):
      return
  for point in range(1 if is_constant else len(_RANGES)):
    # Most pairs that differ do so at the first point.
    a, b = (
      value_at(
        tree,
        0 if trees.is_constant(tree) else point,
        is_real,
        is_integral,
      )
      for tree in (first, second)
    )
    yield a, b


def _integral_values(
  first: trees.Tree, second: trees.Tree, is_real: bool
) -> Iterator[tuple[Any, Any]]:
  for point in range(len(_RANGES)):
    yield (
      value_at(first, point, is_real, is_integral=True),
      value_at(second, point, is_real, is_integral=True),
    )


def _differ_in_domain(first: trees.Tree, second: trees.Tree) -> bool:
  """Whether one is defined near zero where the other is not: ln|x|, ln x."""
  near = itertools.islice(_values(first, second), _FIRST_FAR_POINT)
  return any((a is None) != (b is None) for a, b in near)


def _has_sum(tree: trees.Tree) -> bool:
  return trees.has_call(tree, ("add", "sum"))


def _has_abs(tree: trees.Tree) -> bool:
  return trees.has_call(tree, ("abs",))


def _is_real(value: Any) -> bool:
  return abs(value.imag) <= _AGREE * abs(value.real)


def _has_imaginary(tree: trees.Tree) -> bool:
  return trees.has_call(tree, ("cis",)) or any(
    leaf == trees.IMAGINARY_UNIT for leaf in trees.leaves(tree)
  )


@functools.lru_cache(maxsize=1 << 14)
def value_at(
  tree: trees.Tree,
  point: int,
  is_real: bool = False,
  is_integral: bool = False,
) -> Any:
  """The value at one of the points; raises BoundExceeded at near ones.

  With `is_real` there is none where any part of the tree is not real. With
  `is_integral` the points are integers.
  """
  lookup = functools.partial(
    _integer_value if is_integral else _symbol_value, point=point
  )
  try:
    return value_with(tree, lookup, is_real)
  except trees.BoundExceeded:
    if point < _FIRST_FAR_POINT:
      raise
    return None


def value_with(
  tree: trees.Tree, lookup: Callable[[str], Any], is_real: bool = False
) -> Any:
  """The value where `lookup` gives the variables'; None where it has none.

  With `is_real` there is none where any part of the tree is not real. Raises
  BoundExceeded where a number gets too large, or is none that mpmath computes:
  what is not known must not pass for what does not exist.
  """
  try:
    return _evaluate(tree, lookup, is_real)
  except trees.BoundExceeded:
    raise
  except (ValueError, ArithmeticError):  # A pole, a domain: mpmath's own words.
    return None
  except NotImplementedError as error:
    raise trees.BoundExceeded(f"a value not computed: {error}") from error


def real_value(tree: trees.Tree) -> Any:
  """The value of a constant, +-infinity included; None if it is not real."""
  exact = values.value_of(tree)
  if exact is not None:
    if isinstance(exact, float):
      return _context().mpf(exact)
    return _context().mpf(exact.numerator) / exact.denominator
  if not trees.is_constant(tree):
    return None
  value = value_at(tree, 0)
  return value.real if value is not None and _is_real(value) else None


def symbol_value(name: str) -> Any:
  """The value of a variable at the first of the points."""
  return _symbol_value(name, 0)


def number(value: int | Fraction) -> Any:
  """A rational number in this module's arithmetic."""
  return _context().mpf(Fraction(value).numerator) / Fraction(value).denominator


def agree(first: Any, second: Any) -> bool:
  """Whether two values, None for undefined, are the same up to rounding."""
  if first is None or second is None:
    return first is second
  if first == second:
    return True
  scale = max(abs(first), abs(second), 1)
  return abs(first - second) / scale < _DIFFER


@functools.cache
def _context() -> Any:
  """Returns the arithmetic, a context of our own: precision is global."""
  import mpmath

  context = mpmath.MPContext()
  context.dps = _DIGITS
  return context


@functools.lru_cache(maxsize=1 << 12)
def _symbol_value(name: str, point: int) -> Any:
  context = _context()
  # Seeding with a string gives the same bits on every machine.
  source = random.Random(f"{name} at {point}")
  low, high = _RANGES[point]
  return low + (high - low) * context.mpf(source.getrandbits(200)) / (1 << 200)


@functools.lru_cache(maxsize=1 << 12)
def _integer_value(name: str, point: int) -> Any:
  return _context().mpf(random.Random(f"{name} at {point}").randint(2, 15))


def _evaluate(
  tree: trees.Tree, lookup: Callable[[str], Any], is_real: bool
) -> Any:
  context = _context()
  _check_clock()
  if isinstance(tree, trees.Number):
    number = tree.value
    value = context.mpf(number.numerator) / number.denominator
  elif isinstance(tree, trees.Symbol):
    value = lookup(tree.name)
  elif isinstance(tree, trees.Constant):
    value = _constant(context, tree.name)
  elif isinstance(tree, trees.Call):
    exact = values.value_of(tree)
    if isinstance(exact, Fraction):
      value = context.mpf(exact.numerator) / exact.denominator
    elif tree.name == "apply":
      value = _applied(tree, lookup, is_real)
    elif tree.name in values.SERIES:
      value = _series(tree, lookup, is_real)
    else:
      compute = _OPERATIONS.get(tree.name)
      if compute is None:
        raise _Undefined(tree.name)
      args = (_evaluate(arg, lookup, is_real) for arg in tree.args)
      value = compute(context, *args)
      if is_real and isinstance(value, context.mpc):
        raise _Undefined("not real")
  else:
    exact = values.value_of(tree)
    if not isinstance(exact, Fraction):
      raise _Undefined(type(tree).__name__)
    value = context.mpf(exact.numerator) / exact.denominator
  return _checked(context, value)


def _applied(
  tree: trees.Call, lookup: Callable[[str], Any], is_real: bool
) -> Any:
  """A value of a function of which only the name is known.

  Any function will do, as long as it is no simple one: with f linear,
  f(x + y) would be f(x) + f(y).
  """
  context = _context()
  head, argument = tree.args
  x = _evaluate(argument, lookup, is_real)
  shift = _symbol_value(f"function {head}", 0)
  return context.atan(x * shift) + context.sqrt(x * x + shift)


def _series(
  tree: trees.Call, lookup: Callable[[str], Any], is_real: bool
) -> Any:
  context = _context()
  term, index, *bounds = tree.args
  low, high = (_evaluate(bound, lookup, is_real) for bound in bounds)
  if not (context.isint(low) and context.isint(high)):
    raise _Undefined("a series between bounds that are no integers")
  indices = values.index_range(Fraction(int(low)), Fraction(int(high)))
  if indices is None or len(indices) * trees.num_nodes(term) > _MAX_SERIES:
    raise trees.BoundExceeded("a long series")
  terms = (
    _evaluate(trees.substitute(term, index, trees.number(k)), lookup, is_real)
    for k in indices
  )
  if tree.name == "sum":
    return sum(terms, context.mpf(0))
  return _multiply(context, *terms)


def _constant(context: Any, name: str) -> Any:
  if name == "pi":
    return +context.pi
  if name == "e":
    return +context.e
  if name == "i":
    return context.mpc(0, 1)
  raise _Undefined(name)


def _checked(context: Any, value: Any) -> Any:
  if not context.isfinite(value):
    raise _Undefined("infinite")
  if value != 0 and abs(context.mag(value)) > _MAX_MAGNITUDE:
    raise trees.BoundExceeded("a number out of bounds")
  return value


def _multiply(context: Any, *args: Any) -> Any:
  product = context.mpf(1)
  for arg in args:
    product = _checked(context, product * arg)
  return product


def _power(context: Any, base: Any, exponent: Any) -> Any:
  if base == 0:
    if exponent.real > 0:
      return context.mpf(0)
    raise _Undefined("a power of zero")
  if abs(exponent) * abs(context.mag(base) + 1) > _MAX_MAGNITUDE:
    if abs(exponent * context.log(base)) > _MAX_MAGNITUDE:
      raise trees.BoundExceeded("a power out of bounds")
  return base**exponent


def _root(context: Any, radicand: Any, degree: Any) -> Any:
  is_odd = context.isint(degree) and int(degree.real) % 2 == 1
  if is_odd and radicand.imag == 0 and radicand.real < 0:
    return -_power(context, -radicand, 1 / degree)
  return _power(context, radicand, 1 / degree)


def _small(x: Any) -> Any:
  if abs(x) > _MAX_FACTORIAL:
    raise trees.BoundExceeded("an argument out of bounds")
  return x


def _small_real(x: Any) -> Any:
  if x.imag != 0 or abs(x) > _MAX_ZETA:
    raise trees.BoundExceeded("an argument out of bounds")
  return x


def _factorial(context: Any, n: Any) -> Any:
  if abs(n) > _MAX_FACTORIAL:
    raise trees.BoundExceeded("a factorial out of bounds")
  return context.gamma(n + 1)


def _binomial(context: Any, n: Any, k: Any) -> Any:
  if abs(n) > _MAX_BINOMIAL or abs(k) > _MAX_BINOMIAL:
    raise trees.BoundExceeded("a binomial out of bounds")
  return context.binomial(n, k)


def _floor(context: Any, x: Any) -> Any:
  nearest = context.nint(x)
  # A whole number may come out a rounding error below itself.
  return nearest if abs(x - nearest) < _NOISE else context.floor(x)


def _ordered(args: Sequence[Any]) -> Sequence[Any]:
  if any(arg.imag != 0 for arg in args):
    raise _Undefined("complex numbers have no order")
  return [arg.real for arg in args]


def _log(context: Any, x: Any, base: Any) -> Any:
  return context.log(x) / context.log(base)


def _named(name: str) -> Callable[..., Any]:
  return lambda context, x: getattr(context, name)(x)


_OPERATIONS: dict[str, Callable[..., Any]] = {
  "add": lambda context, *args: sum(args, context.mpf(0)),
  "multiply": _multiply,
  "power": _power,
  "sqrt": _named("sqrt"),
  "root": _root,
  "factorial": _factorial,
  "binomial": _binomial,
  "abs": lambda context, x: abs(x),
  "floor": _floor,
  "ceiling": lambda context, x: -_floor(context, -x),
  "conjugate": lambda context, x: context.conj(x),
  "sgn": lambda context, x: context.sign(x),
  "percent": lambda context, x: x / 100,
  "min": lambda context, *args: min(_ordered(args)),
  "max": lambda context, *args: max(_ordered(args)),
  "log": _log,
  "sin": _named("sin"),
  "cos": _named("cos"),
  "tan": _named("tan"),
  "cot": _named("cot"),
  "sec": _named("sec"),
  "csc": _named("csc"),
  "arcsin": _named("asin"),
  "arccos": _named("acos"),
  "arctan": _named("atan"),
  "arsinh": _named("asinh"),
  "arcosh": _named("acosh"),
  "artanh": _named("atanh"),
  "sinh": _named("sinh"),
  "cosh": _named("cosh"),
  "tanh": _named("tanh"),
  "cis": lambda context, x: context.expj(x),
  "zeta": lambda context, x: context.zeta(_small_real(x)),
  "gamma": lambda context, x: context.gamma(_small(x)),
}
