"""Tests of mathft_jax.data.indexed."""

import collections

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from mathft_jax.data import indexed, tokenized

_LENGTH = 12
_thorough = hypothesis.settings(deadline=None, max_examples=50)


def _examples(num_examples: int, first_token: int) -> tokenized.Examples:
  """Example i is its own token, first_token + i, one to seven times."""
  tokens = np.arange(first_token, first_token + num_examples, dtype=np.int32)
  lengths = 1 + tokens % 7
  feature = tokenized.Feature(np.repeat(tokens, lengths), lengths)
  nothing = tokenized.Feature(tokens[:0], np.zeros_like(lengths))
  return tokenized.join(nothing, feature)


def _task(
  num_examples: int,
  first_token: int = 1,
  *,
  pack: bool = True,
  seed: int | None = 0,
) -> indexed.TaskRows:
  return indexed.TaskRows(
    f"task_{first_token}",
    _examples(num_examples, first_token),
    np.arange(num_examples),
    tokenized.Layout(_LENGTH, pack=pack),
    seed,
  )


def _counts(batch: indexed.Batch) -> collections.Counter:
  """Returns how often each example is in a batch, by its token."""
  starts = batch["decoder_positions"] == 0
  is_token = batch["decoder_target_tokens"] != 0
  return collections.Counter(
    batch["decoder_target_tokens"][starts & is_token].tolist()
  )


def _assert_same(one: indexed.Batch, other: indexed.Batch) -> None:
  assert set(one) == set(other)
  for name in one:
    np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_each_epoch_has_each_example_once_in_another_order():
  task = _task(50)
  epochs = [
    task.read(e * task.num_rows, (e + 1) * task.num_rows) for e in range(3)
  ]
  for epoch in epochs:
    assert _counts(epoch) == dict.fromkeys(range(1, 51), 1)
  orders = {epoch["decoder_target_tokens"].tobytes() for epoch in epochs}
  assert len(orders) == 3


def test_without_a_seed_each_epoch_is_the_same():
  task = _task(50, pack=False, seed=None)
  tokens = task.read(0, 100)["decoder_target_tokens"][:, 0]
  assert tokens.tolist() == [*range(1, 51)] * 2


def test_examples_that_are_not_chosen_do_not_come():
  task = indexed.TaskRows(
    "task", _examples(9, 1), np.array([1, 4, 5]), tokenized.Layout(_LENGTH), 0
  )
  assert _counts(task.read(0, task.num_rows)) == {2: 1, 5: 1, 6: 1}


@_thorough
@hypothesis.given(
  pack=strategies.booleans(),
  seed=strategies.sampled_from([None, 0, 7]),
  rates=strategies.sampled_from([None, (1.0, 1.0), (0.1, 20.0), (30.0, 11.0)]),
  start=strategies.integers(0, 60),
  size=strategies.integers(1, 40),
)
def test_rows_are_the_same_wherever_reading_starts(
  pack, seed, rates, start, size
):
  def rows() -> indexed.MixedRows:
    tasks = [
      _task(30, pack=pack, seed=seed),
      _task(11, 100, pack=pack, seed=seed),
    ]
    return indexed.MixedRows(tasks, 3, rates=rates, num_epochs=9)

  from_the_start = rows().read(0, start + size)
  _assert_same(
    rows().read(start, start + size),
    {name: values[start:] for name, values in from_the_start.items()},
  )


@_thorough
@hypothesis.given(
  sizes=strategies.lists(strategies.integers(1, 40), min_size=1, max_size=3),
  num_epochs=strategies.integers(1, 3),
)
def test_finite_rows_have_each_example_once_an_epoch(sizes, num_epochs):
  tasks = [_task(size, 1 + 100 * i) for i, size in enumerate(sizes)]
  rows = indexed.MixedRows(tasks, 0, num_epochs=num_epochs)
  counts = _counts(rows.read(0, rows.num_rows))
  assert len(counts) == sum(sizes)
  assert set(counts.values()) == {num_epochs}


