"""What a reference answer lets pass beyond equality: not symmetric.

A candidate may show how it got its answer ("m + n = 256 + 37 = 293") or say
more than was asked ("(B) 12"), and where the reference is a rounded decimal,
the exact value is right as well.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from mathft_jax.grading import trees, units, values
from mathft_jax.grading.comparing import numeric, structure
from mathft_jax.grading.reading import (
  normalize,
  number_words,
  parse,
  phrases,
  tokens,
)

_DECIMAL = re.compile(r"[＄€£]?(-?\d*\.\d+)")
# 0.3 and 4.5 as references are exact; 0.33 may be a third, 12.5 rounded.
_MIN_PLACES = 2
_MIN_DIGITS = 3
_JOINED_THOUSANDS = re.compile(r"(?<![\d.,])\d{2,3}(?:,\d{3})+(?![\d,])")
_EQUALS = re.compile(r"(?<![<>!:\\])=")
_SEPARATOR_OR_BRACKET = re.compile(
  r"[()\[\]{},;]|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])"
)
_LETTER_OF_CHOICE = re.compile(r"\(?([A-J])\)?")
_CHOICE_WITH_VALUE = re.compile(
  r"\(?([A-J])(?:[).:]| [-:])[ ~]*(?!(?:and|or)(?![A-Za-z]))(\S.*)"
)
# Such a reference is met by its letter, and by its value.
_CHOICE_TO_GIVE = re.compile(r"\(([A-J])\)[ ~]*([A-Za-z0-9.\\-].*)")
# What takes an answer back, or names another one.
_DENIES = re.compile(
  r"(?<![A-Za-z])(?:is|are|was|not|no|none|never|wrong|incorrect|false|second"
  r"|last|lost|least|[A-J])(?![A-Za-z])|n't"
)
_NAME = re.compile(r"[A-Z][a-z]+")
_SAYS_OF_NAME = re.compile(
  r"(?P<name>[A-Z][a-z]+) (?:has|had|is|was|will|can|wins|won)(?![A-Za-z'])"
  r"(?! not(?![A-Za-z]))"
)
_NUMBER = re.compile(r"-?(?:\d+(?:\.\d+)?(?:/\d+)?|\.\d+)")
_NUMBER_WITH_UNIT = re.compile(r"(-?\d*\.?\d+) ?([a-z]{1,2})(?:\^\{?[23]\}?)?")
_SENTENCE = re.compile(r"[A-Z][a-z]*,?(?: \S+){3}")
_STATED_NUMBER = re.compile(
  r"(?<![A-Za-z])(?:is|are|was|were|be|equals?|gets?|got|makes?|made|has|have"
  r"|had|earns?|pays?|costs?|takes?|needs?|contains?|gives?|yields?|receives?"
  r"|sold|bought|runs?|ran|walks?|drives?|drove|reads?|spends?|spent|saves?|saved"
  r"|uses?|used|eats?|ate|ways?|total)(?: a total of| exactly)?:? +[＄€£]?"
  r"(-?(?:\d+(?:\.\d+)?|\.\d+))(?![\d.,]*\d)"
)
_CHANGES_NUMBER = re.compile(
  r"(?<![A-Za-z])(?:not|no|more|less|fewer|least|most|about|approximately|over"
  r"|under|nearly|almost|between|or|half|twice|double|base|power|root|squared"
  r"|cubed|times|except|only|cannot|never|none|wrong|incorrect|false|fails?"
  r"|impossible|negative|reciprocal|inverse|factorial|opposite|up"
  r"|if|unless|guess|would|could|first|last|next|another|other)(?![A-Za-z])"
  r"|n't|[_^=<>\\|]",
  re.IGNORECASE,
)
_NEITHER = re.compile(r"neither [\w -]+ nor [\w -]+", re.IGNORECASE)
_NOUNS = ("function", "triangle")
_WITH_NOUN = re.compile(rf"(?:an? )?([A-Za-z]+) (?:{'|'.join(_NOUNS)})")
_THERE_ARE_NONE = re.compile(r"[Tt]here (?:is|are) no (?:such )?[a-z]+")
_WHOLE_AND_PART = re.compile(r"(\d+) and (\d+/\d+)")
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)")
_FOLDED_CONSTANT = re.compile(r"(?<=\+)[ckK]$")
_ENGINEERS_UNIT = re.compile(r"(?<![A-Za-z\\])j(?![A-Za-z])")
_BRACKETED_LIST = re.compile(r"\[([^\[\]]*,[^\[\]]*)\]")


def readings(reference: str, candidate: str) -> Iterator[tuple[str, str]]:
  """Yields other pairs: the candidate is right if one of them is equal.

  Both texts are as given, not normalized.
  """
  value = _last_side(candidate)
  if value is not None and not _EQUALS.search(reference):
    yield reference, value
  # "70,110" may be two numbers; only a list tells.
  if "," in reference and _JOINED_THOUSANDS.fullmatch(reference.strip()):
    yield reference.replace(",", ", "), candidate
  reference = normalize.normalize(reference)
  candidate = normalize.normalize(candidate)
  said = _what_is_asked(reference, candidate)
  if said is not None:
    yield reference, said
  number = _number_in_sentence(reference, candidate)
  if number is not None:
    yield reference, number
  if reference.endswith("+C") and _FOLDED_CONSTANT.search(candidate):
    yield reference, candidate[:-1] + "C"
  if "i" in reference and "j" in candidate and "j" not in reference:
    yield reference, _ENGINEERS_UNIT.sub("i", candidate)
  if reference.startswith(("(", "\\text{(")):
    yield from _of_choice(reference, candidate)
  if "and" in candidate or "and" in reference:
    yield from _of_mixed_number(reference, candidate)
  bracketed = _BRACKETED_LIST.fullmatch(candidate)
  if bracketed and not reference.startswith(("(", "[", "\\{", "\\begin")):
    yield reference, bracketed[1]


def _of_choice(reference: str, candidate: str) -> Iterator[tuple[str, str]]:
  """A letter and a value, by either of them."""
  choice = _CHOICE_TO_GIVE.fullmatch(_without_marks(reference))
  if choice:
    yield choice[1], candidate.strip("()")
    yield choice[2], candidate


def _of_mixed_number(
  reference: str, candidate: str
) -> Iterator[tuple[str, str]]:
  """ "7 and 1/2" as 7 1/2, where the other names one number."""
  for text, other in ((candidate, reference), (reference, candidate)):
    mixed = _WHOLE_AND_PART.fullmatch(text)
    if mixed and "," not in other and "and" not in other:
      yield other, f"{mixed[1]} {mixed[2]}"


def is_rounded(reference: parse.Answer, candidate: parse.Answer) -> bool:
  """Whether the reference is a decimal to which the exact value rounds.

  A candidate that is a finite decimal itself is another number.
  """
  decimal = _DECIMAL.fullmatch(reference.text)
  tree = candidate.tree
  if isinstance(tree, trees.Relation) and tree.signs == ("=",):
    tree = tree.sides[1]
  if decimal is None or not trees.is_constant(tree):
    return False
  text = decimal[1]
  digits = text.lstrip("-0.").replace(".", "")
  num_places = len(text.partition(".")[2])
  if num_places < _MIN_PLACES and len(digits) < _MIN_DIGITS:
    return False
  if _is_finite_decimal(values.value_of(tree)):
    return False
  value: Any = numeric.real_value(tree)
  if value is None or abs(value) == float("inf"):
    return False
  half_unit = Fraction(1, 2 * 10**num_places)
  off = abs(value - numeric.number(Fraction(text)))
  return bool(off <= numeric.number(half_unit))


def _is_finite_decimal(value: values.Value | None) -> bool:
  if not isinstance(value, Fraction):
    return False
  rest = value.denominator
  for prime in (2, 5):
    while rest % prime == 0:
      rest //= prime
  return rest == 1


def _last_side(text: str) -> str | None:
  """What follows the last "=", where something with a letter goes before it.

  "... = 0" is an equation, and no value.
  """
  if "=" not in text:
    return None
  text = phrases.core(normalize.normalize(text))
  sides = _EQUALS.split(text)
  value = sides[-1].strip()
  if len(sides) < 2 or not value or value.strip("$. ") == "0":
    return None
  if value.count("{") != value.count("}") or any(
    mark in text for mark in ("\\begin{cases", "\\begin{array", "<", ">")
  ):
    return None
  if not _names_a_value(parse.parse(normalize.normalize(sides[0])).tree):
    return None
  if _has_several(tokens.TEXT.sub(r" \1 ", text)):
    return None
  # A false chain, 4^2 = 8 = 16, is no answer.
  last = parse.parse(normalize.normalize(value))
  for side in sides[1:-1]:
    between = parse.parse(normalize.normalize(side))
    if _is_value_with_name(between.tree):
      return None
    try:
      if trees.is_constant(between.tree) and (
        structure.compare(between, last, numeric) is False
      ):
        return None
    except trees.BoundExceeded:
      return None
  return value


def _has_several(text: str) -> bool:
  """Whether a text without \\text{} lists answers: "x = -1 or x = 8".

  What stands in brackets is one answer: (x, y) = (1, 2).
  """
  depth = 0
  for mark in _SEPARATOR_OR_BRACKET.finditer(text):
    found = mark[0]
    if found in "([{":
      depth += 1
    elif found in ")]}":
      depth -= 1
    elif depth <= 0:
      return True
  return False


def _is_value_with_name(tree: trees.Tree) -> bool:
  """Whether it ends one equation and begins another: x = 3 + y = 4."""
  return (
    isinstance(tree, trees.Call)
    and tree.name == "add"
    and isinstance(tree.args[-1], trees.Symbol)
    and all(map(trees.is_constant, tree.args[:-1]))
  )


def _names_a_value(tree: trees.Tree) -> bool:
  """x, AB, f(2), det A, "the area", m + n: what an answer may be called."""
  if isinstance(tree, trees.Unread):
    return not re.search(r"[\d+*/^<>-]", tree.text)
  if isinstance(tree, trees.Call) and tree.name == "add":
    return all(isinstance(arg, trees.Symbol) for arg in tree.args)
  return structure.is_name(tree)


def _number_in_sentence(reference: str, candidate: str) -> str | None:
  """The one number of a sentence, or one with a unit beside it: 10m, 3 cm^2."""
  if not _NUMBER.fullmatch(reference):
    return None
  with_unit = _NUMBER_WITH_UNIT.fullmatch(candidate)
  if with_unit and with_unit[2] in units.BY_WORD:
    return with_unit[1]
  candidate = candidate.replace("{", " ").replace("}", " ")
  if not _SENTENCE.match(candidate) or _CHANGES_NUMBER.search(candidate):
    return None
  candidate = number_words.with_digits(candidate)
  numbers = _NUMBER.findall(candidate)
  stated = _STATED_NUMBER.search(candidate)
  return stated[1] if stated and len(numbers) == 1 else None


def _without_marks(text: str) -> str:
  return text.replace("\\text{", "").replace("}", "")


def _what_is_asked(reference: str, candidate: str) -> str | None:
  """The part of a normalized candidate that answers such a reference.

  A letter of a choice with its value, a name and what it has, an adjective
  with its noun, "There are no ..." for 0, "neither ... nor ...", and "4th" for
  a reference that is an ordinal in words.
  """
  plain = _without_marks(candidate)
  choice = _CHOICE_WITH_VALUE.fullmatch(plain)
  if choice and _LETTER_OF_CHOICE.fullmatch(reference):
    return None if _DENIES.search(choice[2]) else choice[1]
  sentence = _SAYS_OF_NAME.match(plain)
  if sentence and _NAME.fullmatch(reference):
    rest = plain[sentence.end() :]
    others = re.search(r"[A-Z]|(?<![A-Za-z])(?:than|by|to)(?![A-Za-z])", rest)
    return None if others or _DENIES.search(rest) else sentence["name"]
  if plain.endswith(_NOUNS):
    noun = _WITH_NOUN.fullmatch(_without_marks(phrases.core(candidate)))
    if noun and noun[1].lower() == reference.lower():
      return reference
  if reference == "0" and _THERE_ARE_NONE.fullmatch(plain):
    return reference
  if reference.lower() == "neither" and _NEITHER.fullmatch(plain):
    return reference
  ordinal = _ORDINAL.fullmatch(plain)
  if ordinal and number_words.ordinal(reference) == int(ordinal[1]):
    return reference
  return None
