"""Registers the tasks on anyone's JSON Lines, and on self-generated ones."""

from mathft_jax.data import prepared, registration

_VOCABULARY = "math_2k"

for _source in ("json", "self_generated"):
  registration.add_generator_task(
    f"{_source}_generate",
    source=prepared.solved_problems(_source),
    vocabulary_name=_VOCABULARY,
  )

registration.add_evaluator_tasks("json", vocabulary_name=_VOCABULARY)
