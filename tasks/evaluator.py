"""Registers the evaluator tasks on graded candidates for MATH's problems."""

from mathft_jax.data import registration

registration.add_evaluator_tasks("math", vocabulary_name="math_2k")
