"""The trees that answers are read into: plain, immutable, hashable values."""

import dataclasses
from collections.abc import Container, Iterator
from fractions import Fraction


class BoundExceeded(ValueError):
  """An answer, or a number computed from it, is larger than we look at."""


@dataclasses.dataclass(frozen=True, slots=True)
class Number:
  """A rational number; "0.5" is one half."""

  value: Fraction


@dataclasses.dataclass(frozen=True, slots=True)
class Constant:
  """One of "pi", "e", "i" or "infinity"."""

  name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Symbol:
  """A variable or the name of a thing: "x", "x_1", "alpha", "B"."""

  name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Based:
  """A number that names its base: 1011_2, 10.1_2.

  `digits` may begin with "-".
  """

  digits: str
  base: int


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
  """An operation on numbers: "add", "multiply", "power", "sin", ...

  "sum" and "product" have a term, its index, and the index's bounds.
  """

  name: str
  args: "tuple[Tree, ...]"


@dataclasses.dataclass(frozen=True, slots=True)
class Words:
  """Words in lower case, without blanks and marks: "circle", "june20"."""

  text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
  """A tuple, point or interval: order and brackets matter."""

  opening: str
  closing: str
  items: "tuple[Tree, ...]"


@dataclasses.dataclass(frozen=True, slots=True)
class Collection:
  """A set, or a list of several answers: order does not matter.

  `is_set` tells braces, within which nothing counts twice; `joined_by` is the
  last separator of a list: ",", ";", "and", "or".
  """

  items: "tuple[Tree, ...]"
  is_set: bool = dataclasses.field(default=False, compare=False)
  joined_by: str = ","


@dataclasses.dataclass(frozen=True, slots=True)
class Union:
  """A union of sets, intervals, or inequalities."""

  items: "tuple[Tree, ...]"


@dataclasses.dataclass(frozen=True, slots=True)
class Intersection:
  """An intersection of sets and intervals."""

  items: "tuple[Tree, ...]"


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
  """The first set without the second."""

  whole: "Tree"
  removed: "Tree"


@dataclasses.dataclass(frozen=True, slots=True)
class Such:
  """{variable | condition}."""

  variable: "Tree"
  condition: "Tree"


@dataclasses.dataclass(frozen=True, slots=True)
class Cases:
  """A function by cases: values with conditions; None is "otherwise"."""

  rows: "tuple[tuple[Tree, Tree | None], ...]"


@dataclasses.dataclass(frozen=True, slots=True)
class Matrix:
  rows: "tuple[tuple[Tree, ...], ...]"


@dataclasses.dataclass(frozen=True, slots=True)
class Ratio:
  """a : b, also a time of day."""

  items: "tuple[Tree, ...]"


@dataclasses.dataclass(frozen=True, slots=True)
class Relation:
  """A chain such as 1 < x <= 2: one sign between each two sides.

  Signs: "=", "~" (about), "<", "<=", ">", ">=", "!=", "in", "===".
  """

  sides: "tuple[Tree, ...]"
  signs: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Congruence:
  """x = 3 mod 7; one side alone is a residue."""

  sides: "tuple[Tree, ...]"
  modulus: "Tree"


@dataclasses.dataclass(frozen=True, slots=True)
class Unread:
  """Text that is no mathematics we know, or that exceeds a bound."""

  text: str
  exceeds_bound: bool


# f(2) is read as a product; these letters are names of functions there.
_FUNCTION_NAMES = frozenset("fghFGHPQT")

Expression = Number | Constant | Symbol | Based | Call
Tree = (
  Expression
  | Words
  | Group
  | Collection
  | Union
  | Intersection
  | Difference
  | Such
  | Cases
  | Matrix
  | Ratio
  | Relation
  | Congruence
  | Unread
)

PI = Constant("pi")
E = Constant("e")
IMAGINARY_UNIT = Constant("i")
INFINITY = Constant("infinity")
REALS = Group(
  "(", ")", (Call("multiply", (Number(Fraction(-1)), INFINITY)), INFINITY)
)
NOTHING = Collection(())


def is_expression(tree: Tree) -> bool:
  """Whether the tree stands for one number, perhaps with variables."""
  return isinstance(tree, Number | Constant | Symbol | Based | Call)


def number(value: int | Fraction) -> Number:
  return Number(Fraction(value))


def add(*args: Tree) -> Tree:
  return args[0] if len(args) == 1 else Call("add", args)


def multiply(*args: Tree) -> Tree:
  return args[0] if len(args) == 1 else Call("multiply", args)


def negate(tree: Tree) -> Tree:
  if isinstance(tree, Number):
    return Number(-tree.value)
  if isinstance(tree, Based) and not tree.digits.startswith("-"):
    return Based("-" + tree.digits, tree.base)
  return Call("multiply", (number(-1), tree))


def invert(tree: Tree) -> Tree:
  return Call("power", (tree, number(-1)))


def is_constant(tree: Tree) -> bool:
  """Whether the tree is an expression without variables."""
  return is_expression(tree) and not any(
    isinstance(leaf, Symbol) for leaf in leaves(tree)
  )


def is_function_value(tree: Tree) -> bool:
  """f(x), P(3), h^{-1}(x): read as a product of two."""
  if isinstance(tree, Call) and tree.name == "apply":
    return True
  if not (isinstance(tree, Call) and tree.name == "multiply"):
    return False
  head = tree.args[0]
  if isinstance(head, Call) and head.name == "power":
    head = head.args[0]
  return (
    isinstance(head, Symbol)
    and head.name in _FUNCTION_NAMES
    and len(tree.args) == 2
  )


def letter_order(tree: Tree) -> list[str]:
  """The letters whose order counts: f, g of f(g(x)); A, B of A^{-1} B."""
  letters: list[str] = []
  if not isinstance(tree, Call) or tree.name not in ("multiply", "apply"):
    return letters
  factors = [
    arg.args[0] if isinstance(arg, Call) and arg.name == "power" else arg
    for arg in tree.args
  ]
  names = [f.name if isinstance(f, Symbol) else "" for f in factors]
  if "circ" in names:
    return names
  if names[0] == "angle" and len(names) == 4:
    return [names[2]]  # An angle is known by its vertex, read from both sides.
  if all(map(str.isupper, names)):
    inverts = any(isinstance(arg, Call) for arg in tree.args)
    return names if inverts else []
  while is_function_value(tree):
    assert isinstance(tree, Call)
    letters.append(str(tree.args[0]))
    tree = tree.args[1]
  return letters


def substitute(tree: Tree, name: Tree, value: Tree) -> Tree:
  """The expression with one of its leaves replaced."""
  if tree == name:
    return value
  if isinstance(tree, Call):
    return Call(tree.name, tuple(substitute(a, name, value) for a in tree.args))
  return tree


def has_call(tree: Tree, names: Container[str]) -> bool:
  """Whether an operation of one of these names is in the expression."""
  return isinstance(tree, Call) and (
    tree.name in names or any(has_call(arg, names) for arg in tree.args)
  )


def num_nodes(tree: Tree) -> int:
  return 1 + (sum(map(num_nodes, tree.args)) if isinstance(tree, Call) else 0)


def symbol_names(tree: Tree) -> set[str]:
  return {leaf.name for leaf in leaves(tree) if isinstance(leaf, Symbol)}


def leaves(tree: Tree) -> Iterator[Tree]:
  """Yields the numbers, constants and symbols of an expression."""
  stack = [tree]
  while stack:
    node = stack.pop()
    if isinstance(node, Call):
      stack.extend(node.args)
    else:
      yield node
