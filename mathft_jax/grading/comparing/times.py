"""Comparison of times of day: 9 a.m., 9:00, 20:34."""

import dataclasses
import re

from mathft_jax.grading import trees
from mathft_jax.grading.reading import parse

# Hours that a marker adds to those of a twelve-hour clock.
_MARKERS = {("am", 1): 0, ("pm", 1): 12}
_NUM_PARTS = 3  # hours, minutes, seconds


@dataclasses.dataclass(frozen=True)
class _Time:
  parts: tuple[int, ...]
  shift: int | None  # None without a marker
  is_certain: bool


def same(first: parse.Answer, second: parse.Answer) -> bool | None:
  """Whether two answers are the same time; None if they need not be times.

  "5:30" alone may be a ratio; a zero or a.m. makes it a time. Who leaves the
  marker out is right, who gives the other one is not.
  """
  a, b = _read(first), _read(second)
  markers = [first.units & _MARKERS.keys(), second.units & _MARKERS.keys()]
  if any(markers) and first.units and second.units and not all(markers):
    return False  # 9 a.m. is not 9 minutes.
  if any(map(_has_padding, (first, second))) and (a is None or b is None):
    return False  # 9:05 is no fraction.
  if a is None or b is None or not (a.is_certain or b.is_certain):
    return None
  if a.parts[1:] != b.parts[1:]:
    return False
  if a.shift is None and b.shift is None:
    return a.parts == b.parts
  if a.shift is not None and b.shift is not None:
    return _hour(a) == _hour(b)
  marked, plain = (a, b) if b.shift is None else (b, a)
  if plain.parts[0] > 12:
    return plain.parts[0] == _hour(marked)
  return plain.parts[0] % 12 == marked.parts[0] % 12


def _has_padding(answer: parse.Answer) -> bool:
  return isinstance(answer.tree, trees.Ratio) and bool(
    re.match(r"\d{1,2}:0\d(?!\d)", answer.text)
  )


def _hour(time: _Time) -> int:
  return time.parts[0] % 12 + (time.shift or 0)


def _read(answer: parse.Answer) -> _Time | None:
  tree = answer.tree
  items = tree.items if isinstance(tree, trees.Ratio) else (tree,)
  numbers = [
    item.value.numerator
    for item in items
    if isinstance(item, trees.Number) and item.value.denominator == 1
  ]
  if len(numbers) != len(items) or len(numbers) > _NUM_PARTS:
    return None
  shifts = [_MARKERS[unit] for unit in answer.units if unit in _MARKERS]
  return _Time(
    parts=(*numbers, *(0,) * (_NUM_PARTS - len(numbers))),
    shift=shifts[0] if shifts else None,
    is_certain=bool(shifts) or (len(numbers) > 1 and 0 in numbers[1:]),
  )
