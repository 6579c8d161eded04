"""Canonical keys: answers with one key are the same, and need no comparison."""

import dataclasses
import functools
from collections.abc import Hashable
from fractions import Fraction
from typing import Any

from mathft_jax.grading import trees, values
from mathft_jax.grading.reading import normalize, parse

_COMMUTATIVE = frozenset(["add", "multiply", "min", "max", "gcd", "lcm"])


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
  """Equal values are the same answer.

  Two decisive keys with different values are different answers; of others
  only a comparison can tell.
  """

  value: Hashable
  is_decisive: bool


def key(answer: str) -> Key:
  """The key of an answer, any text."""
  normalized = normalize.normalize(answer)
  if len(normalized) > normalize.MAX_LENGTH:  # The cache keeps no long texts.
    return Key(normalized, False)
  return _of_short(normalized)


@functools.lru_cache(maxsize=1 << 14)
def _of_short(normalized: str) -> Key:
  parsed = parse.parse(normalized)
  tree = parsed.tree
  if isinstance(tree, trees.Unread):
    if tree.exceeds_bound:
      return Key(normalized, False)
    return Key(parsed.letters or parsed.text, True)
  canonical = _canonical(tree)
  return Key(
    (canonical, parsed.units),
    not parsed.units and not parsed.letters and _is_plain(canonical),
  )


def _is_plain(tree: trees.Tree) -> bool:
  """Whether a tree is a number, or a point or tuple of numbers."""
  if isinstance(tree, trees.Group):
    are_numbers = all(isinstance(x, trees.Number) for x in tree.items)
    return are_numbers and (tree.opening, tree.closing) == ("(", ")")
  return isinstance(tree, trees.Number)


def _is_value(tree: trees.Tree) -> bool:
  """Whether it is one answer; "and" and "or" join sets in different ways."""
  return trees.is_expression(tree) or isinstance(
    tree, trees.Group | trees.Words
  )


def _canonical(tree: trees.Tree) -> trees.Tree:
  """Exact values computed, terms, factors and lists in a fixed order."""
  if isinstance(tree, trees.Call):
    value = values.value_of(tree)
    if value is not None and not isinstance(value, float):
      # 50 % is also 50, which 1/2 is not.
      return tree if tree.name == "percent" else trees.number(value)
    args = tuple(map(_canonical, tree.args))
    if tree.name in _COMMUTATIVE and not trees.letter_order(tree):
      args = tuple(sorted(args, key=_written))
    return trees.Call(tree.name, args)
  if isinstance(tree, trees.Group):
    return dataclasses.replace(tree, items=tuple(map(_canonical, tree.items)))
  if isinstance(tree, trees.Collection):
    items = tuple(sorted(map(_canonical, tree.items), key=_written))
    if all(map(_is_value, items)):
      return trees.Collection(items, tree.is_set)  # "1 and 2" is "1, 2".
    return dataclasses.replace(tree, items=items)
  return tree


def _written(part: Any) -> str:
  """A tree as text, to sort by; `repr` refuses to write long integers."""
  if isinstance(part, trees.Call):  # As below, but faster.
    return f"{part.name}({','.join(map(_written, part.args))})"
  if isinstance(part, Fraction):
    return f"{part.numerator:x}/{part.denominator:x}"
  if isinstance(part, tuple):
    return f"({','.join(map(_written, part))})"
  if dataclasses.is_dataclass(part):
    fields = (f.name for f in dataclasses.fields(part) if f.compare)
    values_of_fields = ",".join(_written(getattr(part, f)) for f in fields)
    return f"{type(part).__name__}({values_of_fields})"
  return str(part)
