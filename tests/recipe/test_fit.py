"""Tests of mathft_jax.recipe.fit; what needs devices runs in a subprocess."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from mathft_jax import partitioning
from mathft_jax.models import generator, transformer
from mathft_jax.planning import program, topology
from mathft_jax.recipe import fit
from mathft_jax.training import finetune

_MODEL = """
import json
from mathft_jax.data import vocabulary
from mathft_jax.decoding import sampling
from mathft_jax.inference import sampler, scorer
from mathft_jax.models import evaluator, generator, transformer
from mathft_jax.planning import program, topology
from mathft_jax.recipe import fit
from mathft_jax.training import finetune

words = vocabulary.load_vocabulary("arith")
module = transformer.Transformer(transformer.TransformerConfig(
  vocab_size=512, num_layers=2, model_dim=64, mlp_dim=96, num_heads=4,
  num_kv_heads=2, head_dim=16))
model = generator.Generator(module, words)
training = finetune.TrainingConfig(
  num_steps=10, batch_size=8, feature_lengths={"inputs": 8, "targets": 8},
  eval_period=5, mesh_shape={"data": 2, "fsdp": 2, "tensor": 2})
parts = [
  fit.Training("train", model, training),
  fit.Sampling("sample", model, sampler.SamplingConfig(
    num_candidates=4, num_slots=64, max_prompt_tokens=8, max_tokens=5,
    ), fit.Placed(training.mesh_shape, training.rules)),
  fit.Scoring("score", evaluator.Evaluator(module, words),
    scorer.ScoringConfig(tokens_per_batch=128, problems_per_batch=2), 32,
    fit.Placed(training.mesh_shape, training.rules)),
]
"""

_ON_EIGHT_DEVICES = (
  _MODEL
  + """
place = topology.devices("h100:8")
found = {}
for part in parts:
  lowered = fit.lower(part, place.devices)
  compiled = program.compile_program(lowered, place.device)
  sent = compiled.costs.sent_bytes
  found[part.name] = [
    dict(compiled.arguments), compiled.temporary_bytes, compiled.needed_bytes,
    compiled.fits, {"+".join(axes): size for axes, size in sent.items()},
  ]
print(json.dumps(found))
"""
)


def _run(code, *options):
  ran = subprocess.run(
    [sys.executable, "-c", code, *options],
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
  )
  assert ran.returncode == 0, ran.stderr
  return ran.stdout


@pytest.fixture(scope="module")
def on_eight_devices():
  return json.loads(_run(_ON_EIGHT_DEVICES).splitlines()[-1])


def test_memory_is_that_of_the_shards_counted_by_hand(on_eight_devices):
  arguments, temporary, needed, fits, _ = on_eight_devices["train"]
  # fsdp divides the width 64, tensor what else a matrix has.
  embedding = 512 // 2 * 32
  attention = 2 * (32 * 4 * 16 // 2 + 32 * 2 * 16 // 2)
  mlp = 3 * 32 * 96 // 2
  norms = 2 * 32
  params = 4 * (embedding + 2 * (attention + mlp + norms) + 32)
  assert arguments == {
    "parameters": params,
    # Two moments; Adam's count, the schedule's, and the step.
    "optimizer state": 2 * params + 3 * 4,
    # 8 rows over 4 shards of rows; five features of 16 tokens.
    "batch": 5 * 2 * 16 * 4,
  }
  assert needed == sum(arguments.values()) + temporary
  assert temporary > params  # The gradients, at least.
  assert fits


def test_gradients_cross_the_axes_that_rows_are_spread_over(on_eight_devices):
  sent = on_eight_devices["train"][-1]
  assert sent.keys() >= {"data", "fsdp", "tensor"}


def test_sampler_and_scorer_take_the_shards_of_the_training(on_eight_devices):
  params = on_eight_devices["train"][0]["parameters"]
  arguments, *_ = on_eight_devices["sample"]
  assert arguments.keys() == {"parameters", "slots"}
  assert arguments["parameters"] == params
  # 16 lanes of 4 rows; two prompts of 8 tokens a lane, 5 tokens a row; keys and
  # values of two layers with two heads of 16 numbers, over all 8 devices.
  cached = 2 * 2 * (2 * 16) * (16 * 2 * 8 + 64 * 5) * 4 // 8
  # Rows and results, which are small, over 4 shards of rows.
  results = 16 * 2 * 5 * (5 + 5) * 4 // 4
  assert arguments["slots"] - cached - results in range(1, 4096)
  # Of the scorer also keys and values of 2 layers and 2 problems, 32 tokens of
  # 2 heads of width 16 each, whole on each device or its heads on two.
  shared = 2 * 4 * 2 * 2 * 2 * 32 * 16
  arguments, temporary, needed, *_ = on_eight_devices["score"]
  assert arguments == {"parameters": params}
  # Tokens and lengths are arguments too.
  others = needed - temporary - params
  assert others in range(shared // 2 + 1, shared + 4096)


def test_rows_stay_whole_on_their_devices_when_parameters_are_sharded(
  on_eight_devices,
):
  """Else each device computed all rows of its fsdp group.

  Looking up embeddings alone it does so, each device an eighth of the width.
  """
  code = (
    _MODEL
    + """
