"""Splits the text of an answer into tokens."""

import dataclasses
import re

from mathft_jax.grading import trees, units

MAX_TOKENS = 600
# Python refuses to read longer integers, for the time that it would take.
MAX_DIGITS = 1000

FUNCTIONS = frozenset(
  "sin cos tan cot sec csc cis arcsin arccos arctan sinh cosh tanh arsinh"
  " arcosh artanh log ln lg"
  " exp sqrt cbrt fraction rational min max gcd lcm sgn abs floor"
  " ceiling".split()
)
_FUNCTION_ALIASES = {
  "asin": "arcsin",
  "acos": "arccos",
  "atan": "arctan",
  "arcsinh": "arsinh",
  "arccosh": "arcosh",
  "arctanh": "artanh",
  "asinh": "arsinh",
  "acosh": "arcosh",
  "atanh": "artanh",
  "ceil": "ceiling",
  "Fraction": "fraction",
  "Rational": "rational",
  "sign": "sgn",
}
GREEK = frozenset(
  "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi"
  " rho sigma tau upsilon phi chi psi omega".split()
)
_SHORT_WORDS = frozenset(
  "odd yes all none red one two six ten may no am pm way per sq if for when"
  " otherwise to dne".split()
)
_KNOWN = {
  "infinity": "infty",
  "inf": "infty",
  "oo": "infty",
  "pi": "pi",
  "div": "/",
}
_CURRENCY_CODES = frozenset("USD EUR GBP JPY".split())
_SEPARATORS = frozenset(["and", "or"])
# Words in \text{}, which holds no other braces.
TEXT = re.compile(r"\\text\{([^{}]*)\}")
_TOKEN = re.compile(
  r"""
    (?P<blank>\s+)
  | (?P<repeating>\d*\.\d*(?:
        \\(?:overline|bar)(?:\{\d+\}|\d) | \(\d{1,9}\)(?![\d(]))
      | \d*\.\d+\\ldots(?![A-Za-z]))
  | (?P<based>(?:\d[0-9A-Z]*(?:\.[0-9A-Z]+)?|\\text\{[0-9A-Z]+\})
      _(?:\{\d{1,2}\}|\d{1,2}))
  | (?P<clock>[AaPp]\.\s?[Mm](?![A-Za-z])\.?)
  | (?P<number>
        (?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d{1,3}(?![\d.A-Za-z]))?
      # 1e-5, 2e3 and 2e-05, but 2e-1 is twice Euler's number less one.
      | (?<!\d)1(?:e[+-]\d(?![\d.A-Za-z]))
      | \d+(?:(?:E[+-]?\d{1,3}|e\d{1,3}|e[+-]\d{2,3})(?![\d.A-Za-z]))?)
  | (?P<rate>(?<=[\d\ }])(?:k|c|m)?m/[hs](?![A-Za-z])
      |(?<=[\d\ }])(?:mi|ft)/(?:h|s)(?![A-Za-z]))
  | (?P<inches>(?<![A-Za-z])in(?=\^\{?[23]))
  | (?P<currency>[＄€£¥¢])
  | (?P<text>\\text\{[^{}]*\})
  | (?P<environment>\\(?:begin|end)\{[A-Za-z]+\*?\})
  | (?P<command>\\(?:[A-Za-z]+|.))
  | (?P<letters>[A-Za-z]+)
  | (?P<mark>.)
  """,
  re.VERBOSE | re.DOTALL,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
  r"""`kind` is one of number, repeating, based, letter, word, currency,
  separator, function, command, environment, mark, end.

  Commands and functions stand without their backslash; `marked` tells \sin
  from sin, and \text{m} from m.
  """

  kind: str
  text: str
  spaced: bool = False
  marked: bool = False


def tokenize(text: str) -> list[Token]:
  """Returns the tokens of a normalized answer, with an "end" token.

  Raises BoundExceeded for too many tokens, or digits in a number.
  """
  tokens: list[Token] = []
  spaced = True
  for match in _TOKEN.finditer(text):
    kind = match.lastgroup or ""
    found = match.group()
    if kind == "blank":
      spaced = True
      continue
    if kind == "letters":
      before = text[match.start() - 1 : match.start()]
      spaced = spaced or not before.isalnum()  # as in "}units"
      # "180 mi" is a distance, "180mi" may be a product.
      is_measured = spaced and bool(tokens) and tokens[-1].kind == "number"
      tokens.extend(_letters(found, spaced, is_measured))
    elif kind == "rate":
      length, _, duration = found.partition("/")
      tokens.append(Token("word", length, spaced, True))
      tokens.append(Token("mark", "/"))
      tokens.append(Token("word", duration, False, True))
    elif kind == "inches":
      tokens.append(Token("word", found, spaced, True))
    elif kind == "clock":
      tokens.append(Token("word", fold(found), spaced))
    elif kind == "text":
      tokens.extend(_marked_words(found[len("\\text{") : -1]))
    elif kind == "command":
      name = _FUNCTION_ALIASES.get(found[1:], found[1:])
      is_function = name in FUNCTIONS
      tokens.append(
        Token("function" if is_function else "command", name, spaced, True)
      )
    else:
      tokens.append(Token(kind, found, spaced))
    spaced = False
    if len(tokens) > MAX_TOKENS:
      raise trees.BoundExceeded(f"more than {MAX_TOKENS} tokens")
    if kind in ("number", "repeating") and len(found) > MAX_DIGITS:
      raise trees.BoundExceeded(f"a number of more than {MAX_DIGITS} digits")
  tokens.append(Token("end", ""))
  return tokens


def fold(text: str) -> str:
  """Returns the letters and digits alone, in lower case."""
  return "".join(filter(str.isalnum, text)).lower()


def _letters(run: str, spaced: bool, is_measured: bool) -> list[Token]:
  run = _FUNCTION_ALIASES.get(run, run)
  lower = run.lower()
  if lower in _SEPARATORS:
    return [Token("separator", lower, spaced)]
  if run in FUNCTIONS and run not in units.BY_WORD:
    return [Token("function", run, spaced)]
  if lower in _KNOWN:
    return [Token("command", _KNOWN[lower], spaced)]
  if run in _CURRENCY_CODES:
    return [Token("currency", lower, spaced)]
  if run in GREEK:
    return [Token("command", run, spaced)]
  if run[:-1] in FUNCTIONS and run not in units.BY_WORD:  # sinx
    return [Token("function", run[:-1], spaced), Token("letter", run[-1])]
  is_word = (
    lower in units.SHORT
    or (lower in units.BY_WORD and len(run) > (1 if is_measured else 2))
    or lower in _SHORT_WORDS
    or (len(run) >= 4 and spaced)
  )
  if is_word:
    return [Token("word", run, spaced)]
  return [
    Token("letter", letter, spaced and index == 0)
    for index, letter in enumerate(run)
  ]


def _marked_words(content: str) -> list[Token]:
  """Tokens of what stands in \\text{}: words, numbers and marks."""
  folded = fold(content)
  if folded in _SEPARATORS:
    return [Token("separator", folded, True, True)]
  name = _FUNCTION_ALIASES.get(folded, folded)
  if name in FUNCTIONS and name not in units.BY_WORD:
    return [Token("function", name, True, True)]
  if "," in content or any(map(str.isdecimal, folded)):
    return tokenize(content)[:-1]
  found = []
  for word in content.split():
    parts = word.split("/")
    if len(parts) == 2 and all(fold(part) in units.BY_WORD for part in parts):
      found.append(Token("word", parts[0], True, True))
      found.append(Token("mark", "/"))
      word = parts[1]
    if fold(word):
      found.append(Token("word", word, True, True))
  return found
