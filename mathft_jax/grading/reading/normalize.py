"""The normal form of an answer's text: equal forms are equal answers.

Only marks without meaning are dropped here; what needs an understanding of
the mathematics (fractions, units, order) is left to the parser.
"""

import functools
import html
import re
import unicodedata

# No answer of MATH has more than 300 characters. Longer texts are compared as
# they stand and never parsed.
MAX_LENGTH = 2000

_DROPPED = (
  "left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr"
  " middle displaystyle textstyle scriptstyle limits nolimits mathbf"
  " boldsymbol mathit mathcal mathsf bf rm it bm boxed fbox ensuremath"
  " underline blacksquare square qed hline !"
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
  "$": "＄",  # A dollar sign: the plain one is TeX's mark, and is dropped.
  "cents": "¢",
  "euro": "€",
  "pounds": "£",
  "surd": "\\sqrt",
  **{
    name: "\\implies" for name in ("Rightarrow", "Longrightarrow", "therefore")
  },
  "lor": "\\text{or}",
  "vee": "\\text{or}",
  "land": "\\text{and}",
  "wedge": "\\text{and}",
  "iff": "=",
  "backslash": "\\setminus ",
  "smallsetminus": "\\setminus ",
  "arctg": "\\arctan",
  "tg": "\\tan",
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
    "ℤ": "\\mathbb{Z}",
    "ℕ": "\\mathbb{N}",
    "ℚ": "\\mathbb{Q}",
    "ℂ": "\\mathbb{C}",
    "⌊": "\\lfloor ",
    "⌋": "\\rfloor ",
    "⌈": "\\lceil ",
    "⌉": "\\rceil ",
    "⟨": "\\langle ",
    "⟩": "\\rangle ",
    "⇒": "\\implies ",
    "⟹": "\\implies ",
    "∴": "\\implies ",
    "∠": "\\angle ",
    "△": "\\triangle ",
    "Δ": "\\Delta ",
    "Σ": "\\Sigma ",
    "Ω": "\\Omega ",
    "ε": "\\epsilon ",
    "μ": "\\mu ",
    "″": '"',
    "º": "°",
    "˚": "°",
    "≡": "\\equiv ",
    "≦": "\\leq ",
    "≧": "\\geq ",
    "⩽": "\\leq ",
    "⩾": "\\geq ",
    "∶": ":",
    "…": "\\ldots ",
    "⋯": "\\ldots ",
    "∖": "\\setminus ",
    "∩": "\\cap ",
    "ρ": "\\rho ",
    "φ": "\\phi ",
    "λ": "\\lambda ",
    "γ": "\\gamma ",
    "δ": "\\delta ",
    "σ": "\\sigma ",
    "ω": "\\omega ",
    "\u00a0": " ",
    "\u2009": " ",
    "\u202f": " ",
    "\u200b": "",
    "’": "'",
    "′": "'",
    "“": '"',
    "”": '"',
  }
)
_RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ"
_LOWERED = "₀₁₂₃₄₅₆₇₈₉"
_FROM_RAISED = str.maketrans(_RAISED, "0123456789-+n")
_FROM_LOWERED = str.maketrans(_LOWERED, "0123456789")

