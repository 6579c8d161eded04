"""Tests of mathft_jax.prompts against the texts of the paper and of PRM800K."""

from mathft_jax import prompts


def test_the_evaluators_prompt_is_the_papers_to_the_letter():
  assert prompts.evaluator_inputs("What is 1 + 1?", "It is 2.\n\n2") == (
    "Here is a math problem: What is 1 + 1?. Here is a candidate solution:"
    " It is 2.\n\n2. The above candidate solution is "
  )
  assert (prompts.CORRECT, prompts.INCORRECT) == ("correct", "incorrect")


def test_the_generators_texts_end_in_the_answer_section_of_prm800k():
  assert prompts.generator_inputs("P?") == "# Problem\n\nP?\n\n# Solution\n\n"
  assert prompts.generator_targets("S.", "4") == "S.\n\n# Answer\n\n4"
