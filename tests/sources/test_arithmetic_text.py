"""Tests of mathft_jax.sources.arithmetic_text."""

import collections
import fractions
import itertools
import math
import re

import pytest

from mathft_jax import prompts
from mathft_jax.sources import arithmetic, arithmetic_text


@pytest.fixture(scope="module")
def documents() -> list[str]:
  return list(arithmetic_text.documents(seed=3, num_documents=3000))


def _is_true(statement: str) -> bool:
  """Whether "a op b = c", "a < b" or "n = d * q + r" holds."""
  sides = re.split(r" ([=<>]) ", statement)
  assert len(sides) == 3, statement
  left, right = (_value(side) for side in sides[::2])
  return {"=": left == right, "<": left < right, ">": left > right}[sides[1]]


def _value(side: str) -> fractions.Fraction:
  total = fractions.Fraction(0)
  for term in _terms(side):
    total += term[0] * math.prod(map(fractions.Fraction, term[1].split(" * ")))
  return total


def _terms(side: str) -> list[tuple[int, str]]:
  """(sign, product) of each term of a sum."""
  parts = re.split(r" ([+-]) ", side)
  signs = [1, *(1 if sign == "+" else -1 for sign in parts[1::2])]
  return list(zip(signs, parts[::2], strict=True))


def _steps(expression: str) -> list[str]:
  """How a sum of products is worked out, left to right."""
  steps, total = [], None
  for sign, term in _terms(expression):
    value = _value(term)
    if "*" in term:
      steps.append(f"{term} = {value}")
    if total is not None:
      new = total + sign * value
      steps.append(f"{total} {'+' if sign > 0 else '-'} {value} = {new}")
      total = new
    else:
      total = value
  return steps


def _with_values(equation: str, values: dict[str, str]) -> str:
  return re.sub("[yz]", lambda match: values[match[0]], equation)


def _judge(document: str) -> tuple[str, list[tuple[bool, bool]]]:
  """(kind, (what is told, what is so) for each truth value in a document).

  Fails for a part that must be true whatever the document claims and is not.
  """
  lines = re.split(r"\n(?:then )?", document)
  if "y" in document:
    return _judge_equations(lines)
  kind, steps = "statements", None
  if not re.search("[=<>]", lines[0]):
    kind, steps = "expressions", _steps(lines.pop(0))
  told, all_true = [], True
  for item in [item for line in lines for item in line.split(", ")]:
    statement, word = re.fullmatch(
      r"(.*?) ?((?<=[0-9l] )(?:true|false))?", item
    ).groups()
    if statement != "all":
      is_true = steps.pop(0) == statement if steps else _is_true(statement)
      all_true &= is_true
    if word:
      is_so = all_true if statement == "all" else is_true
      told.append((word == "true", is_so))
  assert told or all_true, document
  return kind, told


def _judge_equations(
  lines: list[str],
) -> tuple[str, list[tuple[bool, bool]]]:
  """The same for a document about y and z."""
  if len(lines) > 1 and all(", y = " in line for line in lines):
    for equation, value in (line.split(", y = ") for line in lines):
      assert _is_true(_with_values(equation, {"y": value}))
    return "inverses", []
  words = [line for line in lines if line.startswith("all ")]
  items = [i for line in lines if line not in words for i in line.split(", ")]
  values = {i[0]: i[4:] for i in items if re.match(r"[yz] = \d+$", i)}
  claims = [i for i in items if re.search("[yz]", i) and i[1:3] != " ="]
  assert claims and values, lines
  holds = all(_is_true(_with_values(claim, values)) for claim in claims)
  if not words:
    assert holds and all(_is_true(i) for i in items if not re.search("[yz]", i))
    return "equations", []
  # What was put in shows whether the claim holds; until then, only what stands
  # there is judged. A claim of one unknown is judged with its own line.
  told, shown_true = [], True
  for line in lines[1:] if len(claims) == 1 else lines[2:]:
    if line.startswith("all "):
      is_so = shown_true and (holds or len(claims) > 1)
      told.append((line == "all true", is_so))
    else:
      shown_true &= _is_true(line)
  if len(lines) == len(claims) + 1:
    told = [(told[0][0], holds)]
  assert told[-1][1] == holds, lines
  return "equations", told


def _check(documents: list[str]) -> collections.Counter:
  """How often each kind tells what; each truth value must be right."""
  found = collections.Counter()
  for document in documents:
    kind, told = _judge(document)
    for word, is_so in told:
      assert word == is_so, document
    found.update((kind, word) for word, _ in told or [(None, None)])
  return found


def test_truth_values_are_right_and_other_statements_true(documents):
  found = _check([d for d in documents if "z" not in d])
  expected = itertools.product(
    ("statements", "equations", "expressions"), (True, False, None)
  )
  assert set(found) == {*expected, ("inverses", None)}
  assert min(found.values()) > 30, found


def test_truth_values_of_pairs_are_right(documents):
  found = _check([d for d in documents if "z" in d])
  assert found["equations", True] > 30 and found["equations", False] > 30


def test_documents_are_judged_both_ways_about_equally(documents):
  for mark in ("\nall ", "[0-9] "):
    ends = [re.search(rf"{mark}(true|false)$", d) for d in documents]
    words = [end[1] for end in ends if end]
    assert len(words) > 100
    assert 0.4 < words.count("true") / len(words) < 0.6


def test_statements_stand_both_ways_round(documents):
  statements = re.findall(r"(?m)^\d+(?: \S+)+$", "\n".join(documents))
  reversed_ones = [s for s in statements if re.match(r"\d+ = ", s)]
  assert 0.2 < len(reversed_ones) / len(statements) < 0.5


def test_numbers_are_below_the_limit(documents):
  for document in documents:
    numbers = list(map(int, re.findall(r"\d+", document)))
    assert max(numbers) < arithmetic.LIMIT, document
    assert not re.search(r"(^|\s)-\d", document), document


def test_documents_do_not_speak_as_the_problems_and_the_prompts_do(documents):
  words = set(re.findall(r"[A-Za-z]+", "\n".join(documents)))
  assert words == {"true", "false", "all", "then", "y", "z"}
  spoken = (
    prompts.evaluator_inputs("", "")
    + prompts.CORRECT
    + prompts.INCORRECT
    + prompts.generator_inputs("")
    + prompts.ANSWER_HEADING
  )
  for row in arithmetic.problems("test", "stepwise", num_problems=50):
    spoken += row.problem.text
  # One letter names the same unknown everywhere.
  assert not words & set(re.findall(r"[A-Za-z]{2,}", spoken))


def test_no_held_out_problem_stands_in_a_document(documents):
  known = set()
  for document in documents:
    for line in document.split("\n"):
      known.update((line, line.rsplit(" = ", 1)[0], line.split(", y = ")[0]))
  num_forms = 0
  for split in ("validation", "test"):
    for row in arithmetic.problems(split, "terse", num_problems=1000):
      text = row.problem.text[:-1]
      renamed = text.replace("y", "z").replace("x", "y")
      if match := re.fullmatch("(?:Compute|Solve) (.*)", renamed):
        form = match[1]
      elif match := re.fullmatch("Find y and z with (.*) and (.*)", renamed):
        form = f"{match[1]}, {match[2]}"
      else:
        continue
      assert form not in known, text
      num_forms += 1
  assert num_forms > 1000


def test_the_seed_decides_the_documents(documents):
  again = list(arithmetic_text.documents(seed=3, num_documents=20))
  assert again == documents[:20]
  other = list(arithmetic_text.documents(seed=4, num_documents=20))
  assert not set(other) & set(documents)
