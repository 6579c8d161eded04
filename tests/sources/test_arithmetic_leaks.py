"""No held-out problem of the demo stands in the base model's text."""

import re

from mathft_jax.sources import arithmetic, arithmetic_text

_CONTENT = {
  # What a problem is about, without the words around it.
  "chain": re.compile(r"Compute (.*)\."),
  "linear": re.compile(r"Solve (.*)\."),
  "two numbers": re.compile(r"Find x and y with (.*) and (.*)\."),
  "fraction": re.compile(r"Compute (.*)\."),
}


def _contents(problem) -> list[str]:
  """The problem's content as a document might write it."""
  if problem.type == "remainder":
    return []  # Two conditions on n, or a sum: no document has either form.
  found = _CONTENT[problem.type].fullmatch(problem.text).groups()
  if problem.type == "linear":
    return [found[0].replace("x", "y")]
  if problem.type == "two numbers":
    text = ", ".join(found)
    return [text.replace("y", "z").replace("x", "y")]
  return [found[0]]


def test_documents_hold_no_held_out_problem():
  held_out = {
    content
    for split in ("validation", "test")
    for row in arithmetic.problems(split, "terse", num_problems=1000)
    for content in _contents(row.problem)
  }
  lines = set()
  for text in arithmetic_text.documents(seed=1, num_documents=60_000):
    lines.update(text.split("\n"))
  # An expression stands alone on a line or before " = ".
  starts = {line.rpartition(" = ")[0] for line in lines}
  assert not held_out & (lines | starts)


def test_documents_hold_no_held_out_problem_worked():
  held_out = {
    row.solution
    for split in ("validation", "test")
    for row in arithmetic.problems(split, "stepwise", num_problems=1000)
    if row.problem.type in ("chain", "linear", "two numbers")
  }
  for text in arithmetic_text.documents(seed=1, num_documents=60_000):
    steps = re.sub(r"(, |\nthen )", "\n", text).split("\n")
    if steps[-1].endswith(("true", "false")):
      steps.pop()
    assert "\n".join(steps) not in held_out, text
    assert "\n".join(steps[1:]) not in held_out, text


def test_documents_do_not_speak_as_problems_or_evaluators_do():
  words = re.compile(
    r"Compute|Solve|Find|remainder|correct|candidate|math problem|Answer"
  )
  for text in arithmetic_text.documents(seed=2, num_documents=5_000):
    assert not words.search(text)
