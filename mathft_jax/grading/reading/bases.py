"""Numbers that name their base: "(2034)_5", "2034 base 5"."""

import re

from mathft_jax.grading.reading import number_words, tokens

# 16 is the largest base that is spelled out.
_WORDS = [word for word, value in number_words.SMALL.items() if value <= 16]
_BASE_WORD = "|".join(_WORDS)
_BASE_NAMES = {"binary": 2, "octal": 8, "decimal": 10, "hexadecimal": 16}
_BASE = re.compile(
  r"\(?(?P<digits>[0-9A-Za-z]+(?:\.[0-9A-Za-z]+)?)\)?\s*(?:"
  rf"_\{{?\\?(?:text\{{)?(?P<word>{_BASE_WORD})\}}?\}}?"
  r"|_\{?(?P<number>\d{1,2})\}?"
  rf"|\(?(?:in )?base[ -]?(?P<after>\d{{1,2}}|{_BASE_WORD})\)?"
  rf"|\(?(?:in )?(?P<name>binary|octal|hexadecimal)\)?)",
)
_SPACED_DIGITS = re.compile(r"(?<=\d) (?=\d)")


def in_one_way(text: str) -> str | None:
  """Writes "(2034)_5", "2034 base 5", "2034_{\\text{five}}" as 2034_{5}.

  None for a text that names no base.
  """
  if (
    "_" not in text
    and "ba" not in text
    and "al" not in text
    and ("binary" not in text)
  ):
    return None
  plain = tokens.TEXT.sub(r"\1", text)
  match = _BASE.fullmatch(_SPACED_DIGITS.sub("", plain))
  if match is None:
    return None
  digits = match["digits"].upper()
  if (
    not digits[0].isdecimal()
    and match["number"]
    and not text.startswith(("\\text", "("))
  ):
    # "a_5" and "A_1" are variables with an index; "A3_16" is a number.
    if len(digits) == 1:
      return None
  base = _number(match)
  if not 2 <= base <= 36 or not _are_digits(digits, base):
    return None
  if digits[0].isdecimal():
    return f"{digits}_{{{base}}}"
  return f"\\text{{{digits}}}_{{{base}}}"  # Letters are digits here.


def _number(match: re.Match[str]) -> int:
  if match["name"]:
    return _BASE_NAMES[match["name"]]
  base = str(match["word"] or match["number"] or match["after"])
  return int(base) if base.isdecimal() else number_words.SMALL[base]


def _are_digits(digits: str, base: int) -> bool:
  return all(d == "." or int(d, 36) < base for d in digits)
