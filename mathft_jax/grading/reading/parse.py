"""Reads LaTeX and plain mathematics into a tree: recursive descent, no eval."""

import dataclasses
import functools
import re

from mathft_jax.grading import trees, units
from mathft_jax.grading.reading import (
  cursor,
  expressions,
  normalize,
  operations,
  phrases,
  progressions,
  signs,
  tokens,
)

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
_CASES = frozenset("cases dcases rcases".split())
_OTHERWISE = frozenset("otherwise else elsewhere".split())
_CONDITION_WORDS = _OTHERWISE | frozenset("if for when where".split())


# Of a text with such marks the letters alone say nothing; a hyphen is none.
_NO_WORDS = re.compile(r"[\d\\+*/^=<>_|]|(?<![A-Za-z]{2})-|-(?![A-Za-z]{2})")
# Three capitals and more are a word: HTH, ABCD.
_CAPITALS = re.compile(r"[A-Z]{3,}")


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


def parse(text: str) -> Answer:
  """Returns the meaning of a normalized answer; never raises.

  What cannot be read, or exceeds a bound, becomes `trees.Unread`.
  """
  if len(text) > normalize.MAX_LENGTH:  # The cache keeps no long texts.
    return Answer(trees.Unread(text, True), frozenset(), "", text)
  return _parse_short(text)


@functools.lru_cache(maxsize=1 << 12)
def _parse_short(text: str) -> Answer:
  try:
    return read(text)
  except Exception:  # A fault of ours may cost a verdict, never a whole run.
    return Answer(trees.Unread(text, True), frozenset(), "", text)


def read(text: str) -> Answer:
  """As `parse`, for a text of ordinary length; a fault of ours is raised."""
  text = phrases.core(text)
  letters = "" if _NO_WORDS.search(text) else tokens.fold(text)
  if _CAPITALS.fullmatch(text):
    tree = expressions.PHRASES.get(letters, trees.Words(letters))
    return Answer(tree, frozenset(), letters, text)
  try:
    parser = _Parser(tokens.tokenize(text))
    tree = signs.expanded(parser.whole())
    return Answer(tree, frozenset(parser.units), letters, text)
  except cursor.NotUnderstood:
    return Answer(trees.Unread(text, False), frozenset(), letters, text)
  except (trees.BoundExceeded, RecursionError):
    return Answer(trees.Unread(text, True), frozenset(), letters, text)


