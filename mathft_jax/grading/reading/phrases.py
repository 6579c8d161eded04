"""The answer inside a sentence: "The area is 15 feet." says "15 feet".

Everything here is text to text, on normalized answers, in linear time.
"""

import functools
import re
from collections.abc import Sequence

from mathft_jax.grading import units
from mathft_jax.grading.reading import code_notation, number_words

_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_REMARK = re.compile(
  r"(?:, ?(?:attained|achieved|obtained|reached|occurring|with equality)"
  r"(?![A-Za-z]).*"
  r"|,? for (?:all|every|any) (?:real |positive )?(?:numbers? |values? of )?"
  r"[a-z]$"
  r"|,? (?:since|because|as required|which is|where we)(?![A-Za-z]).*"
  r"|(?<=[a-z0-9)}])\. ?[A-Z].*"
  r"|,? i\.e\.?.*| ?\((?:the|since|because|as|note)(?![A-Za-z]).*)$"
)
_OUT_OF = re.compile(r"(?<![\w.])(\d+) (?:out of|in) (\d+)(?![\w.])")
_MULTIPLES = {
  "hundred": 2,
  "thousand": 3,
  "million": 6,
  "billion": 9,
  "trillion": 12,
}
_MULTIPLE = re.compile(
  rf"(?<=\d) ?({'|'.join(_MULTIPLES)})s?(?![A-Za-z])", re.IGNORECASE
)
_COMPARISONS = {
  "at least": "\\geq ",
  "greater than or equal to": "\\geq ",
  "at most": "\\leq ",
  "less than or equal to": "\\leq ",
  "greater than": ">",
  "more than": ">",
  "less than": "<",
}
_COMPARISON = re.compile(
  rf"(?<![A-Za-z])([a-z]) is ({'|'.join(_COMPARISONS)}) ?(?=\S)"
)
_YES_OR_NO = re.compile(r"(yes|no|true|false)[,.;:] [^\d=]*", re.IGNORECASE)
_MISSING = re.compile(r"[A-Za-z ]*(?:does not|doesn't) exist", re.IGNORECASE)
_INTEGER = re.compile(
  r"[, ]*\(?(?:where|for|with)?(?: (?:all|any|every|some))?"
  r"(?: integers? (?P<before>[a-z])"
  r"| (?P<after>[a-z]) (?:is )?(?:an |any )?(?:integers?))\)?$"
)
_INTEGER_ASIDE = re.compile(r",? ?\(([a-z]\\in\\mathbb\{Z\})\)$")
_CONNECTIVE = re.compile(
  r"(?:(?:so|thus|hence|therefore|then|finally|we get|we have|that is)"
  r"(?![A-Za-z])|(?:the )?(?:final |correct )?(?:answer|solution|result)s?:)"
  r"[, ]*",
  re.IGNORECASE,
)
_CHOICE = re.compile(
  r"(?:option|choice|answer choice|answer)[ :]*(\(?[A-Ja-j]\)?)", re.IGNORECASE
)
_VERB = re.compile(
  r"(?<![A-Za-z\\'])(?:is equal to|equals|is at|are at|falls on|is|are|was|were"
  r"|be|equal)(?![A-Za-z'])[: ]*",
)
_EQUALS = re.compile(r"(?<=[A-Za-z0-9)}]) (?:equals|is equal to) ?(?=\S)")
# A sentence that begins so names its answer; "not 7" and "7 or more" do not.
_BEGINS_SENTENCE = re.compile(r"(?:[A-Z][a-z]+|[a-z]{2,})(?: |$)|A [a-z]")
_HEDGES = re.compile(
  r"(?:not|either|neither|never|maybe|perhaps|possibly|between|less|more"
  r"|greater|fewer|at least|at most|undefined unless)(?![A-Za-z])(?=.)",
  re.IGNORECASE,
)
_FILLERS = re.compile(
  r"(?:a|an|the|on|at|in) (?!and |or |to )(?=[A-Za-z]{2})"
  r"|(?:just|simply|exactly|given by|therefore)(?![A-Za-z]) ?",
  re.IGNORECASE,
)
# A clause that says how many; "two lines" by itself is no number.
_COUNTS = re.compile(
  r"(?<![A-Za-z])(?:there|number|total|count|sum|value)(?![A-Za-z])",
  re.IGNORECASE,
)
_NAMES_MORE = re.compile(
  rf"(?<=\d) (?!(?:{'|'.join(units.BY_WORD)})(?![A-Za-z]))[A-Za-z]"
)
# "There are none, so 0": what was shown is after the last of these.
_CONCLUSION = re.compile(
  r".*(?:, (?:so|hence|thus|therefore),? |[=<>].*\\implies ?)"
)
_ABBREVIATION = re.compile(
  r"(?<![A-Za-z])(sq|cu|ft|in|yd|mi|lbs?|oz|hrs?|min|secs?)\.(?= |$|[a-z])"
)
_DATE = re.compile(r"(?:the )?(\d{1,2}) of ([A-Z][a-z]+)")
_DAY_FIRST = re.compile(
  r"(\d{1,2}) (January|February|March|April|May|June|July|August|September"
  r"|October|November|December)"
)
_DIAGONAL = re.compile(r"(?:\\text\{diag\}|diag)\(([^()]+)\)")
_SQUARE_ROOT = re.compile(r"(?:the )?square root of (\w+)", re.IGNORECASE)
_OVER = re.compile(r"(\w+) over (\w+)")
_DERIVATIVE = re.compile(r"\\frac\{d([a-z])\}\{d[a-z]\}")
# ]0, 1[ for (0, 1), and [2, 7[ for [2, 7).
_OPENED = re.compile(r" ?([\[\]])([^\[\]]+,[^\[\]]+)([\[\]]) ?")
_INFINITE = re.compile(r"infinite(?: ?\(\+?\\infty\))?")
_INTEGERS_BETWEEN = re.compile(
  r"(?:all |the )*integers from (-?\d+) (?:to|through) (-?\d+)"
  r"(?:,? \(?inclusive\)?)?"
)
_ODD_OR_EVEN = re.compile(r"(?:all |the |any )*(odd|even) (?:integers|numbers)")
# Two units, the second 1/60 or so of the first: 22°30', 5 feet 6 inches.
_PARTS = (
  ("°", "(?:'|minutes?)", 60),
  ("(?:hours?|hrs?)", "(?:minutes?|mins?)", 60),
  ("(?:minutes?|mins?)", "(?:seconds?|secs?)", 60),
  ("(?:feet|foot|ft)", "(?:inches|inch|in)", 12),
  ("(?:pounds?|lbs?)", "(?:ounces?|oz)", 16),
  ("dollars?", "cents?", 100),
)
_TWO_UNITS = [
  (
    re.compile(rf"(\d+) ?({first})(?:,? and|,)? ?(\d+) ?{second}(?![A-Za-z])"),
    number,
  )
  for first, second, number in _PARTS
]
_ALL_BUT = re.compile(
  r"(?:[Aa]ll )?(?:real numbers|reals)(?: [a-z])?,?"
  r" (?:except|other than|excluding)(?: for)? ?(?P<rest>.+)"
)
_TRAILING_WORDS = re.compile(r"(?<=[\d)}%])( ?[A-Za-z]+)((?: [A-Za-z]+){2,})$")
_ORDINAL_ENDING = "(?:st|nd|rd|th)"
_ORDINAL = re.compile(
  rf"(?<=\d)(?:\^\{{\\text\{{{_ORDINAL_ENDING}\}}\}}"
  rf"|\^\\text\{{{_ORDINAL_ENDING}\}}"
  rf"|\^\{{{_ORDINAL_ENDING}\}}"
  rf"|\\text\{{{_ORDINAL_ENDING}\}}"
  rf"|{_ORDINAL_ENDING}(?![A-Za-z]))"
)
_NUMBER_WORDS = (
  "zero one two three four five six seven eight nine ten eleven twelve"
  " thirteen fourteen fifteen sixteen"
).split()
_BASE_WORD = "|".join(_NUMBER_WORDS)
_INDEX_OF_WORD = {word: index for index, word in enumerate(_NUMBER_WORDS)}
_BASE_NAMES = {"binary": 2, "octal": 8, "decimal": 10, "hexadecimal": 16}
_BASE = re.compile(
  r"\(?(?P<digits>[0-9A-Za-z]+(?:\.[0-9A-Za-z]+)?)\)?\s*(?:"
  rf"_\{{?\\?(?:text\{{)?(?P<word>{_BASE_WORD})\}}?\}}?"
  r"|_\{?(?P<number>\d{1,2})\}?"
  rf"|\(?(?:in )?base[ -]?(?P<after>\d{{1,2}}|{_BASE_WORD})\)?"
  rf"|\(?(?:in )?(?P<name>binary|octal|hexadecimal)\)?)",
)
_SPACED_DIGITS = re.compile(r"(?<=\d) (?=\d)")


