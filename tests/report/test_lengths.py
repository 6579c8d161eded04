"""Tests of mathft_jax.report.lengths."""

import numpy as np
import pytest

from mathft_jax.report import lengths


def _lengths(values, **limits) -> lengths.Lengths:
  return lengths.Lengths({"inputs": np.array(values)}, limits)


def _bars(values) -> list[tuple[str, int]]:
  *_, text = "\n".join(lengths.text(_lengths(values))).partition("examples\n")
  rows = [line.partition(" | ") for line in text.splitlines()]
  return [(label.strip(), int(bar.split()[-1])) for label, _, bar in rows]


def test_shares_are_lengths_that_so_many_examples_do_not_exceed():
  table = list(lengths.text(_lengths(range(1, 201))))[:2]
  assert table[0].split() == [
    *("tokens", "mean"), *("50", "%", "90", "%", "95", "%", "99", "%"), "max",
  ]  # fmt: skip
  assert table[1].split() == [
    *("inputs", "100.5", "100", "180", "190", "198", "200"),
  ]


def test_bins_are_round_and_hold_every_example():
  rng = np.random.default_rng(0)
  values = rng.integers(40, 250, 1000)
  bars = _bars(values)
  assert 6 <= len(bars) <= 12
  assert sum(count for _, count in bars) == 1000
  for label, count in bars:
    low, high = map(int, label.split(" - "))
    assert low % 20 == 0 and high in (low + 19, values.max())
    assert count == np.sum((values >= low) & (values <= high))


def test_a_few_long_examples_share_the_last_bin():
  bars = _bars([1, 2, 2, 3] * 100 + [5_000])
  assert bars == [("1", 100), ("2", 200), ("3 - 5,000", 101)]


def test_one_length_is_one_bin():
  assert _bars([7, 7]) == [("7", 2)]


def test_examples_are_left_out_for_any_of_their_features():
  found = lengths.Lengths(
    {"inputs": np.array([1, 9, 9, 1]), "targets": np.array([9, 9, 1, 1])},
    {"inputs": 8, "targets": 8},
  )
  assert found.num_left_out() == 3
  assert found.num_too_long("inputs") == 2
  assert _lengths([1, 2]).num_left_out() == 0


def test_the_page_shows_text_as_text_and_is_the_same_every_time(tmp_path):
  pages = []
  for name in ("a.html", "b.html"):
    lengths.write(_lengths([1, 5, 9], inputs=8), "<b> & co", tmp_path / name)
    pages.append((tmp_path / name).read_text("utf-8"))
  assert pages[0] == pages[1]
  assert "<b>" not in pages[0]
  assert "<title>&lt;b&gt; &amp; co</title>" in pages[0]
  assert "1 (33.3%) above 8" in pages[0]


def test_another_suffix_is_an_error(tmp_path):
  with pytest.raises(ValueError, match="end in .html, .png, .svg"):
    lengths.write(_lengths([1]), "t", tmp_path / "a.gif")
