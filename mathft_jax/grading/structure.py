"""Comparison of whole answers: tuples, sets, intervals, relations, ratios.

The numbers in them are compared by the module that the caller hands in:
`values`, `numeric` or `symbolic`. Every verdict is True, False or None (not
known).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from mathft_jax.grading import parse, trees

# Lists are matched item by item, each with each.
MAX_ITEMS = 64

_EQUALITIES = frozenset("=~")
_REVERSED = {">": "<", ">=": "<="}
_MERIDIEM = frozenset(["am", "pm"])
# f(2) is read as a product; these letters are names of functions there.
_FUNCTION_NAMES = frozenset("fghFGHPQT")


class Leaves(Protocol):
  """How single expressions are compared."""

  def equal(self, first: trees.Tree, second: trees.Tree) -> bool | None: ...

  def proportional(
    self, first: trees.Tree, second: trees.Tree, is_positive: bool = False
  ) -> bool | None: ...


def compare(
  first: parse.Answer, second: parse.Answer, leaves: Leaves
) -> bool | None:
  """Whether two answers are equivalent; None if `leaves` cannot tell.

  Units count only where both answers name one and the two differ.
  """
  a, b = first.tree, second.tree
  if first.units and second.units and first.units != second.units:
    return False
  kinds = {type(a), type(b)}
  if trees.Words in kinds and len(kinds) == 2 and trees.Relation not in kinds:
    return bool(first.letters) and first.letters == second.letters
  is_time = not _MERIDIEM.isdisjoint(first.units | second.units)
  if is_time and isinstance(a, trees.Ratio) and isinstance(b, trees.Ratio):
    return _same_in_order(a.items, b.items, leaves)
  return _same(a, b, leaves)


def _all(verdicts: Iterable[bool | None]) -> bool | None:
  """Three-valued "and", which stops at the first False."""
  total: bool | None = True
  for verdict in verdicts:
    if verdict is False:
      return False
    if verdict is None:
      total = None
  return total


def _any(verdicts: Iterable[bool | None]) -> bool | None:
  """Three-valued "or", which stops at the first True."""
  total: bool | None = False
  for verdict in verdicts:
    if verdict is True:
      return True
    if verdict is None:
      total = None
  return total


def _same(a: trees.Tree, b: trees.Tree, leaves: Leaves) -> bool | None:
  if a == b:
    return True
  if trees.is_expression(a) and trees.is_expression(b):
    return _same_expression(a, b, leaves)
  for kind, rule in _RULES:
    for one, other in ((a, b), (b, a)):
      if isinstance(one, kind):
        return rule(one, other, leaves)
  return False  # Words and unread text equal themselves alone.


def _same_expression(
  a: trees.Tree, b: trees.Tree, leaves: Leaves
) -> bool | None:
  if isinstance(a, trees.Based) != isinstance(b, trees.Based):
    based, plain = (a, b) if isinstance(a, trees.Based) else (b, a)
    # Who leaves the base out still writes its digits.
    return (
      isinstance(based, trees.Based)
      and isinstance(plain, trees.Number)
      and based.digits == str(plain.value)
    )
  is_percent = [
    isinstance(x, trees.Call) and x.name == "percent" for x in (a, b)
  ]
  if sum(is_percent) == 1:
    percent, plain = (a, b) if is_percent[0] else (b, a)
    assert isinstance(percent, trees.Call)
    # 50 % is 0.5, and is often written as 50.
    return _any(leaves.equal(x, plain) for x in (percent.args[0], percent))
  return leaves.equal(a, b)


def _same_in_order(
  first: Sequence[trees.Tree], second: Sequence[trees.Tree], leaves: Leaves
) -> bool | None:
  if len(first) != len(second):
    return False
  return _all(_same(a, b, leaves) for a, b in zip(first, second, strict=True))


def _same_in_any_order(
  first: Sequence[trees.Tree], second: Sequence[trees.Tree], leaves: Leaves
) -> bool | None:
  if len(first) != len(second):
    return False
  if len(first) > MAX_ITEMS:
    raise trees.BoundExceeded(f"a list of more than {MAX_ITEMS} answers")
  left = list(second)
  unmatched = []  # what each item that found no partner may still equal
  for a in first:
    maybe = False
    for index, b in enumerate(left):
      verdict = _same(a, b, leaves)
      if verdict is True:
        del left[index]
        break
      maybe = maybe or verdict is None
    else:
      unmatched.append(maybe)
  if not unmatched:
    return True
  return None if all(unmatched) else False


def _same_relation(
  a: trees.Relation, b: trees.Tree, leaves: Leaves
) -> bool | None:
  if isinstance(b, trees.Relation):
    return _any(rule(a, b, leaves) for rule in _RELATION_RULES)
  as_set = _as_set(a)
  if as_set is not None and isinstance(b, trees.Group | trees.Union):
    return _same(as_set, b, leaves)
  named = _named_values(a)
  if named is None:
    return False
  _, parts = named
  combine = _any if "~" in a.signs else _all
  return combine(_same(part, b, leaves) for part in parts)


def _same_named_values(
  a: trees.Relation, b: trees.Relation, leaves: Leaves
) -> bool | None:
  first, second = _named_values(a), _named_values(b)
  if first is None or second is None or a.signs[0] != b.signs[0]:
    return False
  if first[0] is not None and second[0] is not None:
    # A renamed variable is another one; a name in words says the same.
    names = (first[0], second[0])
    if all(isinstance(name, trees.Symbol) for name in names):
      if names[0] != names[1]:
        return False
    elif not any(isinstance(name, trees.Words) for name in names):
      if _same(*names, leaves) is not True:
        return False
  return _all(_same(x, y, leaves) for x in first[1] for y in second[1])


def _same_equation(
  a: trees.Relation, b: trees.Relation, leaves: Leaves
) -> bool | None:
  """Equations (or unequalities) are the same up to a constant factor."""
  if a.signs != b.signs or a.signs not in (("=",), ("!=",)):
    return False
  first, second = _difference(a.sides), _difference(b.sides)
  if first is None or second is None:
    return False
  return leaves.proportional(first, second)


def _same_inequality(
  a: trees.Relation, b: trees.Relation, leaves: Leaves
) -> bool | None:
  first, second = _rising(a), _rising(b)
  if first is None or second is None or first.signs != second.signs:
    return False
  verdict = _same_in_order(first.sides, second.sides, leaves)
  if verdict is True or len(first.sides) != 2:
    return verdict
  left, right = _difference(first.sides), _difference(second.sides)
  if left is None or right is None:
    return False
  return leaves.proportional(left, right, is_positive=True)


def _difference(sides: Sequence[trees.Tree]) -> trees.Tree | None:
  if not all(map(trees.is_expression, sides)):
    return None
  return trees.add(sides[0], trees.negate(sides[1]))


def _rising(relation: trees.Relation) -> trees.Relation | None:
  """Returns the inequality written with < and <= only, or None."""
  if all(sign in ("<", "<=") for sign in relation.signs):
    return relation
  if all(sign in _REVERSED for sign in relation.signs):
    return trees.Relation(
      relation.sides[::-1],
      tuple(_REVERSED[sign] for sign in relation.signs[::-1]),
    )
  return None


def _named_values(
  relation: trees.Relation,
) -> tuple[trees.Tree | None, tuple[trees.Tree, ...]] | None:
  """Returns the name and what it equals: for "x = 5", "1/2 = 50 %", "x in S".

  None for an equation that has to be solved first.
  """
  sides = relation.sides
  if relation.signs == ("in",):
    return (sides[0], sides[1:]) if _is_name(sides[0]) else None
  if not _EQUALITIES.issuperset(relation.signs):
    return None
  if _is_name(sides[0]):
    return sides[0], sides[1:]
  if _is_name(sides[-1]):
    return sides[-1], sides[:-1]
  return (None, sides) if all(map(_is_constant, sides)) else None


def _is_name(tree: trees.Tree) -> bool:
  """Whether the tree names a thing: x, AB, f(x), "area"."""
  if isinstance(tree, trees.Symbol | trees.Words):
    return True
  if not (isinstance(tree, trees.Call) and tree.name == "multiply"):
    return False
  head = tree.args[0]
  if isinstance(head, trees.Call) and head.name == "power":  # h^{-1}(x)
    head = head.args[0]
  if isinstance(head, trees.Symbol) and head.name in _FUNCTION_NAMES:
    return len(tree.args) == 2
  return all(isinstance(arg, trees.Symbol) for arg in tree.args)


def _is_constant(tree: trees.Tree) -> bool:
  if not trees.is_expression(tree):
    return False
  return not any(isinstance(leaf, trees.Symbol) for leaf in trees.leaves(tree))


def _as_set(tree: trees.Tree) -> trees.Tree | None:
  """Returns the numbers that an inequality allows, as intervals, or None."""
  if isinstance(tree, trees.Group | trees.Union):
    return tree
  if isinstance(tree, trees.Collection):
    parts = [_as_set(item) for item in tree.items]
    pieces: list[trees.Tree] = []
    for part in parts:
      if part is None:
        return None
      pieces.extend(part.items if isinstance(part, trees.Union) else [part])
    return trees.Union(tuple(pieces))
  if not isinstance(tree, trees.Relation):
    return None
  sides, signs = tree.sides, tree.signs
  if signs == ("in",) and _is_name(sides[0]):
    return sides[1]
  if signs == ("!=",) and _is_name(sides[0]) and _is_constant(sides[1]):
    below = _interval(None, "<", "<", sides[1])
    return trees.Union((below, _interval(sides[1], "<", "<", None)))
  rising = _rising(tree)
  if rising is None:
    return None
  return _interval_of(rising.sides, rising.signs)


def _interval_of(
  sides: tuple[trees.Tree, ...], signs: tuple[str, ...]
) -> trees.Tree | None:
  names = [index for index, side in enumerate(sides) if _is_name(side)]
  if len(names) != 1 or not all(
    _is_constant(side) for index, side in enumerate(sides) if index != names[0]
  ):
    return None
  at = names[0]
  if at > 1 or len(sides) - at > 2:
    return None
  low = sides[0] if at == 1 else None
  high = sides[-1] if at < len(sides) - 1 else None
  return _interval(low, signs[0], signs[-1], high)


def _interval(
  low: trees.Tree | None,
  low_sign: str,
  high_sign: str,
  high: trees.Tree | None,
) -> trees.Group:
  assert isinstance(trees.REALS, trees.Group)
  return trees.Group(
    "[" if low is not None and low_sign == "<=" else "(",
    "]" if high is not None and high_sign == "<=" else ")",
    (
      trees.REALS.items[0] if low is None else low,
      trees.INFINITY if high is None else high,
    ),
  )


def _same_union(a: trees.Union, b: trees.Tree, leaves: Leaves) -> bool | None:
  other = _as_set(b)
  if isinstance(other, trees.Union):
    return _same_in_any_order(a.items, other.items, leaves)
  return False


def _same_collection(
  a: trees.Collection, b: trees.Tree, leaves: Leaves
) -> bool | None:
  if isinstance(b, trees.Collection):
    return _same_in_any_order(a.items, b.items, leaves)
  if len(a.items) == 1:
    return _same(a.items[0], b, leaves)
  return False


def _same_group(a: trees.Group, b: trees.Tree, leaves: Leaves) -> bool | None:
  if isinstance(b, trees.Group):
    if (a.opening, a.closing) != (b.opening, b.closing):
      return False
    return _same_in_order(a.items, b.items, leaves)
  if isinstance(b, trees.Matrix) and (a.opening, a.closing) == ("(", ")"):
    column = [row[0] for row in b.rows if len(row) == 1]
    if len(column) == len(b.rows):
      return _same_in_order(a.items, column, leaves)
  return False


def _same_matrix(a: trees.Matrix, b: trees.Tree, leaves: Leaves) -> bool | None:
  if not isinstance(b, trees.Matrix) or len(a.rows) != len(b.rows):
    return False
  return _all(
    _same_in_order(x, y, leaves) for x, y in zip(a.rows, b.rows, strict=True)
  )


def _same_ratio(a: trees.Ratio, b: trees.Tree, leaves: Leaves) -> bool | None:
  if isinstance(b, trees.Ratio):
    if len(a.items) != len(b.items):
      return False
    first, second = trees.add(*a.items), trees.add(*b.items)
    return _all(
      leaves.equal(trees.multiply(x, second), trees.multiply(y, first))
      for x, y in zip(a.items, b.items, strict=True)
    )
  if trees.is_expression(b) and len(a.items) == 2:
    quotient = trees.multiply(a.items[0], trees.invert(a.items[1]))
    return leaves.equal(quotient, b)
  return False


# The first kind that either side is of decides, with that side in front.
_RULES: list[tuple[type, Callable[..., bool | None]]] = [
  (trees.Relation, _same_relation),
  (trees.Union, _same_union),
  (trees.Collection, _same_collection),
  (trees.Group, _same_group),
  (trees.Matrix, _same_matrix),
  (trees.Ratio, _same_ratio),
]
_RELATION_RULES = (_same_named_values, _same_equation, _same_inequality)