@functools.lru_cache(maxsize=1 << 12)
def core(answer: str) -> str:
  """Returns the part of a normalized answer that says what the answer is."""
  based = _based(answer)
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
  plain = _TEXT.sub(r" \1 ", text) if "\\text" in text else text
  plain = " ".join(plain.split())
  said = _said(plain)
  if said != plain:
    return _based(said) or said
  # With its marks a word in \text{} stays a word, however short it is.
  return text


def _has_word(text: str) -> bool:
  return any(
    a.isalpha() and b.isalpha() for a, b in zip(text, text[1:], strict=False)
  )


def _said(text: str) -> str:
  while connective := _CONNECTIVE.match(text):
    text = text[connective.end() :]
  conclusion = _CONCLUSION.match(text)
  if conclusion and len(text) > conclusion.end():
    text = text[conclusion.end() :]
  yes_or_no = _YES_OR_NO.fullmatch(text)
  if yes_or_no:
    return yes_or_no[1]
  if _MISSING.fullmatch(text):
    return "does not exist"
  text = _ABBREVIATION.sub(r"\1 ", text).strip()
  text = _REMARK.sub("", text)
  text = _COMPARISON.sub(lambda c: c[1] + _COMPARISONS[c[2]], text)
  text = _OUT_OF.sub(r"\\frac{\1}{\2}", text)
  text = _MULTIPLE.sub(lambda m: f"*10^{{{_MULTIPLES[m[1].lower()]}}}", text)
  text = _INTEGER.sub(
    lambda i: f", {i['before'] or i['after']}\\in\\mathbb{{Z}}", text
  )
  choice = _CHOICE.fullmatch(text)
  if choice:
    return choice[1]
  counts = False
  while _BEGINS_SENTENCE.match(text):
    verb = _last_verb(text)
    if verb is None:
      break
    rest = text[verb:]
    if not rest or _HEDGES.match(rest) or not _in_words(text[:verb]):
      break
    counts = counts or bool(_COUNTS.search(text[:verb]))
    text = _TRAILING_WORDS.sub(r"\1", rest)
  filler = _FILLERS.match(text)
  while filler:
    text = text[filler.end() :]
    filler = _FILLERS.match(text)
  text = _EQUALS.sub("=", text).rstrip(" .")
  number = number_words.in_digits(text)
  if counts or not _NAMES_MORE.search(number):
    text = number
  text = _in_marks(text)
  all_but = _ALL_BUT.fullmatch(text)
  if all_but:
    removed = all_but["rest"].rpartition("=")[2]
    return f"\\mathbb{{R}}\\setminus\\{{{removed}\\}}"
  choice = _CHOICE.fullmatch(text)
  return choice[1] if choice else text


