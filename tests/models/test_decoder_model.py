"""Tests of mathft_jax.models.decoder_model: losses in chunks and at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mathft_jax.models import decoder_model, generator, transformer


@pytest.fixture
def no_logits_are_few(monkeypatch):
  monkeypatch.setattr(decoder_model, "_FEW_LOGITS", 0)


def _model(config, **changes) -> generator.Generator:
  return generator.Generator(
    transformer.Transformer(config),
    None,
    loss_normalizing_factor=7.0,
    z_loss=0.1,
    **changes,
  )


def _naive(config, params, batch):
  """Eq. 3 with z-loss, from all logits."""
  logits, _ = transformer.Transformer(config).apply(
    {"params": params}, *_inputs(batch)
  )
  log_z = jnp.log(jnp.sum(jnp.exp(logits), axis=-1))
  targets = batch["decoder_target_tokens"]
  is_target = targets[..., None] == jnp.arange(logits.shape[-1])[None, None]
  chosen = jnp.sum(jnp.where(is_target, logits, 0), axis=-1)
  losses = log_z - chosen + 0.1 * log_z**2
  return jnp.sum(losses * batch["decoder_loss_weights"]) / 7.0


def _inputs(batch):
  names = ("input_tokens", "positions", "segment_ids")
  return [batch.get(f"decoder_{name}") for name in names]


@pytest.mark.parametrize(
  ("pack", "tied", "softcap", "dtype"),
  [
    (True, True, None, jnp.float32),
    (False, True, 2.0, jnp.float32),
    (True, False, 2.0, jnp.float32),
    (False, False, None, jnp.float32),
    (True, True, 2.0, jnp.bfloat16),
    (False, False, None, jnp.bfloat16),
  ],
)
def test_a_loss_in_chunks_is_that_of_all_logits(
  no_logits_are_few, pack, tied, softcap, dtype, make_config, make_params,
  converted,
):  # fmt: skip
  config = make_config(
    num_layers=1, tie_embeddings=tied, logit_softcap=softcap, dtype=dtype
  )
  params = make_params(config)
  batch = jax.tree.map(jnp.asarray, converted(pack))
  model = _model(config, loss_chunk_length=5)

  def run(loss_fn):
    return jax.jit(jax.value_and_grad(loss_fn))(params)

  loss, gradients = run(lambda p: model.loss_fn(p, batch, None)[0])
  expected, by_brute_force = run(lambda p: _naive(config, p, batch))
  assert float(loss) == pytest.approx(float(expected), rel=1e-5)
  # In bfloat16 the gradients of the logits are rounded to its eight bits.
  share = 1e-5 if dtype == jnp.float32 else 2e-2

  def assert_close(found, wanted):
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(
      found, wanted, atol=share * np.abs(np.asarray(wanted)).max() + 1e-6
    )

  jax.tree.map(assert_close, gradients, by_brute_force)


def test_metrics_and_scores_in_chunks_are_those_of_all_logits(
  monkeypatch, make_config, make_params, converted
):
  config = make_config(num_layers=1)
  params = make_params(config)
  batch = jax.tree.map(jnp.asarray, converted(False))
  model = _model(config, loss_chunk_length=5)

  def run():
    _, metrics = jax.jit(model.eval_fn)(params, batch)
    values = {name: metric.compute() for name, metric in metrics.items()}
    return values, jax.jit(model.score_batch)(params, batch)

  at_once, scores = run()
  monkeypatch.setattr(decoder_model, "_FEW_LOGITS", 0)
  jax.clear_caches()
  in_chunks, scores_in_chunks = run()
  assert at_once.keys() == in_chunks.keys() == {"loss", "accuracy"}
  for name, value in at_once.items():
    assert float(in_chunks[name]) == pytest.approx(float(value), rel=1e-5)
  np.testing.assert_allclose(scores_in_chunks, scores, rtol=1e-5)


@pytest.mark.parametrize(
  ("vocabulary", "chunk_length", "is_whole"),
  [(2**18, 64, False), (2**18, 512, True), (2**10, 64, True)],
)
def test_many_logits_are_never_there_all_at_once(
  vocabulary, chunk_length, is_whole, make_config
):
  """4 rows of 512 tokens: no array of the traced gradient is [4, 512, V]."""
  config = make_config(vocab_size=vocabulary, num_layers=1)
  model = _model(config, loss_chunk_length=chunk_length)
  rows = jax.ShapeDtypeStruct((4, 512), jnp.int32)
  batch = {
    "decoder_input_tokens": rows,
    "decoder_target_tokens": rows,
    "decoder_loss_weights": jax.ShapeDtypeStruct((4, 512), jnp.float32),
  }
  params = jax.eval_shape(
    lambda: model.get_initial_variables(jax.random.key(0), {})["params"]
  )
  traced = jax.make_jaxpr(
    jax.grad(lambda p, b: model.loss_fn(p, b, None)[0]),
  )(params, batch)
  found = str(traced)
  shapes = f"f32[4,512,{vocabulary}]", f"f32[2048,{vocabulary}]"
  assert any(shape in found for shape in shapes) == is_whole
  assert (f"f32[4,64,{vocabulary}]" in found) == (not is_whole)


def test_a_chunk_without_positions_is_an_error(make_config):
  with pytest.raises(ValueError, match="loss_chunk_length is 0"):
    _model(make_config(), loss_chunk_length=0)


_ON_EIGHT_DEVICES = """
import json
import jax, jax.numpy as jnp, numpy as np
from mathft_jax import partitioning
from mathft_jax.models import decoder_model, generator, transformer

