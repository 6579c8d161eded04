"""Tests of mathft_jax.decoding.sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from mathft_jax.decoding import sampling

_NUM_DRAWS = 4000


def _kept_by_sorting(
  probs: np.ndarray, k: int | None = None, p: float = 1.0, min_p: float = 0.0
) -> np.ndarray:
  """Which tokens of one row are kept, from the definitions, by sorting."""
  probs = probs.astype(np.float64)
  kept = probs > 0
  if k is not None:
    kept &= probs >= np.sort(probs)[::-1][min(k, len(probs)) - 1]
  if p < 1.0:
    falling = np.sort(np.where(kept, probs, 0.0))[::-1]
    masses = np.cumsum(falling)
    # The fewest that reach p, and equals of the last.
    num_kept = np.searchsorted(masses, p * masses[-1] * (1 - 1e-6)) + 1
    kept &= probs >= falling[min(num_kept, np.count_nonzero(kept)) - 1]
  return kept & (probs >= min_p * probs.max() * (1 - 1e-6))


def _softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
  shares = np.exp((logits - logits.max()) / temperature)
  return shares / shares.sum()


_RNG = np.random.default_rng(0)
# Seven tokens, of which two tie; several levels of blocks, of which the last
# has a gap, with words that are impossible.
_FEW_LOGITS = np.array([1.0, -0.5, 0.3, 2.0, -3.0, 1.0, 0.9])
_MANY_LOGITS = np.where(
  _RNG.random(1500) < 0.3, -np.inf, np.round(_RNG.normal(size=1500), 1)
)


@pytest.mark.parametrize(
  ("rule", "logits"),
  [
    (sampling.Temperature(0.5), _MANY_LOGITS),
    (sampling.TopK(3, 0.7), _FEW_LOGITS),
    # Two tokens tie for the second place.
    (sampling.TopK(2, 2.0), _FEW_LOGITS),
    (sampling.TopK(50), _MANY_LOGITS),
    (sampling.Nucleus(1.0, 1.0), _FEW_LOGITS),
    (sampling.Nucleus(0.9, 0.6), _FEW_LOGITS),
    (sampling.Nucleus(0.3, 2.0), _MANY_LOGITS),
    (sampling.MinP(0.2, 0.8), _FEW_LOGITS),
    (sampling.Truncated(k=4, p=0.7, temperature=0.9), _FEW_LOGITS),
    (sampling.Truncated(p=0.9, min_p=0.3, temperature=0.9), _FEW_LOGITS),
    (sampling.Truncated(k=60, p=0.9, min_p=0.3), _MANY_LOGITS),
  ],
)
def test_draws_have_the_rules_distribution(rule, logits):
  fields = sampling.describe(rule)
  temperature = fields.pop("temperature")
  del fields["rule"]
  expected = _softmax(logits, temperature)
  expected *= _kept_by_sorting(expected, **fields)
  expected /= expected.sum()

  tiled = jnp.tile(jnp.asarray(logits, jnp.float32), (_NUM_DRAWS, 1))
  keys = jax.random.split(jax.random.key(1), _NUM_DRAWS)
  counts = np.bincount(jax.jit(rule)(tiled, keys), minlength=len(logits))
  assert counts[expected == 0].sum() == 0
  # Tokens of few expected draws count together.
  order = np.argsort(expected)
  group = np.cumsum(expected[order] * _NUM_DRAWS) // 20
  counts = np.bincount(group.astype(int), counts[order])
  expected = np.bincount(group.astype(int), expected[order]) * _NUM_DRAWS
  counts, expected = counts[expected > 0], expected[expected > 0]
  assert scipy.stats.chisquare(counts, expected).pvalue > 1e-3


def _rows(vocab_size: int) -> np.ndarray:
  """Peaked, flat and tied distributions, and one token alone: [6, V]."""
  rng = np.random.default_rng(vocab_size)
  rows = [
    *np.exp(rng.normal(size=(2, vocab_size)) * 4),
    np.exp(rng.normal(size=vocab_size) * 0.1),
    np.ones(vocab_size),
    rng.integers(0, 4, vocab_size) + 0.0,  # Many equals, and zeros.
    np.eye(vocab_size)[7],
  ]
  return np.array([row / row.sum() for row in rows])


@pytest.mark.parametrize(
  "cuts",
  [
    {"p": 1e-6},
    {"p": 0.5},
    {"p": 0.9999},
    {"p": 1.0},
    {"k": 7},
    {"k": 1000},
    {"min_p": 0.2},
    {"k": 5, "p": 0.6},
    {"k": 8, "p": 0.95, "min_p": 0.3},
  ],
)
def test_what_can_be_drawn_is_what_sorting_keeps(cuts, monkeypatch):
  """Each token is proposed first, and has to be taken if it is kept."""
  vocab_size = 300
  probs = _rows(vocab_size)
  with np.errstate(divide="ignore"):
    logits = np.log(probs).astype(np.float32)
  expected = [_kept_by_sorting(_softmax(row), **cuts) for row in logits]

  proposals = jnp.tile(jnp.arange(vocab_size), len(probs))
  draw = sampling._Candidates.draw

  def draw_as_proposed(self, sums, keys, above):
    """The proposal, while it is a candidate at all."""
    chosen = sampling._at(self.logits, proposals)
    weight = self._weights(above)(chosen[:, None])[:, 0]
    return jnp.where(weight > 0, proposals, draw(self, sums, keys, above))

  monkeypatch.setattr(sampling._Candidates, "draw", draw_as_proposed)
  tiled = jnp.asarray(np.repeat(logits, vocab_size, axis=0))
  keys = jax.random.split(jax.random.key(0), len(tiled))
  tokens = jax.jit(sampling.Truncated(**cuts))(tiled, keys)
  found = (tokens == proposals).reshape(len(probs), vocab_size)
  np.testing.assert_array_equal(found, expected)
  # What was drawn instead is kept, too.
  drawn = np.asarray(tokens).reshape(len(probs), vocab_size)
  assert np.all(np.take_along_axis(np.array(expected), drawn, axis=1))


@pytest.mark.parametrize("p", [1e-6, 0.95])
def test_draws_of_a_large_vocabulary_are_in_the_nucleus_of_sorting(p):
  rng = np.random.default_rng(3)
  logits = np.round(rng.normal(size=(16, 128_256)) * 3, 3).astype(np.float32)
  keys = jax.random.split(jax.random.key(4), len(logits))
  tokens = jax.jit(sampling.Nucleus(p, 1.0))(logits, keys)
  for row, token in zip(logits, tokens, strict=True):
    assert _kept_by_sorting(_softmax(row.astype(np.float64)), p=p)[token]


def test_a_nucleus_of_1_draws_from_the_tail_of_a_large_vocabulary():
  logits = jnp.tile(jnp.zeros(200_000).at[0].set(9.0), (64, 1))
  keys = jax.random.split(jax.random.key(5), 64)
  tokens = np.asarray(jax.jit(sampling.Nucleus(1.0, 1.0))(logits, keys))
  # All but 4 % of the mass is in the tail, evenly.
  assert np.count_nonzero(tokens) > 50
  assert np.unique(tokens[tokens > 0] // 20_000).size > 8


def test_equals_are_in_the_nucleus_together():
  logits = jnp.tile(jnp.log(jnp.array([0.4, 0.2, 0.2, 0.2])), (200, 1))
  keys = jax.random.split(jax.random.key(0), 200)
  draw = jax.jit(sampling.Nucleus(0.5, 1.0))
  assert set(draw(logits, keys).tolist()) == {0, 1, 2, 3}


def test_the_nucleus_of_the_k_best_is_of_their_probability():
  """As Hugging Face has it: 0.5 is more than 0.6 of what top-k left."""
  logits = jnp.log(jnp.array([0.5, 0.2, 0.1, 0.1, 0.1]))
  logits = jnp.tile(logits, (200, 1))
  keys = jax.random.split(jax.random.key(0), 200)
  both = jax.jit(sampling.Truncated(k=2, p=0.6))(logits, keys)
  assert set(both.tolist()) == {0}
  alone = jax.jit(sampling.Nucleus(0.6, 1.0))(logits, keys)
  assert set(alone.tolist()) == {0, 1}


def test_greedy_takes_the_first_of_the_best():
  logits = jnp.array([[0.0, 2.0, 2.0], [5.0, -1.0, 4.0]])
  keys = jax.random.split(jax.random.key(0), 2)
  assert sampling.Greedy()(logits, keys).tolist() == [1, 0]


def test_a_rows_token_depends_on_its_own_key_and_logits_only():
  rng = np.random.default_rng(5)
  logits = jnp.asarray(rng.normal(size=(256, 5000)), jnp.float32)
  keys = jax.random.split(jax.random.key(2), 256)
  # Some rows need one round, others several.
  rule = jax.jit(sampling.Truncated(k=2000, p=0.5, min_p=0.02))
  together = np.asarray(rule(logits, keys))
  order = np.concatenate([[200, 7, 99], np.arange(5)])
  np.testing.assert_array_equal(
    rule(logits[order], keys[order]), together[order]
  )
  np.testing.assert_array_equal(rule(logits[:64], keys[:64]), together[:64])


def test_sums_have_the_same_bits_whatever_the_number_of_rows():
  rng = np.random.default_rng(6)
  logits = jnp.asarray(rng.normal(size=(256, 5000)), jnp.float32)

  @jax.jit
  def sums(logits):
    best = jnp.max(logits, axis=-1)
    none = jnp.full_like(best, -jnp.inf)
    sums = sampling._Candidates(logits, best, none, 0.6).sums(above=none)
    return *sums, sampling._total(sums)

  together = sums(logits)
  assert [level.shape[-1] for level in together[:-1]] == [313, 20]
  for rows in (1, 8, 64):
    for alone, level in zip(sums(logits[:rows]), together, strict=True):
      np.testing.assert_array_equal(alone, level[:rows])


@pytest.mark.parametrize("lowest", [0, 2**24 - 1, None])
def test_no_draw_has_probability_0_wherever_the_random_number_falls(
  lowest, monkeypatch
):
  """Random numbers on the sums themselves, at 0, and as near 1 as can be."""
  rng = np.random.default_rng(6)
  weights = rng.random(4096) * (rng.random(4096) < 0.1)
  logits = jnp.log(jnp.asarray(weights, jnp.float32))[None]
  # Where the last level's sums fall as shares of the total, and in between.
  shares = np.cumsum(weights.reshape(256, 16).sum(axis=0)) / weights.sum()
  falls = np.floor(shares * 2**24) + np.arange(-2, 3)[:, None]
  numbers = np.concatenate([rng.integers(0, 2**24, 2000), falls.ravel()])
  numbers = np.clip(numbers, 0, 2**24 - 1).astype(np.uint32)
  keys = jax.random.wrap_key_data(
    jnp.stack([jnp.zeros(len(numbers), jnp.uint32), numbers], axis=1)
  )

  def uniform(key, shape):
    # Another one for each level.
    odd = 2 * jnp.arange(shape[0], dtype=jnp.uint32) + 1
    numbers = (jax.random.key_data(key)[1] * odd) % 2**24
    if lowest is not None:  # Within the smallest block, one of the ends.
      numbers = numbers.at[0].set(lowest)
    return numbers.astype(jnp.float32) * 2.0**-24

  monkeypatch.setattr(jax.random, "uniform", uniform)
  tiled = jnp.tile(logits, (len(numbers), 1))
  tokens = np.asarray(jax.jit(sampling.Temperature())(tiled, keys))
  assert np.all(weights[tokens] > 0)
  assert len(np.unique(tokens)) > 100


@pytest.mark.parametrize("uniform", [0.0, 0.3, 1 - 2.0**-24])
def test_a_pick_has_a_weight_whatever_rounding_does(uniform):
  rng = np.random.default_rng(7)
  weights = rng.random((500, 64)) * (rng.random((500, 64)) < 0.2)
  weights[:, 9] += 1e-30
  weights = jnp.asarray(weights, jnp.float32)
  picked = sampling._pick(weights, jnp.full(500, uniform, jnp.float32))
  assert np.all(np.asarray(weights)[np.arange(500), picked] > 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_still_end(value):
  logits = jnp.full((3, 100), value).at[1].set(jnp.arange(100.0))
  keys = jax.random.split(jax.random.key(0), 3)
  tokens = jax.jit(sampling.Truncated(k=50, p=0.9, min_p=0.1))(logits, keys)
  assert np.all((tokens >= 0) & (tokens < 100))
  assert tokens[1] > 90


def test_bfloat16_logits_are_drawn_as_float32_ones():
  rng = np.random.default_rng(8)
  logits = jnp.asarray(rng.normal(size=(64, 300)), jnp.bfloat16)
  keys = jax.random.split(jax.random.key(0), 64)
  rule = jax.jit(sampling.Truncated(k=50, p=0.9, min_p=0.01))
  exact = rule(logits.astype(jnp.float32), keys)
  assert rule(logits, keys).tolist() == exact.tolist()


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: sampling.Temperature(0.0), "use Greedy"),
    (lambda: sampling.TopK(0), "k = 0"),
    (lambda: sampling.TopK(3, -1.0), "temperature is -1.0"),
    (lambda: sampling.Nucleus(0.0), "p is 0.0"),
    (lambda: sampling.Nucleus(1.1), "p is 1.1"),
    (lambda: sampling.Nucleus(float("nan")), "p is nan"),
    (lambda: sampling.MinP(-0.1), "min-p is -0.1"),
    (lambda: sampling.Truncated(k=3, min_p=1.5), "min-p is 1.5"),
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
  assert sampling.describe(sampling.Truncated(k=20, p=0.8)) == {
    "rule": "truncated",
    "k": 20,
    "p": 0.8,
    "min_p": 0.0,
    "temperature": 1.0,
  }
