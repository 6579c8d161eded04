"""Numbers in words are read as those who write them mean them."""

import pytest

from mathft_jax.grading import grader
from mathft_jax.grading.reading import number_words

_SMALL = (
  "zero one two three four five six seven eight nine ten eleven twelve"
  " thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def _spelled(n: int) -> str:
  if n < 20:
    return _SMALL[n]
  if n < 100:
    tens, units = divmod(n, 10)
    return _TENS[tens - 2] + (f"-{_SMALL[units]}" if units else "")
  for size, word in ((10**6, "million"), (1000, "thousand"), (100, "hundred")):
    if n >= size:
      head, rest = divmod(n, size)
      joint = " and " if rest < 100 else " "
      tail = joint + _spelled(rest) if rest else ""
      return f"{_spelled(head)} {word}{tail}"
  raise AssertionError(n)


def test_spelled_numbers_are_read_back():
  numbers = [*range(2_000), *range(2_001, 5_000_000, 40_961)]
  for n in numbers:
    words = _spelled(n)
    assert number_words.in_digits(words) == str(n), words
    assert number_words.in_digits(f"{words} cats") == f"{n} cats", words


@pytest.mark.parametrize(
  ("text", "digits"),
  [
    ("two-thirds", "2/3"),
    ("One half", "1/2"),
    ("a half", "1/2"),
    ("half", "1/2"),
    ("three quarters of it", "3/4 of it"),
    ("two and a half", "5/2"),
    ("a dozen", "12"),
    ("two dozen eggs", "24 eggs"),
    ("a hundred", "100"),
    # What is no number, or one that goes on, stays.
    ("one-to-one", "one-to-one"),
    ("nineteen ninety", "nineteen ninety"),
    ("one and two", "one and two"),
    ("fourth", "fourth"),
    ("fifth place", "fifth place"),
    ("a", "a"),
    ("tens", "tens"),
    ("", ""),
  ],
)
def test_parts_and_what_is_none(text, digits):
  assert number_words.in_digits(text) == digits


@pytest.mark.parametrize(
  ("text", "value"),
  [("fourth", 4), ("Twenty-first", 21), ("four", None), ("fourth one", None)],
)
def test_ordinals(text, value):
  assert number_words.ordinal(text) == value


def test_an_ordinal_is_no_number_of_things():
  assert grader.is_equivalent("\\text{fourth}", "4th")
  assert not grader.is_equivalent("\\text{fourth}", "four")
  assert not grader.is_equivalent("4", "fourth")
