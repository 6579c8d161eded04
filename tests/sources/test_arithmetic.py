"""Tests of mathft_jax.sources.arithmetic by an independent solver."""

import fractions
import itertools
import re

import pytest

from mathft_jax.sources import arithmetic

_NUM_PROBLEMS = 600


@pytest.fixture(scope="module")
def drawn():
  return {
    (split, style): list(
      arithmetic.problems(split, style, num_problems=_NUM_PROBLEMS)
    )
    for split, style in itertools.product(
      ("train", "validation", "test"), ("terse", "stepwise")
    )
  }


@pytest.fixture(scope="module")
def rows(drawn):
  return [row for rows in drawn.values() for row in rows]


def _value(expression: str) -> fractions.Fraction:
  """A sum of products, left to right; no Python is run."""
  total, sign = fractions.Fraction(0), 1
  for part in re.split(r" ([+-]) ", expression):
    if part in "+-":
      sign = 1 if part == "+" else -1
      continue
    product = fractions.Fraction(1)
    for factor in part.split(" * "):
      product *= fractions.Fraction(factor)
    total += sign * product
  return total


def _holds(equation: str, **values: int) -> bool:
  for name, value in values.items():
    equation = re.sub(rf"\b{name}\b", str(value), equation)
  left, right = equation.split(" = ")
  return _value(left) == _value(right)


def _solutions(text: str) -> list[str]:
  """All answers that satisfy a problem's text, by trying them."""
  if match := re.fullmatch(r"Compute (.*)\.", text):
    return [str(_value(match[1]))]
  if match := re.fullmatch(r"Solve (.*)\.", text):
    return [str(x) for x in range(100) if _holds(match[1], x=x)]
  if match := re.fullmatch(r"Find x and y with (.*) and (.*)\.", text):
    sign, first = re.fullmatch(r"x ([+-]) y = (\d+)", match[1]).groups()
    pairs = itertools.product(range(100), range(100))
    return [
      f"({x}, {y})"
      for x, y in pairs
      if (x + y if sign == "+" else x - y) == int(first)
      and _holds(match[2], x=x, y=y)
    ]
  pattern = r"Find the remainder of (.*) divided by (\d+)\."
  if match := re.fullmatch(pattern, text):
    return [str(_value(match[1]) % int(match[2]))]
  pattern = (
    r"Find n from (\d+) to (\d+) with remainder (\d+) by (\d+) and"
    r" remainder (\d+) by (\d+)\."
  )
  match = re.fullmatch(pattern, text)
  assert match, text
  first, last, rest_1, one, rest_2, two = map(int, match.groups())
  return [
    str(n)
    for n in range(first, last + 1)
    if n % one == rest_1 and n % two == rest_2
  ]


def test_answers_are_those_that_trying_finds(drawn):
  # Both styles solve the same problems, so one is enough.
  for split in ("train", "test"):
    for row in drawn[split, "terse"][:200]:
      found = _solutions(row.problem.text)
      assert found == [row.problem.reference_answer], row.problem.text


def test_every_statement_of_a_stepwise_solution_is_true(rows):
  num_statements = 0
  for row in rows:
    if row.source != "arith_stepwise":
      continue
    names = re.findall(r"\b[xyn]\b", row.problem.text)
    names = sorted(set(names), key="xyn".index)
    numbers = re.findall(r"\d+", row.problem.reference_answer)
    values = dict(zip(names, map(int, numbers), strict=True)) if names else {}
    for statement in re.split("\n|, ", row.solution):
      assert _holds(statement, **values), (statement, row)
      num_statements += 1
    for name, value in values.items():
      assert re.search(rf"(^|\n|, ){name} = {value}($|\n|,)", row.solution), row
  assert num_statements > 5000


def test_the_last_line_puts_the_answer_in_with_the_problems_number_first(drawn):
  num_checked = 0
  for row in drawn["train", "stepwise"]:
    if row.problem.type not in ("linear", "two numbers"):
      continue
    left, right = row.solution.rsplit("\n", 1)[-1].split(" = ")
    assert re.fullmatch(r"\d+", left) and re.search(r"[-+*]", right), row
    asked_for = row.problem.text.rsplit(" = ", 1)[-1].removesuffix(".")
    if "x" not in asked_for:
      assert left == asked_for, row
      num_checked += 1
  assert num_checked > 100


def test_every_number_is_below_the_limit(rows):
  for row in rows:
    problem = row.problem
    for text in (problem.text, row.solution, problem.reference_answer):
      numbers = list(map(int, re.findall(r"\d+", text)))
      assert all(0 <= n < arithmetic.LIMIT for n in numbers), row
      assert not re.search(r"(^|\s)-\d", text), row


def test_terse_solutions_end_in_the_answer(drawn):
  for row in drawn["train", "terse"]:
    answer = row.problem.reference_answer
    if row.problem.type == "two numbers":
      answer = "x = {}, y = {}".format(*re.findall(r"\d+", answer))
    assert re.search(rf"(^|\s|= ){re.escape(answer)}$", row.solution), row


def test_both_styles_solve_the_same_problems(drawn):
  for split in ("train", "validation", "test"):
    terse, stepwise = drawn[split, "terse"], drawn[split, "stepwise"]
    assert [r.problem for r in terse] == [r.problem for r in stepwise]
    assert all(
      a.solution != b.solution for a, b in zip(terse, stepwise, strict=True)
    )


def test_no_problem_stands_in_two_splits(drawn):
  texts = {
    split: {row.problem.text for row in drawn[split, "terse"]}
    for split in ("train", "validation", "test")
  }
  assert all(len(found) == _NUM_PROBLEMS for found in texts.values())
  assert len(set.union(*texts.values())) == 3 * _NUM_PROBLEMS
  for split, found in texts.items():
    assert {arithmetic.split_of(text) for text in found} == {split}


def test_types_take_turns_and_all_levels_appear(drawn):
  rows = drawn["train", "terse"]
  kinds = list(arithmetic.FAMILIES)
  assert [row.problem.type for row in rows[:10]] == kinds * 2
  for kind in kinds:
    levels = {r.problem.level for r in rows if r.problem.type == kind}
    assert levels == {"1", "2", "3", "4", "5"}
  assert len({row.problem.problem_id for row in rows}) == len(rows)


def test_the_seed_and_the_levels_decide_the_problems():
  def texts(**options):
    rows = arithmetic.problems("train", "terse", num_problems=30, **options)
    return [row.problem.text for row in rows]

  assert texts() == texts()
  assert texts() != texts(seed=1)
  hard = arithmetic.problems("test", "terse", num_problems=20, levels=(4, 5))
  assert {row.problem.level for row in hard} == {"4", "5"}


def test_what_is_not_there_is_an_error():
  with pytest.raises(ValueError, match="no split 'dev'"):
    next(arithmetic.problems("dev", "terse"))
  with pytest.raises(ValueError, match=r"no style 'long'; there are \['terse'"):
    next(arithmetic.problems("test", "long"))


def test_a_space_that_is_used_up_is_an_error(monkeypatch):
  monkeypatch.setattr(
    arithmetic, "FAMILIES", {"one": lambda rng, level: ("p", "1", "t", "s")}
  )
  split = arithmetic.split_of("p")
  with pytest.raises(ValueError, match="holds no more than 1 arithmetic"):
    list(arithmetic.problems(split, "terse", num_problems=2))
