"""Tests of mathft_jax.sources.splits."""

import collections
import hashlib
import itertools

import hypothesis
import pytest
from hypothesis import strategies

from mathft_jax.records import Problem, SolvedProblem
from mathft_jax.sources import splits

_LONG = " ".join(
  f"word{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(40)
)


def _row(problem_id: str, text: str, split: str) -> SolvedProblem:
  return SolvedProblem(Problem(problem_id, text, "1"), "s", "me", split)


def _kinds(leaks):
  return [(k.problem_id, k.other_id, k.kind, k.is_dropped) for k in leaks]


def test_splits_depend_on_the_id_alone():
  def independent(problem_id: str) -> float:
    digest = hashlib.sha256(f"0:{problem_id}".encode()).hexdigest()
    return int(digest[:16], 16) / 16**16

  ids = [f"train/algebra/{i}.json" for i in range(2000)]
  shares = [independent(i) for i in ids]
  assert [splits.hash_share(i) for i in ids] == shares
  assert [splits.train_or_validation(i) == "validation" for i in ids] == [
    share < 0.0838 for share in shares
  ]


def test_three_way_split_agrees_with_validation_and_has_all_three():
  ids = [str(i) for i in range(3000)]
  by_id = {i: splits.three_way(i) for i in ids}
  assert set(by_id.values()) == set(splits.SPLITS)
  for problem_id, split in by_id.items():
    if split != "test":
      assert split == splits.train_or_validation(problem_id)


def test_exact_normalized_and_near_duplicates_leave_train():
  near = _LONG.replace("wordba", "other")  # One of 40 words, in 13 of 28 runs.
  nearer = _LONG.replace("wordaa", "other")  # In one run of 28 only.
  rows = [
    _row("test", _LONG, "test"),
    _row("val", "What is $x$?", "validation"),
    _row("exact", _LONG, "train"),
    _row("normalized", _LONG.upper().replace(" ", "  "), "train"),
    _row("near", nearer, "train"),
    _row("not near", near, "train"),
    _row("short", "what is\n\\(X\\)", "train"),
    _row("other", "What is $y$?", "train"),
  ]
  kept, leaks = splits.without_leaks(rows)
  assert _kinds(leaks) == [
    ("exact", "test", "exact", True),
    ("normalized", "test", "normalized", True),
    ("near", "test", "13-gram", True),
    ("short", "val", "normalized", True),
  ]
  assert leaks[2].share == 27 / 28
  ids = {s: {r.problem.problem_id for r in rows} for s, rows in kept.items()}
  assert ids == {
    "train": {"not near", "other"},
    "validation": {"val"},
    "test": {"test"},
  }


def test_validation_loses_test_problems_but_keeps_similar_ones():
  rows = [
    _row("test", _LONG, "test"),
    _row("same", _LONG, "validation"),
    _row("similar", _LONG.replace("wordaa", "other"), "validation"),
  ]
  kept, leaks = splits.without_leaks(rows)
  assert [r.problem.problem_id for r in kept["validation"]] == ["similar"]
  assert _kinds(leaks) == [
    ("same", "test", "exact", True),
    ("similar", "test", "13-gram", False),
  ]


def test_every_solution_of_a_leaked_problem_is_dropped():
  rows = [_row("a", _LONG, "train"), _row("a", _LONG, "train")]
  kept, leaks = splits.without_leaks(rows, [_row("b", _LONG, "test")])
  assert kept == {"train": [], "validation": [], "test": []}
  assert len(leaks) == 1


def test_a_planted_leak_by_id_is_found_whatever_the_text():
  rows = [_row("a", "one", "train"), _row("a", "one", "train")]
  kept, leaks = splits.without_leaks(rows, [_row("a", "two", "test")])
  assert _kinds(leaks) == [("a", "a", "id", True)]
  assert leaks[0].num_rows == 2
  assert not kept["train"]


def test_an_id_of_two_problems_in_one_source_is_an_error():
  rows = [_row("a", "one", "train"), _row("a", "two", "test")]
  with pytest.raises(
    ValueError, match="'a' stands for two problems, 'one' and"
  ):
    splits.without_leaks(rows)
  same = [_row("a", "One!", "train"), _row("a", "one", "train")]
  assert len(splits.without_leaks(same)[0]["train"]) == 2


@pytest.mark.parametrize("order", [1, -1])
def test_ids_that_two_held_out_sources_share_hide_no_text(order):
  held_out = [_row("1", _LONG, "test"), _row("1", "two", "test")][::order]
  rows = [_row("77", "two", "train"), _row("78", _LONG, "train")]
  kept, leaks = splits.without_leaks(rows, held_out)
  assert not kept["train"]
  assert {k.kind for k in leaks} == {"exact"}


def test_the_check_at_the_start_of_a_run_tells_ids_from_texts():
  training = [("a", "one"), ("b", "two")]
  splits.check_no_leak(training, [("c", "three")])
  for held_out in ([("c", "Two.")], [("d", "four"), ("c", "two")]):
    with pytest.raises(ValueError, match="problem b .* held out as c"):
      splits.check_no_leak(training, held_out)
  with pytest.raises(ValueError, match="'one' here, 'three' there"):
    splits.check_no_leak(training, [("a", "three")])


_TEXTS = [
  _LONG,
  _LONG.upper(),
  _LONG.replace("wordaa", "other"),
  "x",
  "y",
  "X!",
]
_ROWS = strategies.builds(
  _row,
  strategies.sampled_from("abcdef"),
  strategies.sampled_from(_TEXTS),
  strategies.sampled_from(splits.SPLITS),
)
_HELD_OUT = strategies.builds(
  _row,
  strategies.sampled_from("abcdef"),
  strategies.sampled_from(_TEXTS),
  strategies.sampled_from(splits.SPLITS[1:]),
)


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(
  strategies.lists(_ROWS, max_size=8), strategies.lists(_HELD_OUT, max_size=5)
)
def test_no_problem_is_in_two_splits_whatever_is_given(rows, held_out):
  """By brute force: ids and folded texts, among the rows and against others."""
  try:
    kept, leaks = splits.without_leaks(rows, held_out)
  except ValueError:
    by_id = collections.defaultdict(set)
    for row in rows:
      by_id[row.problem.problem_id].add(tuple(splits.words(row.problem.text)))
    assert max(map(len, by_id.values())) > 1
    return
  after = {
    "train": ["validation", "test"],
    "validation": ["test"],
    "test": [],
  }
  for split, later in after.items():
    others = [
      *(row for name in later for row in kept[name]),
      *(row for row in held_out if row.split in later),
    ]
    for row, other in itertools.product(kept[split], others):
      assert row.problem.problem_id != other.problem.problem_id
      assert splits.words(row.problem.text) != splits.words(other.problem.text)
  dropped = sum(leak.num_rows for leak in leaks if leak.is_dropped)
  assert sum(map(len, kept.values())) + dropped == len(rows)


def test_ngrams_of_a_text_that_is_too_short_are_the_text():
  assert splits.ngrams(["a", "b"], n=3) == {("a", "b")}
  assert splits.ngrams(["a", "b", "c", "d"], n=3) == {
    ("a", "b", "c"),
    ("b", "c", "d"),
  }
