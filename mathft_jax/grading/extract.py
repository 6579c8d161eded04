"""Finds the final answer in a solution, in time linear in its length."""

import re

# `prompts.ANSWER_HEADING` and how others write it.
_HEADING = re.compile(
  r"^(?:\#{1,4}[ \t]*(?:final[ \t]+)?answer\b:?"
  r"|\*\*(?:final[ \t]+)?answer:?\*\*:?(?=[ \t]*$))[ \t]*",
  re.MULTILINE | re.IGNORECASE,
)
_NEXT_HEADING = re.compile(r"^#+[ \t]", re.MULTILINE)
_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_BARE_BOX = re.compile(r"\\(?:boxed|fbox) *([^\s\\{}$.,;]+)")
_PHRASE = re.compile(
  r"""
    answer(?:\*\*)?[ ](?:is|would[ ]be)(?::|[ ]equal[ ]to)?
  | the[ ]answers[ ]are:?
  | answer(?:\*\*)?:(?:\*\*)?
  | ^\#{4}(?=[ \t]*[-$.\d])  # GSM8K's mark, and no heading of Markdown
  """,
  re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_SENTENCE_END = re.compile(r"\n|[.!?](?=\s|$)")
_NUMBER = re.compile(
  r"""
    (?<![A-Za-z\d_.])
    (?P<sign> (?<![\w)}\]%])[-−–] )?
    (?: \\?[$€£¥]\s? )?
    (?P<negative> [-−–](?=\d) )?
    (?: (?P<whole> \d{1,3}(?:(?:,|\{,\}|\\[,!]|\ )\d{3}(?!\d))+ | \d+ )
        (?P<decimals> \.\d+ )? (?P<exponent> [eE][+-]?\d+ )?
        (?: (?P<divisor> \s?/\s?\d+ (?![\d.]) )
          | \ (?P<part> \d+/\d+ (?![\d.]) )
          | \s?\\[dt]?frac\s?\{(?P<over>\d+)\}\s?\{(?P<under>\d+)\} )?
      | (?P<point> \.\d+ )
      | \\[dt]?frac\s?(?: \{(?P<top>\d+)\}\s?\{(?P<bottom>\d+)\}
                         | (?P<digits> \d\d ) (?!\d) ) )
  """,
  re.VERBOSE,
)
_LINE = 1_000  # of a longer line only the end is looked at
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
_DELIMITED = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"))


def extract_answer(
  solution: str, takes_last_number: bool = False
) -> str | None:
  """Returns the final answer, None where the solution states none.

  That is the last "# Answer" section; else the last balanced, non-empty
  \\boxed{} or \\fbox{}; else what follows the last "the answer is", "Answer:"
  or "####". An answer section that holds a box yields the box's content.

  `takes_last_number` is for word problems as those of GSM8K, whose samples
  often state no answer: else the last number is it, or in the last line with
  a number the last one in bold. It comes without its currency, percent sign
  and separators.
  """
  section = _last_section(solution)
  if section:
    return _last_box(section) or section
  answer = _last_box(solution) or _last_phrase(solution)
  if answer is None and takes_last_number:
    return _last_number(solution)
  return answer


def _last_section(solution: str) -> str | None:
  start = None
  for heading in _HEADING.finditer(solution):
    start = heading.end()
  if start is None:
    return None
  # A generator that does not stop may begin another problem.
  end = _NEXT_HEADING.search(solution, start)
  return solution[start : end.start() if end else None].strip() or None


def _last_box(text: str) -> str | None:
  if "\\boxed" not in text and "\\fbox" not in text:
    return None
  last_start, last_end = -1, -1
  opened: list[tuple[bool, int]] = []  # (is it a box, where its content begins)
  for brace in _BRACE.finditer(text):
    token = brace.group()
    if len(token) > 2 or token == "{":
      opened.append((len(token) > 2, brace.end()))
    elif token == "}" and opened:
      is_box, start = opened.pop()
      is_empty = text[start : brace.start()].isspace() or start == brace.start()
      if is_box and start > last_start and not is_empty:
        last_start, last_end = start, brace.start()
  if last_start >= 0:
    return text[last_start:last_end].strip()
  content = None
  for bare in _BARE_BOX.finditer(text):
    content = bare.group(1)
  return content


def _last_phrase(text: str) -> str | None:
  start = None
  for phrase in _PHRASE.finditer(text):
    start = phrase.end()
  if start is None:
    return None
  rest = text[start:].lstrip(" \t\n*:")
  if "boxed" in rest:  # An empty box, or one that was cut off.
    return None
  end = _SENTENCE_END.search(rest)
  sentence = rest[: end.start() if end else None].strip(" \t*")
  for opening, closing in _DELIMITED:
    if rest.startswith(opening):
      end = rest.find(closing, len(opening))
      if end > 0:
        # "$3$ and $5$" is one answer.
        if opening in sentence[end + len(closing) :]:
          return sentence
        return rest[len(opening) : end].strip() or None
  return sentence or None


def _last_number(text: str) -> str | None:
  found = None
  for found in _NUMBER.finditer(text):  # noqa: B007
    pass
  if found is None:
    return None
  start = max(text.rfind("\n", 0, found.start()) + 1, found.start() - _LINE)
  line = text[start:].partition("\n")[0]
  in_bold = [
    number
    for bold in _BOLD.finditer(line)
    for number in _NUMBER.finditer(bold[1])
  ]
  return _plain(in_bold[-1] if in_bold else found)


def _plain(number: re.Match[str]) -> str:
  sign = "-" if number["sign"] or number["negative"] else ""
  if number["top"]:
    return f"{sign}{number['top']}/{number['bottom']}"
  if number["digits"]:
    return f"{sign}{number['digits'][0]}/{number['digits'][1]}"
  whole = "".join(filter(str.isdecimal, number["whole"] or ""))
  divisor = (number["divisor"] or "").replace(" ", "")
  decimals = number["decimals"] or number["point"] or ""
  part = number["part"] or ""
  if number["over"]:
    part = f"{number['over']}/{number['under']}"
  exponent = number["exponent"] or ""
  return f"{sign}{whole}{decimals}{exponent}{divisor} {part}".strip()
