"""Rules that turn logits into the next token.

Each rule is a frozen dataclass called with the logits of a batch and one key a
row; temperature is applied before truncation, as in Holtzman et al. (2020).

Nothing is sorted. A nucleus keeps the tokens above some bound, so the only
bound to try is the logit of a token that was drawn from all of them: either it
is kept, or it is out with all that are less probable, and the next is drawn
from those above. At each draw all kept tokens are still there, so the one that
ends this has exactly the distribution of the nucleus.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

# A row is reduced level by level, this many equal parts of a level to one: one
# pass of vector instructions. As reductions, XLA does such sums and maxima six
# times as slowly on a CPU.
_PARTS = 16
# The width of the last level.
_FEW = 64
# exp of less is no normal float32.
_LEAST_LOG_WEIGHT = -87.0


@runtime_checkable
class NextToken(Protocol):
  """Logits to tokens; row b draws from keys[b] and from nothing else."""

  def __call__(
    self, logits: Float[Array, "B V"], keys: Key[Array, " B"]
  ) -> Int[Array, " B"]: ...


@dataclasses.dataclass(frozen=True)
class Greedy:
  """The most probable token; of equals, the first."""

  def __call__(
    self, logits: Float[Array, "B V"], keys: Key[Array, " B"]
  ) -> Int[Array, " B"]:
    del keys
    return jnp.argmax(logits, axis=-1)


@dataclasses.dataclass(frozen=True)
class Truncated:
  """Samples from softmax(logits / temperature), cut by up to three rules.

  They cut one after the other, in the order of Hugging Face's `generate`:

  1. `k`: keeps the `k` most probable tokens, ties with the k-th included; None
     keeps all.
  2. `p`: of these, keeps the fewest most probable that hold `p` of their
     probability. A token stays if those more probable than it hold less than
     that, so equals stay or go together, and the best stays. 1 keeps all.
  3. `min_p`: of these, keeps those at least `min_p` times as probable as the
     best. 0 keeps all. It never changes what `p` keeps.

  A token less than e^-87 times as probable as the best is never drawn: that is
  where float32 ends.
  """

  k: int | None = None
  p: float = 1.0
  min_p: float = 0.0
  temperature: float = 1.0

  def __post_init__(self):
    if not 0.0 < self.temperature < math.inf:
      raise ValueError(
        f"temperature is {self.temperature}; it must be positive (use Greedy()"
        " for the limit of 0)"
      )
    if self.k is not None and self.k < 1:
      raise ValueError(f"top-k keeps k = {self.k} tokens; it must keep one")
    if not 0.0 < self.p <= 1.0:
      raise ValueError(f"nucleus p is {self.p}; it must lie in (0, 1]")
    if not 0.0 <= self.min_p <= 1.0:
      raise ValueError(f"min-p is {self.min_p}; it must lie in [0, 1]")

  def __call__(
    self, logits: Float[Array, "B V"], keys: Key[Array, " B"]
  ) -> Int[Array, " B"]:
    best = jnp.max(logits, axis=-1).astype(jnp.float32)  # [B]
    none = jnp.full_like(best, -jnp.inf)
    cut = none if self.k is None else _kth_largest(logits, self.k)
    least = none
    if self.min_p > 0.0:
      least = best + self.temperature * math.log(self.min_p)
    if self.p == 1.0:  # Where rounded sums reach 1 says nothing.
      cut = jnp.maximum(cut, least)
      candidates = _Candidates(logits, best, cut, self.temperature)
      return candidates.draw(candidates.sums(above=none), keys, above=none)
    candidates = _Candidates(logits, best, cut, self.temperature)
    return _draw_from_nucleus(candidates, self.p, least, keys)


class _OneCut:
  """A rule that is `Truncated` with some of its fields."""

  def __post_init__(self):
    self._truncated()  # Says what is wrong with the values.

  def __call__(
    self, logits: Float[Array, "B V"], keys: Key[Array, " B"]
  ) -> Int[Array, " B"]:
    return self._truncated()(logits, keys)

  def _truncated(self) -> Truncated:
    return Truncated(**dataclasses.asdict(self))  # pyright: ignore


@dataclasses.dataclass(frozen=True)
class Temperature(_OneCut):
  """Samples from softmax(logits / temperature)."""

  temperature: float = 1.0


@dataclasses.dataclass(frozen=True)
class TopK(_OneCut):
  """Samples among the `k` most probable tokens, ties with the k-th included."""

  k: int = 40
  temperature: float = 1.0


@dataclasses.dataclass(frozen=True)
class Nucleus(_OneCut):
  """Samples among the fewest tokens whose probability reaches `p`.

  The paper's setting is the default (§4.1).
  """

  p: float = 0.95
  temperature: float = 0.6


@dataclasses.dataclass(frozen=True)
class MinP(_OneCut):
  """Samples among tokens at least `min_p` times as probable as the best."""

  min_p: float = 0.05
  temperature: float = 1.0


def describe(rule: NextToken) -> dict[str, Any]:
  """The rule as plain JSON values, for the record of a candidate."""
  name = type(rule).__name__.lower()
  return {"rule": name, **dataclasses.asdict(rule)}  # pyright: ignore


# Sums over a row's tokens, level by level, each [B, W]: the last is the widest
# that is added up at once, and the first has the parts of the vocabulary.
_Sums = tuple[Float[Array, "B _"], ...]


class _Candidates(NamedTuple):
  """The tokens of each row whose logit is at least `cut`, and their weights.

  A weight is a probability that is not normalised: the best token has 1.
  """

  logits: Float[Array, "B V"]
  best: Float[Array, " B"]
  cut: Float[Array, " B"]
  temperature: float

  def sums(self, above: Float[Array, " B"]) -> _Sums:
    """The sums of the weights of those with a logit greater than `above`."""
    levels = [_by_parts(jnp.add, self.logits, 0.0, self._weights(above))]
    while levels[-1].shape[-1] > _FEW:
      levels.append(_by_parts(jnp.add, levels[-1], 0.0))
    return tuple(levels)

  def draw(
    self, sums: _Sums, keys: Key[Array, " B"], above: Float[Array, " B"]
  ) -> Int[Array, " B"]:
    """A token of each row by weight; `sums` are those with this `above`.

    A random number a level: one alone has too few bits for a large vocabulary.
    """
    uniform = jax.vmap(lambda key: jax.random.uniform(key, (len(sums) + 1,)))(
      keys
    )
    place = _pick(sums[-1], uniform[:, -1])
    for i in range(len(sums) - 1, 0, -1):
      members = _members(place[:, None], sums[i])
      shares = _take(sums[i - 1], members, 0.0)
      place = _at(members, _pick(shares, uniform[:, i]))
    members = _members(place[:, None], sums[0])
    weights = self._weights(above)(_take(self.logits, members, -jnp.inf))
    return _at(members, _pick(weights, uniform[:, 0]))

  def _weights(self, above: Float[Array, " B"]) -> Callable[[Array], Array]:
    def weights(logits: Float[Array, "B W"]) -> Float[Array, "B W"]:
      # First of all, so that nothing of this stays the same in all rounds of a
      # loop: XLA would compute that before, and keep it.
      logits = logits.astype(jnp.float32)
      logits = jnp.where(logits > above[:, None], logits, -jnp.inf)
      log_weights = (logits - self.best[:, None]) / self.temperature
      is_in = (logits >= self.cut[:, None]) & (log_weights > _LEAST_LOG_WEIGHT)
      return jnp.where(is_in, jnp.exp(log_weights), 0.0)

    return weights


class _Round(NamedTuple):
  number: Int[Array, ""]
  token: Int[Array, " B"]
  above: Float[Array, " B"]  # the logit of `token`
  sums: _Sums  # of the candidates above it
  is_kept: Bool[Array, " B"]


def _draw_from_nucleus(
  candidates: _Candidates,
  p: float,
  least: Float[Array, " B"],
  keys: Key[Array, " B"],
) -> Int[Array, " B"]:
  """A token of each row's nucleus whose logit is `least` or more.

  A round takes one pass over the vocabulary: the sums above the token that was
  drawn both judge it and give the next one. Rounds go on while any row needs
  one; a row's token is the same however many others need.
  """
  none = jnp.full_like(least, -jnp.inf)
  all_sums = candidates.sums(above=none)
  enough = p * _total(all_sums)

  def advance(last: _Round) -> _Round:
    round_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, last.number)
    drawn = candidates.draw(last.sums, round_keys, above=last.above)
    token = jnp.where(last.is_kept, last.token, drawn)
    above = _at(candidates.logits, token).astype(jnp.float32)
    sums = candidates.sums(above=above)
    mass = _total(sums)
    # Nothing is above the best. Said so that NaN, too, is an end.
    is_kept = (mass < enough) | ~(mass > 0.0)
    is_kept &= ~(above < least)
    return _Round(last.number + 1, token, above, sums, is_kept)

  first = _Round(
    number=jnp.zeros((), jnp.int32),
    token=jnp.zeros_like(least, jnp.int32),
    above=none,
    sums=all_sums,
    is_kept=jnp.zeros_like(least, bool),
  )
  return jax.lax.while_loop(
    lambda last: ~jnp.all(last.is_kept), advance, first
  ).token


def _kth_largest(logits: Float[Array, "B V"], k: int) -> Float[Array, " B"]:
  """The k-th largest logit; the least where there are fewer.

  It is among the members of the `k` blocks with the largest maxima: these hold
  k tokens of at least the k-th, and all that are larger.
  """
  maxima = _by_parts(jnp.maximum, logits, -jnp.inf)
  if k < maxima.shape[-1]:
    _, blocks = jax.lax.top_k(maxima, k)
    logits = _take(logits, _members(blocks, maxima), -jnp.inf)
  largest, _ = jax.lax.top_k(logits, min(k, logits.shape[-1]))
  # As a minimum, since XLA sorts all for top_k(...)[0][:, -1] on a CPU.
  return jnp.min(largest, axis=-1).astype(jnp.float32)


def _total(sums: _Sums) -> Float[Array, " B"]:
  """Of each row; jnp.sum would round it by the number of rows."""
  level = sums[-1]
  while level.shape[-1] > 1:
    level = _by_parts(jnp.add, level, 0.0)
  return level[:, 0]


def _by_parts(
  combine: Callable[[Array, Array], Array],
  rows: Float[Array, "B V"],
  neutral: float,
  of_part: Callable[[Array], Array] = lambda part: part,
) -> Float[Array, "B W"]:
  """Blocks of `rows`, each combined to one number.

  Block j of W holds the places j, j + W, j + 2W and so on; its members are
  combined in this order, so rows do not depend on each other.
  """
  size = rows.shape[-1]
  width = -(-size // _PARTS)
  parts = []
  for start in range(0, size, width):
    part = of_part(rows[:, start : start + width])
    missing = width - part.shape[-1]
    part = jnp.pad(part, ((0, 0), (0, missing)), constant_values=neutral)
    parts.append(part)
  return functools.reduce(combine, parts)


def _members(
  blocks: Int[Array, "B M"], level: Float[Array, "B W"]
) -> Int[Array, "B _"]:
  """The places of what `_by_parts` combined to those places of `level`.

  A place may lie behind the end of what it combined.
  """
  starts = level.shape[-1] * jnp.arange(_PARTS)
  places = blocks[:, :, None] + starts[None, None, :]  # [B, M, 16]
  return places.reshape(len(blocks), -1)


def _take(
  rows: Float[Array, "B W"], places: Int[Array, "B M"], default: float
) -> Float[Array, "B M"]:
  """What lies at the places of each row, `default` behind its end."""
  return jnp.take_along_axis(
    rows, places, axis=1, mode="fill", fill_value=default
  )


def _at(rows: Array, place: Int[Array, " B"]) -> Array:
  return jnp.take_along_axis(rows, place[:, None], axis=1)[:, 0]


def _pick(
  weights: Float[Array, "B W"], uniform: Float[Array, " B"]
) -> Int[Array, " B"]:
  """A place of each row by weight, never one of weight 0 beside others.

  Inverts the distribution function at `uniform`, which lies in [0, 1).
  """
  cumulative = jnp.cumsum(weights, axis=-1)
  threshold = uniform[:, None] * cumulative[:, -1:]
  # Sums that are added up in parallel are not quite monotone, so the first
  # beyond the threshold may be a place of weight 0.
  is_beyond = (cumulative > threshold) & (weights > 0.0)
  return jnp.where(
    jnp.any(is_beyond, axis=-1),
    jnp.argmax(is_beyond, axis=-1),
    jnp.argmax(weights, axis=-1),
  )
