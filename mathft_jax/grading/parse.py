"""Reads LaTeX and plain mathematics into a tree: recursive descent, no eval."""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from fractions import Fraction

from mathft_jax.grading import normalize, phrases, tokens, trees, units

# The deepest answer of MATH nests five deep. Each level costs about ten
# Python frames, so this stays far below the interpreter's limit.
MAX_DEPTH = 30

_SIGNS = {
  "=": "=",
  "<": "<",
  ">": ">",
  "leq": "<=",
  "geq": ">=",
  "neq": "!=",
  "approx": "~",
  "in": "in",
  "equiv": "===",
}
_CLOSERS = {"(": ")]", "[": "])"}
_CONSTANTS = {
  "pi": trees.Constant("pi"),
  "e": trees.Constant("e"),
  "i": trees.Constant("i"),
  "infty": trees.INFINITY,
}
_SPECIAL = {"emptyset": trees.NOTHING}
_PHRASES: dict[str, trees.Tree] = {
  **{
    phrase: trees.NOTHING
    for phrase in (
      "nosolution nosolutions emptyset norealsolution norealsolutions"
      " nosuchnumber theemptyset"
    ).split()
  },
  **{
    phrase: trees.REALS
    for phrase in (
      "allreals allrealnumbers realnumbers anyrealnumber allrealx"
    ).split()
  },
  **{
    phrase: trees.Words("doesnotexist")
    for phrase in ("dne", "doesntexist", "undefined", "notdefined")
  },
  **{
    phrase: trees.Words("infinitelymany")
    for phrase in ("infinitelymanysolutions", "infinitenumberofsolutions")
  },
  **{
    word: trees.number(value)
    for value, word in enumerate(
      "zero one two three four five six seven eight nine ten eleven"
      " twelve".split()
    )
  },
}
# The number of combinations, of permutations.
_COUNTS = frozenset("CP")
_INVERSES = {
  "sin": "arcsin",
  "cos": "arccos",
  "tan": "arctan",
}
_ANGLE_FUNCTIONS = frozenset("sin cos tan cot sec csc cis".split())
_MAX_DETERMINANT = 4
_MATRICES = frozenset(
  "matrix pmatrix bmatrix Bmatrix smallmatrix array".split()
)
_CASES = frozenset("cases dcases rcases".split())
_OTHERWISE = frozenset("otherwise else elsewhere".split())
_CONDITION_WORDS = _OTHERWISE | frozenset("if for when where".split())
_DECORATIONS = frozenset(
  "overline vec hat bar overrightarrow widehat tilde".split()
)
_NAMES = tokens.GREEK | frozenset(
  "Delta Gamma Lambda Omega Phi Pi Psi Sigma Theta Xi angle triangle ell"
  " varphi varepsilon vartheta circ".split()
)


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
  """What an answer was understood as.

  `units` is what is known of its unit; `letters` are its letters in lower
  case, "" if it holds digits or commands; `text` is the text that was read.
  """

  tree: trees.Tree
  units: units.Measure
  letters: str
  text: str


class _NotUnderstood(ValueError):
  pass


@functools.lru_cache(maxsize=1 << 12)
def parse(text: str) -> Answer:
  """Returns the meaning of a normalized answer; never raises.

  What cannot be read becomes `trees.Unread`.
  """
  if len(text) > normalize.MAX_LENGTH:
    return Answer(trees.Unread(text, True), frozenset(), "", text)
  text = phrases.core(text)
  letters = "" if any(c.isdigit() or c == "\\" for c in text) else text
  letters = tokens.fold(letters)
  try:
    parser = _Parser(tokens.tokenize(text))
    tree = _expanded(parser.whole())
    return Answer(tree, frozenset(parser.units), letters, text)
  except _NotUnderstood:
    return Answer(trees.Unread(text, False), frozenset(), letters, text)
  except (trees.BoundExceeded, RecursionError):
    return Answer(trees.Unread(text, True), frozenset(), letters, text)


