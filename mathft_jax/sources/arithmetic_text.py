"""Generic arithmetic text, on which the demo's base model is pre-trained.

What a large model brings from its pre-training (numbers, facts, whether a
statement is true, how a calculation is written down), in the small. None of it
is a problem of `sources.arithmetic`: expressions, equations and conditions of
a held-out problem are drawn anew, whatever their letters. And none speaks in
the evaluator's words: the truth of a statement is told by "true" and "false".
"""

import random
from collections.abc import Callable, Iterator

from mathft_jax.sources import arithmetic

_LIMIT = arithmetic.LIMIT


def documents(seed: int, num_documents: int | None = None) -> Iterator[str]:
  """Short documents of a few lines each, endless unless `num_documents`."""
  rng = random.Random(f"arithmetic text/{seed}")
  kinds = list(KINDS)
  shares = list(KINDS.values())
  count = 0
  while num_documents is None or count < num_documents:
    (kind,) = rng.choices(kinds, shares)
    yield kind(rng)
    count += 1


def _fact(rng: random.Random) -> tuple[str, int]:
  """(the left side of a statement, its value)."""
  operator = rng.choice("++--***")
  while True:
    if operator == "*":
      a, b = rng.randrange(1, 50), rng.randrange(1, 50)
      value = a * b
    else:
      a, b = rng.randrange(1, _LIMIT), rng.randrange(0, _LIMIT)
      value = a + b if operator == "+" else a - b
    if 0 <= value < _LIMIT:
      return f"{a} {operator} {b}", value


def _near(rng: random.Random, value: int) -> int:
  """A wrong value such as a slip would give."""
  while True:
    slip = rng.choice((1, 1, 2, 3, 5, 10, rng.randrange(1, 60)))
    wrong = value + rng.choice((-1, 1)) * slip
    if 0 <= wrong < _LIMIT:
      return wrong


def _statement(
  rng: random.Random, left: str, value: int, is_true: bool = True
) -> str:
  """`left = value`, now and then the other way round, or with a wrong value."""
  shown = value if is_true else _near(rng, value)
  is_reversed = rng.random() < 0.35
  return f"{shown} = {left}" if is_reversed else f"{left} = {shown}"


def _word(is_true: bool) -> str:
  return "true" if is_true else "false"


def _facts(rng: random.Random) -> str:
  return "\n".join(
    _statement(rng, *_fact(rng)) for _ in range(rng.randrange(3, 9))
  )


def _judged_facts(rng: random.Random) -> str:
  lines = []
  for _ in range(rng.randrange(3, 9)):
    is_true = rng.random() < 0.5
    statement = _statement(rng, *_fact(rng), is_true)
    lines.append(f"{statement} {_word(is_true)}")
  return "\n".join(lines)


def _comparisons(rng: random.Random) -> str:
  lines = []
  for _ in range(rng.randrange(3, 7)):
    a, b = rng.randrange(_LIMIT), rng.randrange(_LIMIT)
    sign = "<" if a < b else ">" if a > b else "="
    lines.append(f"{a} {sign} {b}")
  return "\n".join(lines)


def _divisions(rng: random.Random) -> str:
  lines = []
  for _ in range(rng.randrange(2, 6)):
    number, divisor = rng.randrange(1, _LIMIT), rng.randrange(2, 20)
    quotient, rest = divmod(number, divisor)
    lines.append(f"{number} = {divisor} * {quotient} + {rest}")
  return "\n".join(lines)


def _inverses(rng: random.Random) -> str:
  """Facts with a hole: what was multiplied, added or subtracted."""
  lines = []
  for _ in range(rng.randrange(2, 6)):
    a, b = rng.randrange(1, 30), rng.randrange(1, 30)
    if a * b < _LIMIT and rng.random() < 0.6:
      lines.append(f"{a} * y = {a * b}, y = {b}")
    else:
      lines.append(f"y + {a} = {a + b}, y = {b}")
  return "\n".join(lines)


def _walk(rng: random.Random, num_steps: int) -> list[tuple[str, int]]:
  """Facts each of which starts from the value of the one before."""
  while True:
    steps = []
    value = rng.randrange(1, 50)
    text = str(value)
    for _ in range(num_steps):
      operator = rng.choice("++--*")
      operand = rng.randrange(2, 10 if operator == "*" else 60)
      left = f"{value} {operator} {operand}"
      text += f" {operator} {operand}"
      value = {
        "+": value + operand,
        "-": value - operand,
        "*": value * operand,
      }[operator]
      steps.append((left, value))
    if all(0 <= value < _LIMIT for _, value in steps):
      if _is_free(f"Compute {text}."):
        return steps


def _worked_chain(rng: random.Random) -> str:
  steps = _walk(rng, rng.randrange(2, 6))
  separator = rng.choice(("\n", ", ", "\nthen "))
  return separator.join(f"{left} = {value}" for left, value in steps)


