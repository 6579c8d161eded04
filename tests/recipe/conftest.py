"""One finished run of a tiny recipe."""

import pathlib

import gin
import pytest

_TINY = pathlib.Path(__file__).parent / "tiny.gin"


@pytest.fixture(autouse=True)
def no_configuration_is_left():
  yield
  gin.clear_config()


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
  """The directory of a run of tiny.gin that nobody interrupted."""
  from mathft_jax.cli import recipe

  directory = tmp_path_factory.mktemp("runs") / "tiny"
  flags = [f"--gin_file={_TINY}", f"--gin.MODEL_DIR='{directory}'"]
  assert recipe.main(flags) == 0
  return directory
