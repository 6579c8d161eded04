"""Operations on trees as they are read: products, sums, function values."""

import dataclasses
from collections.abc import Sequence

from mathft_jax.grading import trees
from mathft_jax.grading.reading import cursor

_MAX_DETERMINANT = 4
_MAX_NODES = 2_000
# Python refuses to write integers of more than 4300 digits.
_MAX_BITS = 13_000


def require_expression(tree: trees.Tree) -> None:
  if not trees.is_expression(tree):
    raise cursor.NotUnderstood(
      f"{type(tree).__name__} where a number must stand"
    )


def expression(tree: trees.Tree) -> trees.Tree:
  require_expression(tree)
  return tree


def quotient(top: trees.Number, bottom: trees.Number) -> trees.Tree:
  value = top.value / bottom.value
  if max(map(int.bit_length, value.as_integer_ratio())) > _MAX_BITS:
    raise trees.BoundExceeded("a fraction of many digits")
  return trees.number(value)


def product(factors: list[trees.Tree]) -> trees.Tree:
  if len(factors) == 1:
    return factors[0]
  *scalars, vector = factors
  if isinstance(vector, trees.Group):
    scalar = product(scalars)
    require_expression(scalar)
    if isinstance(scalar, trees.Symbol) and scalar.name.isupper():
      raise cursor.NotUnderstood("a point with its name")
    return dataclasses.replace(
      vector,
      items=tuple(product([scalar, item]) for item in vector.items),
    )
  matrices = [f for f in factors if isinstance(f, trees.Matrix)]
  scalars = [f for f in factors if not isinstance(f, trees.Matrix)]
  for scalar in scalars:
    require_expression(scalar)
  if not matrices:
    return trees.multiply(*factors)
  if len(matrices) > 1:
    raise cursor.NotUnderstood("a product of matrices")
  return trees.Matrix(
    tuple(
      tuple(trees.multiply(*scalars, entry) for entry in row)
      for row in matrices[0].rows
    )
  )


def sum_of_matrices(matrices: Sequence[trees.Tree]) -> trees.Tree:
  rows = [
    matrix.rows for matrix in matrices if isinstance(matrix, trees.Matrix)
  ]
  if len({(len(r), len(r[0])) for r in rows}) != 1:
    raise cursor.NotUnderstood("a sum of matrices of different shapes")
  return trees.Matrix(
    tuple(
      tuple(trees.add(*entries) for entries in zip(*lines, strict=True))
      for lines in zip(*rows, strict=True)
    )
  )


def transposed(tree: trees.Tree) -> trees.Tree:
  """A matrix with rows for columns; a tuple is one row."""
  if isinstance(tree, trees.Group):
    tree = trees.Matrix((tree.items,))
  if not isinstance(tree, trees.Matrix):
    raise cursor.NotUnderstood("a transposed thing that is no matrix")
  return trees.Matrix(tuple(zip(*tree.rows, strict=True)))


def determinant(tree: trees.Tree) -> trees.Tree:
  """Expands by the first row; bounded, as it has n! terms."""
  if not isinstance(tree, trees.Matrix) or len(tree.rows) != len(tree.rows[0]):
    raise cursor.NotUnderstood("a determinant of what is not square")
  if len(tree.rows) > _MAX_DETERMINANT:
    raise trees.BoundExceeded("a large determinant")
  expanded = _minor(tree.rows)
  if trees.num_nodes(expanded) > _MAX_NODES:  # of a determinant of determinants
    raise trees.BoundExceeded("a large determinant")
  return expanded


def _minor(rows: Sequence[Sequence[trees.Tree]]) -> trees.Tree:
  if len(rows) == 1:
    return rows[0][0]
  terms = []
  for column, entry in enumerate(rows[0]):
    rest = [[*row[:column], *row[column + 1 :]] for row in rows[1:]]
    term = trees.multiply(entry, _minor(rest))
    terms.append(trees.negate(term) if column % 2 else term)
  return trees.add(*terms)


def negated(tree: trees.Tree) -> trees.Tree:
  if isinstance(tree, trees.Matrix):
    return product([trees.number(-1), tree])
  return trees.negate(expression(tree))


def call(
  name: str, args: tuple[trees.Tree, ...], base: trees.Tree | None
) -> trees.Tree:
  if name in ("min", "max", "gcd", "lcm"):
    if not args:
      raise cursor.NotUnderstood(f"{name} of nothing")
    return trees.Call(name, args)
  if name in ("fraction", "rational") and len(args) == 2:
    return trees.multiply(args[0], trees.invert(args[1]))
  if len(args) != 1:
    raise cursor.NotUnderstood(f"{name} of {len(args)} arguments")
  if name == "cbrt":
    return trees.Call("root", (args[0], trees.number(3)))
  if name == "exp":
    return trees.Call("power", (trees.E, args[0]))
  if name == "ln":
    return trees.Call("log", (args[0], trees.E))
  if name in ("log", "lg"):
    return trees.Call("log", (args[0], base or trees.number(10)))
  return trees.Call(name, args)