import dataclasses, re
place = topology.devices("cpu:8")
config = dataclasses.replace(training, mesh_shape={"fsdp": -1}, batch_size=8)
part = fit.Training("train", model, config)
text = fit.lower(part, place.devices).lowered.compile().as_text()
print(json.dumps(sorted(set(re.findall(r"f32\\[(\\d+,16,\\d+)\\]", text)))))
"""
  )
  shapes = json.loads(_run(code).splitlines()[-1])
  assert "1,16,64" in shapes
  of_all_rows = [shape for shape in shapes if shape.startswith("8,16,")]
  assert of_all_rows in ([], ["8,16,8"])


@pytest.fixture
def training(make_config, arith_vocabulary):
  config = make_config(vocab_size=arith_vocabulary.vocab_size)
  return fit.Training(
    "train step",
    generator.Generator(transformer.Transformer(config), arith_vocabulary),
    finetune.TrainingConfig(
      num_steps=10,
      batch_size=4,
      feature_lengths={"inputs": 8, "targets": 8},
      eval_period=5,
    ),
  )


def _compiled(name, arguments, needed, available):
  return program.Compiled(
    name, arguments, None, needed, available, None, None, 1.0
  )


def test_what_would_help_depends_on_what_is_large(training):
  mesh = partitioning.make_mesh({})
  many = _compiled("train step", {"parameters": 9, "batch": 1}, 20, 8)
  text = "\n".join(fit.advice(training, many, mesh))
  assert "spread them over more devices" in text
  few = _compiled("train step", {"parameters": 3, "batch": 1}, 20, 8)
  text = "\n".join(fit.advice(training, few, mesh))
  assert "now 4 a device" in text and "num_microbatches" in text
  assert 'TransformerConfig.remat = "full"' in text
  assert "loss_chunk_length" not in text
  config = dataclasses.replace(training.model.module.config, remat="full")
  model = dataclasses.replace(
    training.model,
    module=transformer.Transformer(config),
    loss_chunk_length=512,
  )
  changed = dataclasses.replace(training, model=model)
  text = "\n".join(fit.advice(changed, few, mesh))
  assert "remat" not in text and "a smaller loss_chunk_length than 512" in text


def test_the_largest_batch_is_in_rows_that_divide(training, monkeypatch):
  place = topology.Topology(
    "x", [*partitioning.make_mesh({}).devices.flat], None, True
  )
  tried = []

  def compile_program(lowered, device):
    del device
    size = lowered.arguments["batch"]["decoder_input_tokens"].shape[0]
    tried.append(size)
    return _compiled("train step", {}, size, 11)

  monkeypatch.setattr(program, "compile_program", compile_program)
  assert fit.largest_batch(training, place, True, 9) == (11, 12, 5)
  assert tried == [8, 16, 12, 10, 11]


def test_a_mesh_that_the_topology_does_not_hold_is_an_error(training):
  config = dataclasses.replace(training.config, mesh_shape={"tensor": 3})
  wrong = dataclasses.replace(training, config=config)
  devices = partitioning.make_mesh({}).devices.flatten().tolist()
  with pytest.raises(ValueError, match="does not hold the 1 devices"):
    fit.lower(wrong, devices)


def test_where_no_memory_is_known_nothing_is_said_to_fit(
  training, capsys, tmp_path
):
  out = tmp_path / "fit.json"
  run = fit.Fit("cpu:1", output=str(out)).run
  assert run([training]) == 0
  printed = capsys.readouterr().out
  assert "There is no memory to compare with: that of cpu:1 is" in printed
  assert "fits" not in printed.replace("whether this fits is not told", "")
  table = json.loads(out.read_text())
  assert table["fits"] is None and table["programs"][0]["fits"] is None


def test_between_slices_go_the_gradients_alone(tmp_path):
  pytest.importorskip("libtpu", reason="no TPU compiler: pip install libtpu")
  out = tmp_path / "fit.json"
  # Sizes of which TPUs need not fill up a shard.
  wide = _MODEL.replace(
    "model_dim=64, mlp_dim=96", "model_dim=256, mlp_dim=256"
  )
  code = (
    wide.replace("head_dim=16", "head_dim=128")
    + """
