import pytest

from mathft_jax.planning import search


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 100])
@pytest.mark.parametrize("start", [1, 2, 5, 64])
def test_the_largest_that_fits_is_found_from_below_and_from_above(limit, start):
  found = search.largest_that_fits(lambda n: n <= limit, start, 100)
  assert found[:2] == (limit, limit + 1)


def test_trials_are_bounded_and_what_is_known_is_not_tried():
  tried = []

  def fits(number):
    tried.append(number)
    return number <= 100

  found = search.largest_that_fits(fits, 4, 3, known=True)
  assert tried == [8, 16, 32]
  assert found == (32, None, 3)
  tried.clear()
  found = search.largest_that_fits(fits, 64, 2, known=True)
  assert tried == [128, 96]
  assert found == (96, 128, 2)
  assert search.largest_that_fits(fits, 5, 0, known=False) == (None, 5, 0)


def test_where_nothing_fits_there_is_no_largest():
  found = search.largest_that_fits(lambda n: False, 8, 100)
  assert found == (None, 1, 4)


def test_a_start_of_nothing_is_an_error():
  with pytest.raises(ValueError, match="from 1 unit or more, not 0"):
    search.largest_that_fits(lambda n: True, 0, 3)
