"""Canonical keys: answers with one key are the same, and need no comparison."""

import dataclasses
import functools
from collections.abc import Hashable

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


@functools.lru_cache(maxsize=1 << 14)
def key(answer: str) -> Key:
  """The key of an answer, any text."""
  normalized = normalize.normalize(answer)
  parsed = parse.parse(normalized)
  tree = parsed.tree
  if isinstance(tree, trees.Unread):
    if tree.exceeds_bound:
      return Key(normalized, False)
    return Key(parsed.letters or parsed.text, True)
  return Key(
    (_canonical(tree), parsed.units),
    not parsed.units and not parsed.letters and _is_plain(tree),
  )


def _is_plain(tree: trees.Tree) -> bool:
  """Whether a tree is a number, or a point or tuple of numbers."""
  if isinstance(tree, trees.Group):
    are_numbers = all(isinstance(x, trees.Number) for x in tree.items)
    return are_numbers and (tree.opening, tree.closing) == ("(", ")")
  return isinstance(tree, trees.Number)


def _canonical(tree: trees.Tree) -> trees.Tree:
  """Exact values computed, terms, factors and lists in a fixed order."""
  if isinstance(tree, trees.Call):
    value = values.value_of(tree)
    if value is not None and not isinstance(value, float):
      # 50 % is also 50, which 1/2 is not.
      return tree if tree.name == "percent" else trees.number(value)
    args = tuple(map(_canonical, tree.args))
    if tree.name in _COMMUTATIVE and not trees.letter_order(tree):
      args = tuple(sorted(args, key=repr))
    return trees.Call(tree.name, args)
  if isinstance(tree, trees.Group):
    return dataclasses.replace(tree, items=tuple(map(_canonical, tree.items)))
  if isinstance(tree, trees.Collection):
    items = tuple(sorted(map(_canonical, tree.items), key=repr))
    if not any(isinstance(item, trees.Relation) for item in items):
      return trees.Collection(items, tree.is_set)  # "1 and 2" is "1, 2".
    return dataclasses.replace(tree, items=items)
  return tree
