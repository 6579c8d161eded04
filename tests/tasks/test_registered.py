"""Tests that the registered tasks run on real rows."""

import functools
import importlib
import itertools
import json
import operator
import pathlib

import numpy as np
import pytest
import seqio

from mathft_jax import prompts
from mathft_jax.data import (
  converters,
  features,
  few_shot,
  locations,
  stream,
)
from mathft_jax.sources import (
  gsm8k,
  hendrycks_math,
  json_lines,
  prm800k,
  splits,
)

_GENERATORS = {
  "math_generate": ["math"],
  "prm800k_generate": ["prm800k"],
  "math_prm800k_generate": ["math", "prm800k"],
  "gsm8k_generate": ["gsm8k"],
}


# How many sequences an example of these tasks has.
_WIDTHS = {
  "evaluate_pairs": 2,
  "contrast_pairs": 2,
  "multitask_xent": 2,
  "multitask_pairs": 3,
}


@pytest.fixture(scope="module", autouse=True)
def registered():
  folder = pathlib.Path(importlib.import_module("mathft_jax.tasks").__file__)
  for path in folder.parent.glob("*.py"):
    importlib.import_module(f"mathft_jax.tasks.{path.stem}")


@pytest.fixture(scope="module")
def rows_dir(shared_dir, tmp_path_factory):
  """All real rows, prepared, and some of them with made-up candidates."""
  root = tmp_path_factory.mktemp("prepared")
  data = shared_dir / "data"
  read = {
    "math": hendrycks_math.read(data / "math"),
    "prm800k": prm800k.read(data / "prm800k", operator.eq),
    "gsm8k": gsm8k.read(data / "gsm8k"),
  }
  for source, rows in read.items():
    by_split, _ = splits.without_leaks(rows)
    json_lines.write_splits(root / source, by_split)
  for source, number in (("json", 50), ("self_generated", 20)):
    by_split = {
      split: list(json_lines.read_split(root / "math", split))[:number]
      for split in splits.SPLITS
    }
    json_lines.write_splits(root / source, by_split)
  (root / "evaluator").mkdir()
  for split in ("train", "validation"):
    rows = list(json_lines.read_split(root / "prm800k", split))[:20]
    lines = [
      {
        "problem_id": row.problem.problem_id,
        "problem": row.problem.text,
        "candidates": [
          {"solution": row.solution, "is_correct": True},
          {"solution": row.solution + "\n\n# Answer\n\n7", "is_correct": False},
          {"solution": "No.", "is_correct": False},
        ],
      }
      for row in rows
    ]
    path = root / "evaluator" / f"{split}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  locations.bind({path.name: path for path in root.iterdir()})
  return root


def _config(name: str, split: str, **changes) -> stream.StreamConfig:
  return stream.StreamConfig(
    **{
      "task_or_mixture": name,
      "split": split,
      "feature_lengths": {"inputs": 512, "targets": 1024},
      "batch_size": 4,
      "feature_converter": converters.DecoderOnlyFeatureConverter(pack=True),
      **changes,
    }
  )


def test_registration_needs_no_data(monkeypatch):
  monkeypatch.setattr(locations, "_bound", {})
  assert {*_GENERATORS} <= {
    *seqio.TaskRegistry.names(),
    *seqio.MixtureRegistry.names(),
  }


def test_every_registered_task_runs_through_tf_data_with_real_rows(rows_dir):
  names = {
    name
    for name in {*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()}
    if "test" not in name.split("_")  # Those of other tests.
  }
  assert {"json_generate", "self_generated_generate"} < names
  assert len(names) == 27
  for name in names:
    task = seqio.get_mixture_or_task(name)
    converter, shape = converters.DecoderOnlyFeatureConverter, (2, 4024)
    if task.output_features["inputs"].rank == 2:
      width = _WIDTHS[name.partition("_")[2]]
      converter = functools.partial(
        converters.PairFeatureConverter, width=width
      )
      shape = (2, width, 4024)
    for split in sorted(task.splits):
      config = _config(
        name,
        split,
        batch_size=2,
        # Four shots take their room.
        feature_lengths={"inputs": 3000, "targets": 1024},
        feature_converter=converter(pack=False),
        num_epochs=1,
      )
      batch = next(stream.make_dataset(config).as_numpy_iterator())
      weights = batch["decoder_loss_weights"]
      assert weights.shape == shape, name
      assert (weights.reshape(2, -1).sum(axis=-1) > 0).all(), name


