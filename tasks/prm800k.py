"""Registers the generator task on PRM800K and its mixture with MATH."""

# The mixture names its task.
from mathft_jax.tasks import (  # pyright: ignore[reportMissingImports]
  hendrycks_math,  # noqa: F401
)

from mathft_jax.data import prepared, registration

registration.add_generator_task(
  "prm800k_generate",
  source=prepared.solved_problems("prm800k"),
  vocabulary_name="math_2k",
)
registration.add_generator_mixture(
  "math_prm800k_generate", ["math_generate", "prm800k_generate"]
)
