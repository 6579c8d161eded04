"""SeqIO metric functions: generated text, through grading, to numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from mathft_jax.grading import extract, grader


def answer(
  text: str,
  example: Mapping[str, Any] | None = None,
  is_target: bool = False,
  takes_last_number: bool = False,
) -> str | None:
  """The `postprocess_fn` of generator tasks.

  For a target: the reference answer of its example. For a prediction: the
  answer that the solution states, None if it states none; with
  `takes_last_number` (a partial's) as `grading.extract` says.
  """
  if not is_target:
    return extract.extract_answer(text, takes_last_number)
  if example is None or "answer" not in example:
    raise ValueError("the example of a target has no feature 'answer'")
  reference = example["answer"]
  return reference.decode() if isinstance(reference, bytes) else str(reference)


def accuracy(
  targets: Sequence[str], predictions: Sequence[str | None]
) -> Mapping[str, float]:
  """The share of problems whose answer grades as correct, and with answer.

  Without problems both are NaN.
  """
  grades = [
    grader.grade(reference, prediction).is_correct
    for reference, prediction in zip(targets, predictions, strict=True)
  ]
  answered = [prediction is not None for prediction in predictions]
  return {"accuracy": _mean(grades), "answered": _mean(answered)}


def _mean(values: Sequence[bool]) -> float:
  return sum(values) / len(values) if values else float("nan")
