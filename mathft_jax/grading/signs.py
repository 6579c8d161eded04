"""Plus-minus signs: one text that stands for two answers."""

import dataclasses

from mathft_jax.grading import trees


def expanded(tree: trees.Tree) -> trees.Tree:
  """Writes an answer with plus-minus signs as the list of both answers."""
  if isinstance(tree, trees.Collection):
    items = [both for item in tree.items for both in _both_signs(item)]
    return dataclasses.replace(tree, items=tuple(items))
  if isinstance(tree, trees.Relation):
    sides = (
      expanded(side) if isinstance(side, trees.Collection) else side
      for side in tree.sides
    )
    tree = trees.Relation(tuple(sides), tree.signs)
  both = _both_signs(tree)
  return both[0] if len(both) == 1 else trees.Collection(both)


def _both_signs(tree: trees.Tree) -> tuple[trees.Tree, ...]:
  upper = _signed(tree, 1)
  return (tree,) if upper == tree else (upper, _signed(tree, -1))


def _signed(tree: trees.Tree, sign: int) -> trees.Tree:
  """Takes the upper (1) or lower (-1) of all signs."""
  if isinstance(tree, trees.Call):
    args = tuple(_signed(arg, sign) for arg in tree.args)
    if tree.name in ("pm", "mp"):
      is_plus = (tree.name == "pm") == (sign == 1)
      return args[0] if is_plus else trees.negate(args[0])
    return tree if args == tree.args else trees.Call(tree.name, args)
  if isinstance(tree, trees.Relation):
    sides = tuple(_signed(side, sign) for side in tree.sides)
    return tree if sides == tree.sides else trees.Relation(sides, tree.signs)
  if isinstance(tree, trees.Group):
    items = tuple(_signed(item, sign) for item in tree.items)
    if items != tree.items:
      return trees.Group(tree.opening, tree.closing, items)
  return tree