def _passage(rng: random.Random) -> list[tuple[str, int]]:
  """Facts that may or may not hang together."""
  num_steps = rng.randrange(2, 7)
  if rng.random() < 0.5:
    return _walk(rng, num_steps)
  return [_fact(rng) for _ in range(num_steps)]


def _told_so_far(rng: random.Random, statements: list[tuple[str, bool]]) -> str:
  """Statements, and after some of them whether all so far were true.

  How often that is told differs from text to text. What is told often is
  learnt first: one new statement is judged, and added to what was told before.
  From there a small model comes to judge many statements at once, which it
  does not learn from one truth value after all of them.
  """
  share = rng.choice((0.0, 0.0, 0.2, 0.4, 0.7))
  all_true = True
  lines = []
  for i, (statement, is_true) in enumerate(statements):
    lines.append(statement)
    all_true &= is_true
    if i == len(statements) - 1 or rng.random() < share:
      lines.append(f"all {_word(all_true)}")
  return "\n".join(lines)


def _judged_passage(rng: random.Random) -> str:
  """Several statements, at most one of them wrong, and their truth value."""
  facts = _passage(rng)
  wrong = rng.randrange(len(facts)) if rng.random() < 0.5 else None
  return _told_so_far(
    rng,
    [
      (_statement(rng, left, value, i != wrong), i != wrong)
      for i, (left, value) in enumerate(facts)
    ],
  )


def _judged_steps(rng: random.Random) -> str:
  """Statements, many with a truth value, then whether all were true."""
  share = rng.choice((0.3, 0.6, 1.0))
  lines = []
  truths = []
  for left, value in _passage(rng):
    is_true = rng.random() < 0.8
    truths.append(is_true)
    lines.append(_statement(rng, left, value, is_true))
    if rng.random() < share:
      lines[-1] += f" {_word(is_true)}"
  return "\n".join(lines) + f"\nall {_word(all(truths))}"


def _judged_value(rng: random.Random) -> str:
  """A claimed value of y put into an equation, then its truth value."""
  while True:
    a, y, b = rng.randrange(2, 12), rng.randrange(1, 20), rng.randrange(1, 60)
    is_true = rng.random() < 0.5
    claimed = y if is_true else _near(rng, y)
    sign = rng.choice("+-")
    total = a * y + b if sign == "+" else a * y - b
    if 0 <= total < _LIMIT and max(a * y, a * claimed) < _LIMIT:
      if _is_free(f"Solve {a} * x {sign} {b} = {total}."):
        break
  return _told_so_far(
    rng,
    [
      (f"{a} * y {sign} {b} = {total}, y = {claimed}", is_true),
      (f"{a} * {claimed} = {a * claimed}", True),
      (f"{total} = {a * claimed} {sign} {b}", is_true),
    ][: 1 if rng.random() < 0.2 else 3],
  )


def _worked_expression(rng: random.Random) -> str:
  """An expression, then its value step by step, or in one go."""
  text, steps = _expression(rng)
  if rng.random() < 0.2:
    return f"{text} = {steps[-1][1]}"
  separator = rng.choice(("\n", "\n", ", "))
  return text + "\n" + separator.join(f"{a} = {b}" for a, b in steps)


def _judged_expression(rng: random.Random) -> str:
  """An expression with its steps, of which one may be wrong.

  Wrong is a value, or a number that is not the expression's.
  """
  text, steps = _expression(rng)
  lines = [(f"{left} = {value}", True) for left, value in steps]
  if rng.random() < 0.5:
    i = rng.randrange(len(steps))
    left, value = steps[i]
    if rng.random() < 0.5:
      wrong = f"{left} = {_near(rng, value)}"
    else:
      a, operator, b = left.split()
      other = _near(rng, int(b))
      result = {
        "+": int(a) + other,
        "-": int(a) - other,
        "*": int(a) * other,
      }[operator]
      if not 0 <= result < _LIMIT:
        result = _near(rng, value)
      wrong = f"{a} {operator} {other} = {result}"
    lines[i] = (wrong, False)
  return f"{text}\n{_told_so_far(rng, lines)}"


def _expression(rng: random.Random) -> tuple[str, list[tuple[str, int]]]:
  """(a sum of numbers and products, its steps)."""
  while True:
    text, steps = "", []
    total = 0
    for i in range(rng.randrange(2, 6)):
      if rng.random() < 0.4:
        a, b = rng.randrange(2, 12), rng.randrange(2, 12)
        shown, value = f"{a} * {b}", a * b
        steps.append((shown, value))
      else:
        value = rng.randrange(1, 60)
        shown = str(value)
      if i == 0:
        text, total = shown, value
        continue
      sign = rng.choice("+-")
      steps.append((f"{total} {sign} {value}", 0))
      total = total + value if sign == "+" else total - value
      steps[-1] = (steps[-1][0], total)
      text += f" {sign} {shown}"
    if all(0 <= value < _LIMIT for _, value in steps):
      if _is_free(f"Compute {text}."):
        return text, steps


