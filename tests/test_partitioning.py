"""Tests of mathft_jax.partitioning, most on eight simulated devices."""

import dataclasses

import jax
import numpy as np
import pytest

from mathft_jax import partitioning

# Devices are chosen when jax starts, so this runs in a process of its own.
_ON_EIGHT_DEVICES = """
import dataclasses, functools, json
import jax, jax.numpy as jnp, numpy as np
from mathft_jax import partitioning
from mathft_jax.models import generator, lora, transformer
from mathft_jax.training import optimizer, state, step

config = transformer.TransformerConfig(
  vocab_size=32, num_layers=2, model_dim=16, mlp_dim=32, num_heads=4,
  num_kv_heads=2, head_dim=8,
)
model = generator.Generator(transformer.Transformer(config), None)
rng = np.random.default_rng(0)
tokens = rng.integers(2, 32, (8, 12)).astype(np.int32)
batch = {
  "decoder_input_tokens": tokens,
  "decoder_target_tokens": tokens[:, ::-1].copy(),
  "decoder_loss_weights": (rng.random((8, 12)) < 0.7).astype(np.float32),
}
rule = optimizer.AdamW(optimizer.WarmupCosine(peak=1e-2))(4)


adapted = generator.Generator(transformer.Transformer(dataclasses.replace(
  config, lora=lora.LoraConfig(rank=4))), None)


def error(make):
  try:
    make()
  except ValueError as error:
    return str(error)


result = {"losses": {}, "gradients": {}, "shards": {}, "errors": []}
for name, shape in {
  "one device": {},
  "data": None,
  "fsdp": {"fsdp": 8},
  "fsdp, tensor": {"fsdp": 4, "tensor": 2},
  "replica, fsdp, tensor": {"replica": 2, "fsdp": 2, "tensor": 2},
  "heads that do not divide": {"data": 2, "tensor": 4},
  "all": {"data": 2, "fsdp": 2, "tensor": -1},
}.items():
  devices = jax.devices()[:1] if shape == {} else None
  mesh = partitioning.make_mesh(shape, devices)
  abstract = state.abstract_state(model, rule, mesh)
  current = state.create(model, rule, abstract, seed=0)
  shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)

  def loss_fn(*args):
    with partitioning.activation_rules(mesh, partitioning.STANDARD_RULES):
      return model.loss_fn(*args)

  gradients, _ = jax.jit(
    jax.grad(loss_fn, has_aux=True), out_shardings=(shardings.params, None)
  )(current.params, partitioning.shard_batch(mesh, batch, 8), None)
  result["gradients"][name] = [
    np.asarray(leaf).ravel().tolist() for leaf in jax.tree.leaves(gradients)
  ]
  run = jax.jit(
    functools.partial(step.train_step, loss_fn=loss_fn, optimizer=rule),
    in_shardings=(shardings, partitioning.batch_sharding(mesh)),
    out_shardings=(shardings, partitioning.replicated(mesh)),
    donate_argnums=0,
  )
  result["losses"][name] = []
  for _ in range(2):
    current, metrics = run(current, partitioning.shard_batch(mesh, batch, 8))
    result["losses"][name].append(float(metrics["loss"].compute()))
  leaf = current.params["layers"]["mlp"]["up"]
  result["shards"][name] = [
    list(leaf.addressable_shards[0].data.shape),
    list(current.opt_state[1][0].mu["layers"]["mlp"]["up"]
         .addressable_shards[0].data.shape),
    list(partitioning.shard_batch(mesh, batch, 8)["decoder_input_tokens"]
         .addressable_shards[0].data.shape),
  ]
result["adapters"] = {}
for name, shape in {
  "one device": {}, "all": {"data": 2, "fsdp": 2, "tensor": -1}
}.items():
  devices = jax.devices()[:1] if shape == {} else None
  mesh = partitioning.make_mesh(shape, devices)
  abstract = state.abstract_state(adapted, rule, mesh)
  current = state.create(adapted, rule, abstract, seed=0)
  shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
  run = jax.jit(
    functools.partial(
      step.train_step,
      loss_fn=partitioning.activation_rules(mesh, partitioning.STANDARD_RULES)(
        adapted.loss_fn),
      optimizer=rule, num_microbatches=2),
    in_shardings=(shardings, partitioning.batch_sharding(mesh)),
    out_shardings=(shardings, partitioning.replicated(mesh)),
    donate_argnums=0,
  )
  losses = []
  for _ in range(4):
    current, metrics = run(current, partitioning.shard_batch(mesh, batch, 8))
    losses.append(float(metrics["loss"].compute()))
  mlp = current.params["layers"]["mlp"]
  moments = current.opt_state[1][0].mu["layers"]["mlp"]
  result["adapters"][name] = [losses, np.asarray(mlp["up_lora_b"]).tolist(), [
    list(leaf.addressable_shards[0].data.shape)
    for leaf in (mlp["up_lora_a"], mlp["up_lora_b"], moments["up_lora_b"])
  ], sorted(moments)]
tensor = partitioning.make_mesh({"tensor": 8})
odd = {"w": jax.ShapeDtypeStruct((12,), np.float32)}
from flax.linen import partitioning as nn_partitioning
axes = {"w_axes": nn_partitioning.AxisMetadata(names=("mlp",))}
result["errors"] = [
  error(lambda: partitioning.param_shardings(tensor, odd, axes)),
  error(lambda: partitioning.make_mesh({"data": 3})),
  error(lambda: partitioning.make_mesh({"data": 3, "fsdp": -1})),
  error(lambda: partitioning.check_batch_size(mesh, 12, 2)),
  error(lambda: partitioning.check_batch_size(mesh, 16, 2)),
]
fsdp = partitioning.make_mesh({"fsdp": 8})



@jax.jit
@partitioning.activation_rules(fsdp, partitioning.STANDARD_RULES)
def spread(x):
  return partitioning.constrain(x, "batch", "embed")


result["spread"] = [
  list(spread(jax.device_put(np.ones((rows, 4)), partitioning.replicated(fsdp)))
       .addressable_shards[0].data.shape)
  for rows in (8, 3)
]
whole = jax.device_put(np.ones((8, 4)), partitioning.replicated(fsdp))
found = partitioning.mesh_of({"w": whole})
result["mesh of parameters"] = {a: n for a, n in found.shape.items() if n > 1}
double = partitioning.jit_by_mesh(
  lambda params, x: partitioning.constrain(2 * x, "batch", None))
result["laid out"] = [
  list(double(params)(params, whole).addressable_shards[0].data.shape)
  for params in (whole, np.ones(1))
]
bfloat16 = jax.ShapeDtypeStruct(
  (8, 6), jnp.bfloat16,
  sharding=jax.sharding.NamedSharding(
    partitioning.make_mesh({"fsdp": 4, "tensor": 2}),
    jax.sharding.PartitionSpec("fsdp", "tensor")))
on_host = rng.normal(size=(8, 6)).astype(np.float32)
result["placed"] = [
  [
    str(placed.dtype), list(placed.addressable_shards[0].data.shape),
    bool((np.asarray(placed) == on_host.astype(jnp.bfloat16)).all()),
  ]
  for given in (on_host, jnp.asarray(on_host))
  for placed in [partitioning.place({"w": given}, {"w": bfloat16})["w"]]
]
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def on_eight_devices(run_on_eight_devices):
  result, warnings = run_on_eight_devices(_ON_EIGHT_DEVICES)
  return {**result, "warnings": warnings}


@pytest.mark.parametrize(
  "mesh",
  [
    "data",
    "fsdp",
    "fsdp, tensor",
    "replica, fsdp, tensor",
    "heads that do not divide",
    "all",
  ],
)
def test_losses_and_gradients_are_the_same_on_all_meshes(
  on_eight_devices, mesh
):
  losses = on_eight_devices["losses"]
  assert losses["one device"][0] > losses["one device"][1]
  assert losses[mesh] == pytest.approx(losses["one device"], rel=1e-5)
  gradients = on_eight_devices["gradients"]
  for found, expected in zip(
    gradients[mesh], gradients["one device"], strict=True
  ):
    largest = np.abs(expected).max()
    assert largest > 1e-3
    np.testing.assert_allclose(found, expected, atol=5e-6 * largest)


def test_no_table_or_activation_is_copied_whole_to_go_on(on_eight_devices):
  """XLA says so where it finds no other way from one layout to the next."""
  assert "rematerialization" not in on_eight_devices["warnings"]


def test_parameters_moments_and_rows_lie_where_the_rules_say(on_eight_devices):
  """[layers, embed, mlp] is [2, 16, 32], and the batch [8, 12]."""
  shards = on_eight_devices["shards"]
  assert shards["data"] == [[2, 16, 32], [2, 16, 32], [1, 12]]
  assert shards["fsdp, tensor"] == [[2, 4, 16], [2, 4, 16], [2, 12]]
  assert shards["all"] == [[2, 8, 16], [2, 8, 16], [2, 12]]


def test_adapters_learn_the_same_on_a_mesh_and_lie_as_their_matrix_does(
  on_eight_devices,
):
  """Up is [layers, embed, mlp], [2, 16, 32]; the rank, 4, is whole."""
  losses, values, _, names = on_eight_devices["adapters"]["one device"]
  assert losses[0] > losses[-1]
  assert names == [
    *("down_lora_a", "down_lora_b", "gate_lora_a", "gate_lora_b"),
    *("up_lora_a", "up_lora_b"),
  ]
  on_mesh = on_eight_devices["adapters"]["all"]
  assert on_mesh[0] == pytest.approx(losses, rel=1e-5)
  largest = np.abs(values).max()
  assert largest > 1e-3
  np.testing.assert_allclose(on_mesh[1], values, atol=1e-3 * largest)
  assert on_mesh[2] == [[2, 8, 4], [2, 4, 16], [2, 4, 16]]


def test_what_does_not_divide_is_named(on_eight_devices):
  indivisible, wrong, wrong_rest, batch, fine = on_eight_devices["errors"]
  assert "['w'] has 12 along 'mlp', which 8 devices" in indivisible
  assert "does not hold the 8 devices" in wrong
  assert "does not hold the 8 devices" in wrong_rest
  assert "a batch of 12 does not divide into 4 data shards x 2" in batch
  assert "a multiple of 8" in batch
  assert fine is None


def test_a_mesh_of_one_device_has_all_axes():
  mesh = partitioning.make_mesh(None, jax.devices()[:1])
  assert dict(mesh.shape) == dict.fromkeys(partitioning.MESH_AXES, 1)


@pytest.mark.parametrize(
  ("shape", "message"),
  [
    ({"model": 1}, r"no mesh axis \['model'\]"),
    ({"data": -1, "fsdp": -1}, "only one mesh axis may be -1"),
    ({"data": 0, "fsdp": -1}, "does not hold the 1 devices"),
    ({"tensor": 2}, "does not hold the 1 devices"),
  ],
)
def test_a_mesh_that_cannot_be_is_an_error(shape, message):
  with pytest.raises(ValueError, match=message):
    partitioning.make_mesh(shape, jax.devices()[:1])


def test_a_logical_axis_without_a_rule_is_named():
  from flax.linen import partitioning as nn_partitioning

  mesh = partitioning.make_mesh({}, jax.devices()[:1])
  params = {"w": jax.ShapeDtypeStruct((4,), "float32")}
  axes = {"w_axes": nn_partitioning.AxisMetadata(names=("depth",))}
  with pytest.raises(ValueError, match="the logical axis 'depth', for which"):
    partitioning.param_shardings(mesh, params, axes)


def test_rows_are_left_alone_without_a_mesh_and_where_they_do_not_divide(
  on_eight_devices,
):
  x = jax.numpy.ones((3, 4))
  assert partitioning.constrain(x, "batch", "embed") is x
  alone = partitioning.make_mesh({}, jax.devices()[:1])
  with partitioning.activation_rules(alone, [("batch", "data")]):
    assert partitioning.constrain(x, "batch", "embed") is x  # No rule.
  assert on_eight_devices["spread"] == [[1, 4], [3, 4]]


def test_arrays_of_host_and_device_go_where_shapes_say(on_eight_devices):
  assert on_eight_devices["placed"] == 2 * [["bfloat16", [2, 3], True]]


@pytest.mark.parametrize("name", ["v5e:4x4", "v5p:2x2x4"])
def test_tensor_neighbours_are_linked_on_a_tpu(name):
  pytest.importorskip("libtpu", reason="no TPU compiler: pip install libtpu")
  from mathft_jax.planning import topology

  devices = topology.devices(name).devices
  mesh = partitioning.make_mesh({"fsdp": -1, "tensor": 2}, devices)
  assert mesh.shape["fsdp"] == 8
  for first, second in mesh.devices.reshape(-1, 2):
    steps = zip(first.coords, second.coords, strict=True)
    assert sum(abs(a - b) for a, b in steps) == 1


@dataclasses.dataclass(frozen=True)
class _Device:
  """What of a device its place in a mesh depends on."""

  platform: str
  slice_index: int
  coords: tuple[int, int, int]
  id: int
  device_kind: str = "TPU v4"
  core_on_chip: int = 0
  process_index: int = 0


def _slices(number: int, platform: str = "tpu") -> list[_Device]:
  """Devices of so many slices of 2x4 chips, the last slice first."""
  return [
    _Device(platform, index, (x, y, 0), 100 * index + 4 * x + y)
    for index in reversed(range(number))
    for x in range(2)
    for y in range(4)
  ]


@pytest.mark.parametrize(
  ("shape", "sizes"),
  [
    (None, (2, 8, 1, 1)),
    ({"fsdp": -1}, (2, 1, 8, 1)),
    ({"fsdp": 4, "tensor": 2}, (2, 1, 4, 2)),
    ({"replica": -1, "fsdp": 8}, (2, 1, 8, 1)),
    ({"replica": 4, "tensor": 2, "fsdp": -1}, (4, 1, 2, 2)),
  ],
)
def test_replica_runs_over_slices_and_no_other_axis_leaves_one(shape, sizes):
  mesh = partitioning.make_mesh(shape, _slices(2))
  assert mesh.devices.shape == sizes
  indices = np.vectorize(lambda device: device.slice_index)(mesh.devices)
  by_slice = indices.reshape(2, -1)
  assert (by_slice == [[0], [1]]).all()
  assert len({device.id for device in mesh.devices.flat}) == 16


@pytest.mark.parametrize(
  ("number", "shape", "message"),
  [
    (2, {"replica": 1, "fsdp": -1}, "runs over 2 slices of TPUs; set replica"),
    (
      3,
      {"replica": 2, "fsdp": 12},
      "to 3 or a multiple of it, or leave it out",
    ),
    (2, {"fsdp": 16}, "does not hold the 16 devices of this run, 2 slices"),
  ],
)
def test_an_axis_that_would_leave_its_slice_is_an_error(number, shape, message):
  with pytest.raises(ValueError, match=message):
    partitioning.make_mesh(shape, _slices(number))


@pytest.mark.parametrize(
  ("shape", "parts"),
  [
    ({"data": 8}, [(0, 4), (1, 4), (2, 4), (3, 4)]),
    ({"replica": 2, "fsdp": 4}, [(0, 4), (1, 4), (2, 4), (3, 4)]),
    ({"fsdp": 4, "tensor": 2}, [(0, 4), (1, 4), (2, 4), (3, 4)]),
    # Two processes hold each tensor, and read the same rows.
    ({"fsdp": 2, "tensor": 4}, [(0, 2), (0, 2), (1, 2), (1, 2)]),
    ({"tensor": 8}, [(0, 1), (0, 1), (0, 1), (0, 1)]),
  ],
)
def test_each_process_has_the_rows_of_its_devices(shape, parts):
  devices = [
    _Device("cpu", 0, (i, 0, 0), i, process_index=i // 2) for i in range(8)
  ]
  mesh = partitioning.make_mesh(shape, devices)
  assert [partitioning.row_part(mesh, i) for i in range(4)] == parts


def test_processes_that_share_a_part_of_their_rows_are_an_error():
  devices = [
    _Device("cpu", 0, (i, 0, 0), i, process_index=i // 3) for i in range(6)
  ]
  mesh = partitioning.make_mesh({"data": 3, "tensor": 2}, devices)
  with pytest.raises(ValueError, match="take a size of `tensor` that"):
    partitioning.row_part(mesh, 0)


@pytest.mark.parametrize(
  ("shape", "ids"),
  [
    (None, [4, 5, 6, 7]),
    ({"data": 2, "tensor": 2}, [4, 5, 6, 7]),
    ({"fsdp": -1, "tensor": 4}, [4, 5, 6, 7]),
    ({"data": -1, "tensor": 8}, list(range(8))),
    ({"fsdp": 2, "tensor": 4}, list(range(8))),
  ],
)
def test_a_process_has_a_mesh_of_its_own_where_its_devices_suffice(shape, ids):
  devices = [
    _Device("cpu", 0, (i, 0, 0), i, process_index=i // 4) for i in range(8)
  ]
  mesh = partitioning.make_replica_mesh(shape, devices, process_index=1)
  assert [device.id for device in mesh.devices.flat] == ids


@pytest.mark.parametrize(
  ("shape", "message"),
  [
    ({"tensor": 3}, "the 8 devices of this run; .*; or to the 4 of a process"),
    ({"model": 2}, r"no mesh axis \['model'\]; there are [^;]*$"),
  ],
)
def test_a_mesh_of_neither_one_process_nor_all_is_an_error(shape, message):
  devices = [
    _Device("cpu", 0, (i, 0, 0), i, process_index=i // 4) for i in range(8)
  ]
  with pytest.raises(ValueError, match=message):
    partitioning.make_replica_mesh(shape, devices, process_index=1)


def test_hosts_of_gpus_are_no_slices():
  """Each has a slice's number of its own there, and any axis may span them."""
  devices = _slices(2, "gpu")
  assert partitioning.num_slices(devices) == 1
  mesh = partitioning.make_mesh({"fsdp": -1}, devices)
  assert mesh.devices.reshape(-1).tolist() == devices


