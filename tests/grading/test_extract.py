import gzip
import json
import time

import pytest

from mathft_jax import prompts
from mathft_jax.grading import extract, grader


@pytest.mark.parametrize(
  ("solution", "answer"),
  [
    ("Half of 8.\n\n# Answer\n\n4", "4"),
    ("# Answer\n\n1\n\n# Answer\n\n2\n", "2"),
    ("We get \\boxed{3}.\n\n# Answer\n\n4", "4"),
    ("So.\n\n# Answer\n\n$\\boxed{7, 8}$", "7, 8"),
    ("So.\n\n# Answer\n\n4\n\n# Problem\n\nAnother one", "4"),
    ("\\boxed{3}\n\n# Answer\n\n", "3"),
    ("# Answers are nice", None),
    ("First \\boxed{1}, then \\fbox{\\frac{1}{2}}.", "\\frac{1}{2}"),
    ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
    ("\\boxed{1} and \\boxed{2 + {3", "1"),
    ("{ \\boxed{5}", "5"),
    ("\\boxed {6}", "6"),
    ("\\boxed 2$", "2"),
    ("\\boxed{1} or \\boxed{}", "1"),
    ("The answer is $\\boxed{}$.", None),
    ("So the answer is $3.5$, as asked.", "3.5"),
    ("The final answer is: \\(\\frac{1}{2}\\).", "\\frac{1}{2}"),
    ("**Answer:** 3.25 apples. Done.", "3.25 apples"),
    ("48 + 24 = 72\n#### 72", "72"),
    ("#### Case 4: nothing", None),
    ("The answer is 3. No, the answer is 4.", "4"),
    ("The answer is $3$ and $5$.", "$3$ and $5$"),
    ("Answer: $x=2$, $y=3$", "$x=2$, $y=3$"),
    ("The answer is $3$ because of that.", "3"),
    ("The answers are 3 and 5.", "3 and 5"),
    ("The answer would be 5.", "5"),
    ("## Answer\n\n5", "5"),
    ("# answer\n5", "5"),
    ("So.\n\n**Answer**\n5", "5"),
    ("Nothing was found", None),
    ("", None),
  ],
)
def test_last_statement_of_the_strongest_kind_wins(solution, answer):
  assert extract.extract_answer(solution) == answer


@pytest.mark.parametrize(
  ("solution", "answer"),
  [
    ("She makes $9 * 2 = 18 a day.", "18"),
    ("so 40,000 + 50,000 = $<<1+2=130000>>130,000.50.", "130000.50"),
    ("The profit is \\$1{,}234.", "1234"),
    ("He is left with -$5.", "-5"),
    ("He is left with $-5 now", "-5"),
    ("That leaves 16-7", "7"),
    ("There are **12** eggs for 3 people.\nWell done!", "12"),
    ("There are **12** eggs for 3 people.\nSo 4 each.", "4"),
    ("Each gets 3/4 of it.", "3/4"),
    ("Each gets $\\frac{3}{4}$ of it.", "3/4"),
    ("About 25% of them", "25"),
    ("It weighs .5 kg", ".5"),
    ("Numbers 1, 2, 3", "3"),
    ("So 12,34", "34"),
    ("It took 3 1/2 hours", "3 1/2"),
    ("It took 3\\frac{1}{2} hours", "3 1/2"),
    ("Each gets \\frac12 of it", "1/2"),
    ("It is –7 degrees", "-7"),
    ("There are 1 000 000 of them", "1000000"),
    ("About 1e5 of them", "1e5"),
    ("The answer is 7. I checked it 2 times.", "7"),
    ("\\boxed{7} as 3 + 4 = 7 and 4 + 3 = 7 (2 ways)", "7"),
    ("No number, but x2 and A4", None),
    ("", None),
  ],
)
def test_the_last_number_is_a_last_resort(solution, answer):
  assert extract.extract_answer(solution, takes_last_number=True) == answer


def test_last_numbers_of_real_solutions_are_judged_as_their_authors_did(
  shared_dir,
):
  folder = shared_dir / "data" / "gsm8k"
  num_solutions, wrong = 0, []
  with gzip.open(folder / "example_model_solutions.jsonl.gz", "rt") as lines:
    for row in map(json.loads, lines):
      # "A: 70000" ends the reference and most solutions, but not all.
      reference = row["ground_truth"].rpartition("A: ")[2].strip()
      for model in ("6b_finetuning", "175b_verification"):
        answer = extract.extract_answer(row[model]["solution"], True)
        num_solutions += 1
        if (
          grader.is_equivalent(reference, answer or "")
          != row[model]["is_correct"]
        ):
          wrong.append((reference, row[model]))
  assert num_solutions == 2_638
  assert wrong == []


def test_generator_targets_yield_their_answer():
  targets = prompts.generator_targets("12 * 2 = 24", "24")
  assert extract.extract_answer(targets) == "24"


@pytest.mark.parametrize(
  "unit",
  [
    "\\",
    "{",
    "}",
    "\\boxed{",
    "# Answer\n",
    "answer is ",
    "\n",
    "#",
    "1",
    "1,",
    "1/",
    "$-",
    "*",
    "**1",
  ],
)
def test_a_megabyte_of_anything_takes_a_second_at_most(unit):
  text = unit * (1_000_000 // len(unit))
  start = time.process_time()  # A busy machine is no fault of the extractor.
  extract.extract_answer(text, takes_last_number=True)
  assert time.process_time() - start < 1.5


def test_boxes_of_all_real_solutions_are_found(shared_dir):
  folder = shared_dir / "data" / "math"
  answers = {}
  with gzip.open(folder / "lightman_split.jsonl.gz", "rt") as lines:
    for row in map(json.loads, lines):
      answers[row["unique_id"]] = row["answer"].strip()
  num_rows = 0
  for name in ("math_train.jsonl.gz", "math_test.jsonl.gz"):
    with gzip.open(folder / name, "rt") as lines:
      for row in map(json.loads, lines):
        found = extract.extract_answer(row["solution"])
        assert (found or "") == answers[row["unique_id"]], row["unique_id"]
        num_rows += 1
  assert num_rows == 12_500
