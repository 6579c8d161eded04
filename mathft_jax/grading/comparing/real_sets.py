"""Sets of real numbers: what intervals, unions and inequalities allow.

A set is its breakpoints in order with one flag for each cell: the gap below the
first, the first itself, the gap above it, and so on. Unions, intersections and
differences are then cell by cell, and two sets are equal where all flags are.
"""

import dataclasses
import operator
from collections.abc import Callable, Sequence
from typing import Any

from mathft_jax.grading import trees, values
from mathft_jax.grading.comparing import numeric

_MAX_BREAKPOINTS = 64
_SIGNS: dict[str, Callable[[Any], bool]] = {
  "=": lambda d: d == 0,
  "!=": lambda d: d != 0,
  "<": lambda d: d < 0,
  "<=": lambda d: d <= 0,
  ">": lambda d: d > 0,
  ">=": lambda d: d >= 0,
}
_INEQUALITIES = frozenset(["!=", "<", "<=", ">", ">=", "in"])
# Beside a difference this small, a value is on the breakpoint.
_ROUNDING = 1e-50


@dataclasses.dataclass(frozen=True)
class RealSet:
  """`inside` has 2 n + 1 flags for n finite breakpoints in rising order."""

  points: tuple[Any, ...]
  inside: tuple[bool, ...]

  def contains(self, x: Any) -> bool:
    """Whether a finite number is in the set."""
    return self.inside[_cell(self.points, x)]


EMPTY = RealSet((), (False,))
ALL = RealSet((), (True,))


class NotASet(ValueError):
  """The tree does not say which real numbers are meant."""


def is_one(tree: trees.Tree) -> bool:
  """Whether a tree must mean a set of reals, where it can be read as one."""
  if isinstance(tree, trees.Relation):
    return not _INEQUALITIES.isdisjoint(tree.signs)
  if isinstance(tree, trees.Collection):
    return any(map(is_one, tree.items))
  return isinstance(
    tree, trees.Union | trees.Intersection | trees.Difference | trees.Such
  )


def same(first: trees.Tree, second: trees.Tree) -> bool | None:
  """Whether two trees mean the same set; None if one cannot be read as one.

  A variable that both name must be the same: x > 3 is not y > 3.
  """
  readings = []
  for tree in (first, second):
    reader = _Reader()
    try:
      readings.append((reader.read(tree), reader.variable))
    except NotASet:
      return None
  (a, x), (b, y) = readings
  if x is not None and y is not None and x != y:
    return False
  return _combined(a, b, operator.eq) == ALL


def of_condition(tree: trees.Tree) -> tuple[RealSet, str | None]:
  """The numbers for which a condition holds, and its variable.

  Raises NotASet.
  """
  reader = _Reader()
  return reader.read(tree), reader.variable


def complement(given: RealSet) -> RealSet:
  return RealSet(given.points, tuple(not flag for flag in given.inside))


def union(first: RealSet, second: RealSet) -> RealSet:
  return _combined(first, second, operator.or_)


