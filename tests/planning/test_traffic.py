"""Tests of mathft_jax.planning.traffic."""

import jax
import jax.numpy as jnp
import pytest

from mathft_jax.models import generator, transformer
from mathft_jax.planning import hlo, traffic


@pytest.fixture(scope="module")
def compiled(make_config):
  """The gradient of a small model, scanned and written out."""

  def compile_one(scan_layers):
    config = make_config(
      vocab_size=512,
      num_layers=3,
      model_dim=128,
      mlp_dim=256,
      head_dim=32,
      scan_layers=scan_layers,
    )
    model = generator.Generator(transformer.Transformer(config), None)
    params = jax.eval_shape(
      lambda: model.get_initial_variables(jax.random.key(0), {})["params"]
    )
    tokens = jax.ShapeDtypeStruct((4, 64), jnp.int32)
    batch = {
      "decoder_input_tokens": tokens,
      "decoder_target_tokens": tokens,
      "decoder_loss_weights": jax.ShapeDtypeStruct((4, 64), jnp.float32),
    }
    gradient = jax.grad(lambda p, b: model.loss_fn(p, b, None)[0])
    return jax.jit(gradient).lower(params, batch).compile()

  return {scan: compile_one(scan) for scan in (True, False)}


@pytest.mark.parametrize("scan_layers", [True, False])
def test_loops_counted_once_bytes_are_those_that_xla_counts(
  compiled, scan_layers, monkeypatch
):
  monkeypatch.setattr(hlo, "trip_count", lambda *unused: 1)
  found = traffic.hbm_bytes(hlo.parse(compiled[scan_layers].as_text()))
  expected = compiled[scan_layers].cost_analysis()["bytes accessed"]
  assert found == pytest.approx(expected, rel=0.01)


def test_loops_count_as_often_as_they_run(compiled):
  module = hlo.parse(compiled[True].as_text())
  loops = [
    hlo.trip_count(module, computation, instruction)
    for computation in module.computations.values()
    for instruction in computation.values()
    if instruction.opcode == "while"
  ]
  assert loops.count(3) == 2  # Forward and backward.
  once = compiled[True].cost_analysis()["bytes accessed"]
  assert traffic.hbm_bytes(module) > 1.5 * once


@pytest.mark.parametrize(
  ("line", "expected"),
  [
    ("%r = f32[4]{0} negate(%x)", 4 * 4 + 400 * 4),
    ("%r = f32[4]{0} dynamic-slice(%x, %i), dynamic_slice_sizes={4}", 36),
    ("%r = f32[4]{0:S(1)} dynamic-slice(%x, %i)", 20),
    ("%r = f32[400]{0} dynamic-update-slice(%x, %y, %i)", 2 * 4 * 4),
    ("%r = f32[400]{0} bitcast(%x)", 0),
    ("%r = f32[4]{0} fusion(%x, %i), calls=%sliced", 36),
    ("%r = f32[4]{0} fusion(%x, %i), calls=%nested", 36),
    ("%r = f32[400]{0} fusion(%x, %y, %i), calls=%updated", 36),
    ("%r = f32[400]{0:S(1)} fusion(%x), calls=%negated", 1600),
  ],
)
def test_what_an_instruction_moves_by_hand(line, expected):
  module = hlo.parse(f"""%sliced (p: f32[400], q: s32[]) -> f32[4] {{
  %p = f32[400]{{0}} parameter(0)
  %q = s32[] parameter(1)
  ROOT %s = f32[4]{{0}} dynamic-slice(%p, %q)
}}

%nested (p: f32[400], q: s32[]) -> f32[4] {{
  %p = f32[400]{{0}} parameter(0)
  %q = s32[] parameter(1)
  %b = f32[20,20]{{1,0}} bitcast(%p)
  %c = f32[400]{{0}} bitcast(%b)
  ROOT %f = f32[4]{{0}} fusion(%c, %q), calls=%sliced
}}

%updated (p: f32[400], u: f32[4], q: s32[]) -> f32[400] {{
  %p = f32[400]{{0}} parameter(0)
  %u = f32[4]{{0}} parameter(1)
  %q = s32[] parameter(2)
  ROOT %d = f32[400]{{0}} dynamic-update-slice(%p, %u, %q)
}}

%negated (p: f32[400]) -> f32[400] {{
  %p = f32[400]{{0}} parameter(0)
  ROOT %n = f32[400]{{0}} negate(%p)
}}

ENTRY %main (x: f32[400], y: f32[4], i: s32[]) -> f32[4] {{
  %x = f32[400]{{0}} parameter(0)
  %y = f32[4]{{0}} parameter(1)
  %i = s32[] parameter(2)
  ROOT {line}
}}
""")
  assert traffic.hbm_bytes(module) == expected
