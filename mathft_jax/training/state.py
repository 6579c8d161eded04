"""Parameters, optimizer state and step, created where they belong."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mathft_jax import checkpoint, partitioning
from mathft_jax.models import lora, protocol


@flax.struct.dataclass
class TrainState:
  """Everything that a step changes, or its shapes, or its shardings."""

  step: Any  # int32 []
  params: Any
  opt_state: Any


def abstract_state(
  model: protocol.LanguageModel,
  optimizer: optax.GradientTransformation,
  mesh: Mesh,
  rules: partitioning.Rules = partitioning.STANDARD_RULES,
) -> TrainState:
  """Shapes, dtypes and shardings of a state, with nothing allocated.

  Of a model with adapters the optimizer keeps something for these alone.
  """
  params = abstract_params(model, mesh, rules)
  trained, _ = lora.split(params)
  opt_state = jax.eval_shape(optimizer.init, trained)
  everywhere = partitioning.replicated(mesh)
  opt_state = optax.tree_map_params(
    optimizer,
    lambda leaf, param: _placed(leaf, _sharding_beside(leaf, param)),
    opt_state,
    trained,
    transform_non_params=lambda leaf: _placed(leaf, everywhere),
  )
  step = jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere)
  return TrainState(step, params, opt_state)


def abstract_params(
  model: protocol.LanguageModel,
  mesh: Mesh | None = None,
  rules: partitioning.Rules = partitioning.STANDARD_RULES,
) -> Any:
  """Shapes, dtypes and shardings of a model's parameters.

  Without a mesh they all lie on the process's first device.
  """
  mesh = mesh or partitioning.make_mesh({}, jax.local_devices()[:1])
  variables = jax.eval_shape(
    lambda: model.get_initial_variables(jax.random.key(0), {})
  )
  params = variables["params"]
  shardings = partitioning.param_shardings(
    mesh, params, _params_axes(model), rules
  )
  return jax.tree.map(_placed, params, shardings)


def create(
  model: protocol.LanguageModel,
  optimizer: optax.GradientTransformation,
  abstract: TrainState,
  *,
  seed: int,
  params: Any = None,
) -> TrainState:
  """A state at step 0, with new parameters or with those given.

  To given parameters without adapters those that the model has are added, new
  ones. Raises ValueError if the given parameters have other names or shapes.
  """
  shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)

  def initial() -> Any:
    return model.get_initial_variables(jax.random.key(seed), {})["params"]

  if params is None:
    params = jax.jit(initial, out_shardings=shardings.params)()
  else:
    added = {}
    if lora.has_adapters(abstract.params) and not lora.has_adapters(params):
      added = jax.jit(
        lambda: lora.split(initial())[0],
        out_shardings=lora.split(shardings.params)[0],
      )()
    params = lora.join(params, added)
    checkpoint.check_same_shapes(params, abstract.params)
    # A copy: the step donates its state, and the caller's params live on.
    params = jax.tree.map(jnp.copy, partitioning.place(params, abstract.params))
  trained, _ = lora.split(params)
  opt_state = jax.jit(optimizer.init, out_shardings=shardings.opt_state)(
    trained
  )
  step = jax.device_put(jnp.zeros((), jnp.int32), shardings.step)
  return TrainState(step, params, opt_state)


def num_params(params: Any) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def num_trained(params: Any) -> int:
  """How many of them training changes."""
  return num_params(lora.split(params)[0])


def _sharding_beside(leaf: Any, param: Any) -> NamedSharding:
  """The sharding of what an optimizer keeps for a parameter.

  It lies as the parameter does; means over one of its axes (Adafactor's) lie
  as the others do. What has another shape is whole on each device.
  """
  mesh, spec = param.sharding.mesh, param.sharding.spec
  if leaf.shape == param.shape:
    return param.sharding
  for axis in reversed(range(len(param.shape))):
    if leaf.shape == param.shape[:axis] + param.shape[axis + 1 :]:
      left = [*spec[:axis], *spec[axis + 1 :]]
      return NamedSharding(mesh, PartitionSpec(*left))
  return partitioning.replicated(mesh)


def _placed(leaf: Any, sharding: Any) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _params_axes(model: protocol.LanguageModel) -> Any:
  """The axis names, which `eval_shape` itself does not return."""
  holder = {}

  def trace():
    variables = model.get_initial_variables(jax.random.key(0), {})
    holder["axes"] = variables["params_axes"]
    return variables["params"]

  jax.eval_shape(trace)
  return holder["axes"]
