"""Comparison of functions that are given by cases."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from mathft_jax.grading import trees
from mathft_jax.grading.comparing import numeric, real_sets

# Beside one number of each cell, so many more are tried in it.
_INTEGERS = range(1, 9)
_OFFSETS = ("1/7", "3/11", "11/13")


def same(first: trees.Tree, second: trees.Tree) -> bool | None:
  """Whether two functions of one variable, one by cases, have equal values.

  They are compared at every place where a condition of either changes and at
  several numbers between. Conditions in words ("n even") are compared as
  words. None if neither can be done.
  """
  first, second = _without_domain(first), _without_domain(second)
  if _in_words(first) or _in_words(second):
    by_parity = _same_by_parity(first, second)
    return _same_rows(first, second) if by_parity is None else by_parity
  try:
    left, right = _Function(first), _Function(second)
    if len({left.variable, right.variable} - {None}) != 1:
      return False
    return all(
      numeric.agree(left(x), right(x))
      for x in _places([*left.points, *right.points])
    )
  except real_sets.NotASet:
    return _same_rows(first, second)


class _Function:
  """A tree as a function; undefined, None, where no case holds."""

  def __init__(self, tree: trees.Tree):
    self.variable: str | None = None
    self.points: list[Any] = []
    self._rows: list[tuple[real_sets.RealSet, trees.Tree]] = []
    covered = real_sets.EMPTY
    rows = tree.rows if isinstance(tree, trees.Cases) else ((tree, None),)
    for value, condition in rows:
      if condition is None:
        where = real_sets.complement(covered)
      else:
        where, variable = real_sets.of_condition(condition)
        if self.variable not in (None, variable):
          raise real_sets.NotASet
        self.variable = variable
      covered = real_sets.union(covered, where)
      self.points += where.points
      self._rows.append((where, value))
    if not isinstance(tree, trees.Cases):
      names = trees.symbol_names(tree)
      if len(names) == 1:
        self.variable = names.pop()

  def __call__(self, x: Any) -> Any:
    for where, value in self._rows:
      if where.contains(x):
        if not trees.is_expression(value):
          raise real_sets.NotASet
        return numeric.value_with(value, lambda name: x)
    return None


def _places(points: Sequence[Any]) -> list[Any]:
  places = real_sets.representatives(points)
  steps = [numeric.number(Fraction(offset)) for offset in _OFFSETS]
  between = [
    low + (high - low) * step
    for low, high in zip(places, places[1:], strict=False)
    for step in steps
  ]
  beyond = [places[0] - 7 * step for step in steps]
  return [*places, *between, *beyond, *(places[-1] + 7 * s for s in steps)]


def _without_domain(tree: trees.Tree) -> trees.Tree:
  """f(n), n in Z as f(n)."""
  if isinstance(tree, trees.Collection) and len(tree.items) == 2:
    value, domain = tree.items
    if isinstance(domain, trees.Relation) and domain.signs == ("in",):
      return value
  return tree


def _same_by_parity(first: trees.Tree, second: trees.Tree) -> bool | None:
  """Compares functions of an integer that is even or odd.

  None if a condition says anything else.
  """
  left, right = _of_integer(first), _of_integer(second)
  if left is None or right is None:
    return None
  return all(map(numeric.agree, left, right))


def _of_integer(tree: trees.Tree) -> list[Any] | None:
  """The values at 1, 2, ...; None for functions that do not ask for parity."""
  rows = tree.rows if isinstance(tree, trees.Cases) else ((tree, None),)
  values = [value for value, _ in rows]
  names = set().union(*map(trees.symbol_names, values))
  if len(names) > 1 or not all(map(trees.is_expression, values)):
    return None
  found = []
  for n in _INTEGERS:
    holds = [
      condition is None or _is_parity(condition, n, names)
      for _, condition in rows
    ]
    if None in holds or True not in holds:
      return None
    value = values[holds.index(True)]
    found.append(_at(value, n))
  return found


def _at(tree: trees.Tree, n: int) -> Any:
  return numeric.value_with(tree, lambda name: numeric.number(n))


def _is_parity(condition: trees.Tree, n: int, names: set[str]) -> bool | None:
  """Whether "n even" or "n odd" holds; None for any other condition."""
  if not isinstance(condition, trees.Words):
    return None
  for parity, word in enumerate(("even", "odd")):
    name = condition.text.removesuffix(word)
    if name != condition.text and (name in names or not names):
      return n % 2 == parity
  return None


def _in_words(tree: trees.Tree) -> bool:
  return isinstance(tree, trees.Cases) and any(
    isinstance(condition, trees.Words) for _, condition in tree.rows
  )


def _same_rows(first: trees.Tree, second: trees.Tree) -> bool | None:
  """Each row has a partner with an equal value and the same condition."""
  if not (isinstance(first, trees.Cases) and isinstance(second, trees.Cases)):
    return None
  left = list(second.rows)
  for value, condition in first.rows:
    for row in left:
      if row[1] == condition and (
        row[0] == value or numeric.equal(row[0], value)
      ):
        left.remove(row)
        break
    else:
      return False
  return not left