_RAISED_RUN = re.compile(f"[{_RAISED}]+")
_LOWERED_RUN = re.compile(f"[{_LOWERED}]+")
_ROOT = re.compile(r"([√∛∜])\s*(\d+(?:\.\d+)?|)")
_DEGREES = {"√": "", "∛": "[3]", "∜": "[4]"}
_VULGAR_FRACTION = re.compile("[¼-¾⅐-⅞]")
_DEGREE = re.compile(r"\^\s?(?:\{\s?\\circ\s?\}|\\circ(?![A-Za-z])|\{?°\}?)")
_DIGIT_GAP = re.compile(r"(?<=\d)(?:, ?\\! ?|\{,\}|\\[,!;: ]|~)(?=\d{3}(?!\d))")
# Dots over the first and the last digit that repeat: 0.\dot{1}2\dot{3}.
_DOTTED = re.compile(r"\\dot ?\{?(\d)\}?(?:(\d{0,50})\\dot ?\{?(\d)\}?)?")
_PHANTOM = re.compile(r"\\[hv]?phantom\s?(?:\{[^{}]*\}|[^\\])")
_EMPTY_DELIMITER = re.compile(r"\\(?:left|right)\s?\.")
_TAGS = "b|i|br|p|em|strong|u|div|span"
_HTML = re.compile(rf"&(?:#?\w{{2,8}});|</?(?:sup|sub|{_TAGS})>")
_HTML_TAG = re.compile(rf"</?(?:{_TAGS})>")
_SUPERSCRIPT = re.compile(r"<sup>([^<>]*)</sup>")
_SUBSCRIPT = re.compile(r"<sub>([^<>]*)</sub>")
_ROW_SPACING = re.compile(r"\\\\\[\d{1,3}(?:\.\d)?(?:pt|em|ex|mm|cm)\]")
_COLOR = re.compile(r"\\(?:text)?color\s?\{[^{}]*\}")
_UNIT_VECTOR = re.compile(
  r"\\(?:mathbf|boldsymbol|vec|bm)\s?(?:\{\s?\\?([ijk])(?:math)?\s?\}|([ijk]))"
)
_TEX_OVER = re.compile(r"\{([^{}]*)\\over(?![A-Za-z])([^{}]*)\}")
_MODULUS = re.compile(
  r"\(?\s?\\?(?:pmod|bmod|mod|(?:mathrm|text|rm|operatorname)\{mod\})"
  r"(?![A-Za-z])(?:\\ |\s)?\{?\s?(\w+)\s?\}?\s?\)?"
)
_CHOOSE = re.compile(
  r"(?:\{\})?[\^_]\{?(\d+)\}?\s?(?:\\text\{C\}|C)_\{?(\d+)\}?"
  r"|(?<![A-Za-z0-9])(\d+)C(\d+)(?![A-Za-z0-9_])"
)
_UPRIGHT_COMMAND = re.compile(r"\\(?:mathrm|text|rm)\s?\{\s?(\\[a-z]+)\s?\}")
_UPRIGHT_CONSTANT = re.compile(r"\\(?:mathrm|rm)\s?\{\s?([ei])\s?\}")
_LOST_BACKSLASH = re.compile(r"(?<![A-Za-z\\])(?=[dt]?frac\{|sqrt\{)")
_DOUBLED_BACKSLASH = re.compile(
  r"(?<!\\)\\\\(?=(?:[dt]?frac|sqrt|pi|text|left|boxed)(?![A-Za-z]))"
)
_MAX_UNCLOSED = 4
_SPACED_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?: \d{3})+")
_COMMAND = re.compile(r"\\([A-Za-z]+|.)", re.DOTALL)
_BRACKET_OR_THOUSANDS = re.compile(
  r"\\[{}]|[()\[\]]|(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?![\d,])"
)
_IDLE_BLANK = re.compile(r" (?![A-Za-z0-9])|(?<![A-Za-z0-9]) ")
_BLANK_AFTER_COMMAND = re.compile(r"(\\[A-Za-z]+) (?![A-Za-z])")
# "2e - 10" is no power of ten; the blank before "e" stays.
_EULERS_NUMBER = re.compile(r"(?<=\d)e (?=[+-])")
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
  if answer in ("{}", "{ }"):
    return "\\emptyset"
  while len(answer) <= MAX_LENGTH:
    cleaner = _clean(answer)
    if cleaner == answer:
      break
    answer = cleaner
  return answer


