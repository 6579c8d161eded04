"""Batches and a language model that the tests of models share."""

import types

import numpy as np
import pytest


@pytest.fixture(scope="session")
def stub_vocabulary():
  """All that a generator reads of its vocabulary."""
  return types.SimpleNamespace(pad_id=0, eos_id=1, bos_id=None)


@pytest.fixture(scope="session")
def converted():
  """Batches as the real converter makes them, of the same made-up examples.

  `converted(pack)` is one batch of all rows; lengths are 7 and 5 tokens.
  """
  import tensorflow as tf

  from mathft_jax.data import converters

  lengths = {"inputs": 7, "targets": 5}
  rng = np.random.default_rng(0)
  examples = [
    {
      name: rng.integers(2, 31, rng.integers(1, most + 1)).astype(np.int32)
      for name, most in lengths.items()
    }
    for _ in range(9)
  ]

  def convert(pack: bool) -> dict[str, np.ndarray]:
    dataset = tf.data.Dataset.from_generator(
      lambda: iter(examples),
      output_signature={
        name: tf.TensorSpec([None], tf.int32) for name in lengths
      },
    )
    converter = converters.DecoderOnlyFeatureConverter(pack=pack)
    dataset = converter(dataset, task_feature_lengths=lengths)
    rows = list(dataset.as_numpy_iterator())
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

  return convert


# Problems with correct and incorrect candidates, some of them alike.
_GRADED = [
  ("1 + 1?", [("$1 + 1 = 2$", True), ("3", False), ("$1 + 1 = 1$", False)]),
  ("What is 7 + 8?", [("15", True), ("$7 + 8 = 15$", True), ("16", False)]),
  ("2 + 3?", [("5", True)]),
  ("4 + 4?", [("9", False), ("7 + 1", False)]),
]


@pytest.fixture(scope="session")
def graded():
  return _GRADED


@pytest.fixture(scope="session")
def grouped(arith_vocabulary):
  """Batches of groups as the tasks and the real converter make them.

  `grouped(texts, tokenize, width, pack)` is one batch of all rows, to which
  rows of padding are added until they are a multiple of three.
  """
  import tensorflow as tf

  from mathft_jax.data import converters, features

  def make(texts, tokenize, width: int, pack: bool) -> dict[str, np.ndarray]:
    def rows():
      for problem, candidates in _GRADED:
        solutions, is_correct = zip(*candidates, strict=True)
        yield {
          "problem_id": problem,
          "problem": problem,
          "solutions": list(solutions),
          "is_correct": list(is_correct),
        }

    dataset = tf.data.Dataset.from_generator(
      rows,
      output_signature={
        "problem_id": tf.TensorSpec([], tf.string),
        "problem": tf.TensorSpec([], tf.string),
        "solutions": tf.TensorSpec([None], tf.string),
        "is_correct": tf.TensorSpec([None], tf.bool),
      },
    )
    specs = features.pair_output_features(arith_vocabulary)
    dataset = tokenize(texts(dataset), specs).map(
      lambda row: {name: row[name] for name in specs}
    )
    converter = converters.PairFeatureConverter(pack=pack, width=width)
    found = list(
      converter(dataset, {"inputs": 70, "targets": 20}).as_numpy_iterator()
    )
    padding = -len(found) % 3
    return {
      name: np.concatenate(
        [
          np.stack([row[name] for row in found]),
          np.zeros((padding, *found[0][name].shape), found[0][name].dtype),
        ]
      )
      for name in found[0]
    }

  return make


class _Sequences:
  """Sequences of text, each read alone, by a full pass over the vocabulary."""

  def __init__(self, module, vocabulary):
    self._module = module
    self._vocabulary = vocabulary
    self._rows = []

  def add(self, inputs: list[int], targets: list[int]) -> int:
    """Returns the number of a sequence whose loss is on its targets."""
    self._rows.append((inputs, targets))
    return len(self._rows) - 1

  def add_verdict(self, problem: str, solution: str, word: str) -> int:
    from mathft_jax import prompts
    from mathft_jax.data import features

    tokens = features.evaluator_input_tokens(
      self._vocabulary, problem, solution
    )
    text = prompts.evaluator_inputs(problem, solution) + word
    return self.add(tokens, list(self._vocabulary.encode(text))[-1:])

  def add_solution(self, problem: str, solution: str) -> int:
    from mathft_jax.data import features

    return self.add(
      features.generator_input_tokens(self._vocabulary, problem),
      [*self._vocabulary.encode(solution), self._vocabulary.eos_id],
    )

  def log_probs(self, xp):
    """params -> the sum of log p of each sequence's targets, by numpy or jax.

    By numpy, in float64.
    """
    import jax
    import jax.numpy as jnp

    longest = max(len(inputs) + len(targets) for inputs, targets in self._rows)
    shape = (len(self._rows), longest)
    tokens, targets = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    mask = np.zeros(shape, np.float32)
    for row, (before, after) in enumerate(self._rows):
      text = [*before, *after]
      tokens[row, 1 : len(text)] = text[:-1]
      targets[row, : len(text)] = text
      mask[row, len(before) : len(text)] = 1

    def compute(params):
      logits = self._module.apply({"params": params}, jnp.asarray(tokens))[0]
      if xp is np:
        logits = np.asarray(jax.device_get(logits), np.float64)
      log_z = xp.log(xp.sum(xp.exp(logits), axis=-1))
      places = xp.asarray(targets)[..., None]
      chosen = xp.take_along_axis(logits, places, axis=-1)[..., 0]
      return xp.sum((chosen - log_z) * mask, axis=-1)

    return compute


@pytest.fixture
def sequences(arith_vocabulary):
  return lambda module: _Sequences(module, arith_vocabulary)


@pytest.fixture(scope="session")
def assert_trains_as():
  """Asserts that a model's loss, and a step on it, are those of a function.

  `assert_trains_as(model, params, batch, loss, by_hand)`: `loss` is a number,
  and `by_hand` a function of the parameters whose gradient is taken. The step
  takes the batch whole and as three microbatches.
  """
  import functools

  import jax
  import jax.numpy as jnp
  import optax

  from mathft_jax.training import state as train_state
  from mathft_jax.training import step

  optimizer = optax.sgd(1.0)  # The gradients as they come.

  def check(model, params, batch, loss, by_hand):
    start = train_state.TrainState(
      jnp.zeros((), jnp.int32), params, optimizer.init(params)
    )
    gradients = jax.jit(jax.grad(by_hand))(params)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradients)) > 0.1
    found = jax.jit(model.eval_fn)(params, batch)[0]
    assert float(found) == pytest.approx(loss, rel=1e-5)
    for num_microbatches in (1, 3):
      after, metrics = jax.jit(
        functools.partial(
          step.train_step,
          loss_fn=model.loss_fn,
          optimizer=optimizer,
          num_microbatches=num_microbatches,
        )
      )(start, batch)
      jax.tree.map(
        lambda new, old, gradient: np.testing.assert_allclose(
          old - new, gradient, atol=2e-4
        ),
        after.params,
        params,
        gradients,
      )
    return {name: float(m.compute()) for name, m in metrics.items()}

  return check
