"""Problems that the tests of inference share."""

import pytest

from mathft_jax import records
from mathft_jax.sources import arithmetic


@pytest.fixture(scope="session")
def problems() -> list[records.Problem]:
  rows = arithmetic.problems("test", "terse", num_problems=5)
  return [row.problem for row in rows]
