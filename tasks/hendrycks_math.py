"""Registers the generator tasks on MATH, without shots and with four."""

from mathft_jax.data import few_shot, prepared, registration

registration.add_generator_task(
  "math_generate",
  source=prepared.solved_problems("math"),
  vocabulary_name="math_2k",
)
registration.add_generator_task(
  "math_4shot_generate",
  source=prepared.solved_problems("math"),
  vocabulary_name="math_2k",
  shots=few_shot.Shots("math"),
)
