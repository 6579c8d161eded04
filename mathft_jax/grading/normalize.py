"""The normal form of an answer's text: equal forms are equal answers.

Only marks without meaning are dropped here; what needs an understanding of
the mathematics (fractions, units, order) is left to the parser.
"""

import functools
import re

# No answer of MATH has more than 300 characters. Longer texts are compared as
# they stand and never parsed.
MAX_LENGTH = 2000

_DROPPED = (
  "left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr"
  " middle displaystyle textstyle scriptstyle limits nolimits mathbf"
  " boldsymbol mathit mathcal mathsf bf rm it bm boxed fbox ensuremath ! $"
).split()
_BLANKS = ", ; : > quad qquad enspace thinspace ( ) [ ]".split() + [" ", "\n"]
_RENAMED = {
  **{name: "\\frac" for name in ("dfrac", "tfrac", "cfrac")},
  **{name: "\\binom" for name in ("dbinom", "tbinom")},
  **{
    name: "\\text"
    for name in (
      "mbox hbox textbf textit textrm textnormal texttt textsf mathrm"
      " operatorname"
    ).split()
  },
  **{name: "\\leq" for name in ("le", "leqslant", "leqq")},
  **{name: "\\geq" for name in ("ge", "geqslant", "geqq")},
  "lt": "<",
  "gt": ">",
  "ne": "\\neq",
  "times": "*",
  "cdot": "*",
  "ast": "*",
  "div": "/",
  "colon": ":",
  "%": "%",
  "#": "#",
  "_": "_",
  "degree": "°",
  "lbrace": "\\{",
  "rbrace": "\\}",
  "lbrack": "[",
  "rbrack": "]",
  "lvert": "|",
  "rvert": "|",
  "vert": "|",
  "mid": "|",
  "varnothing": "\\emptyset",
  "dots": "\\ldots",
  "cdots": "\\ldots",
}
_REWRITES = (
  {name: "" for name in _DROPPED} | {name: " " for name in _BLANKS} | _RENAMED
)

_UNICODE = str.maketrans(
  {
    "−": "-",
    "–": "-",
    "—": "-",
    "‐": "-",
    "×": "*",
    "·": "*",
    "⋅": "*",
    "∙": "*",
    "÷": "/",
    "⁄": "/",
    "π": "\\pi ",
    "θ": "\\theta ",
    "α": "\\alpha ",
    "β": "\\beta ",
    "∞": "\\infty ",
    "≤": "\\leq ",
    "≥": "\\geq ",
    "≠": "\\neq ",
    "≈": "\\approx ",
    "±": "\\pm ",
    "∓": "\\mp ",
    "∪": "\\cup ",
    "∈": "\\in ",
    "∅": "\\emptyset ",
    "ℝ": "\\mathbb{R}",
    "º": "°",
    "˚": "°",
    "½": "\\frac{1}{2}",
    "¼": "\\frac{1}{4}",
    "¾": "\\frac{3}{4}",
    "⅓": "\\frac{1}{3}",
    "⅔": "\\frac{2}{3}",
    "\u00a0": " ",
    "\u2009": " ",
    "\u202f": " ",
    "\u200b": "",
    "’": "'",
    "′": "'",
    "“": '"',
    "”": '"',
    "£": "",
    "€": "",
  }
)
_RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ"
_LOWERED = "₀₁₂₃₄₅₆₇₈₉"
_FROM_RAISED = str.maketrans(_RAISED, "0123456789-+n")
_FROM_LOWERED = str.maketrans(_LOWERED, "0123456789")