decoder_model._FEW_LOGITS = 0
model = generator.Generator(
  transformer.Transformer(
    transformer.TransformerConfig(
      vocab_size=4096, num_layers=1, model_dim=16, mlp_dim=16, num_heads=4,
      num_kv_heads=4, head_dim=4)),
  None, loss_chunk_length=8)
variables = model.get_initial_variables(jax.random.key(0), {})
rng = np.random.default_rng(0)
batch = {
  "decoder_input_tokens": rng.integers(1, 4096, (8, 64)).astype(np.int32),
  "decoder_target_tokens": rng.integers(1, 4096, (8, 64)).astype(np.int32),
  "decoder_loss_weights": np.ones((8, 64), np.float32),
}
found = {}
for name, shape in {
  "one": {"data": 1}, "data": {"data": 8}, "all": {"data": 2, "fsdp": 2,
                                                   "tensor": 2}}.items():
  mesh = partitioning.make_mesh(
    shape, jax.devices()[: 1 if name == "one" else 8])
  shardings = partitioning.param_shardings(
    mesh, variables["params"], variables["params_axes"])
  laid_out = partitioning.activation_rules(mesh, partitioning.STANDARD_RULES)
  run = jax.jit(
    jax.value_and_grad(laid_out(lambda p, b: model.loss_fn(p, b, None)[0])),
    in_shardings=(shardings, partitioning.batch_sharding(mesh)),
    out_shardings=(partitioning.replicated(mesh), shardings))
  params = jax.device_put(variables["params"], shardings)
  rows = partitioning.shard_batch(mesh, batch, 8)
  compiled = run.lower(params, rows).compile()
  loss, gradients = compiled(params, rows)
  found[name] = {
    "loss": float(loss),
    "gradients": [
      float(jnp.linalg.norm(g)) for g in jax.tree.leaves(gradients)],
    "chunk_logits": [
      size for size in ([1, 8, 4096], [2, 8, 2048], [8, 8, 4096])
      if "f32[%d,%d,%d]" % tuple(size) in compiled.as_text()
    ],
  }
print(json.dumps(found))
"""


def test_each_device_takes_the_logits_of_its_own_rows(run_on_eight_devices):
  """Of 8 rows and 4,096 words, however rows and head are spread."""
  found, _ = run_on_eight_devices(_ON_EIGHT_DEVICES)
  one = found["one"]
  for name in ("data", "all"):
    for number in ("loss", "gradients"):
      assert found[name][number] == pytest.approx(one[number], rel=1e-4)
  assert one["chunk_logits"] == [[8, 8, 4096]]
  assert found["data"]["chunk_logits"] == [[1, 8, 4096]]
  assert found["all"]["chunk_logits"] == [[2, 8, 2048]]
