"""A place in a list of tokens, and what every parser asks of it."""

from mathft_jax.grading import trees
from mathft_jax.grading.reading import tokens

# The deepest answer of MATH nests five deep. Each level costs about ten
# Python frames, so this stays far below the interpreter's limit.
MAX_DEPTH = 30
# Text that can be read in several ways is read again, each time at each depth.
MAX_STEPS = 3_000


class NotUnderstood(ValueError):
  """The tokens are no mathematics that we know."""


class Cursor:
  """Reads tokens one by one, and counts how deep it is."""

  def __init__(self, token_list: list[tokens.Token]):
    self._tokens = token_list
    self._at = 0
    self._depth = 0
    self._steps = 0

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
      raise NotUnderstood(f"{self._next.text!r} instead of {texts}")
    return self._take().text

  def _descend(self) -> None:
    self._depth += 1
    self._steps += 1  # Going back does not take steps back.
    if self._steps > MAX_STEPS:
      raise trees.BoundExceeded(f"read in more than {MAX_STEPS} steps")
    if self._depth > MAX_DEPTH:
      raise trees.BoundExceeded(f"nested deeper than {MAX_DEPTH}")