def _worked_equation(rng: random.Random) -> str:
  """An equation in y, undone step by step."""
  while True:
    a, y, b = rng.randrange(2, 12), rng.randrange(1, 25), rng.randrange(1, 60)
    sign, undo = rng.choice(("+-", "-+"))
    total = a * y + b if sign == "+" else a * y - b
    if a * y < _LIMIT and 0 <= total < _LIMIT:
      if _is_free(f"Solve {a} * x {sign} {b} = {total}."):
        break
  lines = [f"{a} * y {sign} {b} = {total}"]
  if rng.random() < 0.7:
    lines.append(f"{total} {undo} {b} = {a * y}")
  lines += [f"{a} * y = {a * y}", f"y = {y}"]
  return "\n".join(lines)


def _judged_pair(rng: random.Random) -> str:
  """Two conditions on y and z with claimed values, then a truth value.

  The values are put in: a condition that they do not satisfy becomes a false
  statement.
  """
  while True:
    y, z = rng.randrange(2, 40), rng.randrange(2, 30)
    a, b = rng.randrange(1, 5), rng.randrange(2, 8)
    operator = rng.choice("+-")
    is_product = rng.random() < 0.4

    def first_of(y, z, operator=operator):
      return y + z if operator == "+" else y - z

    def second_of(y, z, a=a, b=b, is_product=is_product):
      return y * z if is_product else a * y + b * z

    claimed_y, claimed_z = y, z
    if rng.random() < 0.5:
      if rng.random() < 0.6:  # The first condition still holds.
        slip = rng.choice((-3, -2, -1, 1, 2, 3))
        claimed_y += slip
        claimed_z += -slip if operator == "+" else slip
      else:
        claimed_z = _near(rng, z)
    first, second = first_of(y, z), second_of(y, z)
    if not 0 < first < _LIMIT or second >= _LIMIT:
      continue
    if min(claimed_y, claimed_z) < 0 or max(claimed_y, claimed_z) >= _LIMIT:
      continue
    if max(a * claimed_y, b * claimed_z) >= _LIMIT:
      continue
    shown = f"y * z = {second}"
    if not is_product:
      shown = f"{a} * y + {b} * z = {second}"
    renamed = shown.replace("y", "x").replace("z", "y")
    if _is_free(f"Find x and y with x {operator} y = {first} and {renamed}."):
      break
  # A slip can lead to another pair that satisfies both conditions.
  one = first_of(claimed_y, claimed_z) == first
  two = second_of(claimed_y, claimed_z) == second
  conditions = f"y {operator} z = {first}, {shown}"
  claim = f"{conditions}\ny = {claimed_y}, z = {claimed_z}"
  if rng.random() < 0.2:
    return _told_so_far(rng, [(claim, one and two)])
  checks = [(f"{first} = {claimed_y} {operator} {claimed_z}", one)]
  if is_product:
    checks.append((f"{second} = {claimed_y} * {claimed_z}", two))
  else:
    left, right = a * claimed_y, b * claimed_z
    checks.append((f"{a} * {claimed_y} = {left}", True))
    checks.append((f"{b} * {claimed_z} = {right}", True))
    checks.append((f"{second} = {left} + {right}", two))
  return f"{claim}\n{_told_so_far(rng, checks)}"


def _judged_divisions(rng: random.Random) -> str:
  statements = []
  for _ in range(rng.randrange(2, 5)):
    number, divisor = rng.randrange(1, _LIMIT), rng.randrange(2, 20)
    quotient, rest = divmod(number, divisor)
    is_true = rng.random() < 0.6
    if not is_true:
      if rng.random() < 0.5:
        rest = _near(rng, rest)
      else:
        number = _near(rng, number)
    statement = f"{number} = {divisor} * {quotient} + {rest}"
    statements.append((statement, is_true))
  if rng.random() < 0.5:
    return _told_so_far(rng, statements)
  return "\n".join(f"{s} {_word(is_true)}" for s, is_true in statements)


def _fractions(rng: random.Random) -> str:
  lines = []
  for _ in range(rng.randrange(2, 5)):
    q = rng.randrange(2, 16)
    p, k = rng.randrange(1, q), rng.randrange(2, 10)
    if q * k >= _LIMIT:
      continue
    lines.append(f"{p}/{q} = {p * k}/{q * k}")
  return "\n".join(lines) or _fractions(rng)


def _is_free(problem: str) -> bool:
  """Whether no held-out problem of the demo has this text."""
  return arithmetic.split_of(problem) == "train"


# The kinds of documents, and how often each appears.
KINDS: dict[Callable[[random.Random], str], float] = {
  _facts: 2,
  _comparisons: 0.2,
  _divisions: 1,
  _inverses: 1,
  _fractions: 0.5,
  _worked_chain: 0.7,
  _worked_expression: 1.5,
  _worked_equation: 1,
  _judged_facts: 2,
  _judged_divisions: 1.5,
  _judged_passage: 4,
  _judged_steps: 2,
  _judged_value: 2,
  _judged_expression: 2.5,
  _judged_pair: 3,
}
