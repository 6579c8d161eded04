"""Comparison of whole answers: tuples, sets, intervals, relations, ratios.

The numbers in them are compared by the module that the caller hands in:
`values`, `numeric` or `symbolic`. Every verdict is True, False or None (not
known).
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Protocol

from mathft_jax.grading import trees, units, values
from mathft_jax.grading.comparing import (
  families,
  numeric,
  piecewise,
  real_sets,
  times,
  vectors,
)
from mathft_jax.grading.reading import parse

# Lists are matched item by item, each with each.
MAX_ITEMS = 64

_EQUALITIES = frozenset("=~")
_REVERSED = {">": "<", ">=": "<="}
_VARIABLES = frozenset("xyztuvwn")
_ANY_CONSTANT = trees.Symbol("C")
_DEGREE, _RADIAN = frozenset([("degree", 1)]), frozenset([("radian", 1)])
_DEGREE_IN_RADIANS = trees.multiply(trees.PI, trees.number(Fraction(1, 180)))
_CHOICES = frozenset("ABCDEFGHIJ")
_LETTER_AS_UNIT = re.compile(r"\d ([mghsL])$")


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

  Where both name a unit, one is converted to the other, and two that measure
  different things differ; where one names none, nothing is said of it.
  """
  first, second = _measured(first, second), _measured(second, first)
  a, b = first.tree, second.tree
  if isinstance(a, trees.Based) != isinstance(b, trees.Based):
    # Who leaves the base out still writes its digits.
    based, other = (a, second) if isinstance(a, trees.Based) else (b, first)
    assert isinstance(based, trees.Based)
    if other.units:
      return False
    if based.digits.lower() == other.text.lower():
      return True
  as_times = times.same(first, second)
  if as_times is not None:
    return as_times
  if _is_in_degrees(first, second):
    a = trees.multiply(a, _DEGREE_IN_RADIANS)
  elif _is_in_degrees(second, first):
    b = trees.multiply(b, _DEGREE_IN_RADIANS)
  elif first.units and second.units and first.units != second.units:
    factor = units.factor(first.units, second.units)
    if factor is None or not trees.is_expression(a):
      return False
    a = trees.multiply(trees.number(factor), a)
  if len({bool(first.units), bool(second.units)}) == 2:
    a = _without_unit(a, second.units)
    b = _without_unit(b, first.units)
  if (_is_percent(a) and second.units) or (_is_percent(b) and first.units):
    return False
  kinds = {type(a), type(b)}
  if trees.Words in kinds and len(kinds) == 2 and trees.Relation not in kinds:
    return bool(first.letters) and first.letters == second.letters
  if _are_choices(first.text, second.text):
    return first.letters == second.letters
  return _same(a, b, leaves)


def _measured(answer: parse.Answer, other: parse.Answer) -> parse.Answer:
  """Reads "3 m" as metres beside another length: m may be a variable."""
  tree = answer.tree
  if answer.units or not other.units or not isinstance(tree, trees.Call):
    return answer
  letter = _LETTER_AS_UNIT.search(answer.text)
  if letter is None or tree.args[1:] != (trees.Symbol(letter[1]),):
    return answer
  measure = units.BY_WORD[letter[1].lower()]
  if tree.name != "multiply" or units.factor(measure, other.units) is None:
    return answer
  return dataclasses.replace(answer, tree=tree.args[0], units=measure)


def _is_in_degrees(first: parse.Answer, second: parse.Answer) -> bool:
  """Whether the first is an angle in degrees and the second in radians.

  A number with pi in it is, where it does not say otherwise.
  """
  if first.units != _DEGREE or not trees.is_expression(first.tree):
    return False
  if second.units:
    return second.units == _RADIAN
  return trees.is_constant(second.tree) and trees.PI in trees.leaves(
    second.tree
  )


def _are_choices(first: str, second: str) -> bool:
  """Whether one is a letter in brackets, "(C)", and the other a letter too.

  Their case says nothing; of letters without brackets it does.
  """
  return (first.startswith("(") or second.startswith("(")) and all(
    text.strip("()").upper() in _CHOICES for text in (first, second)
  )


