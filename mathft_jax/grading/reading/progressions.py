"""Lists with an ellipsis: 1, 3, ..., 9."""

from collections.abc import Sequence
from fractions import Fraction

from mathft_jax.grading import trees, values

ELLIPSIS = trees.Words("...")

_MAX_ITEMS = 200


def filled(items: Sequence[trees.Tree]) -> tuple[trees.Tree, ...]:
  """The items with what the dots stand for, in an arithmetic progression.

  One item before the dots goes up by one. Other lists are returned as they are.
  """
  if items.count(ELLIPSIS) != 1:
    return tuple(items)
  at = items.index(ELLIPSIS)
  numbers = [value for value in map(_value, items) if value is not None]
  if len(numbers) < len(items) - 1:
    return tuple(items)
  head, tail = numbers[:at], numbers[at:]
  if not head or not tail:
    return tuple(items)
  step = head[1] - head[0] if len(head) > 1 else Fraction(1)
  count = (tail[-1] - head[0]) / step + 1 if step else Fraction(0)
  if count.denominator != 1 or not len(numbers) <= count <= _MAX_ITEMS:
    return tuple(items)
  progression = [head[0] + step * index for index in range(int(count))]
  if progression[:at] != head or progression[-len(tail) :] != tail:
    return tuple(items)
  return tuple(map(trees.number, progression))


def _value(tree: trees.Tree) -> Fraction | None:
  value = values.value_of(tree) if trees.is_expression(tree) else None
  return value if isinstance(value, Fraction) else None
