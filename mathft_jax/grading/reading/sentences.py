"""What a sentence says: "The area is 15 feet" says "15 feet".

Text to text, in linear time.
"""

import re

from mathft_jax.grading import units
from mathft_jax.grading.reading import number_words

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
_YES_OR_NO = re.compile(
  r"(yes|no|true|false)[,.;:] (?!(?:yes|no|true|false)$)[^\d=]*", re.IGNORECASE
)
_ANY_REAL = re.compile(
  r"[a-z] (?:can be|may be|is) (?:any|every|all) real numbers?"
)
_SIGN = re.compile(
  r"([a-z]) is (non-?negative|non-?positive|positive|negative)"
)
_SIGNS = {
  "nonnegative": "\\geq 0",
  "nonpositive": "\\leq 0",
  "positive": ">0",
  "negative": "<0",
}
# "5 (five)": the second is for a reader who doubts the first.
_TWICE = re.compile(r"(\d+) ?\(([A-Za-z -]+)\)")
_MISSING = re.compile(r"[A-Za-z ]*(?:does not|doesn't) exist", re.IGNORECASE)
_INTEGER = re.compile(
  r"[, ]*\(?(?:where|for|with)?(?: (?:all|any|every|some))?"
  r"(?: integers? (?P<before>[a-z])"
  r"| (?P<after>[a-z]) (?:is )?(?:an |any )?(?:integers?))\)?$"
)
_CONNECTIVE = re.compile(
  r"(?:(?:so|thus|hence|therefore|then|finally|we get|we have|that is)"
  r"(?![A-Za-z])|(?:the )?(?:final |correct )?(?:answer|solution|result)s?:"
  r"|ans[.:])"
  r"[, ]*",
  re.IGNORECASE,
)
_NAMED_CHOICE = re.compile(
  r"(?:option|choice|answer choice|answer)[ :]*(\(?[A-Ja-j]\)?)", re.IGNORECASE
)
_VERB = re.compile(
  r"(?<![A-Za-z\\'])(?:is equal to|equals|is at|are at|falls on|is|are|was|were"
  r"|be|equal)(?![A-Za-z'])[: ]*",
)
_EQUALS = re.compile(r"(?<=[A-Za-z0-9)}]) (?:equals|is equal to) ?(?=\S)")
# A sentence that begins so names its answer; "not 7" and "7 or more" do not.
_BEGINS_SENTENCE = re.compile(r"(?:[A-Z][a-z]+|[a-z]{2,})(?: |$)|A [a-z]")
_TAKES_BACK = re.compile(
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
  r".*(?:, (?:so|hence|thus|therefore|we get|we have),? |[=<>].*\\implies ?)"
)
_ABBREVIATION = re.compile(
  r"(?<![A-Za-z])(sq|cu|ft|in|yd|mi|lbs?|oz|hrs?|min|secs?)\.(?= |$|[a-z])"
)
_DATE = re.compile(r"(?:the )?(\d{1,2}) of ([A-Z][a-z]+)")
_DAY_FIRST = re.compile(
  r"(\d{1,2}) (January|February|March|April|May|June|July|August|September"
  r"|October|November|December)"
)
_SQUARE_ROOT = re.compile(r"(?:the )?square root of (\w+)", re.IGNORECASE)
_IS_OVER = re.compile(r"(\w+) over (\w+)")
_INFINITE = re.compile(r"infinite(?: ?\(\+?\\infty\))?")
_INTEGERS_BETWEEN = re.compile(
  r"(?:all |the )*integers from (-?\d+) (?:to|through) (-?\d+)"
  r"(?:,? \(?inclusive\)?)?"
)
_ODD_OR_EVEN = re.compile(r"(?:all |the |any )*(odd|even) (?:integers|numbers)")
_ALL_BUT = re.compile(
  r"(?:[Aa]ll )?(?:real numbers|reals)(?: [a-z])?,?"
  r" (?:except|other than|excluding)(?: for)? ?(?P<rest>.+)"
)
_TRAILING_WORDS = re.compile(r"(?<=[\d)}%])( ?[A-Za-z]+)((?: [A-Za-z]+){2,})$")


def said(text: str) -> str:
  """Returns what a text in words, without `\\text`, says.

  It comes back as it is if it says nothing else.
  """
  text = _without_introduction(text)
  yes_or_no = _YES_OR_NO.fullmatch(text)
  if yes_or_no:
    return yes_or_no[1]
  if _MISSING.fullmatch(text):
    return "does not exist"
  if text[1:2] == " ":  # It speaks of a variable.
    if _ANY_REAL.fullmatch(text):
      return "\\mathbb{R}"
    sign = _SIGN.fullmatch(text)
    if sign:
      return sign[1] + _SIGNS[sign[2].replace("-", "")]
  twice = _TWICE.fullmatch(text) if text.endswith(")") else None
  if twice and number_words.in_digits(twice[2]) == twice[1]:
    return twice[1]
  text = _with_signs(text)
  choice = _NAMED_CHOICE.fullmatch(text)
  if choice:
    return choice[1]
  text, counts = _predicate(text)
  text = _EQUALS.sub("=", _without_fillers(text)).rstrip(" .")
  number = number_words.in_digits(text)
  if counts or not _NAMES_MORE.search(number):
    text = number
  text = _in_marks(text)
  all_but = _ALL_BUT.fullmatch(text)
  if all_but:
    removed = all_but["rest"].rpartition("=")[2]
    return f"\\mathbb{{R}}\\setminus\\{{{removed}\\}}"
  choice = _NAMED_CHOICE.fullmatch(text)
  return choice[1] if choice else text


def _without_introduction(text: str) -> str:
  while connective := _CONNECTIVE.match(text):
    text = text[connective.end() :]
  conclusion = _CONCLUSION.match(text)
  if conclusion and len(text) > conclusion.end():
    text = text[conclusion.end() :]
  return text


def _with_signs(text: str) -> str:
  """Writes comparisons, shares and large numbers as mathematics."""
  text = _ABBREVIATION.sub(r"\1 ", text).strip()
  text = _REMARK.sub("", text)
  text = _COMPARISON.sub(lambda c: c[1] + _COMPARISONS[c[2]], text)
  text = _OUT_OF.sub(r"\\frac{\1}{\2}", text)
  text = _MULTIPLE.sub(lambda m: f"*10^{{{_MULTIPLES[m[1].lower()]}}}", text)
  return _INTEGER.sub(
    lambda i: f", {i['before'] or i['after']}\\in\\mathbb{{Z}}", text
  )


def _predicate(text: str) -> tuple[str, bool]:
  """Returns what follows the last verb, and whether a count was asked for."""
  counts = False
  while _BEGINS_SENTENCE.match(text):
    verb = _last_verb(text)
    if verb is None:
      break
    rest = text[verb:]
    if not rest or _TAKES_BACK.match(rest) or not _in_words(text[:verb]):
      break
    counts = counts or bool(_COUNTS.search(text[:verb]))
    text = _TRAILING_WORDS.sub(r"\1", rest)
  return text, counts


def _without_fillers(text: str) -> str:
  while filler := _FILLERS.match(text):
    text = text[filler.end() :]
  return text


def _in_marks(text: str) -> str:
  """Writes numbers, dates and sets in words as mathematics."""
  text = _DATE.sub(r"\2 \1", text)
  text = _DAY_FIRST.sub(r"\2 \1", text)
  root = _SQUARE_ROOT.fullmatch(text)
  if root:
    return f"\\sqrt{{{number_words.in_digits(root[1])}}}"
  over = _IS_OVER.fullmatch(text)
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
  return "=" not in clause and not _TAKES_BACK.search(clause)