def test_neighbours_stay_linked_in_each_of_several_slices():
  pytest.importorskip("libtpu", reason="no TPU compiler: pip install libtpu")
  from mathft_jax.planning import topology

  devices = topology.devices("v5e:4x4*2").devices
  mesh = partitioning.make_mesh({"fsdp": -1, "tensor": 2}, devices)
  assert mesh.devices.shape == (2, 1, 8, 2)
  for first, second in mesh.devices.reshape(-1, 2):
    assert first.slice_index == second.slice_index
    steps = zip(first.coords, second.coords, strict=True)
    assert sum(abs(a - b) for a, b in steps) == 1


def test_arrays_of_one_device_lie_on_no_mesh(on_eight_devices):
  one = partitioning.make_mesh({}, jax.devices()[:1])
  sharding = partitioning.replicated(one)
  shape = jax.ShapeDtypeStruct((4,), np.float32, sharding=sharding)
  assert partitioning.mesh_of({"w": shape}) is None
  assert partitioning.mesh_of({"w": np.ones(4)}) is None
  assert on_eight_devices["mesh of parameters"] == {"fsdp": 8}


def test_a_function_is_laid_out_on_the_mesh_of_its_parameters(on_eight_devices):
  """Rows over 8 devices; on one they stay where they are."""
  assert on_eight_devices["laid out"] == [[1, 4], [8, 4]]
