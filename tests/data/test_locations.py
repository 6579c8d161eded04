"""Tests of mathft_jax.data.locations."""

import pytest

from mathft_jax.data import locations


@pytest.fixture(autouse=True)
def nothing_bound(monkeypatch):
  monkeypatch.setattr(locations, "_bound", {})


def test_later_binds_add_and_replace(tmp_path):
  (tmp_path / "new").mkdir()
  locations.bind({"math": tmp_path / "old", "gsm8k": tmp_path})
  locations.bind({"math": str(tmp_path / "new")})
  assert locations.find("math") == tmp_path / "new"
  assert locations.find("gsm8k") == tmp_path


def test_an_unbound_source_is_an_error_that_says_what_to_write():
  with pytest.raises(ValueError, match='data = {"math": "/path/to/rows"}'):
    locations.find("math")


def test_a_directory_that_is_not_there_is_named(tmp_path):
  locations.bind({"math": tmp_path / "nowhere"})
  with pytest.raises(FileNotFoundError, match="nowhere"):
    locations.find("math")


def test_what_is_looked_for_is_watched_found_or_not(tmp_path):
  locations.bind({"watched_a": tmp_path})
  with locations.watched() as outer:
    locations.find("watched_a")
    with locations.watched() as inner, pytest.raises(ValueError):
      locations.find("watched_b")
  locations.find("watched_a")
  assert (outer, inner) == ({"watched_a", "watched_b"}, {"watched_b"})
