"""Comparison of solutions with an integer in them: pi/4 + k pi, k in Z."""

import bisect
import dataclasses
from collections.abc import Sequence
from typing import Any

from mathft_jax.grading import trees
from mathft_jax.grading.comparing import numeric

INTEGERS = trees.Symbol("mathbb(Z)")

_INDEX = "index of a residue class"

# Each member of one family with a small index is looked for in the other.
_SMALL = range(-6, 7)
_LARGE = range(-40, 41)
_NEARBY = 1e-9


@dataclasses.dataclass(frozen=True)
class Family:
  """Members of `forms` for every integer `index`; `name` is what they are."""

  name: trees.Tree | None
  forms: tuple[trees.Tree, ...]
  index: str

  def members(self, numbers: range) -> list[Any]:
    return [
      numeric.value_with(form, self._lookup(number))
      for form in self.forms
      for number in numbers
    ]

  def _lookup(self, number: int):
    def lookup(name: str) -> Any:
      if name == self.index:
        return numeric.number(number)
      return numeric.symbol_value(name)

    return lookup


def read(tree: trees.Tree) -> Family | None:
  """The family that "x = 4k + 1, k in Z" is, or "x = 1, 2 mod 5".

  None for anything else.
  """
  residues = _of_residues(tree)
  if residues is not None:
    return residues
  if isinstance(tree, trees.Such):  # {4k + 1 : k in Z}
    conditions = tree.condition
    assert isinstance(conditions, trees.Collection)
    tree = trees.Collection((tree.variable, *conditions.items))
  if not isinstance(tree, trees.Collection):
    return None
  indices = [
    item.sides[0].name
    for item in tree.items
    if isinstance(item, trees.Relation)
    and item.signs == ("in",)
    and item.sides[1] == INTEGERS
    and isinstance(item.sides[0], trees.Symbol)
  ]
  if len(indices) != 1:
    return None
  name = None
  forms: list[trees.Tree] = []
  for item in tree.items:
    if isinstance(item, trees.Relation):
      if item.signs != ("=",):
        continue
      name, item = item.sides
    forms += item.items if isinstance(item, trees.Collection) else [item]
  if not forms or not all(map(trees.is_expression, forms)):
    return None
  return Family(name, tuple(forms), indices[0])


def _of_residues(tree: trees.Tree) -> Family | None:
  items = tree.items if isinstance(tree, trees.Collection) else (tree,)
  modulus = name = None
  forms: list[trees.Tree] = []
  for item in items:
    if isinstance(item, trees.Congruence):
      if modulus not in (None, item.modulus):
        return None
      modulus, sides = item.modulus, item.sides
    elif isinstance(item, trees.Relation) and item.signs == ("===",):
      sides = item.sides
    else:
      sides = (item,)
    if not 1 <= len(sides) <= 2 or not trees.is_expression(sides[-1]):
      return None
    if len(sides) == 2:
      if name not in (None, sides[0]):
        return None
      name = sides[0]
    forms.append(sides[-1])
  if modulus is None or not trees.is_constant(modulus):
    return None
  steps = trees.multiply(modulus, trees.Symbol(_INDEX))
  return Family(name, tuple(trees.add(f, steps) for f in forms), _INDEX)


def same(first: trees.Tree, second: trees.Tree) -> bool | None:
  """Whether two families have the same members; None if one is no family."""
  a, b = read(first), read(second)
  if a is None or b is None:
    return None
  if a.name is not None and b.name is not None and a.name != b.name:
    return False
  return _is_part(a, b) and _is_part(b, a)


def _is_part(part: Family, whole: Family) -> bool:
  found = sorted(
    (x for x in whole.members(_LARGE) if x is not None), key=_place
  )
  return all(x is not None and _holds(found, x) for x in part.members(_SMALL))


def _holds(found: Sequence[Any], x: Any) -> bool:
  """Whether x is among numbers that are in order."""
  nearby = _NEARBY * max(1.0, abs(_place(x)))
  first = bisect.bisect_left(found, _place(x) - nearby, key=_place)
  last = bisect.bisect_right(found, _place(x) + nearby, key=_place)
  return any(numeric.agree(x, y) for y in found[first:last])


def _place(x: Any) -> float:
  return float(x.real)
