"""Generated word-free problems with two solution styles for the same problem.

Five families (`type`) at five levels. In most of them an answer is easier to
check than to find, as in real mathematics: the last lines of a stepwise
solution put the answer into the problem, the problem's own number first, as in
`40 = 35 + 5`. A wrong answer makes one of these statements false, and whether
a statement is false can be seen without solving the problem. Every number is a
natural number below 100, so that one number is one token.

No problem is a bare fact such as 7 + 8: those are for everyone to know.

`terse` is the style of MATH's human solutions: it jumps to the result.
`stepwise` is the style of PRM800K: one small statement a line.
"""

import hashlib
import math
import random
from collections.abc import Callable, Iterator

from mathft_jax import records

# Exclusive bound of every number in a problem or a solution.
LIMIT = 100

# Shares of the hash space; what a problem's text hashes to is its split.
_SPLIT_BOUNDS = (("test", 0.1), ("validation", 0.2), ("train", 1.0))

# (problem, reference answer, terse solution, stepwise solution)
_Drawn = tuple[str, str, str, str]


def split_of(problem: str) -> str:
  """The split of a problem, by a hash of its text: never in two."""
  digest = hashlib.sha256(problem.encode()).digest()
  place = int.from_bytes(digest[:8], "big") / 2**64
  return next(name for name, bound in _SPLIT_BOUNDS if place < bound)


def problems(
  split: str,
  style: str,
  *,
  seed: int = 0,
  num_problems: int | None = None,
  levels: tuple[int, ...] = (1, 2, 3, 4, 5),
) -> Iterator[records.SolvedProblem]:
  """Distinct solved problems of one split, endless unless `num_problems`.

  The order depends on `split`, `seed` and `levels` alone, so that both styles
  solve the same problems in the same order. Types take turns. The problems of
  a small space run out: one that was drawn before is drawn anew.

  Raises ValueError for an unknown split or style.
  """
  if split not in [name for name, _ in _SPLIT_BOUNDS]:
    raise ValueError(
      f"no split {split!r} of the arithmetic problems; there are"
      f" {[name for name, _ in _SPLIT_BOUNDS]}"
    )
  if style not in STYLES:
    raise ValueError(f"no style {style!r}; there are {list(STYLES)}")
  rng = random.Random(f"{split}/{seed}/{levels}")
  seen: set[str] = set()
  kinds = list(FAMILIES.items())
  while num_problems is None or len(seen) < num_problems:
    kind, draw = kinds[len(seen) % len(kinds)]
    for _ in range(10_000):
      level = rng.choice(levels)
      text, answer, terse, stepwise = draw(rng, level)
      if text not in seen and split_of(text) == split:
        break
    else:
      raise ValueError(
        f"the {split} split holds no more than {len(seen)} arithmetic"
        f" problems of levels {levels}; ask for fewer"
      )
    seen.add(text)
    problem = records.Problem(
      problem_id=f"arith/{kind}/{hashlib.sha256(text.encode()).hexdigest()[:12]}",
      text=text,
      reference_answer=answer,
      level=str(level),
      type=kind,
    )
    solution = terse if style == "terse" else stepwise
    yield records.SolvedProblem(problem, solution, f"arith_{style}", split)


STYLES = ("terse", "stepwise")


