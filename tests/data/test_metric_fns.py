"""Tests of mathft_jax.data.metric_fns."""

import math

import pytest

from mathft_jax import prompts
from mathft_jax.data import metric_fns


def test_a_target_is_its_reference_and_a_prediction_what_it_states():
  text = prompts.generator_targets("One and one.", "2")
  assert metric_fns.answer(text, example={"answer": b"3"}) == "2"
  example = {"answer": "é".encode()}
  assert metric_fns.answer("", example=example, is_target=True) == "é"
  assert metric_fns.answer("It stops in the mid") is None
  assert metric_fns.answer("It is 12.", takes_last_number=True) == "12"


def test_accuracy_grades_and_counts_a_missing_answer_as_wrong():
  targets = [r"\frac{1}{2}", "3", "4", "5"]
  predictions = ["0.5", "3", None, "6"]
  assert metric_fns.accuracy(targets, predictions) == {
    "accuracy": 0.5,
    "answered": 0.75,
  }


def test_accuracy_of_nothing_is_not_a_number():
  assert math.isnan(metric_fns.accuracy([], [])["accuracy"])


def test_a_target_without_its_reference_is_an_error():
  with pytest.raises(ValueError, match="'answer'"):
    metric_fns.answer("2", example={}, is_target=True)
