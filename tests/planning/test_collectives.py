"""Tests of mathft_jax.planning.collectives, by hand and on 8 CPU devices."""

import pytest

from mathft_jax.planning import collectives, hlo

_GROUPS = [
  ("replica_groups={{0,1,2,3},{4,5,6,7}}", [[0, 1, 2, 3], [4, 5, 6, 7]]),
  (
    "replica_groups={{0,4},{1,5},{2,6},{3,7}}",
    [[0, 4], [1, 5], [2, 6], [3, 7]],
  ),
  ("replica_groups=[2,4]<=[8]", [[0, 1, 2, 3], [4, 5, 6, 7]]),
  ("replica_groups=[4,2]<=[2,4]T(1,0)", [[0, 4], [1, 5], [2, 6], [3, 7]]),
  (
    "replica_groups=[4,2]<=[2,2,2]T(0,2,1)",
    [[0, 2], [1, 3], [4, 6], [5, 7]],
  ),
  (
    "replica_groups=mesh['a'=2,'b'=4] {'b'}",
    [[0, 1, 2, 3], [4, 5, 6, 7]],
  ),
  (
    "replica_groups=mesh['a'=2,'b'=4] {'a'}",
    [[0, 4], [1, 5], [2, 6], [3, 7]],
  ),
  ("replica_groups=mesh['a'=2,'b'=4] {'a','b'}", [list(range(8))]),
  (
    "replica_groups=mesh['a'=8] {'a':(1)2}",
    [[0, 4], [1, 5], [2, 6], [3, 7]],
  ),
  (
    "replica_groups=mesh['a'=8] {'a':(2)2}",
    [[0, 2], [1, 3], [4, 6], [5, 7]],
  ),
  ("replica_groups={}", [list(range(8))]),
  ("dimensions={0}", [list(range(8))]),
  ("replica_groups=#something_else", []),
  ("source_target_pairs={{0,1},{1,0},{2,2}}", [[0, 1], [1, 0]]),
]


@pytest.mark.parametrize(("text", "expected"), _GROUPS)
def test_groups_are_read_in_each_form_that_xla_writes(text, expected):
  found = collectives.device_groups(f", channel_id=1, {text}, x=true", 8)
  assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(
  ("groups", "axes"),
  [
    ([[0, 1], [2, 3], [4, 5], [6, 7]], ("tensor",)),
    ([[0, 2], [1, 3], [4, 6], [5, 7]], ("fsdp",)),
    ([[0, 4], [1, 5]], ("data",)),
    ([[0, 1, 2, 3], [4, 5, 6, 7]], ("fsdp", "tensor")),
    ([[0, 1, 2, 3, 4, 5, 6, 7]], ("data", "fsdp", "tensor")),
    ([[0, 7]], ("data", "fsdp", "tensor")),
    ([], ()),
  ],
)
def test_axes_are_those_along_which_groups_reach(groups, axes):
  assert collectives.axes_of(groups, dict(data=2, fsdp=2, tensor=2)) == axes


def _program(line: str) -> hlo.Module:
  return hlo.parse(f"""ENTRY %main (p: f32[8,16]) -> f32[8,16] {{
  %p = f32[8,16]{{1,0}} parameter(0)
  {line}
}}
""")


@pytest.mark.parametrize(
  ("opcode", "result", "sent"),
  [
    # An operand of 512 bytes, in groups of 4.
    ("all-gather", "f32[32,16]{1,0}", 3 * 512),
    ("all-reduce", "f32[8,16]{1,0}", 2 * 3 / 4 * 512),
    ("reduce-scatter", "f32[2,16]{1,0}", 3 / 4 * 512),
    ("all-to-all", "f32[8,16]{1,0}", 3 / 4 * 512),
    ("all-gather-start", "(f32[8,16]{1,0}, f32[32,16]{1,0})", 3 * 512),
  ],
)
def test_a_ring_sends_what_it_must(opcode, result, sent):
  module = _program(
    f"ROOT %r = {result} {opcode}(%p), replica_groups=[2,4]<=[8]"
  )
  (found,) = collectives.find(module, dict(data=2, fsdp=4))
  assert found.kind == opcode.removesuffix("-start")
  assert found.axes == ("fsdp",)
  assert (found.sent_bytes, found.count) == (pytest.approx(sent), 1)


