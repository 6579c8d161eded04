"""Fixtures that several parts of the suite need."""

import os
import pathlib

import pytest

_BESIDE_THE_CHECKOUT = pathlib.Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> pathlib.Path:
  """The folder with real data: $MATHFT_SHARED, else ../shared.

  Skips the test, naming the folder that it looked for, where there is none.
  """
  folder = pathlib.Path(
    os.environ.get("MATHFT_SHARED", _BESIDE_THE_CHECKOUT)
  ).resolve()
  if not (folder / "data").is_dir():
    pytest.skip(
      f"no real data: {folder / 'data'} is not a folder; set MATHFT_SHARED to"
      " the folder that holds data/"
    )
  return folder
