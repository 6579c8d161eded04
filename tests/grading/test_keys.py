"""Equal keys are the same answer, different decisive keys are not."""

import collections
import itertools
import json
import pathlib
import random

import pytest

from mathft_jax.grading import grader, keys

_CASES = pathlib.Path(__file__).parent / "cases"


@pytest.mark.parametrize(
  ("first", "second"),
  [
    ("1/2", "0.5"),
    ("$\\frac{2}{4}$", "\\dfrac12"),
    ("x + y", "y+x"),
    ("2, 3", "3 and 2"),
    ("{2, 3}", "\\{3, 2\\}"),
    ("The answer is 7.", "7"),
    ("\\text{Friday}", "friday"),
    ("2 + 3", "5"),
  ],
)
def test_the_same_answer_in_other_forms_has_one_key(first, second):
  assert keys.key(first).value == keys.key(second).value


@pytest.mark.parametrize(
  ("first", "second"),
  [
    ("9:05, 10:15", "10:15, 9:05"),
    ("0.09\\cdot(2004!)^{-1}", "(2004!)^{-1}\\cdot0.09"),
  ],
)
def test_answers_with_one_key_are_the_same(first, second):
  assert keys.key(first).value == keys.key(second).value
  assert grader.is_same(first, second)


@pytest.mark.parametrize(
  "form",
  [
    "x>1 \\text{{ {} }} x<3",
    "\\{{x|x>1\\}} \\text{{ {} }} \\{{x|x<3\\}}",
    "(0,1)\\cup(2,3) \\text{{ {} }} (0,5)\\cap(1,9)",
    "\\mathbb{{R}}\\setminus\\{{1\\}} \\text{{ {} }} x > 3",
  ],
)
def test_and_and_or_join_sets_in_different_ways(form):
  assert keys.key(form.format("and")) != keys.key(form.format("or"))


def test_long_texts_leave_nothing_behind():
  before = keys._of_short.cache_info().currsize
  assert keys.key("7" * 5_000).value == "7" * 5_000
  assert keys._of_short.cache_info().currsize == before


def test_numbers_points_and_unread_texts_decide_by_their_key():
  for answer in ("0.25", "1/2", "(1, -2.5)", "five", "(3)(", "not (yet"):
    assert keys.key(answer).is_decisive
  for answer in ("25%", "3 cm", "x", "1, 2", "10_2", "[2, 2]", "no"):
    assert not keys.key(answer).is_decisive


def test_decisive_keys_agree_with_the_grader_on_unlike_answers():
  """Answers to different problems: those that nobody put beside each other."""
  decisive = {}
  for path in sorted(_CASES.glob("*.jsonl")):
    for line in path.read_text(encoding="utf-8").split("\n"):
      if line:
        answer = json.loads(line)["candidate"]
        found = keys.key(answer)
        if found.is_decisive:
          decisive.setdefault(found.value, answer)
  answers = random.Random(0).sample(sorted(decisive.values()), 150)
  for first, second in itertools.combinations(answers, 2):
    assert not grader.is_same(first, second), (first, second)


def test_keys_agree_with_the_grader_on_all_cases():
  """On all pairs of forms of one answer, most of them near misses."""
  forms = collections.defaultdict(set)
  for path in sorted(_CASES.glob("*.jsonl")):
    for line in path.read_text(encoding="utf-8").split("\n"):
      if line:
        row = json.loads(line)
        forms[row["reference"]] |= {row["reference"], row["candidate"]}
  num_equal = num_decided = 0
  for answers in forms.values():
    for first, second in itertools.combinations(sorted(answers), 2):
      a, b = keys.key(first), keys.key(second)
      if a.value == b.value:
        num_equal += 1
        assert grader.is_same(first, second), (first, second)
      elif a.is_decisive and b.is_decisive:
        num_decided += 1
        assert not grader.is_same(first, second), (first, second)
  assert num_equal > 2_000 and num_decided > 500