class _Parser:
  """One method a precedence, from the loosest to the tightest."""

  def __init__(self, token_list: list[tokens.Token]):
    self.units: set[tuple[str, int]] = set()
    self._tokens = token_list
    self._at = 0
    self._depth = 0
    self._bars = 0  # how many |...| are open at this bracket level
    self._angles = 0  # how many trigonometric arguments are open

  def whole(self) -> trees.Tree:
    items = [self._item()]
    if self._at_condition():
      return self._inline_cases(items[0])
    separators = []
    while separator := self._take_separators():
      if self._next.kind == "end":
        break
      separators.append(separator)
      items.append(self._item())
    if self._next.kind != "end":
      raise _NotUnderstood(f"{self._next.text!r} is left over")
    if len(items) == 1:
      return items[0]
    return _grouped(items, separators)

  # Reading tokens.

  @property
  def _next(self) -> tokens.Token:
    return self._tokens[self._at]

  def _take(self) -> tokens.Token:
    token = self._tokens[self._at]
    if token.kind != "end":
      self._at += 1
    return token

  def _is(self, *texts: str) -> bool:
    """Whether the next token is one of these marks or commands."""
    return self._next.kind in ("mark", "command") and self._next.text in texts

  def _take_if(self, *texts: str) -> bool:
    if self._is(*texts):
      self._at += 1
      return True
    return False

  def _take_word(self, word: str) -> bool:
    if self._next.kind == "word" and tokens.fold(self._next.text) == word:
      self._at += 1
      return True
    return False

  def _expect(self, *texts: str) -> str:
    if not self._is(*texts):
      raise _NotUnderstood(f"{self._next.text!r} instead of {texts}")
    return self._take().text

  def _take_separators(self) -> str:
    """Returns the first separator of a run such as ", and", or ""."""
    found = ""
    while self._is(",", ";") or self._next.kind == "separator":
      found = found or self._next.text
      self._at += 1
    return found

  # Answers: relations, unions, ratios.

  def _item(self) -> trees.Tree:
    self._take_if("=", "approx")  # "= 5": the left side was left out.
    sides = [self._union()]
    signs = []
    while self._next.kind in ("mark", "command"):
      sign = _SIGNS.get(self._next.text)
      if sign is None:
        break
      self._take()
      if sign in "<>" and self._take_if("="):
        sign += "="
      signs.append(sign)
      sides.append(self._union())
    if self._take_if("bmod"):
      modulus = self._argument()
      if signs not in ([], ["="], ["==="]):
        raise _NotUnderstood("a modulus after no congruence")
      for side in sides:
        _require_expression(side)
      return trees.Congruence(tuple(sides), modulus)
    if not signs:
      return sides[0]
    relation = trees.Relation(tuple(sides), tuple(signs))
    if self._take_if("cup"):  # x < 1 \\cup x > 3
      return trees.Union((relation, self._item()))
    return relation

  def _union(self) -> trees.Tree:
    parts = [self._difference()]
    while self._is("cup") and not self._is_relation_after_cup():
      self._take()
      parts.append(self._difference())
    return parts[0] if len(parts) == 1 else trees.Union(tuple(parts))

  def _is_relation_after_cup(self) -> bool:
    """Whether an inequality, and no set, follows the sign of a union."""
    after = self._tokens[self._at + 1]
    return after.kind in ("letter", "number")

  def _difference(self) -> trees.Tree:
    tree = self._ratio()
    while self._is("setminus", "cap"):
      if self._take().text == "cap":
        tree = trees.Intersection((tree, self._ratio()))
      else:
        tree = trees.Difference(tree, self._ratio())
    return tree

  # Functions by cases.

  def _at_condition(self) -> bool:
    return (
      self._next.kind == "word"
      and tokens.fold(self._next.text) in _CONDITION_WORDS
    )

  def _inline_cases(self, value: trees.Tree) -> trees.Tree:
    """x if x > 0, -x if x < 0."""
    rows = [(value, self._condition())]
    while self._take_separators():
      if self._next.kind == "end":
        break
      value = self._item()
      if not self._at_condition():
        raise _NotUnderstood("a case without a condition")
      rows.append((value, self._condition()))
    if self._next.kind != "end":
      raise _NotUnderstood(f"{self._next.text!r} is left over")
    return trees.Cases(tuple(rows))

  def _condition(self) -> trees.Tree | None:
    """What follows "if": relations, or words such as "n is even"."""
    while self._at_condition():
      if tokens.fold(self._take().text) in _OTHERWISE:
        return None
    start = self._at
    try:
      items = [self._item()]
      joined_by = "and"
      while self._next.kind == "separator":
        joined_by = self._take_separators()
        items.append(self._item())
      condition: trees.Tree = trees.Collection(
        tuple(items), joined_by=joined_by
      )
      if len(items) == 1:
        condition = items[0]
      if all(isinstance(item, trees.Relation) for item in items):
        return condition
    except _NotUnderstood:
      pass
    self._at = start
    words = ""
    while self._next.kind in ("word", "letter", "number"):
      word = tokens.fold(self._take().text)
      words += "" if word == "is" else word
    if not words:
      raise _NotUnderstood("a condition that is none")
    return trees.Words(words)

  def _case_rows(self) -> trees.Tree:
    """The rows of an environment, up to its end."""
    rows = []
    while self._next.kind != "environment":
      value = self._item()
      self._take_row_marks()
      if not self._take_if("&") and not self._at_condition():
        raise _NotUnderstood("a case without a condition")
      condition = self._condition()
      self._take_row_marks()
      rows.append((value, condition))
      if not self._take_if("\\"):
        break
    if not self._take().text.startswith("\\end"):
      raise _NotUnderstood("open cases")
    return trees.Cases(tuple(rows))

  def _take_row_marks(self) -> None:
    while self._is(",", ";", "."):
      self._take()

  def _ratio(self) -> trees.Tree:
    terms = [self._sum()]
    if self._take_if("choose"):
      bottom = _expression(self._sum())
      return trees.Call("binomial", (_expression(terms[0]), bottom))
    while self._take_if(":") or self._take_word("to"):
      terms.append(self._sum())
    if len(terms) == 1:
      return terms[0]
    for term in terms:
      _require_expression(term)
    self._units_after()
    return trees.Ratio(tuple(terms))

  # Expressions.

  def _sum(self) -> trees.Tree:
    total: list[trees.Tree] = []
    if self._is("pm", "mp"):
      total.append(trees.number(0))
    else:
      total.append(self._product())
    while True:
      if self._take_if("+"):
        total.append(self._product())
      elif self._take_if("-"):
        total.append(_negated(self._product()))
      elif self._is("pm", "mp"):
        name = self._take().text
        total.append(trees.Call(name, (_expression(self._product()),)))
      else:
        break
    if len(total) == 1:
      return total[0]
    if all(isinstance(term, trees.Matrix) for term in total):
      return _sum_of_matrices(total)
    return trees.add(*map(_expression, total))

  def _product(self) -> trees.Tree:
    self._take_currency()
    is_negative = False
    while self._is("-", "+"):
      is_negative ^= self._take().text == "-"
    self._take_currency()
    factors = [self._power()]
    while True:
      if self._take_if("*"):
        factors.append(self._signed_power())
      elif self._is("/"):
        self._take()
        if self._units_after(is_divisor=True):
          continue
        factors.append(trees.invert(_expression(self._signed_power())))
      elif self._units_after():
        continue
      elif self._starts_factor():
        factors.append(self._power())
      else:
        break
    product = _product_of(factors)
    return _negated(product) if is_negative else product

  def _take_currency(self) -> None:
    if self._next.kind == "currency":
      self.units |= units.BY_WORD[self._take().text]

  def _mixed_number(self) -> trees.Tree | None:
    """2\\frac{1}{2}, 8\\frac47, 2 1/2: sums, not products."""
    start = self._at
    whole = self._next
    if whole.kind != "number" or not whole.text.isdigit():
      return None
    self._take()
    fraction = self._plain_fraction()
    if fraction is None:
      self._at = start
      return None
    return trees.number(int(whole.text) + fraction)

  def _plain_fraction(self) -> Fraction | None:
    ahead = [token.text for token in self._tokens[self._at : self._at + 7]]
    kinds = [token.kind for token in self._tokens[self._at : self._at + 3]]
    if kinds == ["number", "mark", "number"] and ahead[1] == "/":
      top, bottom, length = ahead[0], ahead[2], 3
    elif ahead[:1] == ["frac"] and len(ahead) > 1:
      rest = ahead[1:]
      if len(rest) == 6 and (rest[0], rest[2:4], rest[5]) == (
        "{",
        ["}", "{"],
        "}",
      ):
        top, bottom, length = rest[1], rest[4], 7
      elif rest[0].isdigit() and len(rest[0]) == 2:
        top, bottom, length = rest[0][0], rest[0][1], 2
      else:
        return None
    else:
      return None
    if not (top.isdigit() and bottom.isdigit() and int(bottom)):
      return None
    if int(top) >= int(bottom):
      return None
    self._at += length
    return Fraction(int(top), int(bottom))

  def _starts_factor(self) -> bool:
    token = self._next
    if token.kind in ("letter", "function", "repeating", "based"):
      return True
    if token.kind == "number":
      before = self._tokens[self._at - 1]
      is_exponent = self._tokens[self._at - 2].text == "^"
      if before.kind in ("number", "repeating") and not is_exponent:
        raise _NotUnderstood("two numbers in a row")
      return True
    if token.kind == "environment":
      return token.text.startswith("\\begin")
    if token.kind == "mark":
      return token.text in "([{" or (token.text == "|" and not self._bars)
    if token.kind == "command":
      return (
        token.text in _CONSTANTS
        or token.text in _NAMES
        or token.text in _DECORATIONS
        or token.text in ("frac", "binom", "lfloor", "lceil")
      )
    return False

  def _signed_power(self) -> trees.Tree:
    is_negative = False
    while self._is("-", "+"):
      is_negative ^= self._take().text == "-"
    power = self._power()
    return _negated(power) if is_negative else power

  def _power(self) -> trees.Tree:
    base = self._mixed_number() or self._atom()
    is_factorial = False
    while True:
      if self._take_if("^"):
        exponent = self._exponent()
        base = trees.Call("power", (_expression(base), exponent))
      elif self._is("!"):
        if is_factorial:
          raise _NotUnderstood("a factorial of a factorial")
        self._take()
        is_factorial = True
        base = trees.Call("factorial", (_expression(base),))
      elif self._take_if("°"):
        if self._angles:
          base = trees.multiply(
            _expression(base), trees.number(Fraction(1, 180)), _CONSTANTS["pi"]
          )
        else:
          self.units.add(("degree", 1))
      elif self._take_if("%"):
        if not isinstance(base, trees.Call) or base.name != "percent":
          base = trees.Call("percent", (_expression(base),))
      else:
        return base

  def _exponent(self) -> trees.Tree:
    self._descend()
    if self._take_if("-"):
      exponent = _negated(self._exponent())
    elif self._take_if("+"):
      exponent = self._exponent()
    else:
      exponent = self._atom()
      if self._take_if("^"):
        exponent = trees.Call(
          "power", (_expression(exponent), self._exponent())
        )
    self._depth -= 1
    return _expression(exponent)

  def _descend(self) -> None:
    self._depth += 1
    if self._depth > MAX_DEPTH:
      raise trees.BoundExceeded(f"nested deeper than {MAX_DEPTH}")

  # Atoms.

  def _atom(self) -> trees.Tree:
    self._descend()
    token = self._take()
    read = self._READERS.get(token.kind)
    if read is None:
      raise _NotUnderstood(f"{token.text!r} begins nothing")
    tree = read(self, token)
    self._depth -= 1
    return tree

  def _number(self, token: tokens.Token) -> trees.Tree:
    return trees.number(Fraction(token.text.rstrip(".")))

  def _repeating(self, token: tokens.Token) -> trees.Tree:
    if token.text.endswith("\\ldots"):
      head, block = _period(token.text.removesuffix("\\ldots"))
    else:
      head, block = re.split(r"\\[a-z]+|\(", token.text, maxsplit=1)
      block = block.strip("{})")
    whole, _, fixed = head.partition(".")
    shift = 10 ** len(fixed)
    value = Fraction(int((whole + fixed) or "0"), shift)
    return trees.number(
      value + Fraction(int(block), shift * (10 ** len(block) - 1))
    )

  def _based(self, token: tokens.Token) -> trees.Tree:
    digits, _, base = token.text.rpartition("_")
    digits = digits.removeprefix("\\text{").rstrip("}")
    base = int(base.strip("{}"))
    if not 2 <= base <= 36 or any(
      int(digit, 36) >= base for digit in digits if digit != "."
    ):
      raise _NotUnderstood(f"{digits} is no number in base {base}")
    return trees.Based(digits, base)

  def _letter(self, token: tokens.Token) -> trees.Tree:
    if token.text in _CONSTANTS and not self._is("_"):
      return _CONSTANTS[token.text]
    if token.text in _COUNTS and self._is("("):
      return self._count(token.text)
    return self._symbol(token.text)

  def _count(self, letter: str) -> trees.Tree:
    """C(10, 3) or P(10, 3); else the letter alone."""
    start = self._at
    try:
      self._take()
      n, k = (_expression(item) for item in self._items_until(")"))
      if isinstance(n, trees.Number) and isinstance(k, trees.Number):
        if n.value >= k.value >= 0:
          chosen = trees.Call("binomial", (n, k))
          if letter == "C":
            return chosen
          return trees.multiply(chosen, trees.Call("factorial", (k,)))
    except (_NotUnderstood, ValueError):
      pass
    self._at = start
    return self._symbol(letter)

  def _symbol(self, name: str) -> trees.Tree:
    if self._take_if("_"):
      if self._take_if("{"):
        name += "_"
        while not self._is("}"):
          if self._next.kind == "end":
            raise _NotUnderstood("an open subscript")
          name += self._take().text
        self._take()
      else:
        name += "_" + self._take().text
    while self._take_if("'"):
      name += "'"
    return trees.Symbol(name)

  def _word(self, token: tokens.Token) -> trees.Tree:
    folded = tokens.fold(token.text)
    if token.marked and len(folded) == 1 and self._next.kind != "word":
      return self._letter(
        tokens.Token("letter", token.text.strip(" ().")[:1] or folded)
      )
    if token.marked and token.text.isupper() and len(folded) < 4:
      # As without \text{}: "ACF" is three letters there.
      if token.text.isalpha() and self._next.kind != "word":
        return trees.multiply(*map(trees.Symbol, token.text))
    phrase = folded
    while self._next.kind in ("word", "letter", "number"):
      phrase += tokens.fold(self._take().text)
    return _PHRASES.get(phrase, trees.Words(phrase))

  def _mark(self, token: tokens.Token) -> trees.Tree:
    if token.text in _CLOSERS:
      return self._bracketed(token.text, _CLOSERS[token.text])
    if token.text == "{":
      bars, self._bars = self._bars, 0
      items = self._items_until("}")
      self._bars = bars
      return items[0] if len(items) == 1 else trees.Collection(items)
    if token.text == "|":
      self._bars += 1
      inner = self._sum()
      self._expect("|")
      self._bars -= 1
      return trees.Call("abs", (_expression(inner),))
    raise _NotUnderstood(f"{token.text!r} begins nothing")

  def _bracketed(self, opening: str, closers: str) -> trees.Tree:
    bars, self._bars = self._bars, 0
    items = self._items_until(*closers)
    self._bars = bars
    closing = self._tokens[self._at - 1].text
    matches = closing == closers[0]
    if len(items) == 1 and matches:
      return items[0]
    if len(items) != 2 and not matches:
      raise _NotUnderstood("brackets that do not match")
    return trees.Group(opening, closing, items)

  def _items_until(self, *closers: str) -> tuple[trees.Tree, ...]:
    if self._take_if(*closers):
      return ()
    items = [self._item()]
    while self._take_separators():
      items.append(self._item())
    self._expect(*closers)
    return tuple(items)

  def _command(self, token: tokens.Token) -> trees.Tree:
    name = token.text
    if name in _CONSTANTS:
      return _CONSTANTS[name]
    if name in _SPECIAL:
      return _SPECIAL[name]
    if name in _NAMES:
      return self._symbol(name)
    if name in _DECORATIONS:
      start = self._at
      argument = self._argument()
      inner = self._tokens[start : self._at]
      if name == "overline" and not all(
        token.kind in ("letter", "mark") for token in inner
      ):
        return trees.Call("conjugate", (argument,))
      if name == "overline" and len(inner) == 4:  # a segment AB
        return argument
      return trees.Symbol(f"{name}({''.join(t.text for t in inner)})")
    reader = self._COMMAND_READERS.get(name)
    if reader is None:
      raise _NotUnderstood(f"the command {name!r} is not known")
    return reader(self)

  def _fraction(self) -> trees.Tree:
    top = self._argument()
    bottom = self._argument()
    if isinstance(top, trees.Number) and isinstance(bottom, trees.Number):
      if bottom.value:
        return trees.number(top.value / bottom.value)
    return trees.multiply(top, trees.invert(bottom))

  def _binomial(self) -> trees.Tree:
    top = self._argument()
    return trees.Call("binomial", (top, self._argument()))

  def _set(self) -> trees.Tree:
    if self._next.text == "\\begin{array}":
      self._take()
      self._skip_columns()
      tree = self._case_rows()
      self._take_if("}")
      return tree
    bars, self._bars = self._bars, 0
    start = self._at
    try:
      tree = self._such()
    except _NotUnderstood:
      self._at = start
      tree = trees.Collection(self._items_until("}"), is_set=True)
    self._bars = bars
    return tree

  def _such(self) -> trees.Tree:
    """{x | x > 3}, {x in R : x > 3}; the opening brace is behind us."""
    variable = _expression(self._power())
    conditions = []
    if self._take_if("in"):
      conditions.append(trees.Relation((variable, self._difference()), ("in",)))
    if not self._take_if("|", ":"):
      raise _NotUnderstood("a set without a bar")
    conditions.append(self._item())
    while self._take_separators():
      conditions.append(self._item())
    self._expect("}")
    return trees.Such(
      variable, trees.Collection(tuple(conditions), joined_by="and")
    )

  def _vector(self) -> trees.Tree:
    return trees.Group("(", ")", self._items_until("rangle"))

  def _floor(self) -> trees.Tree:
    inner = self._sum()
    self._expect("rfloor")
    return trees.Call("floor", (_expression(inner),))

  def _ceiling(self) -> trees.Tree:
    inner = self._sum()
    self._expect("rceil")
    return trees.Call("ceiling", (_expression(inner),))

  def _blackboard(self) -> trees.Tree:
    self._take_if("{")
    name = self._take().text
    self._take_if("}")
    return trees.REALS if name == "R" else trees.Symbol(f"mathbb({name})")

  def _argument(self, is_whole: bool = False) -> trees.Tree:
    """A LaTeX argument: a group in braces, or a single digit or atom.

    `is_whole` takes all digits: nobody who writes \\sqrt13 means 3 times 1.
    """
    token = self._next
    if token.kind == "number" and len(token.text) > 1 and not is_whole:
      if not token.text.isdigit():
        raise _NotUnderstood("a decimal as an argument without braces")
      self._tokens[self._at] = dataclasses.replace(
        token, text=token.text[1:], spaced=False
      )
      return trees.number(int(token.text[0]))
    return _expression(self._atom())

  def _environment(self, token: tokens.Token) -> trees.Tree:
    name = token.text.removeprefix("\\begin{").rstrip("}*")
    if name in _CASES:
      return self._case_rows()
    if name == "vmatrix":
      return _determinant(self._matrix(name))
    if name not in _MATRICES or token.text.startswith("\\end"):
      raise _NotUnderstood(f"the environment {name!r} is not known")
    return self._matrix(name)

  def _matrix(self, name: str) -> trees.Tree:
    if name == "array":
      self._skip_columns()
    rows: list[tuple[trees.Tree, ...]] = []
    row: list[trees.Tree] = []
    while True:
      row.append(_expression(self._sum()))
      if self._take_if("&"):
        continue
      rows.append(tuple(row))
      row = []
      if self._take_if("\\") and self._next.kind != "environment":
        continue
      break
    if self._take().text.rstrip("*}") != f"\\end{{{name}":
      raise _NotUnderstood("an open matrix")
    if len({len(row) for row in rows}) != 1:
      raise _NotUnderstood("rows of different lengths")
    return trees.Matrix(tuple(rows))

  def _skip_columns(self) -> None:
    """The {cc} of an array."""
    if self._take_if("{"):
      while not self._take_if("}"):
        if self._take().kind == "end":
          raise _NotUnderstood("an open column description")

  def _function(self, token: tokens.Token) -> trees.Tree:
    name = token.text
    if name == "sqrt":
      return self._root(token)
    base = None
    power = None
    if name == "log" and self._take_if("_"):
      base = self._argument() if token.marked else _expression(self._atom())
    if self._take_if("^"):
      power = self._exponent()
      if power == trees.number(-1) and name in _INVERSES:
        name, power = _INVERSES[name], None
    if name == "log" and base is None and self._take_if("_"):
      base = self._argument()
    self._angles += name in _ANGLE_FUNCTIONS
    args = self._function_arguments(name)
    self._angles -= name in _ANGLE_FUNCTIONS
    call = _call(name, args, base)
    return call if power is None else trees.Call("power", (call, power))

  def _function_arguments(self, name: str) -> tuple[trees.Tree, ...]:
    if self._take_if("("):
      bars, self._bars = self._bars, 0
      items = self._items_until(")")
      self._bars = bars
      return tuple(map(_expression, items))
    is_negative = self._take_if("-")
    factors = [self._power()]
    while self._starts_factor() and not self._is("(", "["):
      if self._next.kind == "function":
        break
      factors.append(self._power())
    argument = _expression(_product_of(factors))
    return (trees.negate(argument) if is_negative else argument,)

  def _root(self, token: tokens.Token) -> trees.Tree:
    degree = None
    if self._take_if("["):
      degree = _expression(self._sum())
      self._expect("]")
    if token.marked or self._is("{"):
      radicand = self._argument(is_whole=True)
    else:
      radicand = _expression(self._power())
    if degree is None:
      return trees.Call("sqrt", (radicand,))
    return trees.Call("root", (radicand, degree))

  def _units_after(self, is_divisor: bool = False) -> bool:
    """Skips words after a number, such as "square cm^2 per hour".

    What they measure goes to `units`; unknown words are passed over.
    """
    found = False
    exponent = 1
    while self._next.kind in ("word", "currency") or (found and self._is("/")):
      if self._is("/"):
        if self._tokens[self._at + 1].kind != "word":
          break
        self._take()
        is_divisor = True
        continue
      word = tokens.fold(self._next.text) or self._next.text
      if word in _CONDITION_WORDS:
        break
      if word == "to" and self._tokens[self._at + 1].kind == "number":
        break  # "5 to 6" is a ratio.
      self._take()
      found = True
      if word in units.SQUARED or word in units.CUBED:
        exponent = 2 if word in units.SQUARED else 3
        if word.endswith("ed") and len(self.units) == 1:
          self.units = set(units.power(frozenset(self.units), exponent))
        continue
      is_divisor = is_divisor or word == "per"
      if self._take_if("^"):
        power = self._exponent()
        if isinstance(power, trees.Number) and power.value.denominator == 1:
          exponent = int(power.value) if abs(power.value) < 10 else 1
      measure = units.BY_WORD.get(word)
      if measure:
        sign = -1 if is_divisor else 1
        self.units |= units.power(measure, sign * exponent)
        exponent = 1
    return found

  _READERS: dict[str, Callable[["_Parser", tokens.Token], trees.Tree]] = {
    "number": _number,
    "repeating": _repeating,
    "based": _based,
    "letter": _letter,
    "word": _word,
    "mark": _mark,
    "command": _command,
    "environment": _environment,
    "function": _function,
  }
  _COMMAND_READERS: dict[str, Callable[["_Parser"], trees.Tree]] = {
    "frac": _fraction,
    "binom": _binomial,
    "{": _set,
    "langle": _vector,
    "lfloor": _floor,
    "lceil": _ceiling,
    "mathbb": _blackboard,
  }


