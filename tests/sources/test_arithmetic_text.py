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


def _judge(document: str) -> tuple[str, bool]:
  """(kind of document, whether what it claims as a whole is true).

  Fails for a part that must be true whatever the document claims and is not.
  """
  *lines, last = re.split(r"\n(?:then )?", document)
  if not re.fullmatch(r"(all )?(true|false)", last):
    lines, last = [*lines, last], ""
  items = [item for line in lines for item in line.split(", ")]
  if any(re.search(r" (true|false)$", line) for line in lines):
    truths = []
    for line in lines:
      statement, word = line.rsplit(" ", 1)
      truths.append(_is_true(statement))
      assert truths[-1] == (word == "true"), document
    return "statements", all(truths) if last else True
  if "y" in document:
    if not last and all(", y = " in line for line in lines):
      pairs = [line.split(", y = ") for line in lines]
      return "inverses", all(
        _is_true(_with_values(a, {"y": y})) for a, y in pairs
      )
    values = {
      item[0]: item[4:] for item in items if re.match(r"[yz] = \d+$", item)
    }
    claims = [i for i in items if re.search("[yz]", i) and i[1:3] != " ="]
    claims += [i for i in items if re.match("[yz] = .*[^0-9]", i)]
    assert claims and values, document
    assert all(_is_true(i) for i in items if not re.search("[yz]", i)), document
    return "equations", all(_is_true(_with_values(c, values)) for c in claims)
  if not re.search("[=<>]", items[0]):
    return "expressions", items[1:] == _steps(items[0])
  return "plain", all(map(_is_true, items))


def _check(documents: list[str]) -> collections.Counter:
  """How often each kind claims what; each claim must be right."""
  found = collections.Counter()
  for document in documents:
    kind, is_true = _judge(document)
    end = re.search(r"\n(?:all )?(true|false)$", document)
    assert is_true == (end is None or end[1] == "true"), document
    found[kind, end and end[1]] += 1
  return found


def test_truth_values_are_right_and_other_statements_true(documents):
  found = _check([d for d in documents if "z" not in d])
  expected = itertools.product(
    ("statements", "equations", "expressions", "plain"), ("true", "false", None)
  )
  assert set(found) == {*expected, ("inverses", None)}
  assert min(found.values()) > 30, found


def test_truth_values_of_pairs_are_right(documents):
  found = _check([d for d in documents if "z" in d])
  assert found["equations", "true"] > 30 and found["equations", "false"] > 30


def test_statements_and_passages_are_judged_both_ways_about_equally(documents):
  for word in ("", "all "):
    ends = [d.rsplit("\n", 1)[-1] for d in documents]
    true, false = ends.count(f"{word}true"), ends.count(f"{word}false")
    assert true > 50 and false > 50
    assert 0.4 < true / (true + false) < 0.6


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
