"""Plus-minus signs: one text that stands for several answers."""

import dataclasses
import itertools
from collections.abc import Iterator

from mathft_jax.grading import trees

_MAX_SIGNS = 4


def expanded(tree: trees.Tree) -> trees.Tree:
  """Writes an answer with plus-minus signs as the list of all answers.

  Several signs go independently, but together where one of them is minus-plus.
  Raises BoundExceeded for too many signs.
  """
  if isinstance(tree, trees.Collection):
    items = [signed for item in tree.items for signed in _all_signs(item)]
    return dataclasses.replace(tree, items=tuple(items))
  if isinstance(tree, trees.Relation):
    sides = (
      expanded(side) if isinstance(side, trees.Collection) else side
      for side in tree.sides
    )
    tree = trees.Relation(tuple(sides), tree.signs)
  signed = _all_signs(tree)
  return signed[0] if len(signed) == 1 else trees.Collection(signed)


def _all_signs(tree: trees.Tree) -> tuple[trees.Tree, ...]:
  names = list(_sign_names(tree))
  if not names:
    return (tree,)
  if len(names) > _MAX_SIGNS:
    raise trees.BoundExceeded(f"more than {_MAX_SIGNS} signs")
  choices = itertools.product((1, -1), repeat=len(names))
  if "mp" in names:
    choices = iter([(1,) * len(names), (-1,) * len(names)])
  return tuple(_signed(tree, iter(choice)) for choice in choices)


def _children(tree: trees.Tree) -> tuple[trees.Tree, ...]:
  if isinstance(tree, trees.Call):
    return tree.args
  if isinstance(tree, trees.Relation | trees.Congruence):
    return tree.sides
  return tree.items if isinstance(tree, trees.Group) else ()


def _sign_names(tree: trees.Tree) -> Iterator[str]:
  if isinstance(tree, trees.Call) and tree.name in ("pm", "mp"):
    yield tree.name
  for child in _children(tree):
    yield from _sign_names(child)


def _signed(tree: trees.Tree, signs: Iterator[int]) -> trees.Tree:
  """Takes the upper (1) or lower (-1) of each sign, in reading order."""
  if isinstance(tree, trees.Call) and tree.name in ("pm", "mp"):
    is_plus = (tree.name == "pm") == (next(signs) == 1)
    arg = _signed(tree.args[0], signs)
    return arg if is_plus else trees.negate(arg)
  children = tuple(_signed(child, signs) for child in _children(tree))
  if isinstance(tree, trees.Call):
    return trees.Call(tree.name, children)
  if isinstance(tree, trees.Relation | trees.Congruence):
    return dataclasses.replace(tree, sides=children)
  if isinstance(tree, trees.Group):
    return dataclasses.replace(tree, items=children)
  return tree
