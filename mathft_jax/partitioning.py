"""The device mesh, and which axis of which array lies on which of its axes."""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax
import jax
import numpy as np
from flax.linen import partitioning as nn_partitioning
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# Outer to inner: slices, pure data parallelism, sharded parameters, tensors.
MESH_AXES = ("replica", "data", "fsdp", "tensor")

# The axes over which the rows of a batch are spread.
BATCH_AXES = ("replica", "data", "fsdp")

# (logical axis, mesh axis or axes), as T5X writes them. An array has a mesh
# axis once: the rule that comes first takes it. So activations, whose rows lie
# on `fsdp`, are whole along `embed`, which is sharded in parameters.
Rules = Sequence[tuple[str, str | tuple[str, ...] | None]]

STANDARD_RULES: Rules = (
  ("batch", BATCH_AXES),
  ("lookup_batch", ("replica", "data")),
  ("vocab", "tensor"),
  ("embed", "fsdp"),
  ("mlp", "tensor"),
  ("heads", "tensor"),
  ("kv_heads", "tensor"),
  ("head_dim", None),
  ("lora_rank", None),
  ("layers", None),
  ("length", None),
)


def make_mesh(
  shape: Mapping[str, int] | None = None,
  devices: Sequence[Any] | None = None,
) -> Mesh:
  """A mesh of all devices; axes that `shape` leaves out have size 1.

  One size may be -1: what the others leave. Without a shape all devices stand
  on `data`. TPUs are ordered so that neighbours on an axis are linked where
  the topology allows it. Others stand in their own order, which goes by
  process, so that it is the outer axes that reach over hosts.

  Of several slices of TPUs, which only the data centre's network connects,
  `replica` runs over the slices and every other axis stays within one.
  `replica` is then their number, which it also is where `shape` leaves it out,
  or a multiple of it. Raises ValueError if it is not, and if the sizes do not
  multiply to the devices.
  """
  devices = jax.devices() if devices is None else devices
  sizes = {"data": -1} if shape is None else dict(shape)
  unknown = sorted(set(sizes) - set(MESH_AXES))
  if unknown:
    raise ValueError(f"no mesh axis {unknown}; there are {list(MESH_AXES)}")
  slices = num_slices(devices)
  if slices > 1:
    sizes.setdefault("replica", slices)
  sizes = {axis: sizes.get(axis, 1) for axis in MESH_AXES}
  known = math.prod(size for size in sizes.values() if size != -1)
  open_axes = [axis for axis, size in sizes.items() if size == -1]
  if len(open_axes) > 1:
    raise ValueError(f"only one mesh axis may be -1, not {open_axes}")
  if open_axes and known > 0 and len(devices) % known == 0:
    sizes[open_axes[0]] = len(devices) // known
  if math.prod(sizes.values()) != len(devices):
    of_slices = f", {slices} slices of TPUs" if slices > 1 else ""
    raise ValueError(
      f"a mesh of {sizes} does not hold the {len(devices)} devices of this"
      f" run{of_slices}; make the sizes multiply to that number, one of them"
      " may be -1"
    )
  if sizes["replica"] % slices:
    raise ValueError(
      f"mesh axis replica is {sizes['replica']}, but runs over {slices} slices"
      f" of TPUs; set replica in MESH_SHAPE to {slices} or a multiple of it, or"
      " leave it out"
    )
  shape_of_all = tuple(sizes.values())
  if slices > 1:
    _, *in_slice = shape_of_all
    shaped = mesh_utils.create_hybrid_device_mesh(
      (sizes["replica"] // slices, *in_slice),
      (slices, *(1 for _ in in_slice)),
      devices,
      allow_split_physical_axes=True,
    )
  elif devices[0].platform == "tpu":
    shaped = mesh_utils.create_device_mesh(
      shape_of_all, devices, allow_split_physical_axes=True
    )
  else:
    shaped = np.asarray(devices).reshape(shape_of_all)
  return Mesh(shaped, MESH_AXES)


def make_replica_mesh(
  shape: Mapping[str, int] | None = None,
  devices: Sequence[Any] | None = None,
  process_index: int | None = None,
) -> Mesh:
  """`make_mesh` of the process's own devices where `shape` fits these.

  For work that processes share out: each has a whole model. One that takes
  more devices than a process has lies on those of all, who then work together.
  Without a process it is this one, without devices they are all of the run.
  Raises ValueError as `make_mesh` does, for a shape that fits neither.
  """
  devices = jax.devices() if devices is None else devices
  if process_index is None:
    process_index = jax.process_index()
  own = [one for one in devices if one.process_index == process_index]
  try:
    return make_mesh(shape, own)
  except ValueError as error_of_own:
    try:
      return make_mesh(shape, devices)
    except ValueError as error:
      if str(error) == str(error_of_own):
        raise
      raise ValueError(f"{error}; or to the {len(own)} of a process") from None


def num_slices(devices: Sequence[Any]) -> int:
  """How many slices of TPUs these devices form; 1 for any other devices."""
  if devices[0].platform != "tpu":
    return 1
  # TPUs that are all of the machine's may have no such attribute.
  return len({getattr(device, "slice_index", 0) for device in devices})


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
      num_shards = _num_shards(mesh, mesh_axis)
      if size % num_shards:
        raise ValueError(
          f"{jax.tree_util.keystr(path)} has {size} along {axis!r}, which"
          f" {num_shards} devices on mesh axis {mesh_axis!r} do not"
          " divide; change the mesh or the model's size"
        )
      placed.append(mesh_axis)
    return NamedSharding(mesh, PartitionSpec(*placed))

  return jax.tree_util.tree_map_with_path(sharding, params, names)


def mesh_of(tree: Any) -> Mesh | None:
  """The mesh of several devices that arrays, or their shapes, are spread on."""
  sharding = getattr(jax.tree.leaves(tree)[0], "sharding", None)
  mesh = sharding.mesh if isinstance(sharding, NamedSharding) else None
  return mesh if isinstance(mesh, Mesh) and mesh.size > 1 else None


def jit_by_mesh(
  function: Callable[..., Any],
  rules: Rules = STANDARD_RULES,
  **options: Any,
) -> Callable[[Any], Any]:
  """params -> `function` compiled for their mesh, activations by the rules.

  `options` are jax.jit's. What is traced for one mesh is not taken for another,
  as jax.jit alone would: it does not look where arguments lie when it traces.
  """

  @functools.cache
  def compiled(mesh: Mesh | None) -> Any:
    if mesh is None:
      return jax.jit(function, **options)
    return jax.jit(activation_rules(mesh, rules)(function), **options)

  return lambda params: compiled(mesh_of(params))


@contextlib.contextmanager
def activation_rules(mesh: Mesh, rules: Rules) -> Iterator[None]:
  """What is traced within has its activations laid out by these rules.

  Without them XLA may take the layout of the parameters for the activations,
  and then computes each row on all devices of `fsdp`, a part of its width on
  each.
  """
  with (
    nn_partitioning.axis_rules(rules),
    jax.sharding.use_abstract_mesh(mesh.abstract_mesh),
  ):
    yield


def constrain(x: jax.Array, *logical_axes: str | None) -> jax.Array:
  """Lays out an activation by the rules in force; without any, as it comes.

  A dimension whose logical axis is None is whole on each device.

  Those of `activation_rules`, or of T5X where its trainer runs the model. An
  array with an axis of which they do not speak is left as it comes, and a
  dimension that its mesh axes do not divide is left whole: 4 key/value heads
  on 8 devices, say.
  """
  known = {axis for axis, _ in nn_partitioning.get_axis_rules()}
  is_meshed = not jax.sharding.get_abstract_mesh().empty
  if is_meshed and known.issuperset(filter(None, logical_axes)):
    return jax.lax.with_sharding_constraint(x, spec(x.shape, logical_axes))
  return x


def spec(
  shape: Sequence[int], logical_axes: Sequence[str | None]
) -> PartitionSpec:
  """Where `constrain` lays an array of this shape, on a mesh in force."""
  mesh = jax.sharding.get_abstract_mesh()
  mesh_axes = nn_partitioning.logical_to_mesh_axes(tuple(logical_axes)) or ()
  divided = (
    axis if size % _num_shards(mesh, axis) == 0 else None
    for size, axis in zip(shape, mesh_axes, strict=False)
  )
  return PartitionSpec(*divided)


def abstract(
  x: jax.ShapeDtypeStruct,
  logical_axes: Sequence[str | None],
  mesh: Mesh | None,
  rules: Rules = STANDARD_RULES,
) -> jax.ShapeDtypeStruct:
  """A shape that lies as `constrain` lays its array; without a mesh nowhere."""
  if mesh is None:
    return x
  with activation_rules(mesh, rules):
    sharding = NamedSharding(mesh, spec(x.shape, logical_axes))
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def num_shards(logical_axis: str, size: int) -> int:
  """Into how many parts `constrain` cuts an axis of this size."""
  mesh = jax.sharding.get_abstract_mesh()
  (axis,) = spec((size,), (logical_axis,)) or (None,)
  return 1 if mesh.empty else _num_shards(mesh, axis)


def _num_shards(
  mesh: Mesh | jax.sharding.AbstractMesh, axis: str | tuple[str, ...] | None
) -> int:
  axes = (axis,) if isinstance(axis, str) else axis or ()
  return math.prod(mesh.shape[name] for name in axes)


def place(tree: Any, like: Any) -> Any:
  """Arrays with the dtypes and shardings of the shapes in `like`.

  Of several processes each gives the same ones on its own, on the host or on
  its devices; or all of them together arrays on the devices of all.
  """

  def put(x: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    sharding = leaf.sharding
    assert isinstance(sharding, jax.sharding.Sharding)
    if isinstance(x, jax.Array) and (
      sharding.is_fully_addressable or not x.is_fully_addressable
    ):
      return jax.device_put(x.astype(leaf.dtype), sharding)
    # JAX moves no array of one process to the devices of others.
    on_host = np.asarray(x)
    return jax.make_array_from_callback(
      leaf.shape, sharding, lambda at: on_host[at].astype(leaf.dtype)
    )

  return jax.tree.map(put, tree, like)


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Rows over the data axes, everything else whole."""
  return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
  """The whole array on each device."""
  return NamedSharding(mesh, PartitionSpec())


def num_row_shards(mesh: Mesh) -> int:
  """Into how many parts the mesh divides the rows of a batch."""
  return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def num_shards_of_rows(params: Any) -> int:
  """`num_row_shards` of the mesh that has the parameters; 1 without one."""
  mesh = mesh_of(params)
  return num_row_shards(mesh) if mesh else 1


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


def row_part(mesh: Mesh, process_index: int | None = None) -> tuple[int, int]:
  """(i, n): a process has the i-th of n parts of each batch; of this process.

  Processes have the same part where their devices are on the same rows, as
  those that share a `tensor` axis are.

  Raises ValueError where parts are neither the same nor apart.
  """
  if process_index is None:
    process_index = jax.process_index()
  num_rows = num_row_shards(mesh)
  places = batch_sharding(mesh).devices_indices_map((num_rows,))
  rows_of: dict[int, set[int]] = {}
  for device, (rows,) in places.items():
    first, *_ = rows.indices(num_rows)
    rows_of.setdefault(device.process_index, set()).add(first)
  parts = sorted({tuple(sorted(rows)) for rows in rows_of.values()})
  if sum(map(len, parts)) != num_rows or len(set(map(len, parts))) > 1:
    raise ValueError(
      f"on the mesh {dict(mesh.shape)} the devices of some processes share a"
      " part of their rows with others; take a size of `tensor` that divides,"
      " or is a multiple of, the devices of a process"
    )
  return parts.index(tuple(sorted(rows_of[process_index]))), len(parts)


def shard_batch(
  mesh: Mesh, batch: Mapping[str, np.ndarray], batch_size: int
) -> dict[str, Any]:
  """This process's rows (`row_part`) as parts of arrays [batch_size, ...]."""
  sharding = batch_sharding(mesh)
  return {
    name: jax.make_array_from_process_local_data(
      sharding, rows, (batch_size, *rows.shape[1:])
    )
    for name, rows in batch.items()
  }


def to_host(tree: Any) -> Any:
  """The arrays as NumPy's on every process, whichever devices hold them.

  All processes have to ask for them together.
  """
  is_here = all(
    leaf.is_fully_addressable or leaf.is_fully_replicated
    for leaf in jax.tree.leaves(tree)
    if isinstance(leaf, jax.Array)
  )
  if is_here:
    return jax.device_get(tree)
  return multihost_utils.process_allgather(tree, tiled=True)
