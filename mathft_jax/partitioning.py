"""The device mesh, and which axis of which array lies on which of its axes."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax
import jax
import numpy as np
from flax.linen import partitioning as nn_partitioning
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

# Outer to inner: slices, pure data parallelism, sharded parameters, tensors.
MESH_AXES = ("replica", "data", "fsdp", "tensor")

# The axes over which the rows of a batch are spread.
BATCH_AXES = ("replica", "data", "fsdp")

# (logical axis of a parameter, mesh axis), as T5X writes them.
Rules = Sequence[tuple[str, str | None]]

STANDARD_RULES: Rules = (
  ("vocab", "tensor"),
  ("embed", "fsdp"),
  ("mlp", "tensor"),
  ("heads", "tensor"),
  ("kv_heads", "tensor"),
  ("head_dim", None),
  ("layers", None),
)


def make_mesh(
  shape: Mapping[str, int] | None = None,
  devices: Sequence[jax.Device] | None = None,
) -> Mesh:
  """A mesh of all devices; axes that `shape` leaves out have size 1.

  One size may be -1: what the others leave. Without a shape all devices stand
  on `data`. TPUs are ordered so that neighbours on an axis are linked where
  the topology allows it, others stand in their own order. Raises ValueError if
  the sizes do not multiply to the devices.
  """
  devices = jax.devices() if devices is None else devices
  sizes = {"data": -1} if shape is None else dict(shape)
  unknown = sorted(set(sizes) - set(MESH_AXES))
  if unknown:
    raise ValueError(f"no mesh axis {unknown}; there are {list(MESH_AXES)}")
  sizes = {axis: sizes.get(axis, 1) for axis in MESH_AXES}
  known = math.prod(size for size in sizes.values() if size != -1)
  open_axes = [axis for axis, size in sizes.items() if size == -1]
  if len(open_axes) > 1:
    raise ValueError(f"only one mesh axis may be -1, not {open_axes}")
  if open_axes and known > 0 and len(devices) % known == 0:
    sizes[open_axes[0]] = len(devices) // known
  if math.prod(sizes.values()) != len(devices):
    raise ValueError(
      f"a mesh of {sizes} does not hold the {len(devices)} devices of this"
      " run; make the sizes multiply to that number, one of them may be -1"
    )
  shape_of_all = tuple(sizes.values())
  if devices[0].platform == "tpu":
    shaped = mesh_utils.create_device_mesh(
      shape_of_all, devices, allow_split_physical_axes=True
    )
  else:
    shaped = np.asarray(devices).reshape(shape_of_all)
  return Mesh(shaped, MESH_AXES)


def param_shardings(
  mesh: Mesh,
  params: Any,
  params_axes: Any,
  rules: Rules = STANDARD_RULES,
) -> Any:
  """A NamedSharding for each parameter, by its logical axes.

  Raises ValueError for a logical axis without a rule, and for a dimension that
  the mesh does not divide.
  """
  mesh_axes = dict(rules)
  names = flax.core.unfreeze(nn_partitioning.get_axis_names(params_axes))
  params = flax.core.unfreeze(params)

  def sharding(path, param, logical):
    placed = []
    for size, axis in zip(param.shape, logical, strict=True):
      if axis not in mesh_axes:
        raise ValueError(
          f"{jax.tree_util.keystr(path)} has the logical axis {axis!r}, for"
          f" which there is no rule; rules are for {sorted(mesh_axes)}"
        )
      mesh_axis = mesh_axes[axis]
      if mesh_axis and size % mesh.shape[mesh_axis]:
        raise ValueError(
          f"{jax.tree_util.keystr(path)} has {size} along {axis!r}, which"
          f" {mesh.shape[mesh_axis]} devices on mesh axis {mesh_axis!r} do not"
          " divide; change the mesh or the model's size"
        )
      placed.append(mesh_axis)
    return NamedSharding(mesh, PartitionSpec(*placed))

  return jax.tree_util.tree_map_with_path(sharding, params, names)


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Rows over the data axes, everything else whole."""
  return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
  """The whole array on each device."""
  return NamedSharding(mesh, PartitionSpec())


def num_row_shards(mesh: Mesh) -> int:
  """Into how many parts the mesh divides the rows of a batch."""
  return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def check_batch_size(
  mesh: Mesh, batch_size: int, num_microbatches: int = 1
) -> None:
  """Raises ValueError unless the rows divide into shards and microbatches."""
  shards = num_row_shards(mesh)
  if batch_size % (shards * num_microbatches):
    raise ValueError(
      f"a batch of {batch_size} does not divide into {shards} data shards x"
      f" {num_microbatches} microbatches; set BATCH_SIZE to a multiple of"
      f" {shards * num_microbatches}"
    )


def on_mesh(mesh: Mesh, function: Callable[..., Any]) -> Callable[..., Any]:
  """The function, inside which `spread_rows` knows the mesh."""

  @functools.wraps(function)
  def wrapped(*args: Any, **kwargs: Any) -> Any:
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return function(*args, **kwargs)

  return wrapped


def spread_rows(x: Array) -> Array:
  """x, laid out with its rows over the data axes and everything else whole.

  Without this XLA may take the layout of the parameters for the activations,
  and then computes each row on all devices of `fsdp`, a part of its width on
  each. Outside of `on_mesh`, and where the rows do not divide, x stays as XLA
  lays it out.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or not set(BATCH_AXES) <= set(mesh.axis_names):
    return x
  shards = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
  if shards == 1 or x.shape[0] % shards:
    return x
  return jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH_AXES))


def shard_batch(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """This host's rows of a batch as parts of global arrays."""
  sharding = batch_sharding(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, np.asarray(rows))
    for name, rows in batch.items()
  }