def test_rates_in_proportion_to_sizes_give_whole_epochs():
  sizes = (60, 12)
  tasks = [_task(size, 1 + 100 * i) for i, size in enumerate(sizes)]
  rows = indexed.MixedRows(tasks, 0, rates=[float(size) for size in sizes])
  epoch = sum(task.num_rows for task in tasks)
  num_epochs = -(-1024 // epoch)
  counts = _counts(rows.read(0, num_epochs * epoch))
  assert set(counts.values()) == {num_epochs}


@pytest.mark.parametrize("pack", [False, True])
def test_rates_are_shares_of_examples_not_of_rows(pack):
  # The second task's examples are longer, so it has more rows an example.
  short = tokenized.Feature(np.repeat(np.int32(1), 50), np.ones(50, np.int64))
  long = tokenized.Feature(
    np.repeat(np.int32(2), 300), np.full(50, 6, np.int64)
  )
  nothing = tokenized.Feature(np.zeros(0, np.int32), np.zeros(50, np.int64))
  tasks = [
    indexed.TaskRows(
      name,
      tokenized.join(nothing, feature),
      np.arange(50),
      tokenized.Layout(_LENGTH, pack=pack),
      0,
    )
    for name, feature in (("short", short), ("long", long))
  ]
  rows = indexed.MixedRows(tasks, 0, rates=[3.0, 1.0])
  batch = rows.read(0, 20_000)
  tokens = batch["decoder_target_tokens"]
  num_short = (tokens == 1).sum()
  num_long = (tokens == 2).sum() / 6
  assert num_short / num_long == pytest.approx(3, rel=0.02)


def test_a_task_of_rate_0_does_not_come_and_one_of_a_small_rate_does():
  tasks = [_task(9, 1 + 100 * i) for i in range(3)]
  rows = indexed.MixedRows(tasks, 0, rates=[1.0, 0.0, 1e-9])
  tokens = rows.read(0, 3000)["decoder_target_tokens"][:, 0]
  assert (tokens < 100).sum() > 2990
  assert not ((tokens > 100) & (tokens < 200)).any()
  assert (tokens > 200).any()


def test_seeds_and_tasks_draw_differently():
  def order(first_token: int, seed: int) -> tuple[int, ...]:
    task = _task(30, first_token, pack=False, seed=seed)
    tokens = task.read(0, 30)["decoder_target_tokens"][:, 0]
    return tuple(tokens - first_token)

  assert order(1, 0) == order(1, 0)
  assert len({order(1, 0), order(1, 1), order(2, 0)}) == 3


def test_pairs_keep_together():
  pairs = np.repeat(np.arange(1, 31, dtype=np.int32), 2).reshape(-1, 2)
  one = np.ones(30, np.int64)
  examples = tokenized.join(
    tokenized.Feature(pairs, one), tokenized.Feature(pairs + 100, one)
  )
  task = indexed.TaskRows(
    "pairs",
    examples,
    np.arange(30),
    tokenized.Layout(_LENGTH, pack=False),
    seed=0,
  )
  tokens = task.read(0, 30)["decoder_target_tokens"]
  assert tokens.shape == (30, 2, _LENGTH)
  np.testing.assert_array_equal(tokens[:, 0], tokens[:, 1])
  assert sorted(tokens[:, 0, 0]) == [*range(1, 31)]


def test_what_a_seed_draws_stays_the_same_for_ever():
  # A run that was stopped before an upgrade goes on with the same examples.
  task = _task(10, pack=False, seed=5)
  tokens = task.read(0, 10)["decoder_target_tokens"][:, 0]
  assert tokens.tolist() == [4, 7, 10, 2, 9, 5, 6, 8, 3, 1]
  rows = indexed.MixedRows([_task(4), _task(4, 100)], 5, rates=[1.0, 1.0])
  tokens = rows.read(0, 12)["decoder_target_tokens"][:, 0]
  is_second = (tokens > 99).astype(int)
  assert is_second.tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 1, 1]