def _in_marks(text: str) -> str:
  """Writes numbers, dates and sets in words as mathematics."""
  text = _DATE.sub(r"\2 \1", text)
  text = _DAY_FIRST.sub(r"\2 \1", text)
  root = _SQUARE_ROOT.fullmatch(text)
  if root:
    return f"\\sqrt{{{number_words.in_digits(root[1])}}}"
  over = _OVER.fullmatch(text)
  if over:
    top, bottom = map(number_words.in_digits, over.groups())
    return f"\\frac{{{top}}}{{{bottom}}}"
  if _INFINITE.fullmatch(text):
    return "\\infty"
  between = _INTEGERS_BETWEEN.fullmatch(text)
  if between:
    return f"{between[1]}, \\ldots, {between[2]}"
  odd_or_even = _ODD_OR_EVEN.fullmatch(text)
  if odd_or_even:
    return f"{int(odd_or_even[1] == 'odd')}\\bmod{{2}}"
  return text


def _with_one_unit(text: str) -> str:
  """Writes "5 feet 6 inches" as (5+6/12) feet."""
  if not any(map(str.isdigit, text)):
    return text
  plain = _TEXT.sub(r" \1 ", text) if "\\text" in text else text
  plain = " ".join(plain.split())
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


def _last_verb(text: str) -> int | None:
  """Where what follows the last verb begins, outside of all braces."""
  depth = 0
  scanned = 0
  found = None
  for verb in _VERB.finditer(text):
    between = text[scanned : verb.start()]
    depth += between.count("{") - between.count("}")
    scanned = verb.start()
    if depth == 0:
      found = verb.end()
  return found


def _in_words(clause: str) -> bool:
  """Whether a clause introduces an answer, and states none itself."""
  return "=" not in clause and not _HEDGES.search(clause)


def _based(text: str) -> str | None:
  """Writes "(2034)_5", "2034 base 5", "2034_{\\text{five}}" in one way."""
  if (
    "_" not in text
    and "ba" not in text
    and "al" not in text
    and ("binary" not in text)
  ):
    return None
  plain = _TEXT.sub(r"\1", text)
  match = _BASE.fullmatch(_SPACED_DIGITS.sub("", plain))
  if match is None:
    return None
  digits = match["digits"].upper()
  if (
    not digits[0].isdigit()
    and match["number"]
    and not text.startswith(("\\text", "("))
  ):
    # "a_5" and "A_1" are variables with an index; "A3_16" is a number.
    if len(digits) == 1:
      return None
  base = _number(match)
  if not 2 <= base <= 36 or not _are_digits(digits, base):
    return None
  if digits[0].isdigit():
    return f"{digits}_{{{base}}}"
  return f"\\text{{{digits}}}_{{{base}}}"  # Letters are digits here.


def _number(match: re.Match[str]) -> int:
  if match["name"]:
    return _BASE_NAMES[match["name"]]
  base = str(match["word"] or match["number"] or match["after"])
  return int(base) if base.isdigit() else _INDEX_OF_WORD[base]


def _are_digits(digits: str, base: int) -> bool:
  return all(d == "." or int(d, 36) < base for d in digits)
