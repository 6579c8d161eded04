"""The part of an answer that says what it is, in one notation.

Everything here is text to text, on normalized answers, in linear time.
"""

import functools
import re
from collections.abc import Sequence

from mathft_jax.grading.reading import (
  bases,
  code_notation,
  sentences,
  tokens,
)

_INTEGER_ASIDE = re.compile(r",? ?\(([a-z]\\in\\mathbb\{Z\})\)$")
_DIAGONAL = re.compile(r"(?:\\text\{diag\}|diag)\(([^()]+)\)")
_DERIVATIVE = re.compile(r"\\frac\{d([a-z])\}\{d[a-z]\}")
# ]0, 1[ for (0, 1), and [2, 7[ for [2, 7).
_OPENED = re.compile(r" ?([\[\]])([^\[\]]+,[^\[\]]+)([\[\]]) ?")
# Two units, the second 1/60 or so of the first: 22°30', 5 feet 6 inches.
_PARTS = (
  ("°", "(?:'|minutes?)", 60),
  ("(?:hours?|hrs?)", "(?:minutes?|mins?)", 60),
  ("(?:minutes?|mins?)", "(?:seconds?|secs?)", 60),
  ("(?:feet|foot|ft)", "(?:inches|inch|in)", 12),
  ("(?:pounds?|lbs?)", "(?:ounces?|oz)", 16),
  ("dollars?", "cents?", 100),
  ("weeks?", "days?", 7),
  ("(?:years?|yrs?)", "months?", 12),
  ("days?", "(?:hours?|hrs?)", 24),
)
_TWO_UNITS = [
  (
    re.compile(rf"(\d+) ?({first})(?:,? and|,)? ?(\d+) ?{second}(?![A-Za-z])"),
    number,
  )
  for first, second, number in _PARTS
]
_FIRST_UNIT = re.compile(rf"\d ?(?:{'|'.join(first for first, *_ in _PARTS)})")
_ORDINAL_ENDING = "(?:st|nd|rd|th)"
_ORDINAL = re.compile(
  rf"(?<=\d)(?:\^\{{\\text\{{{_ORDINAL_ENDING}\}}\}}"
  rf"|\^\\text\{{{_ORDINAL_ENDING}\}}"
  rf"|\^\{{{_ORDINAL_ENDING}\}}"
  rf"|\\text\{{{_ORDINAL_ENDING}\}}"
  rf"|{_ORDINAL_ENDING}(?![A-Za-z]))"
)


@functools.lru_cache(maxsize=1 << 12)
def core(answer: str) -> str:
  """Returns the part of a normalized answer that says what the answer is."""
  based = bases.in_one_way(answer)
  if based:
    return based
  text = code_notation.read(answer)
  text = _ORDINAL.sub("", text)
  text = _INTEGER_ASIDE.sub(r", \1", text)
  text = _with_one_unit(text)
  if text.startswith("]") or text.endswith("["):
    text = "\\cup ".join(map(_closed, text.split("\\cup")))
  text = _DERIVATIVE.sub(r"\1'", text)
  diagonal = _DIAGONAL.fullmatch(text)
  if diagonal:
    return _diagonal(diagonal[1].split(","))
  if not _has_word(text):
    return text
  plain = _plain(text)
  said = sentences.said(plain)
  if said != plain:
    return bases.in_one_way(said) or said
  # With its marks a word in \text{} stays a word, however short it is.
  return text


def _has_word(text: str) -> bool:
  return any(
    a.isalpha() and b.isalpha() for a, b in zip(text, text[1:], strict=False)
  )


def _plain(text: str) -> str:
  """The text without the marks of words."""
  return " ".join(tokens.TEXT.sub(r" \1 ", text).split())


def _with_one_unit(text: str) -> str:
  """Writes "5 feet 6 inches" as (5+6/12) feet."""
  if not any(map(str.isdecimal, text)):
    return text
  plain = _plain(text)
  if not _FIRST_UNIT.search(plain):
    return text
  for pattern, number in _TWO_UNITS:
    if pattern.search(plain):
      return pattern.sub(rf"(\1+\3/{number}) \2", plain)
  return text


def _closed(interval: str) -> str:
  """An interval with brackets that look outwards, with round ones there."""
  found = _OPENED.fullmatch(interval)
  if found is None:
    return interval
  opening = "(" if found[1] == "]" else "["
  closing = ")" if found[3] == "[" else "]"
  return f"{opening}{found[2]}{closing}"


def _diagonal(entries: Sequence[str]) -> str:
  rows = (
    "&".join(entry if j == i else "0" for j in range(len(entries)))
    for i, entry in enumerate(entries)
  )
  return "\\begin{matrix}" + "\\\\".join(rows) + "\\end{matrix}"