def test_the_end_of_an_operation_and_groups_of_one_send_nothing():
  done = _program("ROOT %r = f32[8,16]{1,0} all-gather-done(%p)")
  alone = _program(
    "ROOT %r = f32[8,16]{1,0} all-reduce(%p), replica_groups=[8,1]<=[8]"
  )
  for module in (done, alone):
    assert collectives.find(module, dict(data=2, fsdp=4)) == []


def test_a_fused_reduction_and_slice_is_a_reduce_scatter():
  module = hlo.parse("""%all-reduce-scatter.1 (p: f32[8,16]) -> f32[2,16] {
  %p = f32[8,16]{1,0} parameter(0)
  %r = f32[8,16]{1,0} all-reduce(%p), replica_groups=[2,4]<=[8]
  ROOT %s = f32[2,16]{1,0} dynamic-slice(%r)
}

ENTRY %main (x: f32[8,16]) -> f32[2,16] {
  %x = f32[8,16]{1,0} parameter(0)
  ROOT %f = f32[2,16]{1,0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1
}
""")
  (found,) = collectives.find(module, dict(data=2, fsdp=4))
  assert found.kind == "reduce-scatter"
  assert found.sent_bytes == pytest.approx(3 / 4 * 512)


def test_the_steps_of_one_chain_count_once():
  line = (
    "%r{0} = f32[32,16]{{1,0}} all-gather(%p), channel_id={1}, replica_groups="
    '[2,4]<=[8], frontend_attributes={{chain_id="0"}}'
  )
  both = "\n  ".join([line.format(1, 5), line.format(2, 5), line.format(3, 6)])
  found = collectives.find(_program(both), dict(data=2, fsdp=4))
  assert len(found) == 2


def test_what_goes_to_other_slices_counts_apart():
  """Groups number the devices of one slice, [1, 4] of a mesh of [2, 4]."""
  attributes = (
    "channel_id=4, is_host_transfer=true, frontend_attributes="
    '{_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="%s"}'
  )
  for name, kind, sent in (
    ("ALL_REDUCE", "all-reduce", 2 * 1 / 2 * 512),
    ("ALL_GATHER", "all-gather", 512),
    ("ONE_TO_ONE", "one-to-one", 512),
  ):
    module = _program(
      "%r = f32[8,16]{1,0} all-reduce(%p), replica_groups={{0,1,2,3}}\n"
      "  %s = (f32[8,16]{1,0}, u32[], token[]) send(%r, %token), "
      f"{attributes % name}"
    )
    within, between = collectives.find(
      module, dict(replica=2, fsdp=4), num_slices=2
    )
    assert within.axes == ("fsdp",) and not within.is_between_slices
    assert within.sent_bytes == pytest.approx(2 * 3 / 4 * 512)
    assert (between.kind, between.axes) == (kind, ("replica",))
    assert between.is_between_slices
    assert between.sent_bytes == pytest.approx(sent)


def test_a_transfer_to_the_host_is_no_collective():
  module = _program("%s = (f32[8,16], u32[], token[]) send(%p, %t)")
  assert collectives.find(module, dict(replica=2, fsdp=4), num_slices=2) == []


# Devices are chosen when jax starts, so this runs in a process of its own.
_ON_EIGHT_DEVICES = """
import json
import jax, jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec as P
from mathft_jax.planning import collectives, hlo

mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("data", "fsdp"))

def f(x):
  def body(carry, _):
    return 0.1 * jax.lax.psum(carry, "fsdp"), None
  x, _ = jax.lax.scan(body, x, None, length=5)
  x = jax.lax.psum(x, "data")
  return jax.lax.all_gather(x, ("data", "fsdp"), tiled=True)

program = jax.jit(jax.shard_map(
  f, mesh=mesh, in_specs=P(("data", "fsdp")), out_specs=P(), check_vma=False))
text = program.lower(jax.ShapeDtypeStruct((64, 16), jnp.float32)).compile()
found = collectives.find(hlo.parse(text.as_text()), dict(mesh.shape))
print(json.dumps([[c.kind, c.axes, c.sent_bytes, c.count] for c in found]))
"""


def test_bytes_of_a_compiled_program_are_those_counted_by_hand(
  run_on_eight_devices,
):
  found, _ = run_on_eight_devices(_ON_EIGHT_DEVICES)
  # Each device has [8, 16] of float32, 512 bytes.
  assert sorted(found) == [
    ["all-gather", ["data", "fsdp"], 7 * 512, 1],
    ["all-reduce", ["data"], 2 * 1 / 2 * 512, 1],
    ["all-reduce", ["fsdp"], 5 * 2 * 3 / 4 * 512, 5],
  ]