import dataclasses, sys
config = dataclasses.replace(training, mesh_shape={"fsdp": 2, "tensor": 2})
part = fit.Training("train", model, config)
sys.exit(fit.Fit("v5e:2x2*2", max_trials=0, output=sys.argv[1]).run([part]))
"""
  )
  printed = _run(code, str(out))
  assert "; 2 slices, 3.125 GB/s between them" in printed
  assert "B  sent to other slices" in printed and "DCN" in printed
  (row,) = json.loads(out.read_text())["programs"]
  assert row["mesh"] == {"replica": 2, "data": 1, "fsdp": 2, "tensor": 2}
  # A ring of two sends each gradient once, and those of the embeddings as they
  # come, from the lookup and from the logits; metrics add a few numbers.
  gradients = row["arguments_bytes"]["parameters"]
  embeddings = 4 * 512 // 2 * 256 // 2
  assert row["dcn_bytes"] == pytest.approx(gradients + embeddings, rel=0.1)
  assert "replica" not in "".join(row["sent_bytes"])


def test_the_sampler_takes_the_kernel_of_attention_on_a_mesh(tmp_path):
  """Rows of 128 tokens are long enough for it, and it has to know its mesh."""
  pytest.importorskip("libtpu", reason="no TPU compiler: pip install libtpu")
  code = (
    _MODEL
    + """
import jax
from mathft_jax import partitioning
from mathft_jax.training import state
place = topology.devices("v5e:2x4")
mesh = partitioning.make_mesh(training.mesh_shape, place.devices)
params = state.abstract_params(model, mesh)
prompts = jax.ShapeDtypeStruct((8, 128), jax.numpy.int32)
lowered = partitioning.jit_by_mesh(model.prefill)(params).lower(params, prompts)
text = lowered.compile().as_text()
print("kernels", text.count('custom_call_target="tpu_custom_call"') > 0)
"""
  )
  assert _run(code).splitlines()[-1:] == ["kernels True"]


def test_a_slice_of_v5e_is_compiled_for(tmp_path):
  pytest.importorskip("libtpu", reason="no TPU compiler: pip install libtpu")
  out = tmp_path / "fit.json"
  code = (
    _MODEL
    + """
import sys
sys.exit(fit.Fit("v5e:2x4", max_trials=0, output=sys.argv[1]).run(parts[:1]))
"""
  )
  printed = _run(code, str(out))
  assert "train step" not in printed and "Everything fits." in printed
  (row,) = json.loads(out.read_text())["programs"]
  assert row["fits"] and row["is_exact"]
  assert row["mesh"] == {"replica": 1, "data": 2, "fsdp": 2, "tensor": 2}
  # TPUs pad small arrays, so that these are lower bounds.
  assert row["needed_bytes"] > sum(row["arguments_bytes"].values())
  assert row["bound"] in ("compute", "memory", "network")
  assert 0 < row["max_mfu"] <= 1
  assert "data" in "".join(row["sent_bytes"])