def _without_unit(tree: trees.Tree, unit: units.Measure) -> trees.Tree:
  """12 m^3 without \\text{} is read as a product: its unit as 1."""
  if not unit or not (isinstance(tree, trees.Call) and tree.name == "multiply"):
    return tree
  factors = list(tree.args)
  for name, exponent in unit:
    for factor in factors[1:]:
      base, power = factor, 1
      if (
        isinstance(factor, trees.Call)
        and factor.name == "power"
        and isinstance(factor.args[1], trees.Number)
      ):
        base, power = factor.args[0], factor.args[1].value
      if (
        isinstance(base, trees.Symbol)
        and units.BY_WORD.get(base.name) == frozenset([(name, 1)])
        and power == exponent
      ):
        factors.remove(factor)
        break
    else:
      return tree
  return trees.multiply(*factors)


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
  verdict = families.same(a, b)
  if verdict is not None:
    return verdict
  if real_sets.is_one(a) or real_sets.is_one(b):
    verdict = real_sets.same(a, b)
    if verdict is not None:
      return verdict
  if isinstance(a, trees.Cases) or isinstance(b, trees.Cases):
    if not isinstance(a, trees.Relation) and not isinstance(b, trees.Relation):
      return piecewise.same(a, b)
  a, b = vectors.read(a, b)
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
  if _is_percent(a) != _is_percent(b):
    percent, plain = (a, b) if _is_percent(a) else (b, a)
    assert isinstance(percent, trees.Call)
    # 50 % is 0.5, and is often written as 50.
    return _any(leaves.equal(x, plain) for x in (percent.args[0], percent))
  order = trees.letter_order(a), trees.letter_order(b)
  if all(order) and order[0] != order[1]:
    return False
  verdict = leaves.equal(a, b)
  if verdict is False and _has_any_constant(a) and _has_any_constant(b):
    return numeric.differ_by_constant(a, b)
  return verdict


def _is_percent(tree: trees.Tree) -> bool:
  return isinstance(tree, trees.Call) and tree.name == "percent"


def _has_any_constant(tree: trees.Tree) -> bool:
  """Whether the tree is an antiderivative, ... + C."""
  return (
    isinstance(tree, trees.Call)
    and tree.name == "add"
    and _ANY_CONSTANT in tree.args
  )


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
  exact = _exact(first), _exact(second)
  if None not in exact:
    return exact[0] == exact[1]
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


def _exact(items: Sequence[trees.Tree]) -> collections.Counter | None:
  """The exact values of items, None if one has none."""
  found = [
    values.value_of(item) if isinstance(item, trees.Number) else None
    for item in items
  ]
  return None if None in found else collections.Counter(found)


def _same_relation(
  a: trees.Relation, b: trees.Tree, leaves: Leaves
) -> bool | None:
  if isinstance(b, trees.Relation):
    return _any(rule(a, b, leaves) for rule in _RELATION_RULES)
  named = _named_values(a)
  if named is None:
    return False
  name, parts = named
  coordinates = _coordinates(b)
  if isinstance(name, trees.Group) and coordinates is not None:
    # (x, y) = (1, 4) against x = 1, y = 4
    order = sorted(range(len(name.items)), key=lambda i: str(name.items[i]))
    value = parts[-1]
    if not isinstance(value, trees.Group) or len(value.items) != len(order):
      return False
    letters = [trees.Symbol(letter) for letter in coordinates[0]]
    if [name.items[i] for i in order] != letters:
      return False
    return _same_in_order(
      [value.items[i] for i in order], coordinates[1], leaves
    )
  combine = _any if "~" in a.signs else _all
  return combine(_same(part, b, leaves) for part in parts)


def _same_named_values(
  a: trees.Relation, b: trees.Relation, leaves: Leaves
) -> bool | None:
  first, second = _named_values(a), _named_values(b)
  if first is None or second is None or a.signs[0] != b.signs[0]:
    return False
  if first[0] is not None and second[0] is not None:
    second = _reordered(second[0], second[1], first[0])
    second = _with_argument(second[0], second[1], first[0])
    if not _are_same_names(first[0], second[0], leaves):
      return False
  return _all(_same(x, y, leaves) for x in first[1] for y in second[1])