def _chain(rng: random.Random, level: int) -> _Drawn:
  """A sum of numbers and products, left to right, of three terms or more."""
  num_terms = max(3, level + 1)
  while True:
    terms = [
      (rng.randrange(2, 10), rng.randrange(2, 10))
      if rng.random() < 0.4
      else (rng.randrange(2, 60),)
      for _ in range(num_terms)
    ]
    signs = ["+", *(rng.choice("+-") for _ in range(num_terms - 1))]
    values = [math.prod(term) for term in terms]
    totals = [values[0]]
    for sign, value in zip(signs[1:], values[1:], strict=True):
      totals.append(totals[-1] + value if sign == "+" else totals[-1] - value)
    if all(0 < total < LIMIT for total in totals):
      break
  shown = [" * ".join(map(str, term)) for term in terms]
  text = shown[0]
  lines = []
  for i, term in enumerate(terms):
    if len(term) == 2:
      lines.append(f"{shown[i]} = {values[i]}")
    if i:
      text += f" {signs[i]} {shown[i]}"
      lines.append(f"{totals[i - 1]} {signs[i]} {values[i]} = {totals[i]}")
  terse = f"The value is {totals[-1]}"
  return f"Compute {text}.", str(totals[-1]), terse, "\n".join(lines)


def _linear(rng: random.Random, level: int) -> _Drawn:
  """a x + b = c, from level 3 on with x on both sides; checked at the end."""
  while True:
    x = rng.randrange(2, 10 if level < 4 else 16)
    a = rng.randrange(2, 10)
    b = rng.randrange(1, 20 * level)
    c = rng.randrange(1, a) if level >= 3 else 0
    sign = rng.choice("+-") if level >= 2 else "+"
    left = a * x + b if sign == "+" else a * x - b
    rest = left - c * x
    if 0 < left < LIMIT and a * x < LIMIT and 0 < rest < LIMIT:
      break
  moved = rest - b if sign == "+" else rest + b
  if not 0 < moved < LIMIT or (a - c) * x != moved:
    return _linear(rng, level)
  undo = "-" if sign == "+" else "+"
  right = f"{c} * x + {rest}" if c else str(rest)
  text = f"Solve {a} * x {sign} {b} = {right}."
  lines = [f"{rest} {undo} {b} = {moved}"]
  if c:
    lines = [f"{a} - {c} = {a - c}", *lines]
  lines += [f"{a - c} * x = {moved}", f"x = {x}", f"{a} * {x} = {a * x}"]
  if c:
    lines += [f"{a * x} {sign} {b} = {left}", f"{c} * {x} = {c * x}"]
    lines += [f"{left} = {c * x} + {rest}"]
  else:
    lines += [f"{left} = {a * x} {sign} {b}"]
  return text, str(x), f"x = {x}", "\n".join(lines)


