"""Reads expressions: sums, products, powers, functions, matrices.

Recursive descent, one method a precedence, from the loosest to the tightest.
What stands in brackets may be more than an expression: `_items_until` is the
business of the parser of whole answers.
"""

import abc
import dataclasses
import re
from fractions import Fraction

from mathft_jax.grading import trees, units
from mathft_jax.grading.reading import (
  cursor,
  number_words,
  operations,
  tokens,
)

_CLOSERS = {"(": ")]", "[": "])"}
_CONSTANTS = {
  "pi": trees.PI,
  "e": trees.E,
  "i": trees.IMAGINARY_UNIT,
  "infty": trees.INFINITY,
}
_SPECIAL = {"emptyset": trees.NOTHING}
# What a phrase says, without blanks and case.
PHRASES: dict[str, trees.Tree] = {
  **{
    phrase: trees.NOTHING
    for phrase in (
      "none nosolution nosolutions emptyset norealsolution norealsolutions"
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
  **{word: trees.number(value) for word, value in number_words.SMALL.items()},
}
# Letters of functions; others, such as h and P, may be lengths and points.
_APPLIED = frozenset("fg")
_COUNTS = frozenset("CP")
_INVERSES = {
  "sin": "arcsin",
  "cos": "arccos",
  "tan": "arctan",
  "sinh": "arsinh",
  "cosh": "arcosh",
  "tanh": "artanh",
}
_ANGLE_FUNCTIONS = frozenset("sin cos tan cot sec csc cis".split())
_MATRICES = frozenset(
  "matrix pmatrix bmatrix Bmatrix smallmatrix array".split()
)
_MAX_SERIES = 2
_OPERATORS = frozenset(["plus", "minus", "times"])
# Kinds of tokens that begin what such a word may join.
_OPERANDS = frozenset(["number", "repeating", "letter", "command", "function"])
_FUNCTIONS_OF_NUMBERS = frozenset(["zeta", "Gamma"])
_DECORATIONS = frozenset(
  "overline vec hat bar overrightarrow widehat tilde".split()
)
_NAMES = tokens.GREEK | frozenset(
  "Delta Gamma Lambda Omega Phi Pi Psi Sigma Theta Xi angle triangle ell"
  " varphi varepsilon vartheta circ".split()
)
# Kinds of tokens that begin an atom; the methods that read it have their names.
_ATOMS = frozenset(
  "number repeating based letter word mark command environment function".split()
)
# Methods that read what follows a command.
_COMMANDS = {
  "frac": "_fraction",
  "binom": "_binomial",
  "{": "_set",
  "langle": "_vector",
  "lfloor": "_floor",
  "lceil": "_ceiling",
  "mathbb": "_blackboard",
  "sum": "_series",
  "prod": "_series",
}


class ExpressionParser(cursor.Cursor, abc.ABC):
  """Reads one expression; `units` gathers the units that stand beside it."""

  # A word at which an expression ends: "if" in a function by cases.
  STOP_WORDS: frozenset[str] = frozenset()

  def __init__(self, token_list: list[tokens.Token]):
    super().__init__(token_list)
    self.units: set[tuple[str, int]] = set()
    self._bars = 0  # how many |...| are open at this bracket level
    self._num_series = 0
    self._angles = 0  # how many trigonometric arguments are open

  @abc.abstractmethod
  def _items_until(self, *closers: str) -> tuple[trees.Tree, ...]:
    """What stands up to one of the closing marks, which it takes."""

  @abc.abstractmethod
  def _set(self) -> trees.Tree:
    """What follows an opening brace of a set."""

  def _sum(self) -> trees.Tree:
    total: list[trees.Tree] = []
    if self._is("pm", "mp"):
      total.append(trees.number(0))
    else:
      total.append(self._product())
    while True:
      if self._take_if("+") or self._take_operator("plus"):
        total.append(self._product())
      elif self._take_if("-") or self._take_operator("minus"):
        total.append(operations.negated(self._product()))
      elif self._is("pm", "mp"):
        name = self._take().text
        total.append(
          trees.Call(name, (operations.expression(self._product()),))
        )
      else:
        break
    if len(total) == 1:
      return total[0]
    if all(isinstance(term, trees.Matrix) for term in total):
      return operations.sum_of_matrices(total)
    return trees.add(*map(operations.expression, total))

  def _product(self) -> trees.Tree:
    self._take_currency()
    is_negative = False
    while self._is("-", "+"):
      is_negative ^= self._take().text == "-"
    self._take_currency()
    factors = [self._power()]
    while True:
      if self._take_if("*") or self._take_operator("times"):
        factors.append(self._signed_power())
      elif self._is("/"):
        self._take()
        if self._units_after(is_divisor=True):
          continue
        factors.append(
          trees.invert(operations.expression(self._signed_power()))
        )
      elif self._take_word("percent") or self._take_word("pct"):
        number = operations.expression(factors.pop())
        factors.append(trees.Call("percent", (number,)))
      elif self._units_after():
        if self._starts_factor():
          raise cursor.NotUnderstood("words between two numbers")
      elif self._starts_factor():
        factors.append(self._power())
      else:
        break
    product = operations.product(factors)
    return operations.negated(product) if is_negative else product

  def _take_operator(self, word: str) -> bool:
    """Whether such a word stands before an operand; takes it then."""
    if self._next.kind != "word" or tokens.fold(self._next.text) != word:
      return False
    return self._is_before_operand() and self._take_word(word)

  def _is_before_operand(self) -> bool:
    after = self._tokens[self._at + 1]
    return after.kind in _OPERANDS or after.text == "("

  def _take_currency(self) -> None:
    if self._next.kind == "currency":
      self.units |= units.BY_WORD[self._take().text]

  def _mixed_number(self) -> trees.Tree | None:
    """2\\frac{1}{2}, 8\\frac47, 2 1/2: sums, not products."""
    start = self._at
    whole = self._next
    if whole.kind != "number" or not whole.text.isdecimal():
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
      elif rest[0].isdecimal() and len(rest[0]) == 2:
        top, bottom, length = rest[0][0], rest[0][1], 2
      else:
        return None
    else:
      return None
    if not (top.isdecimal() and bottom.isdecimal() and int(bottom)):
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
        raise cursor.NotUnderstood("two numbers in a row")
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
        or token.text in ("frac", "binom", "lfloor", "lceil", "sum", "prod")
      )
    return False

  def _signed_power(self) -> trees.Tree:
    is_negative = False
    while self._is("-", "+"):
      is_negative ^= self._take().text == "-"
    power = self._power()
    return operations.negated(power) if is_negative else power

  def _power(self) -> trees.Tree:
    base = self._mixed_number() or self._atom()
    is_factorial = False
    while True:
      if not trees.is_expression(base) and self._take_transposition():
        base = operations.transposed(base)
      elif self._take_if("^"):
        exponent = self._exponent()
        base = trees.Call("power", (operations.expression(base), exponent))
      elif self._is("!"):
        if is_factorial:
          raise cursor.NotUnderstood("a factorial of a factorial")
        self._take()
        is_factorial = True
        name = "double factorial" if self._take_if("!") else "factorial"
        base = trees.Call(name, (operations.expression(base),))
      elif self._take_if("°"):
        if self._angles:
          base = trees.multiply(
            operations.expression(base),
            trees.number(Fraction(1, 180)),
            _CONSTANTS["pi"],
          )
        else:
          self.units.add(("degree", 1))
      elif self._take_if("%"):
        if not isinstance(base, trees.Call) or base.name != "percent":
          base = trees.Call("percent", (operations.expression(base),))
      else:
        return base

  def _take_transposition(self) -> bool:
    """Whether ^T or ^\\top comes next, which it takes then."""
    ahead = [token.text for token in self._tokens[self._at : self._at + 4]]
    for marks in (["^", "T"], ["^", "top"], ["^", "{", "T", "}"]):
      if ahead[: len(marks)] == marks:
        self._at += len(marks)
        return True
    return False

  def _exponent(self) -> trees.Tree:
    self._descend()
    if self._take_if("-"):
      exponent = operations.negated(self._exponent())
    elif self._take_if("+"):
      exponent = self._exponent()
    else:
      exponent = self._atom()
      if self._take_if("^"):
        exponent = trees.Call(
          "power", (operations.expression(exponent), self._exponent())
        )
    self._depth -= 1
    return operations.expression(exponent)

  def _atom(self) -> trees.Tree:
    self._descend()
    token = self._take()
    if token.kind not in _ATOMS:
      raise cursor.NotUnderstood(f"{token.text!r} begins nothing")
    tree = getattr(self, f"_{token.kind}")(token)
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
      raise cursor.NotUnderstood(f"{digits} is no number in base {base}")
    return trees.Based(digits, base)

  def _letter(self, token: tokens.Token) -> trees.Tree:
    if token.text in _CONSTANTS and not self._is("_"):
      return _CONSTANTS[token.text]
    if token.text in _COUNTS and self._is("("):
      return self._count(token.text)
    symbol = self._symbol(token.text)
    if token.text in _APPLIED and self._is("("):
      return self._application(symbol)
    return symbol

  def _application(self, function: trees.Tree) -> trees.Tree:
    """f(x + 1), which is no product; f(x, y) is read as one."""
    start, depth = self._at, self._depth
    argument = self._atom()
    if trees.is_expression(argument):
      return trees.Call("apply", (function, argument))
    self._at, self._depth = start, depth
    return function

  def _count(self, letter: str) -> trees.Tree:
    """C(10, 3) or P(10, 3); else the letter alone."""
    start, depth = self._at, self._depth
    try:
      self._take()
      n, k = (operations.expression(item) for item in self._items_until(")"))
      if isinstance(n, trees.Number) and isinstance(k, trees.Number):
        if n.value >= k.value >= 0:
          chosen = trees.Call("binomial", (n, k))
          if letter == "C":
            return chosen
          return trees.multiply(chosen, trees.Call("factorial", (k,)))
    except trees.BoundExceeded:
      raise
    except (cursor.NotUnderstood, ValueError):
      pass
    self._at, self._depth = start, depth
    return self._symbol(letter)

  def _symbol(self, name: str) -> trees.Tree:
    if self._take_if("_"):
      if self._take_if("{"):
        name += "_"
        while not self._is("}"):
          if self._next.kind == "end":
            raise cursor.NotUnderstood("an open subscript")
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
    return PHRASES.get(phrase, trees.Words(phrase))

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
      return trees.Call("abs", (operations.expression(inner),))
    raise cursor.NotUnderstood(f"{token.text!r} begins nothing")

  def _bracketed(self, opening: str, closers: str) -> trees.Tree:
    bars, self._bars = self._bars, 0
    items = self._items_until(*closers)
    self._bars = bars
    closing = self._tokens[self._at - 1].text
    matches = closing == closers[0]
    if len(items) == 1 and matches:
      return items[0]
    if len(items) != 2 and not matches:
      raise cursor.NotUnderstood("brackets that do not match")
    return trees.Group(opening, closing, items)

  def _command(self, token: tokens.Token) -> trees.Tree:
    name = token.text
    if name in _CONSTANTS:
      return _CONSTANTS[name]
    if name in _SPECIAL:
      return _SPECIAL[name]
    if name in _FUNCTIONS_OF_NUMBERS and self._is("("):
      start = self._at
      argument = self._atom()
      if trees.is_constant(argument):
        return trees.Call(name.lower(), (argument,))
      self._at = start
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
    if name not in _COMMANDS:
      raise cursor.NotUnderstood(f"the command {name!r} is not known")
    return getattr(self, _COMMANDS[name])()

  def _fraction(self) -> trees.Tree:
    top = self._argument()
    bottom = self._argument()
    if isinstance(top, trees.Number) and isinstance(bottom, trees.Number):
      if bottom.value:
        return operations.quotient(top, bottom)
    return trees.multiply(top, trees.invert(bottom))

  def _binomial(self) -> trees.Tree:
    top = self._argument()
    return trees.Call("binomial", (top, self._argument()))

  def _vector(self) -> trees.Tree:
    return trees.Group("(", ")", self._items_until("rangle"))

  def _series(self) -> trees.Tree:
    """What follows the sign of a sum or product: _{k=1}^{n} and a term.

    One within another, or many of them, would take long to add up.
    """
    self._num_series += 1
    if self._num_series > _MAX_SERIES:
      raise trees.BoundExceeded("many sums and products")
    name = "sum" if self._tokens[self._at - 1].text == "sum" else "product"
    self._expect("_")
    self._expect("{")
    index = self._atom()
    self._expect("=")
    low = operations.expression(self._sum())
    self._expect("}")
    self._expect("^")
    high = self._argument(is_whole=True)
    self._descend()
    term = operations.expression(self._product())
    if trees.has_call(term, ("sum", "product")):
      raise trees.BoundExceeded("a sum of sums")
    # Its letter does not matter, and may be that of the imaginary unit.
    bound = trees.Symbol(f"index {self._depth}")
    self._depth -= 1
    term = trees.substitute(term, index, bound)
    return trees.Call(name, (term, bound, low, high))

  def _floor(self) -> trees.Tree:
    inner = self._sum()
    self._expect("rfloor")
    return trees.Call("floor", (operations.expression(inner),))

  def _ceiling(self) -> trees.Tree:
    inner = self._sum()
    self._expect("rceil")
    return trees.Call("ceiling", (operations.expression(inner),))

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
      if not token.text.isdecimal():
        raise cursor.NotUnderstood("a decimal as an argument without braces")
      self._tokens[self._at] = dataclasses.replace(
        token, text=token.text[1:], spaced=False
      )
      return trees.number(int(token.text[0]))
    return operations.expression(self._atom())

  def _environment(self, token: tokens.Token) -> trees.Tree:
    name = token.text.removeprefix("\\begin{").rstrip("}*")
    if name == "vmatrix":
      return operations.determinant(self._matrix(name))
    if name not in _MATRICES or token.text.startswith("\\end"):
      raise cursor.NotUnderstood(f"the environment {name!r} is not known")
    return self._matrix(name)

  def _matrix(self, name: str) -> trees.Tree:
    if name == "array":
      self._skip_columns()
    rows: list[tuple[trees.Tree, ...]] = []
    row: list[trees.Tree] = []
    while True:
      row.append(operations.expression(self._sum()))
      if self._take_if("&"):
        continue
      rows.append(tuple(row))
      row = []
      if self._take_if("\\") and self._next.kind != "environment":
        continue
      break
    if self._take().text.rstrip("*}") != f"\\end{{{name}":
      raise cursor.NotUnderstood("an open matrix")
    if len({len(row) for row in rows}) != 1:
      raise cursor.NotUnderstood("rows of different lengths")
    return trees.Matrix(tuple(rows))

  def _skip_columns(self) -> None:
    """The {cc} of an array."""
    if self._take_if("{"):
      while not self._take_if("}"):
        if self._take().kind == "end":
          raise cursor.NotUnderstood("an open column description")

  def _function(self, token: tokens.Token) -> trees.Tree:
    name = token.text
    if name == "sqrt":
      return self._root(token)
    base = None
    power = None
    if name == "log" and self._take_if("_"):
      base = (
        self._argument()
        if token.marked
        else operations.expression(self._atom())
      )
    if self._take_if("^"):
      power = self._exponent()
      if power == trees.number(-1) and name in _INVERSES:
        name, power = _INVERSES[name], None
    if name == "log" and base is None and self._take_if("_"):
      base = self._argument()
    self._angles += name in _ANGLE_FUNCTIONS
    args = self._function_arguments(name)
    self._angles -= name in _ANGLE_FUNCTIONS
    call = operations.call(name, args, base)
    return call if power is None else trees.Call("power", (call, power))

  def _function_arguments(self, name: str) -> tuple[trees.Tree, ...]:
    if self._take_if("("):
      bars, self._bars = self._bars, 0
      items = self._items_until(")")
      self._bars = bars
      return tuple(map(operations.expression, items))
    is_negative = self._take_if("-")
    factors = [self._power()]
    while self._starts_factor() and not self._is("(", "["):
      if self._next.kind == "function":
        break
      factors.append(self._power())
    argument = operations.expression(operations.product(factors))
    return (trees.negate(argument) if is_negative else argument,)

  def _root(self, token: tokens.Token) -> trees.Tree:
    degree = None
    if self._take_if("["):
      degree = operations.expression(self._sum())
      self._expect("]")
    if token.marked or self._is("{"):
      radicand = self._argument(is_whole=True)
    else:
      radicand = operations.expression(self._power())
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
      if word in self.STOP_WORDS:
        break
      if word in _OPERATORS and self._is_before_operand():
        break
      is_last = self._tokens[self._at + 1].kind != "word"
      if word in units.MEANINGFUL or (
        is_last and word in units.MEANINGFUL_LAST
      ):
        raise cursor.NotUnderstood(f"what {word!r} does to a number")
      if word == "to" and self._tokens[self._at + 1].kind == "number":
        break  # "5 to 6" is a ratio.
      self._take()
      found = True
      if word.endswith("ed") and not self.units:
        if word in units.SQUARED or word in units.CUBED:
          raise cursor.NotUnderstood(f"{word!r} after no unit")
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
  raise cursor.NotUnderstood("an ellipsis after digits that do not repeat")
