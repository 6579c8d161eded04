"""Tests of mathft_jax.decoding.sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from mathft_jax.decoding import sampling

_NUM_DRAWS = 4000


def _probs(seed: int = 0, vocab_size: int = 50) -> np.ndarray:
  """Peaked, flat and tied distributions, [6, V]."""
  rng = np.random.default_rng(seed)
  rows = [
    *np.exp(rng.normal(size=(2, vocab_size)) * 4),
    np.exp(rng.normal(size=vocab_size) * 0.1),
    np.ones(vocab_size),
    rng.integers(0, 4, vocab_size) + 0.0,  # Many equals, and zeros.
    np.eye(vocab_size)[7],
  ]
  return np.array([row / row.sum() for row in rows]).astype(np.float32)


def _nucleus_by_sorting(probs: np.ndarray, p: float) -> np.ndarray:
  """The fewest most probable tokens that reach p, and equals of the last."""
  if p == 1.0:
    return probs > 0
  probs = probs.astype(np.float64)
  falling = np.sort(probs)[::-1]
  num_kept = np.searchsorted(np.cumsum(falling), p * (1 - 1e-6)) + 1
  num_kept = min(num_kept, np.count_nonzero(probs))
  return probs >= falling[num_kept - 1]


@pytest.mark.parametrize("p", [1e-6, 0.5, 0.95, 1.0])
def test_the_nucleus_is_that_of_sorting(p):
  probs = np.concatenate([_probs(seed) for seed in range(5)])
  expected = [_nucleus_by_sorting(row, p) for row in probs]
  found = sampling.nucleus_mask(jnp.asarray(probs), p)
  np.testing.assert_array_equal(found, expected)


def test_a_nucleus_of_1_keeps_the_tail_of_a_large_vocabulary():
  logits = np.random.default_rng(0).normal(size=(2, 50_000)) * 3
  probs = jax.nn.softmax(jnp.asarray(logits, jnp.float32))
  assert np.all(sampling.nucleus_mask(probs, 1.0))


def test_equals_are_in_the_nucleus_together():
  probs = jnp.array([[0.4, 0.2, 0.2, 0.2]])
  assert sampling.nucleus_mask(probs, 0.5).tolist() == [[True] * 4]
  assert sampling.nucleus_mask(probs, 0.4).tolist() == [
    [True, False, False, False]
  ]


def _softmax(logits: np.ndarray) -> np.ndarray:
  shares = np.exp(logits - logits.max())
  return shares / shares.sum()


_LOGITS = np.array([1.0, -0.5, 0.3, 2.0, -3.0, 1.0, 0.9])


def _truncated(temperature: float, kept: list[int]) -> np.ndarray:
  shares = _softmax(_LOGITS / temperature)
  shares[[i for i in range(len(shares)) if i not in kept]] = 0
  return shares / shares.sum()


_RULES = [
  (sampling.Temperature(), _softmax(_LOGITS)),
  (sampling.Temperature(0.5), _softmax(_LOGITS / 0.5)),
  (sampling.TopK(3, 0.7), _truncated(0.7, [3, 0, 5])),
  # Two tokens tie for the second place.
  (sampling.TopK(2, 2.0), _truncated(2.0, [3, 0, 5])),
  (sampling.TopK(100), _softmax(_LOGITS)),
  (sampling.Nucleus(1.0, 1.0), _softmax(_LOGITS)),
  (
    sampling.Nucleus(0.9, 0.6),
    _truncated(
      0.6, np.flatnonzero(_nucleus_by_sorting(_softmax(_LOGITS / 0.6), 0.9))
    ),
  ),
]


@pytest.mark.parametrize(("rule", "expected"), _RULES)
def test_draws_have_the_rules_distribution(rule, expected):
  logits = jnp.tile(jnp.asarray(_LOGITS, jnp.float32), (_NUM_DRAWS, 1))
  keys = jax.random.split(jax.random.key(1), _NUM_DRAWS)
  tokens = jax.jit(rule)(logits, keys)
  counts = np.bincount(tokens, minlength=len(_LOGITS))
  possible = expected > 0
  assert counts[~possible].sum() == 0
  test = scipy.stats.chisquare(
    counts[possible], expected[possible] * _NUM_DRAWS
  )
  assert test.pvalue > 1e-3


def test_greedy_takes_the_first_of_the_best():
  logits = jnp.array([[0.0, 2.0, 2.0], [5.0, -1.0, 4.0]])
  keys = jax.random.split(jax.random.key(0), 2)
  assert sampling.Greedy()(logits, keys).tolist() == [1, 0]


def test_a_rows_token_depends_on_its_own_key_and_logits_only():
  rng = np.random.default_rng(5)
  logits = jnp.asarray(rng.normal(size=(6, 20)), jnp.float32)
  keys = jax.random.split(jax.random.key(2), 6)
  rule = jax.jit(sampling.Nucleus())
  together = rule(logits, keys)
  order = np.array([3, 5, 0])
  assert rule(logits[order], keys[order]).tolist() == together[order].tolist()


def test_no_draw_has_probability_0_wherever_the_random_number_falls(
  monkeypatch,
):
  """Sums added up in parallel rise a little at some tokens of weight 0."""
  rng = np.random.default_rng(6)
  weights = rng.random(4096) * (rng.random(4096) < 0.1)
  probs = jnp.asarray(weights / weights.sum(), jnp.float32)[None]
  cumulative = np.asarray(jnp.cumsum(probs, axis=-1))[0]
  # Random numbers that fall on the sums themselves, and on both ends.
  numbers = np.unique(
    np.clip(cumulative / cumulative[-1] * 2**24, 0, 2**24 - 1)
  )
  numbers = numbers.astype(np.uint32)
  keys = jax.random.wrap_key_data(
    jnp.stack([jnp.zeros(len(numbers), jnp.uint32), numbers], axis=1)
  )
  monkeypatch.setattr(
    jax.random,
    "uniform",
    lambda key: jax.random.key_data(key)[1].astype(jnp.float32) * 2.0**-24,
  )
  tiled = jnp.tile(jnp.log(probs), (len(numbers), 1))
  tokens = np.asarray(sampling.Temperature()(tiled, keys))
  assert np.all(weights[tokens] > 0)
  assert len(np.unique(tokens)) > 0.9 * np.count_nonzero(weights)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: sampling.Temperature(0.0), "use Greedy"),
    (lambda: sampling.TopK(0), "k = 0"),
    (lambda: sampling.TopK(3, -1.0), "temperature is -1.0"),
    (lambda: sampling.Nucleus(0.0), "p is 0.0"),
    (lambda: sampling.Nucleus(1.1), "p is 1.1"),
  ],
)
def test_a_rule_that_cannot_draw_is_an_error(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_a_rule_describes_itself_in_plain_values():
  assert sampling.describe(sampling.Nucleus(0.9, 0.7)) == {
    "rule": "nucleus",
    "p": 0.9,
    "temperature": 0.7,
  }
  assert sampling.describe(sampling.Greedy()) == {"rule": "greedy"}
