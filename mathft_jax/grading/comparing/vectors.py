"""Vectors and matrices in their several notations, as matrices."""

from collections.abc import Sequence

from mathft_jax.grading import trees

_ZERO, _ONE = trees.number(0), trees.number(1)
_UNIT_VECTORS = tuple(trees.Symbol(f"hat({{{letter}}})") for letter in "ijk")


def read(
  first: trees.Tree, second: trees.Tree
) -> tuple[trees.Tree, trees.Tree]:
  """Both as matrices, where one is a matrix or a sum of unit vectors.

  Tuples and [1, 2] are columns then, and [[1, 2], [3, 4]] has rows. Trees that
  cannot be read so are returned as they are.
  """
  pair = (first, second)
  if not any(isinstance(t, trees.Matrix) or _has_unit_vector(t) for t in pair):
    return pair
  num_rows = max(_num_rows(tree) for tree in pair)
  return _as_matrix(first, num_rows), _as_matrix(second, num_rows)


def _num_rows(tree: trees.Tree) -> int:
  if isinstance(tree, trees.Matrix):
    return len(tree.rows)
  if isinstance(tree, trees.Group):
    return len(tree.items)
  # Two in the plane, three in space.
  used = [v in list(trees.leaves(tree)) for v in _UNIT_VECTORS]
  return 3 if used[2] else 2


def _as_matrix(tree: trees.Tree, num_rows: int) -> trees.Tree:
  if isinstance(tree, trees.Group) and tree.opening + tree.closing in (
    "()",
    "[]",
  ):
    rows = [
      item.items if isinstance(item, trees.Group) else (item,)
      for item in tree.items
    ]
    if len(set(map(len, rows))) == 1:
      return trees.Matrix(tuple(rows))
  if _has_unit_vector(tree):
    return trees.Matrix(
      tuple(
        (trees.add(_with(tree, v), trees.negate(_with(tree, None))),)
        for v in _UNIT_VECTORS[:num_rows]
      )
    )
  return tree


def _has_unit_vector(tree: trees.Tree) -> bool:
  return trees.is_expression(tree) and any(
    leaf in _UNIT_VECTORS for leaf in trees.leaves(tree)
  )


def _with(tree: trees.Tree, vector: trees.Tree | None) -> trees.Tree:
  """One for this unit vector, zero for the others."""
  if tree in _UNIT_VECTORS:
    return _ONE if tree == vector else _ZERO
  if isinstance(tree, trees.Call):
    args: Sequence[trees.Tree] = [_with(arg, vector) for arg in tree.args]
    return trees.Call(tree.name, tuple(args))
  return tree