def _period(decimal: str) -> tuple[str, str]:
  """Parts "0.1666" into "0.1" and "6": the shortest block that repeats."""
  whole, _, digits = decimal.partition(".")
  for length in range(2, len(digits) + 1):
    for size in range(1, length // 2 + 1):
      start = length - 2 * size
      block = digits[start : start + size]
      rest = digits[start:]
      if (block * (len(rest) // size + 1)).startswith(rest):
        return f"{whole}.{digits[:start]}", block
  raise _NotUnderstood("an ellipsis after digits that do not repeat")


def _grouped(items: list[trees.Tree], separators: list[str]) -> trees.Tree:
  """A list of answers, or of lists: "p = 5, q = 2; p = 7, q = 2"."""
  outer = ";"
  if all(_is_named_value(item) for item in items) and "," in separators:
    outer = ";" if ";" in separators else "or"
  groups = [[items[0]]]
  for separator, item in zip(separators, items[1:], strict=True):
    if separator == outer:
      groups.append([])
    groups[-1].append(item)
  if len(groups) == 1 or max(map(len, groups)) == 1:
    return trees.Collection(tuple(items), joined_by=separators[-1])
  return trees.Collection(
    tuple(
      group[0] if len(group) == 1 else trees.Collection(tuple(group))
      for group in groups
    ),
    joined_by=outer,
  )


def _is_named_value(tree: trees.Tree) -> bool:
  return isinstance(tree, trees.Relation) and tree.signs == ("=",)


def _require_expression(tree: trees.Tree) -> None:
  if not trees.is_expression(tree):
    raise _NotUnderstood(f"{type(tree).__name__} where a number must stand")


def _expression(tree: trees.Tree) -> trees.Tree:
  _require_expression(tree)
  return tree


def _product_of(factors: list[trees.Tree]) -> trees.Tree:
  if len(factors) == 1:
    return factors[0]
  *scalars, vector = factors
  if isinstance(vector, trees.Group) and vector.opening == "(":
    scalar = _product_of(scalars)
    _require_expression(scalar)
    if isinstance(scalar, trees.Symbol) and scalar.name.isupper():
      raise _NotUnderstood("a point with its name")
    return dataclasses.replace(
      vector,
      items=tuple(trees.multiply(scalar, item) for item in vector.items),
    )
  matrices = [f for f in factors if isinstance(f, trees.Matrix)]
  scalars = [f for f in factors if not isinstance(f, trees.Matrix)]
  for scalar in scalars:
    _require_expression(scalar)
  if not matrices:
    return trees.multiply(*factors)
  if len(matrices) > 1:
    raise _NotUnderstood("a product of matrices")
  return trees.Matrix(
    tuple(
      tuple(trees.multiply(*scalars, entry) for entry in row)
      for row in matrices[0].rows
    )
  )


def _sum_of_matrices(matrices: Sequence[trees.Tree]) -> trees.Tree:
  rows = [
    matrix.rows for matrix in matrices if isinstance(matrix, trees.Matrix)
  ]
  if len({(len(r), len(r[0])) for r in rows}) != 1:
    raise _NotUnderstood("a sum of matrices of different shapes")
  return trees.Matrix(
    tuple(
      tuple(trees.add(*entries) for entries in zip(*lines, strict=True))
      for lines in zip(*rows, strict=True)
    )
  )


def _determinant(tree: trees.Tree) -> trees.Tree:
  """Expands by the first row; bounded, as it has n! terms."""
  if not isinstance(tree, trees.Matrix) or len(tree.rows) != len(tree.rows[0]):
    raise _NotUnderstood("a determinant of what is not square")
  if len(tree.rows) > _MAX_DETERMINANT:
    raise trees.BoundExceeded("a large determinant")
  return _minor(tree.rows)


def _minor(rows: Sequence[Sequence[trees.Tree]]) -> trees.Tree:
  if len(rows) == 1:
    return rows[0][0]
  terms = []
  for column, entry in enumerate(rows[0]):
    rest = [[*row[:column], *row[column + 1 :]] for row in rows[1:]]
    term = trees.multiply(entry, _minor(rest))
    terms.append(trees.negate(term) if column % 2 else term)
  return trees.add(*terms)


def _negated(tree: trees.Tree) -> trees.Tree:
  if isinstance(tree, trees.Matrix):
    return _product_of([trees.number(-1), tree])
  return trees.negate(_expression(tree))


def _call(
  name: str, args: tuple[trees.Tree, ...], base: trees.Tree | None
) -> trees.Tree:
  if name in ("min", "max", "gcd", "lcm"):
    if not args:
      raise _NotUnderstood(f"{name} of nothing")
    return trees.Call(name, args)
  if name in ("fraction", "rational") and len(args) == 2:
    return trees.multiply(args[0], trees.invert(args[1]))
  if len(args) != 1:
    raise _NotUnderstood(f"{name} of {len(args)} arguments")
  if name == "cis":
    sine = trees.Call("sin", args)
    return trees.add(
      trees.Call("cos", args), trees.multiply(_CONSTANTS["i"], sine)
    )
  if name == "cbrt":
    return trees.Call("root", (args[0], trees.number(3)))
  if name == "exp":
    return trees.Call("power", (_CONSTANTS["e"], args[0]))
  if name == "ln":
    return trees.Call("log", (args[0], _CONSTANTS["e"]))
  if name in ("log", "lg"):
    return trees.Call("log", (args[0], base or trees.number(10)))
  return trees.Call(name, args)


def _expanded(tree: trees.Tree) -> trees.Tree:
  """Writes an answer with plus-minus signs as the list of both answers."""
  if isinstance(tree, trees.Collection):
    items = [both for item in tree.items for both in _both_signs(item)]
    return dataclasses.replace(tree, items=tuple(items))
  if isinstance(tree, trees.Relation):
    sides = (
      _expanded(side) if isinstance(side, trees.Collection) else side
      for side in tree.sides
    )
    tree = trees.Relation(tuple(sides), tree.signs)
  both = _both_signs(tree)
  return both[0] if len(both) == 1 else trees.Collection(both)


def _both_signs(tree: trees.Tree) -> tuple[trees.Tree, ...]:
  upper = _signed(tree, 1)
  return (tree,) if upper == tree else (upper, _signed(tree, -1))


def _signed(tree: trees.Tree, sign: int) -> trees.Tree:
  """Takes the upper (1) or lower (-1) of all signs."""
  if isinstance(tree, trees.Call):
    args = tuple(_signed(arg, sign) for arg in tree.args)
    if tree.name in ("pm", "mp"):
      is_plus = (tree.name == "pm") == (sign == 1)
      return args[0] if is_plus else trees.negate(args[0])
    return tree if args == tree.args else trees.Call(tree.name, args)
  if isinstance(tree, trees.Relation):
    sides = tuple(_signed(side, sign) for side in tree.sides)
    return tree if sides == tree.sides else trees.Relation(sides, tree.signs)
  if isinstance(tree, trees.Group):
    items = tuple(_signed(item, sign) for item in tree.items)
    if items != tree.items:
      return trees.Group(tree.opening, tree.closing, items)
  return tree