def _reordered(
  name: trees.Tree, parts: tuple[trees.Tree, ...], order: trees.Tree
) -> tuple[trees.Tree, tuple[trees.Tree, ...]]:
  """(y, x) = (4, 1) as (x, y) = (1, 4), where `order` is (x, y)."""
  value = parts[0]
  if (
    len(parts) > 1
    or not isinstance(name, trees.Group)
    or not isinstance(order, trees.Group)
    or not isinstance(value, trees.Group)
    or len(value.items) != len(name.items)
    or len(set(name.items)) != len(name.items)
    or set(name.items) != set(order.items)
  ):
    return name, parts
  by_name = dict(zip(name.items, value.items, strict=True))
  items = tuple(by_name[item] for item in order.items)
  return order, (dataclasses.replace(value, items=items),)


def _with_argument(
  name: trees.Tree, parts: tuple[trees.Tree, ...], order: trees.Tree
) -> tuple[trees.Tree, tuple[trees.Tree, ...]]:
  """f(t) = 2t as f(x) = 2x, where `order` is f(x)."""
  if not (trees.is_function_value(name) and trees.is_function_value(order)):
    return name, parts
  assert isinstance(name, trees.Call) and isinstance(order, trees.Call)
  given, wanted = name.args[1], order.args[1]
  if not (isinstance(given, trees.Symbol) and isinstance(wanted, trees.Symbol)):
    return name, parts
  if any(wanted in trees.leaves(part) for part in parts):
    return name, parts  # It is another variable there.
  if not any(given in trees.leaves(part) for part in parts):
    # P(A) = 1/2 is not P(B) = 1/2; of f(x) = 0 the letter says nothing.
    if not {given.name, wanted.name} <= _VARIABLES:
      return name, parts
  return trees.substitute(name, given, wanted), tuple(
    trees.substitute(part, given, wanted) for part in parts
  )


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
    return (sides[0], sides[1:]) if is_name(sides[0]) else None
  if not _EQUALITIES.issuperset(relation.signs):
    return None
  if is_name(sides[0]):
    return sides[0], sides[1:]
  if is_name(sides[-1]):
    return sides[-1], sides[:-1]
  return (None, sides) if all(map(trees.is_constant, sides)) else None


def is_name(tree: trees.Tree) -> bool:
  """Whether the tree names a thing: x, AB, |AB|, AB/CD, f(x), (x, y), a:b."""
  if isinstance(tree, trees.Symbol | trees.Words):
    return True
  if isinstance(tree, trees.Group | trees.Ratio):
    return all(map(is_name, tree.items))
  if not isinstance(tree, trees.Call):
    return False
  if tree.name in ("abs", "conjugate"):
    return is_name(tree.args[0])
  if tree.name == "apply":
    return True
  if tree.name != "multiply":
    return False
  if trees.is_function_value(tree):
    return True
  return all(
    isinstance(arg, trees.Symbol)
    or (
      isinstance(arg, trees.Call)
      and arg.name == "power"
      and arg.args[1] == trees.number(-1)
      and is_name(arg.args[0])
    )
    for arg in tree.args
  )


def _are_same_names(
  first: trees.Tree, second: trees.Tree, leaves: Leaves
) -> bool:
  """A renamed variable is another one; y is a name for any f(x).

  A name in words says the same as a letter, and an index only tells several
  values of one variable apart.
  """
  names = (first, second)
  in_words = [name.text for name in names if isinstance(name, trees.Words)]
  if len(in_words) == 2:  # "area" and "the area of the square"
    return in_words[0] in in_words[1] or in_words[1] in in_words[0]
  if in_words:
    return True
  if trees.Symbol("y") in names and any(map(trees.is_function_value, names)):
    return True
  for one, other in (names, names[::-1]):  # y against y(x)
    if isinstance(other, trees.Call) and other.args[0] == one:
      return len(other.args) == 2 and isinstance(other.args[1], trees.Symbol)
  if all(isinstance(name, trees.Symbol) for name in names):
    # x_1 is x, but x_1 is not x_2.
    return first == second or (
      _without_index(first) == _without_index(second)
      and _without_index(first) in names
    )
  return _same(first, second, leaves) is True


