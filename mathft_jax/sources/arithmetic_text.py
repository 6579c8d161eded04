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
  kinds = list(_KINDS)
  shares = list(_KINDS.values())
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


def _judged(rng: random.Random, left: str, value: int) -> tuple[str, bool]:
  """(a statement, whether it is true); half of them are."""
  is_true = rng.random() < 0.5
  shown = value if is_true else _near(rng, value)
  return f"{left} = {shown}", is_true


def _word(is_true: bool) -> str:
  return "true" if is_true else "false"


def _facts(rng: random.Random) -> str:
  facts = [_fact(rng) for _ in range(rng.randrange(3, 9))]
  return "\n".join(f"{left} = {value}" for left, value in facts)


def _judged_facts(rng: random.Random) -> str:
  lines = []
  for _ in range(rng.randrange(3, 9)):
    statement, is_true = _judged(rng, *_fact(rng))
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


def _judged_passage(rng: random.Random) -> str:
  """Several statements, at most one of them wrong, then one truth value."""
  facts = _passage(rng)
  wrong = rng.randrange(len(facts)) if rng.random() < 0.5 else None
  lines = []
  for i, (left, value) in enumerate(facts):
    shown = _near(rng, value) if i == wrong else value
    lines.append(f"{left} = {shown}")
  return "\n".join(lines) + f"\nall {_word(wrong is None)}"


def _judged_steps(rng: random.Random) -> str:
  """Statements with a truth value each, then whether all were true."""
  lines = []
  truths = []
  for left, value in _passage(rng):
    is_true = rng.random() < 0.8
    truths.append(is_true)
    shown = value if is_true else _near(rng, value)
    lines.append(f"{left} = {shown} {_word(is_true)}")
  return "\n".join(lines) + f"\nall {_word(all(truths))}"


def _judged_value(rng: random.Random) -> str:
  """A claimed value of y put into an equation, then its truth value."""
  while True:
    a, y, b = rng.randrange(2, 10), rng.randrange(1, 20), rng.randrange(1, 60)
    total = a * y + b
    if total < _LIMIT and _is_free(f"Solve {a} * x + {b} = {total}."):
      break
  is_true = rng.random() < 0.5
  claimed = y if is_true else _near(rng, y)
  worked = f"{a} * {claimed} = {a * claimed}\n{a * claimed} + {b} = "
  shown = a * claimed + b
  if a * claimed + b >= _LIMIT:
    worked, shown = "", total
  lines = [f"{a} * y + {b} = {total}, y = {claimed}"]
  if worked and rng.random() < 0.5:
    lines.append(f"{worked}{shown}")
  return "\n".join(lines) + f"\n{_word(is_true)}"


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
  lines = [f"{left} = {value}" for left, value in steps]
  is_true = rng.random() < 0.5
  if not is_true:
    i = rng.randrange(len(steps))
    left, value = steps[i]
    if rng.random() < 0.5:
      lines[i] = f"{left} = {_near(rng, value)}"
    else:
      a, operator, b = left.split()
      other = _near(rng, int(b))
      wrong = {
        "+": int(a) + other,
        "-": int(a) - other,
        "*": int(a) * other,
      }[operator]
      if not 0 <= wrong < _LIMIT:
        wrong = _near(rng, value)
      lines[i] = f"{a} {operator} {other} = {wrong}"
  return "\n".join([text, *lines]) + f"\nall {_word(is_true)}"


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

  The values are put in, with the right results; whether they are those of the
  conditions is left to see.
  """
  while True:
    y, z = rng.randrange(2, 40), rng.randrange(2, 30)
    a, b = rng.randrange(1, 5), rng.randrange(2, 8)
    operator = rng.choice("+-")
    first = y + z if operator == "+" else y - z
    is_product = rng.random() < 0.4
    second = y * z if is_product else a * y + b * z
    if is_product:
      shown = f"y * z = {second}"
    else:
      shown = f"{a} * y + {b} * z = {second}"
    if 0 < first < _LIMIT and second < _LIMIT:
      renamed = shown.replace("y", "x").replace("z", "y")
      if _is_free(f"Find x and y with x {operator} y = {first} and {renamed}."):
        break
  is_true = rng.random() < 0.5
  claimed_y, claimed_z = y, z
  if not is_true:
    if rng.random() < 0.6:  # The first condition still holds.
      slip = rng.choice((-3, -2, -1, 1, 2, 3))
      claimed_y += slip
      claimed_z += -slip if operator == "+" else slip
    else:
      claimed_z = _near(rng, z)
  lines = [
    f"y {operator} z = {first}, {shown}",
    f"y = {claimed_y}, z = {claimed_z}",
  ]
  one = claimed_y + claimed_z if operator == "+" else claimed_y - claimed_z
  two = claimed_y * claimed_z if is_product else a * claimed_y + b * claimed_z
  if min(claimed_y, claimed_z, one) < 0 or max(one, two, claimed_z) >= _LIMIT:
    return _judged_pair(rng)
  # A slip can lead to another pair that satisfies both conditions.
  is_true = one == first and two == second
  if rng.random() < 0.6:
    lines.append(f"{claimed_y} {operator} {claimed_z} = {one}")
    if is_product:
      lines.append(f"{claimed_y} * {claimed_z} = {two}")
    else:
      lines.append(f"{a} * {claimed_y} = {a * claimed_y}")
      lines.append(f"{b} * {claimed_z} = {b * claimed_z}")
      lines.append(f"{a * claimed_y} + {b * claimed_z} = {two}")
  return "\n".join(lines) + f"\n{_word(is_true)}"


def _judged_divisions(rng: random.Random) -> str:
  lines = []
  for _ in range(rng.randrange(2, 5)):
    number, divisor = rng.randrange(1, _LIMIT), rng.randrange(2, 20)
    quotient, rest = divmod(number, divisor)
    is_true = rng.random() < 0.5
    if not is_true:
      if rng.random() < 0.5:
        rest = _near(rng, rest)
      else:
        number = _near(rng, number)
    lines.append(f"{number} = {divisor} * {quotient} + {rest} {_word(is_true)}")
  return "\n".join(lines)


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


# How often each kind of document appears.
_KINDS: dict[Callable[[random.Random], str], float] = {
  _facts: 2,
  _comparisons: 0.3,
  _divisions: 1,
  _inverses: 1.2,
  _fractions: 0.7,
  _worked_chain: 0.7,
  _worked_expression: 2,
  _worked_equation: 1.2,
  _judged_facts: 2,
  _judged_divisions: 1,
  _judged_passage: 1.5,
  _judged_steps: 2,
  _judged_value: 1,
  _judged_expression: 2,
  _judged_pair: 2,
}