def _two_numbers(rng: random.Random, level: int) -> _Drawn:
  """x and y from their sum or difference and their product or a weighted sum.

  Products (levels 1 and 2) are guessed, weighted sums are undone; both are
  checked by putting the pair into the conditions.
  """
  while True:
    low = rng.randrange(2, 10 + 2 * level)
    high = rng.randrange(low + 1, 20 + 6 * level)
    a, b = rng.randrange(1, 2 + level // 2), rng.randrange(2, 3 + level)
    # A sum and a product would not tell x from y.
    operator = "-" if level <= 2 else rng.choice("+-")
    first = high + low if operator == "+" else high - low
    second = high * low if level <= 2 else a * high + b * low
    # With x = first -+ y, the second condition is scaled * first -+ rest.
    scaled = a * first
    rest = second - scaled
    factor = b - a if operator == "+" else a + b
    if first < LIMIT and second < LIMIT:
      if level <= 2 or (scaled < LIMIT and rest > 0 and factor > 1):
        break
  pair = f"x = {high}, y = {low}"
  if level <= 2:
    condition = f"x * y = {second}"
    steps, check = [], [f"{second} = {high} * {low}"]
  else:
    condition = f"{a} * x + {b} * y = {second}"
    undo = "-" if operator == "+" else "+"
    steps = [
      f"{a} * {first} = {scaled}",
      f"{second} - {scaled} = {rest}",
      f"{factor} * y = {rest}",
      f"y = {low}",
      f"{first} {undo} {low} = {high}",
    ]
    check = [f"{a} * {high} = {a * high}", f"{b} * {low} = {b * low}"]
    check += [f"{second} = {a * high} + {b * low}"]
  text = f"Find x and y with x {operator} y = {first} and {condition}."
  steps += [pair, f"{first} = {high} {operator} {low}", *check]
  return text, f"({high}, {low})", pair, "\n".join(steps)


def _remainder(rng: random.Random, level: int) -> _Drawn:
  """A remainder, or the number of a range that has two given remainders."""
  if level <= 2:
    divisor = rng.randrange(3, 6 + 6 * level)
    number = rng.randrange(divisor, LIMIT)
    if level == 1:
      part = rng.randrange(1, number)
      shown = f"{number - part} + {part}"
      lines = [f"{shown} = {number}"]
    else:
      factor = rng.randrange(2, 10)
      whole = number // factor
      if not 1 < whole < 20 or not number % factor:
        return _remainder(rng, level)
      product = factor * whole
      shown = f"{factor} * {whole} + {number - product}"
      lines = [f"{factor} * {whole} = {product}"]
      lines.append(f"{product} + {number - product} = {number}")
    rest = number % divisor
    text = f"Find the remainder of {shown} divided by {divisor}."
    lines += [f"{divisor} * {number // divisor} = {number - rest}"]
    lines += [f"{number} = {number - rest} + {rest}"]
    return text, str(rest), f"The remainder is {rest}", "\n".join(lines)
  while True:
    one = rng.randrange(2, 3 + level - 1)
    two = rng.randrange(one + 1, 6 + level)
    if math.gcd(one, two) == 1:
      break
  start = rng.randrange(two, LIMIT - one * two)
  number = rng.randrange(start, start + one * two)
  text = (
    f"Find n from {start} to {start + one * two - 1} with remainder"
    f" {number % one} by {one} and remainder {number % two} by {two}."
  )
  # One number in `two` has the second remainder; the first of them that has
  # the other one too is the answer.
  tried = range(start + (number - start) % two, number + 1, two)
  lines = [f"{n} = {one} * {n // one} + {n % one}" for n in tried]
  lines += [f"n = {number}"]
  lines += [
    f"{number} = {d} * {number // d} + {number % d}" for d in (one, two)
  ]
  return text, str(number), f"n = {number}", "\n".join(lines)


def _fraction(rng: random.Random, level: int) -> _Drawn:
  """A sum or difference of two fractions, in lowest terms."""
  while True:
    size = 4 + 3 * level
    q, s = rng.randrange(2, size), rng.randrange(2, size)
    p, r = rng.randrange(1, q), rng.randrange(1, s)
    operator = rng.choice("+-")
    common = q * s // math.gcd(q, s)
    left, right = p * (common // q), r * (common // s)
    top = left + right if operator == "+" else left - right
    if top > 0 and max(top, common) < LIMIT and math.gcd(p, q) == 1:
      if math.gcd(r, s) == 1 and q != s:
        break
  text = f"Compute {p}/{q} {operator} {r}/{s}."
  lines = [f"{q} * {common // q} = {common}", f"{p} * {common // q} = {left}"]
  lines += [f"{s} * {common // s} = {common}", f"{r} * {common // s} = {right}"]
  lines += [f"{left} {operator} {right} = {top}"]
  divisor = math.gcd(top, common)
  answer = _as_fraction(top // divisor, common // divisor)
  if divisor > 1:
    lines += [f"{top // divisor} * {divisor} = {top}"]
    lines += [f"{common // divisor} * {divisor} = {common}"]
  terse = f"{_as_fraction(left, common)} {operator} {right}/{common}"
  return text, answer, f"{terse} = {answer}", "\n".join(lines)


def _as_fraction(top: int, bottom: int) -> str:
  return f"{top}/{bottom}" if bottom != 1 else str(top)


FAMILIES: dict[str, Callable[[random.Random, int], _Drawn]] = {
  "chain": _chain,
  "linear": _linear,
  "two numbers": _two_numbers,
  "remainder": _remainder,
  "fraction": _fraction,
}
