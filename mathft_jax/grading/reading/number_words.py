"""Numbers in words: "forty-two", "two-thirds", "one and a half", "fourth"."""

import re
from collections.abc import Sequence
from fractions import Fraction

SMALL = {
  word: value
  for value, word in enumerate(
    "zero one two three four five six seven eight nine ten eleven twelve"
    " thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
  )
}
_TENS = {
  word: 10 * value
  for value, word in enumerate(
    "twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2
  )
}
_LARGE = {
  "thousand": 10**3,
  "million": 10**6,
  "billion": 10**9,
  "trillion": 10**12,
}
_ORDINALS = {
  word: value
  for value, word in enumerate(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh"
    " twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth"
    " nineteenth twentieth".split(),
    start=1,
  )
}
_PARTS = {word: value for word, value in _ORDINALS.items() if value > 2} | {
  "half": 2,
  "quarter": 4,
  "hundredth": 100,
  "thousandth": 1000,
}
_PARTS |= {f"{word}s": value for word, value in _PARTS.items()}
_PARTS["halves"] = 2
_NO_COUNTS = frozenset(["one", "a", "an"])
_ARTICLES = frozenset(["a", "an"])
_WORD = "|".join(
  sorted(
    {*SMALL, *_TENS, *_LARGE, *_ORDINALS, *_PARTS, "hundred", "dozen"},
    key=len,
    reverse=True,
  )
)
_PARTS_OF_DIGITS = re.compile(rf"(\d+)[ -]({'|'.join(_PARTS)})", re.IGNORECASE)
_NEGATIVE = re.compile(r"(?:negative|minus) (?!negative|minus)", re.IGNORECASE)
_RUN = re.compile(
  rf"(?:an? (?=(?:{_WORD})(?![A-Za-z])))?(?:{_WORD})"
  rf"(?:(?: |-| and | and a )(?:{_WORD})(?![A-Za-z]))*(?![A-Za-z-])",
  re.IGNORECASE,
)


def in_digits(text: str) -> str:
  """Writes the number in words that a text begins with in digits.

  A text that begins with none is returned as it is, and so is one that begins
  with an ordinal.
  """
  negative = _NEGATIVE.match(text)
  if negative:
    number = in_digits(text[negative.end() :])
    return f"-{number}" if number[:1].isdecimal() else text
  parts = _PARTS_OF_DIGITS.fullmatch(text)
  if parts:
    return f"{parts[1]}/{_PARTS[parts[2].lower()]}"
  run = _RUN.match(text)
  if run is None:
    return text
  words = run[0].lower().replace("-", " ").split()
  rest = text[run.end() :]
  value = _fraction(words)
  if value is None:
    value = _integer(words)
  return text if value is None else f"{value}{rest}"


def with_digits(text: str) -> str:
  """Writes all integers in words in digits, but for "one", often no number."""
  return _RUN.sub(_integer_in_digits, text)


def _integer_in_digits(run: re.Match[str]) -> str:
  words = run[0].lower().replace("-", " ").split()
  value = None if words[0] in _NO_COUNTS else _integer(words)
  return run[0] if value is None else str(value)


def ordinal(text: str) -> int | None:
  """4 for "fourth", 21 for "Twenty-first"; None for any other text."""
  run = _RUN.fullmatch(text)
  if run is None:
    return None
  *before, last = text.lower().replace("-", " ").split()
  if last not in _ORDINALS or len(before) > 1:
    return None
  if not before:
    return _ORDINALS[last]
  tens = _TENS.get(before[0])
  return None if tens is None else tens + _ORDINALS[last]


def _fraction(words: Sequence[str]) -> Fraction | None:
  """two thirds, a half, two and a half; None for anything else."""
  *before, part = words
  if part not in _PARTS:
    return None
  whole: Sequence[str] = ()
  if "and" in before:
    index = len(before) - 1 - before[::-1].index("and")
    whole, before = before[:index], before[index + 1 :]
  if before in (["a"], ["an"]) or (part in ("half", "quarter") and not before):
    top: int | None = 1
  elif len(before) == 1:
    # "twenty fifth" is an ordinal.
    top = None if before[0] in _TENS else _integer(before)
  else:
    top = None
  units = _integer(whole) if whole else 0
  if top is None or units is None:
    return None
  return units + Fraction(top, _PARTS[part])


def _integer(words: Sequence[str]) -> int | None:
  total = group = 0
  has_group = False  # whether a number is open that a multiplier may take
  for index, word in enumerate(words):
    if word in SMALL or word in _TENS:
      value = SMALL.get(word, _TENS.get(word, 0))
      room = 100 if value >= 10 else 10
      if has_group and (group % room or group == 0):
        return None
      group, has_group = group + value, True
    elif word in _ARTICLES and index == 0:
      group, has_group = 1, True
    elif word in ("hundred", "dozen") and (has_group or not index):
      group = (group or 1) * (100 if word == "hundred" else 12)
      has_group = True
    elif word in _LARGE and (has_group or not index):
      total += (group or 1) * _LARGE[word]
      group, has_group = 0, False
    elif word == "and" and 0 < index < len(words) - 1:
      if words[index - 1] not in ("hundred", *_LARGE):
        return None
    else:
      return None
  return total + group