class _Reader:
  """Reads one tree, and keeps the variable that it speaks of."""

  def __init__(self):
    self.variable: str | None = None

  def read(self, tree: trees.Tree) -> RealSet:
    if isinstance(tree, trees.Group):
      return _interval(tree)
    if isinstance(tree, trees.Union):
      return self._joined(tree.items, operator.or_)
    if isinstance(tree, trees.Intersection):
      return self._joined(tree.items, operator.and_)
    if isinstance(tree, trees.Difference):
      removed = complement(self.read(tree.removed))
      return _combined(self.read(tree.whole), removed, operator.and_)
    if isinstance(tree, trees.Such):
      self._name(tree.variable)
      return self.read(tree.condition)
    if isinstance(tree, trees.Relation):
      return self._relation(tree)
    if isinstance(tree, trees.Collection):
      return self._collection(tree)
    if trees.is_expression(tree):
      return _points_set([_value(tree)])
    raise NotASet

  def _joined(
    self,
    items: Sequence[trees.Tree],
    combine: Callable[[bool, bool], bool],
  ) -> RealSet:
    if not items:
      raise NotASet
    total = self.read(items[0])
    for item in items[1:]:
      total = _combined(total, self.read(item), combine)
    return total

  def _collection(self, tree: trees.Collection) -> RealSet:
    items = tree.items
    if not any(map(is_one, items)):
      return self._joined(items, operator.or_) if items else EMPTY
    items = _spelled_out(items)
    excludes = all(
      isinstance(item, trees.Relation) and item.signs == ("!=",)
      for item in items
    )
    if tree.joined_by == "or" and not excludes:
      return self._joined(items, operator.or_)
    both = self._joined(items, operator.and_)
    if tree.joined_by == "and" or any(both.inside):
      return both
    return self._joined(items, operator.or_)  # "x < 1, x > 3"

  def _relation(self, tree: trees.Relation) -> RealSet:
    total = ALL
    for left, sign, right in zip(
      tree.sides, tree.signs, tree.sides[1:], strict=False
    ):
      total = _combined(total, self._pair(left, sign, right), operator.and_)
    return total

  def _pair(self, left: trees.Tree, sign: str, right: trees.Tree) -> RealSet:
    if sign == "in":
      self._name(left)
      return self.read(right)
    if sign not in _SIGNS:
      raise NotASet
    if isinstance(right, trees.Collection) and sign in ("=", "!="):
      named = [trees.Relation((left, x), (sign,)) for x in right.items]
      return self._joined(named, operator.or_ if sign == "=" else operator.and_)
    if not (trees.is_expression(left) and trees.is_expression(right)):
      raise NotASet
    bounds = [_infinity(left), _infinity(right)]
    if bounds != [0, 0]:
      self._name(right if bounds[0] else left)
      return ALL if _SIGNS[sign](bounds[0] - bounds[1]) else EMPTY
    difference = self._function(left, right)
    points = _ordered(_roots(left, right, difference))
    holds = _SIGNS[sign]
    flags = [holds(difference(x)) for x in _representatives(points)]
    for index in range(len(points)):  # Rounding must not decide a zero.
      flags[2 * index + 1] = holds(0)
    return RealSet(points, tuple(flags))

  def _function(
    self, left: trees.Tree, right: trees.Tree
  ) -> Callable[[Any], Any]:
    """left - right as a function of the one variable."""
    names = {
      side: self._name(side) for side in (left, right) if _is_variable(side)
    }
    for side in (left, right):
      if side not in names:
        if trees.is_function_value(side):  # f(2): a number that we lack
          raise NotASet
        for leaf in trees.leaves(side):
          if isinstance(leaf, trees.Symbol):
            self._name(leaf)

    def difference(x: Any) -> Any:
      sides = [
        x if side in names else numeric.value_with(side, lambda name: x)
        for side in (left, right)
      ]
      if any(side is None or side.imag != 0 for side in sides):
        raise NotASet
      return sides[0].real - sides[1].real

    return difference

  def _name(self, tree: trees.Tree) -> None:
    if not _is_variable(tree):
      raise NotASet
    name = _written(tree)
    if self.variable not in (None, name):
      raise NotASet
    self.variable = name


def _infinity(tree: trees.Tree) -> float:
  """+-infinity, or 0 for whatever is finite."""
  value = values.value_of(tree)
  return value if isinstance(value, float) else 0


def _is_variable(tree: trees.Tree) -> bool:
  """x, or f(x), which is read as a product of two letters."""
  if isinstance(tree, trees.Symbol):
    return True
  return (
    isinstance(tree, trees.Call)
    and tree.name in ("multiply", "apply")
    and all(isinstance(arg, trees.Symbol) for arg in tree.args)
  )


def _written(tree: trees.Tree) -> str:
  if isinstance(tree, trees.Symbol):
    return tree.name
  return (
    "*".join(map(_written, tree.args)) if isinstance(tree, trees.Call) else ""
  )


def _spelled_out(items: Sequence[trees.Tree]) -> list[trees.Tree]:
  """x != 4, 6 means x != 4 and x != 6."""
  spelled: list[trees.Tree] = []
  for item in items:
    before = spelled[-1] if spelled else None
    if (
      trees.is_constant(item)
      and isinstance(before, trees.Relation)
      and before.signs in (("!=",), ("=",))
    ):
      item = trees.Relation((before.sides[0], item), before.signs)
    spelled.append(item)
  return spelled


