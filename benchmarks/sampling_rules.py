"""Time to draw the next tokens of 256 rows, by nucleus sampling and others.

Three ways to draw from the nucleus, p = 0.95 at temperature 0.6: by sorting, as
Hugging Face's transformers does (here the token is drawn from the sums over the
sorted probabilities, which spares it to sort back); by bisection of the bound
between in and out, which this project did before; and by its rule of today.
Then the other rules of today, and greedy decoding. Each is compiled alone; the
fastest call of several counts. Ratios are to the nucleus of today.

  python benchmarks/sampling_rules.py
"""

import importlib.metadata
import os
import time

import jax
import jax.numpy as jnp
import numpy as np

from mathft_jax.decoding import sampling

_ROWS = 256
_VOCABULARIES = (400, 1_024, 8_192, 128_256)
_P, _TEMPERATURE = 0.95, 0.6
_SECONDS = 5  # For the calls of one rule, three at the least.


def main() -> None:
  versions = [
    f"{name} {importlib.metadata.version(name)}" for name in ("jax", "jaxlib")
  ]
  print(f"{', '.join(versions)}, {os.cpu_count()} cores, {_ROWS} rows")
  nucleus = sampling.Nucleus(_P, _TEMPERATURE)
  rules = {
    "nucleus, sorted": _sorted_nucleus,
    "nucleus, bisection": _bisected_nucleus,
    "nucleus": nucleus,
    "nucleus, p = 1e-6": sampling.Nucleus(1e-6, _TEMPERATURE),
    "temperature": sampling.Temperature(_TEMPERATURE),
    "top-k, k = 40": sampling.TopK(40, _TEMPERATURE),
    "min-p 0.05": sampling.MinP(0.05, _TEMPERATURE),
    "all three": sampling.Truncated(40, _P, 0.05, _TEMPERATURE),
    "greedy": sampling.Greedy(),
  }
  print(f"{'ms':22}" + "".join(f"{v:>11,}{'ratio':>7}" for v in _VOCABULARIES))
  times = [_milliseconds(rules.values(), size) for size in _VOCABULARIES]
  today = list(rules).index("nucleus")
  for i, name in enumerate(rules):
    cells = [f"{row[i]:11.1f}{row[i] / row[today]:7.2f}" for row in times]
    print(f"{name:22}" + "".join(cells))


def _milliseconds(rules, vocab_size: int) -> list[float]:
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(_ROWS, vocab_size)) * 2
  logits = jnp.asarray(logits, jnp.float32)
  keys = jax.random.split(jax.random.key(0), _ROWS)
  return [_fastest(jax.jit(rule), logits, keys) * 1e3 for rule in rules]


def _fastest(rule, logits, keys) -> float:
  jax.block_until_ready(rule(logits, keys))
  seconds = []
  while len(seconds) < 3 or (sum(seconds) < _SECONDS and len(seconds) < 50):
    start = time.perf_counter()
    jax.block_until_ready(rule(logits, keys))
    seconds.append(time.perf_counter() - start)
  return min(seconds)


def _sorted_nucleus(logits, keys):
  order = jnp.argsort(logits, axis=-1, descending=True)
  falling = jnp.take_along_axis(logits, order, axis=-1)
  probs = jax.nn.softmax(falling / _TEMPERATURE)
  above = jnp.cumsum(probs, axis=-1) - probs
  place = _draw(jnp.where(above < _P, probs, 0.0), keys)
  return jnp.take_along_axis(order, place[:, None], axis=-1)[:, 0]


def _bisected_nucleus(logits, keys):
  """Bisects the bit patterns, whose order is that of the probabilities."""
  probs = jax.nn.softmax(logits / _TEMPERATURE)
  bits = jax.lax.bitcast_convert_type(probs, jnp.int32)

  def halve(_, bounds):
    low, high = bounds
    middle = low + (high - low) // 2
    mass = jnp.sum(jnp.where(bits > middle[:, None], probs, 0.0), axis=-1)
    is_inside = mass < _P
    return (
      jnp.where(is_inside, low, middle),
      jnp.where(is_inside, middle, high),
    )

  two = jax.lax.bitcast_convert_type(jnp.float32(2.0), jnp.int32)
  low = jnp.full(_ROWS, -1, jnp.int32)
  high = jnp.full(_ROWS, two, jnp.int32)
  _, high = jax.lax.fori_loop(0, 31, halve, (low, high))
  return _draw(jnp.where(bits >= high[:, None], probs, 0.0), keys)


def _draw(probs, keys):
  cumulative = jnp.cumsum(probs, axis=-1)
  threshold = jax.vmap(jax.random.uniform)(keys)[:, None] * cumulative[:, -1:]
  return jnp.argmax((cumulative > threshold) & (probs > 0.0), axis=-1)


if __name__ == "__main__":
  main()
