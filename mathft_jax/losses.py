"""The losses of the paper on arrays; each returns a sum and its weight.

A caller that adds up microbatches divides once, by a constant of the run or by
the added weights, so no loss here is a mean.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def token_cross_entropy(
  logits: Float[Array, "B T V"],
  targets: Int[Array, "B T"],
  weights: Float[Array, "B T"],
  *,
  z_loss: float = 0.0,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """`mle` (Eq. 3), and `cls_xent` (Eq. 9) where only a label has weight.

  Returns the weighted sum of -log p(target), in nats, and the sum of the
  weights. `z_loss` adds that many times log(Z)^2 (PaLM), which keeps the
  logits' normaliser near 1. A batch without weight gives 0 and no gradient.
  """
  logits = logits.astype(jnp.float32)
  log_z = jax.nn.logsumexp(logits, axis=-1)
  chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  losses = log_z - chosen
  if z_loss:
    losses = losses + z_loss * jnp.square(log_z)
  return jnp.sum(losses * weights), jnp.sum(weights)


def log_p_correct(
  correct_logits: Float[Array, "..."], incorrect_logits: Float[Array, "..."]
) -> Float[Array, "..."]:
  """log S(X|P) of Eq. 7, in nats, from the logits of the two verdict words.

  The vocabulary's normaliser cancels in S, so two logits are enough.
  """
  difference = correct_logits.astype(jnp.float32) - incorrect_logits
  return jax.nn.log_sigmoid(difference)


def verdict_margin(
  incorrect_scores: Float[Array, " B"],
  correct_scores: Float[Array, " B"],
  weights: Float[Array, " B"],
  *,
  margin: float = math.log(2),
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """`cls_margin` (Eq. 8) over pairs of solutions of the same problem.

  Scores are log S(X|P) and `margin` is λ, all in nats: λ = log 2 asks for
  twice the probability. Returns the weighted sum of the hinges and the sum of
  the weights; a pair of weight 0 is padding.
  """
  hinges = jnp.maximum(0.0, incorrect_scores - correct_scores + margin)
  return jnp.sum(hinges * weights), jnp.sum(weights)