@pytest.mark.parametrize("name", _GENERATORS)
@pytest.mark.parametrize("split", splits.SPLITS)
def test_generator_tasks_give_packed_batches(rows_dir, name, split):
  batch = next(stream.BatchStream(_config(name, split, shuffle=False)))
  tokens = batch["decoder_target_tokens"]
  assert tokens.shape == (4, 1536)
  assert (batch["decoder_segment_ids"] > 0).mean() > 0.9
  # Each example's loss ends in its EOS.
  num_examples = batch["decoder_segment_ids"].max(axis=1).sum()
  assert (tokens == 1).sum() == num_examples
  assert (batch["decoder_loss_weights"][tokens == 1] == 1).all()


@pytest.mark.parametrize("length", [512, 1024, 2048])
def test_rows_of_math_and_prm800k_are_95_percent_full(rows_dir, length):
  config = _config(
    "math_prm800k_generate",
    "train",
    feature_lengths={"inputs": length // 4, "targets": length * 3 // 4},
    batch_size=256,
  )
  batches = itertools.islice(stream.BatchStream(config), 20)
  filled = [(batch["decoder_segment_ids"] > 0).mean() for batch in batches]
  assert np.mean(filled) > 0.95


@pytest.mark.parametrize(
  "name", ["arith_stepwise_generate", "arith_terse_generate"]
)
def test_arithmetic_batches_are_those_of_seqios_pipeline(name):
  _assert_batches_are_seqios(name)


@pytest.mark.parametrize(
  ("name", "pack"),
  [
    ("math_generate", True),
    ("prm800k_generate", False),
    ("math_evaluate_xent", True),
    ("math_evaluate_pairs", True),
    ("math_evaluate_pairs", False),
    ("math_contrast_pairs", True),
    ("math_multitask_xent", True),
    ("math_multitask_xent", False),
    ("math_multitask_pairs", True),
  ],
)
def test_batches_are_those_of_seqios_pipeline(rows_dir, name, pack):
  _assert_batches_are_seqios(name, pack)


def _assert_batches_are_seqios(name: str, pack: bool = True) -> None:
  """Compares two passes with held tokens to SeqIO's own, bit by bit."""
  converter = converters.DecoderOnlyFeatureConverter
  width = _WIDTHS.get(name.removeprefix("math_"))
  if width:
    converter = functools.partial(converters.PairFeatureConverter, width=width)
  config = _config(
    name,
    "validation",
    feature_converter=converter(pack=pack),
    shuffle=False,
    num_epochs=1,
    drop_remainder=False,
  )
  expected = list(stream.make_dataset(config).as_numpy_iterator())
  for _ in range(2):
    found = list(stream.BatchStream(config))
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
      assert set(ours) == set(theirs)
      for feature, values in theirs.items():
        assert ours[feature].dtype == values.dtype
        np.testing.assert_array_equal(ours[feature], values)


@pytest.mark.parametrize("name", _GENERATORS)
def test_counts_are_those_of_the_rows(rows_dir, name):
  counts = stream.count_by_task(_config(name, "validation")).values()
  rows = [
    row
    for source in _GENERATORS[name]
    for row in json_lines.read_split(rows_dir / source, "validation")
  ]
  assert sum(c.num_examples for c in counts) == len(rows)
  # Inputs alone can be too long as well, so this is a bound from below.
  vocabulary = (
    seqio.get_mixture_or_task(name).output_features["targets"].vocabulary
  )
  num_long = sum(
    len(
      vocabulary.encode(
        prompts.generator_targets(row.solution, row.problem.reference_answer)
      )
    )
    >= 1024
    for row in rows
  )
  num_too_long = sum(c.num_too_long for c in counts)
  assert num_long <= num_too_long < 0.1 * len(rows)


def test_task_inputs_are_the_samplers_inputs(rows_dir):
  task = seqio.get_mixture_or_task("math_generate")
  vocabulary = task.output_features["inputs"].vocabulary
  dataset = task.get_dataset(split="test", shuffle=False)
  problems = json_lines.problems(rows_dir / "math", "test")
  examples = list(dataset.as_numpy_iterator())
  assert len(examples) == len(problems) == 500
  for problem, example in zip(problems, examples, strict=True):
    assert example["problem_id"].decode() == problem.problem_id
    assert example["inputs"].tolist() == features.generator_input_tokens(
      vocabulary, problem.text
    )


@pytest.mark.parametrize(
  ("name", "source"),
  [("math_4shot_generate", "math"), ("math_4shot_prm800k_generate", "prm800k")],
)
def test_four_solved_problems_stand_before_each_problem(rows_dir, name, source):
  task = seqio.get_mixture_or_task(name)
  solutions = {
    row.solution
    for split in ("train", "validation")
    for row in json_lines.read_split(rows_dir / source, split)
  }
  dataset = task.get_dataset(split="test", shuffle=False)
  examples = list(dataset.as_numpy_iterator())
  plain = seqio.get_mixture_or_task("math_generate").get_dataset(
    split="test", shuffle=False
  )
  assert len(examples) == 500
  for example, other in zip(examples, plain.as_numpy_iterator(), strict=True):
    text = example["inputs_pretokenized"].decode()
    shots, _, problem = text.rpartition("# Problem")
    assert f"# Problem{problem}" == other["inputs_pretokenized"].decode()
    assert example["targets"].tolist() == other["targets"].tolist()
  blocks = shots.split("# Problem\n\n")[1:]
  assert len(blocks) == 4
  for block in blocks:
    solution, _, answer = block.partition("# Solution\n\n")[2].partition(
      prompts.ANSWER_HEADING
    )
    assert solution in solutions and answer.strip()


def test_problems_that_are_shown_are_not_asked(rows_dir):
  ids = {
    example["problem_id"].decode()
    for split in ("train", "validation")
    for example in seqio.get_mixture_or_task("math_4shot_generate")
    .get_dataset(split=split, shuffle=False)
    .as_numpy_iterator()
  }
  assert not ids & set(few_shot.MATH_PROBLEMS)
  assert len(ids) > 11_900


@pytest.mark.parametrize("name", _GENERATORS)
@pytest.mark.parametrize(
  ("converter", "features_of_model"),
  [
    (
      seqio.PrefixLMFeatureConverter(pack=True),
      {
        "decoder_input_tokens",
        "decoder_target_tokens",
        "decoder_causal_attention",
      },
    ),
    (
      seqio.EncDecFeatureConverter(pack=True),
      {"encoder_input_tokens", "encoder_segment_ids"},
    ),
  ],
)
def test_t5x_stock_models_can_read_the_tasks(
  rows_dir, name, converter, features_of_model
):
  """The converters of T5X's decoder-only and encoder-decoder models."""
  lengths = {"inputs": 512, "targets": 1024}
  dataset = seqio.get_dataset(
    mixture_or_task_name=name,
    task_feature_lengths=lengths,
    dataset_split="validation",
    feature_converter=converter,
    num_epochs=1,
    shuffle=False,
  )
  rows = list(dataset.take(4).as_numpy_iterator())
  assert len(rows) == 4
  for row in rows:
    assert features_of_model <= row.keys()
    is_loss = row["decoder_loss_weights"] > 0
    assert (row["decoder_target_tokens"][is_loss] == 1).sum() >= 1  # EOS


def test_verdicts_are_the_only_loss_of_evaluators(rows_dir):
  lengths = {"inputs": 2047, "targets": 1}
  config = _config(
    "math_evaluate_xent", "train", feature_lengths=lengths, num_epochs=1
  )
  vocabulary = (
    seqio.get_mixture_or_task(config.task_or_mixture)
    .output_features["targets"]
    .vocabulary
  )
  correct, incorrect = features.verdict_token_ids(vocabulary)
  found = []
  for batch in stream.BatchStream(config):
    mask = batch["decoder_loss_weights"] == 1
    found += batch["decoder_target_tokens"][mask].tolist()
    # One verdict in each segment, at its end.
    num_segments = batch["decoder_segment_ids"].max(axis=1)
    np.testing.assert_array_equal(mask.sum(axis=1), num_segments)
  (counts,) = stream.count_by_task(config).values()
  assert set(found) == {correct, incorrect}
  assert found.count(correct) <= 20 and found.count(incorrect) > 30
  assert counts.num_examples == 60


def test_pairs_are_of_one_problem_with_the_incorrect_first(rows_dir):
  config = _config(
    "math_evaluate_pairs",
    "validation",
    feature_lengths={"inputs": 2047, "targets": 1},
    feature_converter=converters.PairFeatureConverter(),
    num_epochs=1,
  )
  vocabulary = (
    seqio.get_mixture_or_task(config.task_or_mixture)
    .output_features["targets"]
    .vocabulary
  )
  correct, incorrect = features.verdict_token_ids(vocabulary)
  batch = next(stream.BatchStream(config))
  tokens = batch["decoder_target_tokens"]
  weights = batch["decoder_loss_weights"]
  assert tokens.shape == weights.shape == (4, 2, 2048)
  verdicts = tokens[weights == 1].reshape(4, 2)
  assert verdicts.tolist() == [[incorrect, correct]] * 4
  for pair in tokens:
    texts = [vocabulary.decode(row[row != 0].tolist()) for row in pair]
    starts = [text.split(". Here is a candidate")[0] for text in texts]
    assert starts[0] == starts[1]