def _clean(text: str) -> str:
  # Most patterns need a mark that most texts lack: looking for it first is
  # ten times as fast as the pattern.
  text = text.replace(" !=", "\\neq ")  # "5!=120" is a factorial.
  if not text.isascii():
    text = _without_unicode(text)
  text = _with_lost_marks(text.replace("...", "\\ldots "))
  if "\\" in text or "{,}" in text or "~" in text:
    text = _DIGIT_GAP.sub("", text)
  if "^" in text and ("circ" in text or "°" in text):
    text = _DEGREE.sub("°", text)
  if "\\" in text:
    text = _PHANTOM.sub("", text) if "phantom" in text else text
    text = _EMPTY_DELIMITER.sub("", text)
    text = _COMMAND.sub(_rewrite, text)
    if "\\dot" in text:
      text = _DOTTED.sub(r"\\overline{\1\2\3}", text)
  text = text.replace("$", "").replace("~", " ")
  text = _without_thousands(text)
  text = " ".join(text.split())
  is_starred = text.endswith("^*")  # a conjugate
  text = text.lstrip(' *`,;:"#').rstrip(' *`.,;:"') + "*" * is_starred
  if text.startswith("__") and text.endswith("__"):
    text = text.strip("_")
  while len(text) > 2 and text[0] == text[-1] == "'":
    text = text[1:-1]
  if "**" in text:
    text = _PLAIN_POWER.sub("^", text).replace("**", "")
  if " " in text:
    if "e +" in text or "e -" in text:
      text = _EULERS_NUMBER.sub(" e ", text)
    if _SPACED_THOUSANDS.fullmatch(text):
      text = text.replace(" ", "")
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
  text = _ROOT.sub(_root, text)
  text = _VULGAR_FRACTION.sub(_fraction, text)
  return text.translate(_UNICODE)


def _root(sign: re.Match[str]) -> str:
  radicand = f"{{{sign[2]}}}" if sign[2] else " "
  return f"\\sqrt{_DEGREES[sign[1]]}{radicand}"


def _fraction(sign: re.Match[str]) -> str:
  top, _, bottom = unicodedata.normalize("NFKC", sign[0]).partition("⁄")
  return f"\\frac{{{top}}}{{{bottom}}}"


def _with_lost_marks(text: str) -> str:
  """Puts back what careless writing and escaping lose or double."""
  if "<" in text or "&" in text:
    text = _without_html(text)
  if "\\" in text:
    text = _UPRIGHT_CONSTANT.sub(r"\1", text) if "rm" in text else text
    text = _UPRIGHT_COMMAND.sub(r"\1 ", text)
    text = _UNIT_VECTOR.sub(lambda v: f"\\hat{{{v[1] or v[2]}}}", text)
    text = _COLOR.sub("", text) if "color" in text else text
    text = _TEX_OVER.sub(r"\\frac{\1}{\2}", text) if "over" in text else text
  if "mod" in text:
    text = _MODULUS.sub(r"\\bmod{\1}", text)
  if "C" in text:
    text = _CHOOSE.sub(_choose, text)
  if "\\\\" in text:
    text = _ROW_SPACING.sub(r"\\\\", text)
    text = _DOUBLED_BACKSLASH.sub(r"\\", text)
  if "frac{" in text or "sqrt{" in text:
    text = _LOST_BACKSLASH.sub(r"\\", text)
  if text.startswith("\\{") and "\\}" not in text and "\\begin" not in text:
    text += "\\}"
  if text.endswith("\\") and not text.endswith("\\\\"):
    text = text[:-1]
  return _balanced(text) if "{" in text or "}" in text else text


def _without_html(text: str) -> str:
  if not _HTML.search(text):
    return text
  text = _SUPERSCRIPT.sub(r"^{\1}", text)
  text = _SUBSCRIPT.sub(r"_{\1}", text)
  # What a page wrote as &lt; is no tag now.
  return html.unescape(_HTML_TAG.sub("", text))


def _choose(found: re.Match[str]) -> str:
  top, bottom = found[1] or found[3], found[2] or found[4]
  return f"\\binom{{{top}}}{{{bottom}}}"


def _balanced(text: str) -> str:
  """Closes braces that are open at the end, drops one that closes nothing."""
  depth = 0
  for brace in _BRACE.finditer(text):
    if brace.group() == "{":
      depth += 1
    elif brace.group() == "}":
      depth -= 1
      if depth < 0:
        # A stray one at the very end; others are no slip of the pen.
        return text[:-1] if brace.end() == len(text) else text
  return text + "}" * depth if 0 < depth <= _MAX_UNCLOSED else text


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
