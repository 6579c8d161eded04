"""What programs print for an answer: Matrix([[1], [2]]), 4*I, Interval(0, 1).

Text to text, on normalized answers; nothing of it is ever run.
"""

import re

# Only texts with one of these are looked at.
_MARKS = re.compile(
  r"np\.|math\.|Matrix|array|Interval|Union|FiniteSet|EmptySet|\*I|I\*"
  r"|(?<=[)\]}]) ?U ?(?=[(\[{])|^\[[^,;]+;"
)
_MODULE = re.compile(r"(?<![A-Za-z])(?:np|numpy|math|sp|sympy)\.(?=[A-Za-z])")
_ARRAY = re.compile(r"(?:Matrix|ImmutableMatrix|array)\((\[.*\])\)")
_INTERVAL = re.compile(
  r"Interval(?:\.(open|Lopen|Ropen))?\(([^(),]+(?:\([^()]*\))?),"
  r" ?([^(),]+(?:\([^()]*\))?)\)"
)
_UNION = re.compile(r"Union\((.*)\)")
_BETWEEN_SETS = re.compile(r"(?<=[)\]}]), ?(?=[(\[]|\\\{)")
_U = re.compile(r"(?<=[)\]}]) ?U ?(?=[(\[]|\\\{)")
_FINITE_SET = re.compile(r"FiniteSet\(([^()]*)\)")
_IMAGINARY_UNIT = re.compile(r"(?<=\*)I(?![A-Za-z])|(?<![A-Za-z])I(?=\*)")
_ROWS = re.compile(r"\[([^\[\],;]+(?:;[^\[\],;]+)+)\]")


def read(text: str) -> str:
  """Returns the text in the notation of mathematics."""
  if "\\" in text or not _MARKS.search(text):
    return text
  text = _MODULE.sub("", text)
  array = _ARRAY.fullmatch(text)
  if array:
    text = array[1]
  text = _INTERVAL.sub(_interval, text)
  text = _FINITE_SET.sub(r"\\{\1\\}", text).replace("EmptySet", "\\emptyset ")
  union = _UNION.fullmatch(text)
  if union:
    text = _BETWEEN_SETS.sub("\\\\cup ", union[1])
  text = _U.sub("\\\\cup ", text)
  text = _IMAGINARY_UNIT.sub("i", text)
  rows = _ROWS.fullmatch(text)
  return _matrix(rows[1]) if rows else text


def _interval(found: re.Match[str]) -> str:
  kind, low, high = found.groups()
  opening = "(" if kind in ("open", "Lopen") or low == "-oo" else "["
  closing = ")" if kind in ("open", "Ropen") or high == "oo" else "]"
  return f"{opening}{low}, {high}{closing}"


def _matrix(rows: str) -> str:
  """1 2; 3 4, as MATLAB writes it."""
  lines = " \\\\ ".join("&".join(row.split()) for row in rows.split(";"))
  return f"\\begin{{matrix}}{lines}\\end{{matrix}}"