def _interval(tree: trees.Group) -> RealSet:
  if len(tree.items) != 2:
    raise NotASet
  low, high = map(_value, tree.items)
  if low >= high:
    raise NotASet
  points = [x for x in (low, high) if abs(x) != float("inf")]
  flags = [False, tree.opening == "[", True, tree.closing == "]", False]
  if abs(low) == float("inf"):
    flags = flags[2:]
  if abs(high) == float("inf"):
    flags = flags[:-2]
  return RealSet(tuple(points), tuple(flags))


def _points_set(points: Sequence[Any]) -> RealSet:
  return RealSet(tuple(points), (False, *(True, False) * len(points)))


def _value(tree: trees.Tree) -> Any:
  if not trees.is_expression(tree):
    raise NotASet
  try:
    value = numeric.real_value(tree)
  except trees.BoundExceeded:
    value = None
  if value is None:
    raise NotASet
  return value


def _roots(
  left: trees.Tree, right: trees.Tree, difference: Callable[[Any], Any]
) -> list[Any]:
  """Where a linear or quadratic difference, or |linear| - c, is zero."""
  for side, other in ((left, right), (right, left)):
    if isinstance(side, trees.Call) and side.name == "abs":
      if not trees.is_constant(other):
        raise NotASet
      bound = _value(other)
      if bound < 0:
        return []
      return [
        *_polynomial_roots(_shifted(side.args[0], bound)),
        *_polynomial_roots(_shifted(side.args[0], -bound)),
      ]
  return _polynomial_roots(difference)


def _shifted(tree: trees.Tree, by: Any) -> Callable[[Any], Any]:
  return lambda x: _real(tree, x) - by


def _real(tree: trees.Tree, x: Any) -> Any:
  if _is_variable(tree):
    return x
  value = numeric.value_with(tree, lambda name: x)
  if value is None or value.imag != 0:
    raise NotASet
  return value.real


def _polynomial_roots(function: Callable[[Any], Any]) -> list[Any]:
  at = {x: function(numeric.number(x)) for x in (-2, -1, 0, 1, 2, 5)}
  a = (at[1] + at[-1]) / 2 - at[0]
  b = (at[1] - at[-1]) / 2
  c = at[0]
  for x, value in at.items():
    if not numeric.agree(a * x * x + b * x + c, value):
      raise NotASet
  if abs(a) > _ROUNDING:
    inner = b * b - 4 * a * c
    if inner < 0:
      return []
    return [(-b + sign * inner**0.5) / (2 * a) for sign in (1, -1)]
  if abs(b) > _ROUNDING:
    return [-c / b]
  return []


def _ordered(points: Sequence[Any]) -> tuple[Any, ...]:
  """Rising, each once."""
  kept: list[Any] = []
  for point in sorted(points):
    if not kept or not numeric.agree(kept[-1], point):
      kept.append(point)
  if len(kept) > _MAX_BREAKPOINTS:
    raise NotASet
  return tuple(kept)


def _representatives(points: Sequence[Any]) -> list[Any]:
  """One number of each cell."""
  if not points:
    return [numeric.number(0)]
  found = [points[0] - 1]
  for point, following in zip(points, [*points[1:], None], strict=True):
    found.append(point)
    found.append(point + 1 if following is None else (point + following) / 2)
  return found


def representatives(points: Sequence[Any]) -> list[Any]:
  """One number of each cell between points, and the points themselves."""
  return _representatives(_ordered(points))


def _cell(points: Sequence[Any], x: Any) -> int:
  for index, point in enumerate(points):
    if numeric.agree(point, x):
      return 2 * index + 1
    if x < point:
      return 2 * index
  return 2 * len(points)


def _combined(
  first: RealSet, second: RealSet, combine: Callable[[bool, bool], bool]
) -> RealSet:
  points = _ordered([*first.points, *second.points])
  flags = [
    combine(first.contains(x), second.contains(x))
    for x in _representatives(points)
  ]
  return _simplified(points, flags)


def _simplified(points: Sequence[Any], flags: Sequence[bool]) -> RealSet:
  """Without points that part nothing."""
  kept: list[Any] = []
  inside = [flags[0]]
  for index, point in enumerate(points):
    at, above = flags[2 * index + 1], flags[2 * index + 2]
    if not inside[-1] == at == above:
      kept.append(point)
      inside += [at, above]
  return RealSet(tuple(kept), tuple(inside))
