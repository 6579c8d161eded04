"""Registers the generator tasks on PRM800K and their mixture with MATH."""

# The mixture names its task.
from mathft_jax.tasks import (  # pyright: ignore[reportMissingImports]
  hendrycks_math,  # noqa: F401
)

from mathft_jax.data import few_shot, prepared, registration

registration.add_generator_task(
  "prm800k_generate",
  source=prepared.solved_problems("prm800k"),
  vocabulary_name="math_2k",
)
registration.add_mixture(
  "math_prm800k_generate", ["math_generate", "prm800k_generate"]
)

# MATH's problems after shots in PRM800K's style (§5.1).
registration.add_generator_task(
  "math_4shot_prm800k_generate",
  source=prepared.solved_problems("math"),
  vocabulary_name="math_2k",
  shots=few_shot.Shots("prm800k", problems_source="math"),
)