class _Parser(expressions.ExpressionParser):
  """Reads a whole answer: lists, relations, sets, functions by cases."""

  STOP_WORDS = _CONDITION_WORDS
  _divides = True  # whether a colon makes a ratio

  def whole(self) -> trees.Tree:
    self._item_units: list[set[tuple[str, int]]] = []
    items = [self._measured_item()]
    if self._at_condition():
      return self._inline_cases(items[0])
    separators = []
    while separator := self._take_separators():
      if self._next.kind == "end":
        break
      separators.append(separator)
      items.append(self._measured_item())
    if self._next.kind != "end":
      raise cursor.NotUnderstood(f"{self._next.text!r} is left over")
    if len(items) == 1:
      return items[0]
    items = self._with_own_units(items)
    if progressions.ELLIPSIS in items:
      return trees.Collection(
        progressions.filled(items), joined_by=separators[-1]
      )
    return _grouped(items, separators)

  def _measured_item(self) -> trees.Tree:
    before, self.units = self.units, set()
    item = self._item()
    self._item_units.append(self.units)
    self.units = before | self.units
    return item

  def _with_own_units(self, items: list[trees.Tree]) -> list[trees.Tree]:
    """5 cm, 6 m: where units differ, each stays with its number."""
    if (
      len({frozenset(measured) for measured in self._item_units if measured})
      < 2
    ):
      return items
    self.units = set()
    return [
      trees.multiply(item, trees.Symbol(f"unit {sorted(measured)}"))
      if measured and trees.is_expression(item)
      else item
      for item, measured in zip(items, self._item_units, strict=True)
    ]

  def _take_separators(self) -> str:
    """Returns the first separator of a run such as ", and", or ""."""
    found = ""
    while self._is(",", ";") or self._next.kind == "separator":
      found = found or self._next.text
      self._at += 1
    return found

  def _item(self) -> trees.Tree:
    if self._take_if("ldots"):
      return progressions.ELLIPSIS
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
        raise cursor.NotUnderstood("a modulus after no congruence")
      for side in sides:
        operations.require_expression(side)
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

  def _ratio(self) -> trees.Tree:
    terms = [self._sum()]
    if self._take_if("choose"):
      bottom = operations.expression(self._sum())
      return trees.Call("binomial", (operations.expression(terms[0]), bottom))
    while (self._divides and self._take_if(":")) or self._take_word("to"):
      terms.append(self._sum())
    if len(terms) == 1:
      return terms[0]
    for term in terms:
      operations.require_expression(term)
    self._units_after()
    return trees.Ratio(tuple(terms))

  def _at_condition(self) -> bool:
    return (
      self._next.kind == "word"
      and tokens.fold(self._next.text) in _CONDITION_WORDS
    )

  def _inline_cases(self, value: trees.Tree) -> trees.Tree:
    """x if x > 0, -x if x < 0."""
    rows = [(_without_name(value), self._condition())]
    while self._take_separators():
      if self._next.kind == "end":
        break
      value = self._item()
      if not self._at_condition():
        raise cursor.NotUnderstood("a case without a condition")
      rows.append((_without_name(value), self._condition()))
    if self._next.kind != "end":
      raise cursor.NotUnderstood(f"{self._next.text!r} is left over")
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
        before = self._at
        separator = self._take_separators()
        item = self._item()
        if self._at_condition():  # It is the value of the next case.
          self._at = before
          break
        joined_by = separator
        items.append(item)
      condition: trees.Tree = trees.Collection(
        tuple(items), joined_by=joined_by
      )
      if len(items) == 1:
        condition = items[0]
      if all(isinstance(item, trees.Relation) for item in items):
        return condition
    except cursor.NotUnderstood:
      pass
    self._at = start
    words = ""
    while self._next.kind in ("word", "letter", "number"):
      word = tokens.fold(self._take().text)
      words += "" if word == "is" else word
    if not words:
      raise cursor.NotUnderstood("a condition that is none")
    return trees.Words(words)

  def _case_rows(self) -> trees.Tree:
    """The rows of an environment, up to its end."""
    rows = []
    while self._next.kind != "environment":
      value = self._item()
      self._take_row_marks()
      if not self._take_if("&") and not self._at_condition():
        raise cursor.NotUnderstood("a case without a condition")
      condition = self._condition()
      self._take_row_marks()
      rows.append((value, condition))
      if not self._take_if("\\"):
        break
    if not self._take().text.startswith("\\end"):
      raise cursor.NotUnderstood("open cases")
    return trees.Cases(tuple(rows))

  def _take_row_marks(self) -> None:
    while self._is(",", ";", "."):
      self._take()

  def _items_until(self, *closers: str) -> tuple[trees.Tree, ...]:
    if self._take_if(*closers):
      return ()
    items = [self._item()]
    while self._take_separators():
      items.append(self._item())
    self._expect(*closers)
    return progressions.filled(items)

  def _set(self) -> trees.Tree:
    if self._next.text == "\\begin{array}":
      self._take()
      self._skip_columns()
      tree = self._case_rows()
      self._take_if("}")
      return tree
    bars, self._bars = self._bars, 0
    start, depth = self._at, self._depth
    try:
      tree = self._such()
    except cursor.NotUnderstood:
      self._at, self._depth = start, depth
      self._divides, self._bars = True, 0
      tree = trees.Collection(self._items_until("}"), is_set=True)
    self._bars = bars
    return tree

  def _such(self) -> trees.Tree:
    """{x | x > 3}, {x in R : x > 3}; the opening brace is behind us."""
    self._divides, self._bars = False, 1  # The bar ends the variable.
    variable = operations.expression(self._sum())
    self._bars = 0
    conditions = []
    if self._take_if("in"):
      conditions.append(trees.Relation((variable, self._difference()), ("in",)))
    self._divides = True
    if not self._take_if("|", ":"):
      raise cursor.NotUnderstood("a set without a bar")
    conditions.append(self._item())
    while self._take_separators():
      conditions.append(self._item())
    self._expect("}")
    return trees.Such(
      variable, trees.Collection(tuple(conditions), joined_by="and")
    )

  def _environment(self, token: tokens.Token) -> trees.Tree:
    name = token.text.removeprefix("\\begin{").rstrip("}*")
    return self._case_rows() if name in _CASES else super()._environment(token)


def _grouped(items: list[trees.Tree], separators: list[str]) -> trees.Tree:
  """A list of answers, or of lists: "p = 5, q = 2; p = 7, q = 2"."""
  outer = ";"
  names = [
    item.sides[0]
    for item in items
    if isinstance(item, trees.Relation) and item.signs == ("=",)
  ]
  if len(set(names)) > 1 and len(names) == len(items) and "," in separators:
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


def _without_name(value: trees.Tree) -> trees.Tree:
  """f(x) = 3 as 3: what a case names need not be said again."""
  if isinstance(value, trees.Relation) and value.signs == ("=",):
    return value.sides[1]
  return value