def _without_index(name: trees.Tree) -> trees.Tree:
  assert isinstance(name, trees.Symbol)
  head, _, index = name.name.partition("_")
  return trees.Symbol(head) if index.isdecimal() else name


def _same_union(a: trees.Union, b: trees.Tree, leaves: Leaves) -> bool | None:
  if isinstance(b, trees.Union):
    return _same_in_any_order(a.items, b.items, leaves)
  return False


def _same_collection(
  a: trees.Collection, b: trees.Tree, leaves: Leaves
) -> bool | None:
  if isinstance(b, trees.Collection):
    if a.is_set and b.is_set:
      return _same_in_any_order(
        _distinct(a.items, leaves), _distinct(b.items, leaves), leaves
      )
    if _has_order(a) != _has_order(b):
      return _same_in_order(a.items, b.items, leaves)
    return _same_in_any_order(a.items, b.items, leaves)
  coordinates = _coordinates(a)
  if coordinates is not None and isinstance(b, trees.Group):
    if (b.opening, b.closing) == ("(", ")"):
      return _same_in_order(coordinates[1], b.items, leaves)
  items = _distinct(a.items, leaves) if a.is_set else a.items
  return _same(items[0], b, leaves) if len(items) == 1 else False


def _has_order(tree: trees.Collection) -> bool:
  """Whether it names different things, whose values are no roots of one."""
  names = [
    item.sides[0]
    for item in tree.items
    if isinstance(item, trees.Relation) and item.signs == ("=",)
  ]
  if len(names) < len(tree.items) or not all(map(is_name, names)):
    return False
  different = {
    _without_index(name) if isinstance(name, trees.Symbol) else name
    for name in names
  }
  return 1 < len(names) == len(different)


def _distinct(items: Sequence[trees.Tree], leaves: Leaves) -> list[trees.Tree]:
  kept: list[trees.Tree] = []
  for item in items:
    if not any(_same(item, other, leaves) for other in kept):
      kept.append(item)
  return kept


def _coordinates(
  tree: trees.Tree,
) -> tuple[list[str], list[trees.Tree]] | None:
  """The names and values of "x = 1, y = 4", by name; None if it is not so."""
  if not isinstance(tree, trees.Collection):
    return None
  named: dict[str, trees.Tree] = {}
  for item in tree.items:
    if not isinstance(item, trees.Relation) or item.signs != ("=",):
      return None
    name, value = item.sides
    if not isinstance(name, trees.Symbol) or not trees.is_expression(value):
      return None
    named[name.name] = value
  if len(named) != len(tree.items):
    return None
  names = sorted(named)
  return names, [named[name] for name in names]


def _same_group(a: trees.Group, b: trees.Tree, leaves: Leaves) -> bool | None:
  if not isinstance(b, trees.Group):
    return False
  if (a.opening, a.closing) != (b.opening, b.closing):
    # Of three numbers nobody makes an interval.
    if len(a.items) < 3 or {a.opening + a.closing, b.opening + b.closing} != {
      "()",
      "[]",
    }:
      return False
  return _same_in_order(a.items, b.items, leaves)


def _same_matrix(a: trees.Matrix, b: trees.Tree, leaves: Leaves) -> bool | None:
  if not isinstance(b, trees.Matrix) or len(a.rows) != len(b.rows):
    return False
  return _all(
    _same_in_order(x, y, leaves) for x, y in zip(a.rows, b.rows, strict=True)
  )


def _same_congruence(
  a: trees.Congruence, b: trees.Tree, leaves: Leaves
) -> bool | None:
  if not isinstance(b, trees.Congruence):
    return False
  modulus = values.value_of(a.modulus)
  first, second = (values.value_of(c.sides[-1]) for c in (a, b))
  if values.value_of(b.modulus) != modulus:
    return False
  if len(a.sides) == len(b.sides) == 2 and (
    _same(a.sides[0], b.sides[0], leaves) is not True
  ):
    return False
  if not modulus or first is None or second is None:
    return _same(a.sides[-1], b.sides[-1], leaves)
  return (first - second) % modulus == 0


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
  (trees.Congruence, _same_congruence),
]
_RELATION_RULES = (_same_named_values, _same_equation, _same_inequality)
