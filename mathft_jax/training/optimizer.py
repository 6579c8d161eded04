"""Learning-rate schedules and the optimizer of a run."""

import dataclasses

import jax
import optax


@dataclasses.dataclass(frozen=True)
class WarmupCosine:
  """Linear warm-up to `peak`, then a cosine down to `peak * final_share`."""

  peak: float = 1e-3
  warmup_steps: int = 0
  final_share: float = 0.1

  def __call__(self, num_steps: int) -> optax.Schedule:
    """The learning rate of each of `num_steps` steps."""
    if self.warmup_steps >= num_steps:
      raise ValueError(
        f"{self.warmup_steps} warm-up steps leave nothing of {num_steps}"
        " training steps; set WarmupCosine.warmup_steps lower"
      )
    return optax.warmup_cosine_decay_schedule(
      init_value=0.0,
      peak_value=self.peak,
      warmup_steps=self.warmup_steps,
      decay_steps=num_steps,
      end_value=self.peak * self.final_share,
    )


@dataclasses.dataclass(frozen=True)
class AdamW:
  """AdamW (Loshchilov & Hutter, 2019) behind a clip of the global norm.

  Matrices decay, norm scales and biases do not: with layers stacked, what has
  fewer than two dimensions of its own.
  """

  schedule: WarmupCosine = WarmupCosine()
  b1: float = 0.9
  b2: float = 0.98
  weight_decay: float = 0.0
  max_grad_norm: float = 1.0

  def __call__(self, num_steps: int) -> optax.GradientTransformation:
    """The optimizer of a run of `num_steps` steps."""
    return optax.chain(
      optax.clip_by_global_norm(self.max_grad_norm),
      optax.adamw(
        self.schedule(num_steps),
        b1=self.b1,
        b2=self.b2,
        weight_decay=self.weight_decay,
        mask=_decays,
      ),
    )


@dataclasses.dataclass(frozen=True)
class Adafactor:
  """Adafactor (Shazeer & Stern, 2018) behind a clip of the global norm.

  T5X's default: the second moment of a matrix is kept as its row and column
  means, there is no first moment, and a step is relative to the root mean
  square of what it changes. Of layers that are stacked that is the mean over
  all of them.
  """

  schedule: WarmupCosine = WarmupCosine()
  decay_rate: float = 0.8
  clipping_threshold: float = 1.0
  multiply_by_parameter_scale: bool = True
  weight_decay: float = 0.0
  max_grad_norm: float = 1.0

  def __call__(self, num_steps: int) -> optax.GradientTransformation:
    """The optimizer of a run of `num_steps` steps."""
    return optax.chain(
      optax.clip_by_global_norm(self.max_grad_norm),
      optax.adafactor(
        self.schedule(num_steps),
        decay_rate=self.decay_rate,
        clipping_threshold=self.clipping_threshold,
        multiply_by_parameter_scale=self.multiply_by_parameter_scale,
        weight_decay_rate=self.weight_decay or None,
        weight_decay_mask=_decays,
      ),
    )


def _decays(params):
  def is_matrix(path, leaf):
    name = str(getattr(path[-1], "key", path[-1]))
    return leaf.ndim >= 2 and name != "scale" and not name.endswith("_bias")

  return jax.tree_util.tree_map_with_path(is_matrix, params)