_RAISED_RUN = re.compile(f"[{_RAISED}]+")
_LOWERED_RUN = re.compile(f"[{_LOWERED}]+")
_ROOT = re.compile(r"√\s*(\d+(?:\.\d+)?|)")
_DEGREE = re.compile(r"\^\s?(?:\{\s?\\circ\s?\}|\\circ(?![A-Za-z])|\{?°\}?)")
_DIGIT_GAP = re.compile(r"(?<=\d)(?:, ?\\! ?|\{,\}|\\[,!;: ]|~)(?=\d{3}(?!\d))")
_PHANTOM = re.compile(r"\\[hv]?phantom\s?(?:\{[^{}]*\}|[^\\])")
_EMPTY_DELIMITER = re.compile(r"\\(?:left|right)\s?\.")
_COMMAND = re.compile(r"\\([A-Za-z]+|.)", re.DOTALL)
_BRACKET_OR_THOUSANDS = re.compile(
  r"\\[{}]|[()\[\]]|(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?![\d,])"
)
_BLANK_RUN = re.compile(r"\s+")
_IDLE_BLANK = re.compile(r" (?![A-Za-z0-9])|(?<![A-Za-z0-9]) ")
_BLANK_AFTER_COMMAND = re.compile(r"(\\[A-Za-z]+) (?![A-Za-z])")
_PLAIN_POWER = re.compile(r"(?<=[A-Za-z0-9)])\*\*(?=[A-Za-z0-9(-])")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def normalize(answer: str) -> str:
  """Returns the normal form; normalizing it again changes nothing.

  Texts of more than MAX_LENGTH characters are only stripped.
  """
  answer = answer.strip()
  if len(answer) > MAX_LENGTH:
    return answer
  return _normalize_short(answer)


@functools.lru_cache(maxsize=1 << 14)
def _normalize_short(answer: str) -> str:
  if answer.isascii() and answer.isdigit():
    return answer
  while len(answer) <= MAX_LENGTH:
    cleaner = _clean(answer)
    if cleaner == answer:
      break
    answer = cleaner
  return answer


def _clean(text: str) -> str:
  if not text.isascii():
    text = _without_unicode(text)
  text = _DIGIT_GAP.sub("", text)
  text = _DEGREE.sub("°", text)
  text = _PHANTOM.sub("", text)
  text = _EMPTY_DELIMITER.sub("", text)
  text = _COMMAND.sub(_rewrite, text)
  text = text.replace("$", "").replace("~", " ")
  text = _without_thousands(text)
  text = _BLANK_RUN.sub(" ", text)
  text = text.lstrip(" *`,;:").rstrip(" *`.,;:")
  text = _PLAIN_POWER.sub("^", text).replace("**", "")
  text = _IDLE_BLANK.sub("", text)
  text = _BLANK_AFTER_COMMAND.sub(r"\1", text)
  text = _unwrapped(text)
  # The blank tells the separator in "100, 200" from that in "100,200".
  return text.replace(",", ", ").strip()


def _without_unicode(text: str) -> str:
  text = _RAISED_RUN.sub(
    lambda run: "^{" + run.group().translate(_FROM_RAISED) + "}", text
  )
  text = _LOWERED_RUN.sub(
    lambda run: "_{" + run.group().translate(_FROM_LOWERED) + "}", text
  )
  text = _ROOT.sub(
    lambda root: f"\\sqrt{{{root[1]}}}" if root[1] else "\\sqrt ", text
  )
  return text.translate(_UNICODE)


def _rewrite(command: re.Match[str]) -> str:
  return _REWRITES.get(command[1], command[0])


def _without_thousands(text: str) -> str:
  """Joins "12,345", but not within brackets: (100,101) is a pair."""
  if "," not in text:
    return text
  depth = 0

  def join(match: re.Match[str]) -> str:
    nonlocal depth
    found = match.group()
    if found in ("(", "[", "\\{"):
      depth += 1
    elif found in (")", "]", "\\}"):
      depth -= 1
    elif depth == 0:
      return found.replace(",", "")
    return found

  return _BRACKET_OR_THOUSANDS.sub(join, text)


def _unwrapped(text: str) -> str:
  """Drops braces, or one \\text{}, around the whole."""
  if not text.endswith("}"):
    return text
  start = len("\\text") if text.startswith("\\text{") else 0
  if not text.startswith("{", start):
    return text
  closes = {}
  opened = []
  for brace in _BRACE.finditer(text):
    if brace.group() == "{":
      opened.append(brace.start())
    elif brace.group() == "}":
      if not opened:
        return text
      closes[opened.pop()] = brace.start()
  end = len(text) - 1
  while closes.get(start) == end:
    start, end = start + 1, end - 1
  return text[start : end + 1] if end + 1 < len(text) else text
