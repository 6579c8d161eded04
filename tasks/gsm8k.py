"""Registers the generator task on GSM8K."""

from mathft_jax.data import prepared, registration

registration.add_generator_task(
  "gsm8k_generate",
  source=prepared.solved_problems("gsm8k"),
  vocabulary_name="math_2k",
)
