"""The exact text that generators and evaluators see; nowhere else is any."""

from collections.abc import Sequence

# The heading of PRM800K's solutions (Figure 2 of the paper). Every source's
# targets end in it, so one extractor reads all outputs.
ANSWER_HEADING = "\n\n# Answer\n\n"

# The evaluator's two one-token targets.
CORRECT = "correct"
INCORRECT = "incorrect"


def generator_inputs(problem: str) -> str:
  """The prompt after which a generator writes its solution."""
  return f"# Problem\n\n{problem}\n\n# Solution\n\n"


def few_shot_inputs(shots: Sequence[tuple[str, str, str]], problem: str) -> str:
  """The prompt of a model that was not fine-tuned: solved problems before it.

  Each is (problem, solution, answer), and is written as generators are trained
  to write it.
  """
  solved = [
    generator_inputs(text) + generator_targets(solution, answer) + "\n\n"
    for text, solution, answer in shots
  ]
  return "".join(solved) + generator_inputs(problem)


def generator_targets(solution: str, answer: str) -> str:
  """What a generator is trained to write: solution and answer section."""
  return f"{solution}{ANSWER_HEADING}{answer}"


def evaluator_inputs(problem: str, solution: str) -> str:
  """T(P, X) of §3.2 of the paper, to the letter, its last blank included.

  The next word is `CORRECT` or `INCORRECT`.
  """
  return (
    f"Here is a math problem: {problem}. Here is a candidate solution:"
    f" {solution}. The above candidate solution is "
  )
