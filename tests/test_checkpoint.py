"""Tests of mathft_jax.checkpoint beyond those of the training loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mathft_jax import checkpoint
from mathft_jax.training import state as train_state


def _state(step: int) -> train_state.TrainState:
  params = {"w": jnp.full((4, 2), float(step)), "b": {"c": jnp.arange(3)}}
  return train_state.TrainState(jnp.asarray(step), params, ())


def _abstract(**changes):
  shapes = {"w": (4, 2), **changes}
  abstract = {k: jax.ShapeDtypeStruct(s, np.float32) for k, s in shapes.items()}
  return {**abstract, "b": {"c": jax.ShapeDtypeStruct((3,), np.int32)}}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  path = tmp_path_factory.mktemp("run") / "checkpoints"
  with checkpoint.Checkpointer(path, keep_last=3) as checkpointer:
    for step, score in ((1, 0.2), (2, 0.5), (3, 0.4)):
      metrics = {checkpoint.BEST: score, "other": 1.0}
      checkpointer.save(_state(step), {"num_batches": step}, metrics)
  return path


@pytest.mark.parametrize(("step", "expected"), [(None, 2), (1, 1), (3, 3)])
def test_parameters_are_those_of_the_best_step_or_of_the_one_asked_for(
  directory, step, expected
):
  params = checkpoint.restore_params(directory, _abstract(), step)
  jax.tree.map(np.testing.assert_array_equal, params, _state(expected).params)


def test_the_state_comes_back_with_the_streams(directory):
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), _state(0)
  )
  with checkpoint.Checkpointer(directory, keep_last=3) as checkpointer:
    state, stream = checkpointer.restore_latest(abstract)
  jax.tree.map(np.testing.assert_array_equal, state, _state(3))
  assert stream == {"num_batches": 3}


def test_an_empty_directory_has_nothing_to_restore(tmp_path):
  with checkpoint.Checkpointer(tmp_path / "new") as checkpointer:
    assert checkpointer.restore_latest(_state(0)) is None
    assert checkpointer.best() is None


@pytest.mark.parametrize(
  ("abstract", "message"),
  [
    (_abstract(w=(4, 3)), r"\['w'\] is \(4, 2\), not \(4, 3\)"),
    (_abstract(v=(1,)), r"\['v'\] is missing, not \(1,\)"),
    ({"w": _abstract()["w"]}, r"\['b'\]\['c'\] is \(3,\), not there"),
  ],
)
def test_parameters_that_do_not_fit_are_named(directory, abstract, message):
  with pytest.raises(ValueError, match=message):
    checkpoint.restore_params(directory, abstract)


def test_missing_checkpoints_are_named(directory, tmp_path):
  with pytest.raises(FileNotFoundError, match="train that stage first"):
    checkpoint.restore_params(tmp_path / "none", _abstract())
  with pytest.raises(FileNotFoundError, match="no finished checkpoint"):
    checkpoint.restore_params(tmp_path, _abstract())
  with pytest.raises(FileNotFoundError, match=r"step 7 .* \[1, 2, 3\]"):
    checkpoint.restore_params(directory, _abstract(), 7)


def test_two_checkpoints_are_kept_so_that_one_can_be_damaged(tmp_path):
  with checkpoint.Checkpointer(tmp_path) as checkpointer:
    for step in (1, 2, 3):  # The newest is the best, too.
      checkpointer.save(_state(step), {}, {checkpoint.BEST: step / 4})
  assert checkpoint.saved_steps(tmp_path) == [2, 3]
