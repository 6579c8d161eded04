"""Rules that turn logits into the next token.

Each rule is a frozen dataclass called with the logits of a batch and one key a
row; temperature is applied before truncation, as in Holtzman et al. (2020).
"""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


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
class Temperature:
  """Samples from softmax(logits / temperature)."""

  temperature: float = 1.0

  def __post_init__(self):
    _check_temperature(self.temperature)

  def __call__(
    self, logits: Float[Array, "B V"], keys: Key[Array, " B"]
  ) -> Int[Array, " B"]:
    return _draw(jax.nn.softmax(logits / self.temperature), keys)


@dataclasses.dataclass(frozen=True)
class TopK:
  """Samples among the `k` most probable tokens, ties with the k-th included."""

  k: int = 40
  temperature: float = 1.0

  def __post_init__(self):
    _check_temperature(self.temperature)
    if self.k < 1:
      raise ValueError(f"top-k keeps k = {self.k} tokens; it must keep one")

  def __call__(
    self, logits: Float[Array, "B V"], keys: Key[Array, " B"]
  ) -> Int[Array, " B"]:
    kth = jax.lax.top_k(logits, min(self.k, logits.shape[-1]))[0][:, -1:]
    probs = jax.nn.softmax(logits / self.temperature)
    return _draw(jnp.where(logits >= kth, probs, 0.0), keys)


@dataclasses.dataclass(frozen=True)
class Nucleus:
  """Samples among the fewest tokens whose probability reaches `p`.

  The paper's setting is the default (§4.1).
  """

  p: float = 0.95
  temperature: float = 0.6

  def __post_init__(self):
    _check_temperature(self.temperature)
    if not 0.0 < self.p <= 1.0:
      raise ValueError(f"nucleus p is {self.p}; it must lie in (0, 1]")

  def __call__(
    self, logits: Float[Array, "B V"], keys: Key[Array, " B"]
  ) -> Int[Array, " B"]:
    probs = jax.nn.softmax(logits / self.temperature)
    return _draw(jnp.where(nucleus_mask(probs, self.p), probs, 0.0), keys)


def nucleus_mask(probs: Float[Array, "B V"], p: float) -> Bool[Array, "B V"]:
  """The tokens of each row's nucleus.

  A token is in it if the tokens more probable than it have less than `p`
  together; so equals are in or out together, and the best always is in. The
  bound between in and out is found without sorting: a bisection over the bit
  patterns of non-negative float32 numbers, whose order is that of the numbers.
  """
  if p == 1.0:
    return probs > 0.0  # Where rounded sums reach 1 says nothing.
  bits = jax.lax.bitcast_convert_type(probs.astype(jnp.float32), jnp.int32)

  def halve(_, bounds):
    low, high = bounds  # mass(> low) >= p unless low is -1; mass(> high) < p
    middle = low + (high - low) // 2
    mass = jnp.sum(jnp.where(bits > middle[:, None], probs, 0.0), axis=-1)
    is_inside = mass < p
    return (
      jnp.where(is_inside, low, middle),
      jnp.where(is_inside, middle, high),
    )

  rows = probs.shape[0]
  one = jax.lax.bitcast_convert_type(jnp.float32(2.0), jnp.int32)
  low = jnp.full((rows,), -1, jnp.int32)
  high = jnp.full((rows,), one, jnp.int32)
  _, high = jax.lax.fori_loop(0, 31, halve, (low, high))
  return bits >= high[:, None]


def describe(rule: NextToken) -> dict[str, Any]:
  """The rule as plain JSON values, for the record of a candidate."""
  name = type(rule).__name__.lower()
  return {"rule": name, **dataclasses.asdict(rule)}  # pyright: ignore


def _draw(
  probs: Float[Array, "B V"], keys: Key[Array, " B"]
) -> Int[Array, " B"]:
  """One token a row by inverting the distribution function.

  One random number a row instead of one a token: threefry is the costly part
  on a CPU. `probs` need not be normalised; a token of probability 0 is never
  drawn.
  """
  cumulative = jnp.cumsum(probs, axis=-1)
  uniform = jax.vmap(jax.random.uniform)(keys)[:, None]  # in [0, 1)
  threshold = uniform * cumulative[:, -1:]
  is_possible = probs > 0.0
  # Sums that are added up in parallel are not quite monotone, so the first
  # beyond the threshold may be a token of probability 0.
  is_beyond = (cumulative > threshold) & is_possible
  # Rounding can lift the threshold to the total itself.
  last = probs.shape[-1] - 1 - jnp.argmax(is_possible[:, ::-1], axis=-1)
  first = jnp.argmax(is_beyond, axis=-1)
  return jnp.where(jnp.any(is_beyond, axis=-1), first, last)


def _check_temperature(temperature: float) -> None:
  if not temperature > 0.0:
    raise ValueError(
      f"temperature is {temperature}; it must be positive (use Greedy() for"
      " the limit of 0)"
    )
