"""Registers the generator task on MATH."""

from mathft_jax.data import prepared, registration

registration.add_generator_task(
  "math_generate",
  source=prepared.solved_problems("math"),
  vocabulary_name="math_2k",
)
