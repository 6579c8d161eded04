"""Tests of mathft_jax.data.preprocessors."""

import itertools

import tensorflow as tf

from mathft_jax import prompts
from mathft_jax.data import features, preprocessors


def _graded(problem_id: str, is_correct: list[bool]) -> dict:
  return {
    "problem_id": tf.constant(problem_id),
    "problem": tf.constant("What is $x$?"),
    "solutions": tf.constant(
      [f"It is {i}." for i in range(len(is_correct))], tf.string
    ),
    "is_correct": tf.constant(is_correct, tf.bool),
  }


def _dataset(*examples: dict) -> tf.data.Dataset:
  dataset = tf.data.Dataset.from_tensors(examples[0])
  dataset = dataset.map(
    lambda x: {k: tf.ensure_shape(v, [None] * v.shape.rank)
               for k, v in x.items()}
  )  # fmt: skip
  for example in examples[1:]:
    dataset = dataset.concatenate(tf.data.Dataset.from_tensors(example))
  return dataset


def _list(dataset: tf.data.Dataset) -> list[dict]:
  return list(dataset.as_numpy_iterator())


def _prompt(index: int) -> bytes:
  return prompts.evaluator_inputs("What is $x$?", f"It is {index}.").encode()


def test_generator_texts_are_those_of_prompts():
  # Texts with the signs of templates and of regular expressions.
  rows = [
    {"problem": "{0} \\1 %s", "solution": "{problem} $&\n", "answer": "\\0"},
    {"problem": "", "solution": "", "answer": ""},
  ]
  dataset = tf.data.Dataset.from_tensor_slices(
    {name: [row[name] for row in rows] for name in rows[0]}
  )
  examples = _list(preprocessors.generator_texts(dataset))
  for row, example in zip(rows, examples, strict=True):
    assert example["inputs"].decode() == prompts.generator_inputs(
      row["problem"]
    )
    assert example["targets"].decode() == prompts.generator_targets(
      row["solution"], row["answer"]
    )


def test_evaluator_texts_have_each_candidate_once_with_its_verdict():
  graded = [[True, False, False], [], [True]]
  dataset = _dataset(*(_graded(str(i), g) for i, g in enumerate(graded)))
  examples = _list(preprocessors.evaluator_texts(dataset))
  assert [(e["problem_id"], e["inputs"], e["targets"]) for e in examples] == [
    (b"0", _prompt(0), b"correct"),
    (b"0", _prompt(1), b"incorrect"),
    (b"0", _prompt(2), b"incorrect"),
    (b"2", _prompt(0), b"correct"),
  ]


def test_pairs_are_distinct_and_have_the_incorrect_first():
  is_correct = [True, False, True, False, False]
  dataset = _dataset(_graded("a", is_correct))
  all_pairs = {
    (_prompt(i), _prompt(c)) for i, c in itertools.product((1, 3, 4), (0, 2))
  }
  examples = _list(preprocessors.evaluator_pairs(dataset))
  assert len(examples) == 6
  assert {tuple(e["inputs"]) for e in examples} == all_pairs
  four = _list(preprocessors.evaluator_pairs(dataset, num_pairs=4))
  assert len({tuple(e["inputs"]) for e in four}) == 4
  assert {tuple(e["inputs"]) for e in four} < all_pairs
  for example in examples + four:
    assert example["targets"].tolist() == [b"incorrect", b"correct"]


def test_a_problem_with_one_kind_of_candidates_gives_no_pair():
  dataset = _dataset(
    _graded("a", [True, True]), _graded("b", [False]), _graded("c", [])
  )
  assert not _list(preprocessors.evaluator_pairs(dataset))


def test_pairs_depend_on_seed_and_problem_but_not_on_order():
  half = [True, False] * 8

  def pairs(*ids: str, seed: int = 0) -> dict:
    dataset = _dataset(*(_graded(i, half) for i in ids))
    dataset = preprocessors.evaluator_pairs(dataset, 5, seed)
    chosen = {}
    for example in _list(dataset):
      key = example["problem_id"].decode()
      chosen.setdefault(key, []).append(tuple(example["inputs"]))
    return chosen

  first = pairs("a", "b", "c")
  assert pairs("c", "a", "b") == first
  assert pairs("b") == {"b": first["b"]}
  assert first["a"] != first["b"]
  assert pairs("a", seed=1) != {"a": first["a"]}


def test_a_verdict_is_the_one_target_of_the_whole_text(math_vocabulary):
  dataset = preprocessors.evaluator_texts(_dataset(_graded("a", [True, False])))
  dataset = preprocessors.tokenize_verdicts(
    dataset, features.output_features(math_vocabulary, add_eos=False)
  )
  expected = features.evaluator_input_tokens(
    math_vocabulary, "What is $x$?", "It is 0."
  )
  verdicts = features.verdict_token_ids(math_vocabulary)
  examples = _list(dataset)
  assert examples[0]["inputs"].tolist() == expected
  assert [e["targets"].tolist() for e in examples] == [[v] for v in verdicts]


def test_pairs_are_tokenized_like_single_texts(math_vocabulary):
  example = _graded("a", [True, False])
  example["solutions"] = tf.constant(["A rather long one.", "No."])
  dataset = preprocessors.tokenize_pairs(
    preprocessors.evaluator_pairs(_dataset(example)),
    features.pair_output_features(math_vocabulary),
  )
  (pair,) = _list(dataset)
  correct, incorrect = features.verdict_token_ids(math_vocabulary)
  assert pair["targets"].tolist() == [[incorrect, correct]]
  for half, solution in enumerate(["No.", "A rather long one."]):
    tokens = features.evaluator_input_tokens(
      math_vocabulary, "What is $x$?", solution
    )
    row = pair["inputs"][:, half].tolist()
    fill = [features.NO_TOKEN] * (len(row) - len(tokens))
    assert row == tokens + fill


def test_verdicts_of_several_tokens_are_targets(long_verdicts_vocabulary):
  dataset = preprocessors.evaluator_texts(_dataset(_graded("a", [True, False])))
  dataset = preprocessors.tokenize_verdicts(
    dataset, features.output_features(long_verdicts_vocabulary, add_eos=False)
  )
  for index, example in enumerate(_list(dataset)):
    inputs, words = features.evaluator_tokens(
      long_verdicts_vocabulary, "What is $x$?", f"It is {index}."
    )
    assert example["inputs"].tolist() == inputs
    assert example["targets"].tolist() == list(words[index])


def test_pairs_of_verdicts_of_several_tokens_are_filled_up(
  long_verdicts_vocabulary,
):
  example = _graded("a", [True, False])
  dataset = preprocessors.tokenize_pairs(
    preprocessors.evaluator_pairs(_dataset(example)),
    features.pair_output_features(long_verdicts_vocabulary),
  )
  (pair,) = _list(dataset)
  for half, index in enumerate((1, 0)):
    inputs, words = features.evaluator_tokens(
      long_verdicts_vocabulary, "What is $x$?", f"It is {index}."
    )
    for name, tokens in (("inputs", inputs), ("targets", words[index])):
      found = pair[name][:, half]
      assert found[found != features.NO_TOKEN].tolist() == list(tokens)
  longest = max(map(len, features.verdict_words(long_verdicts_vocabulary)))
  assert pair["targets"].shape == (longest, 2)


def test_examples_that_are_too_long_are_dropped_whole(math_vocabulary):
  lengths = [(3, 2), (4, 2), (3, 3), (1, 1)]
  dataset = tf.data.Dataset.from_generator(
    lambda: ({"inputs": [7] * i, "targets": [8] * t} for i, t in lengths),
    output_signature={
      name: tf.TensorSpec([None], tf.int32) for name in ("inputs", "targets")
    },
  )
  output_features = features.output_features(math_vocabulary)

  def kept(limits):
    kept = preprocessors.drop_too_long(dataset, output_features, limits)
    return [(len(e["inputs"]), len(e["targets"])) for e in _list(kept)]

  assert kept({"inputs": 3, "targets": 2}) == [(3, 2), (1, 1)]
  assert kept({"inputs": 3}) == [(3, 2), (3, 3), (1, 1)]
  assert kept(None) == lengths


# Groups that hold solutions ---------------------------------------------------


def _generator_tokens(vocabulary, solution: str) -> tuple[list[int], list[int]]:
  """What a generator's task makes of a problem with this whole target."""
  prompt = prompts.generator_inputs("What is $x$?")
  targets = [*vocabulary.encode(solution), vocabulary.eos_id]
  return list(vocabulary.encode(prompt)), targets


def _sequences(example: dict) -> list[tuple[list[int], list[int]]]:
  """(inputs, targets) of each sequence of a group, without padding."""
  return [
    tuple(
      values[values != features.NO_TOKEN].tolist()
      for values in (example["inputs"][:, i], example["targets"][:, i])
    )
    for i in range(example["inputs"].shape[1])
  ]


def test_the_same_pairs_are_taken_as_prompts_and_as_solutions():
  dataset = _dataset(*(_graded(i, [True, False] * 8) for i in "ab"))
  judged = _list(preprocessors.evaluator_pairs(dataset))
  written = _list(preprocessors.solution_pairs(dataset))
  both = _list(preprocessors.multitask_pairs(dataset))
  assert len(judged) == len(written) == len(both) == 20
  for pair, solutions, group in zip(judged, written, both, strict=True):
    shown = [
      prompts.evaluator_inputs("What is $x$?", solution.decode()).encode()
      for solution in solutions["targets"]
    ]
    assert pair["inputs"].tolist() == shown
    prompt = prompts.generator_inputs("What is $x$?").encode()
    assert solutions["inputs"].tolist() == [prompt] * 2
    assert group["inputs"].tolist() == [*shown, prompt]
    assert group["targets"].tolist() == [
      *(b"incorrect", b"correct"),
      solutions["targets"][1],
    ]
    assert pair["problem_id"] == solutions["problem_id"] == group["problem_id"]


def test_solutions_of_pairs_are_tokenized_like_a_generators(math_vocabulary):
  example = _graded("a", [True, False])
  example["solutions"] = tf.constant(["A rather long one.", "No."])
  specs = features.pair_output_features(math_vocabulary)
  dataset = preprocessors.tokenize_solution_pairs(
    preprocessors.solution_pairs(_dataset(example)), specs
  )
  (pair,) = _list(dataset)
  assert _sequences(pair) == [
    _generator_tokens(math_vocabulary, text)
    for text in ("No.", "A rather long one.")
  ]
  assert dataset.element_spec["inputs"].shape.as_list() == [None, 2]


def test_each_candidate_is_judged_and_a_correct_one_written(math_vocabulary):
  specs = features.pair_output_features(math_vocabulary)
  dataset = preprocessors.tokenize_multitask_texts(
    preprocessors.multitask_texts(_dataset(_graded("a", [False, True]))), specs
  )
  correct, incorrect = features.verdict_token_ids(math_vocabulary)
  prompts_of = [
    features.evaluator_input_tokens(
      math_vocabulary, "What is $x$?", f"It is {i}."
    )
    for i in range(2)
  ]
  judged, written = map(_sequences, _list(dataset))
  assert judged == [(prompts_of[0], [incorrect]), ([], [])]
  assert written == [
    (prompts_of[1], [correct]),
    _generator_tokens(math_vocabulary, "It is 1."),
  ]


def test_a_group_of_three_ends_in_the_correct_solution(math_vocabulary):
  specs = features.pair_output_features(math_vocabulary)
  dataset = preprocessors.tokenize_multitask_pairs(
    preprocessors.multitask_pairs(_dataset(_graded("a", [False, True]))), specs
  )
  (group,) = _list(dataset)
  correct, incorrect = features.verdict_token_ids(math_vocabulary)
  *judged, written = _sequences(group)
  assert [targets for _, targets in judged] == [[incorrect], [correct]]
  assert written == _generator_tokens(math_vocabulary, "It is 1.")
  assert dataset.element_spec["targets"].shape.as_list() == [None, 3]


def test_one_sequence_of_a_group_that_is_too_long_drops_it(math_vocabulary):
  example = _graded("a", [True, False])
  example["solutions"] = tf.constant(["A rather long one. " * 9, "No."])
  specs = features.pair_output_features(math_vocabulary)
  pairs = preprocessors.tokenize_solution_pairs(
    preprocessors.solution_pairs(_dataset(example)), specs
  )
  longest = len(
    _generator_tokens(math_vocabulary, "A rather long one. " * 9)[1]
  )
  for limit, number in ((longest, 1), (longest - 1, 0)):
    limits = {"inputs": 99, "targets": limit}
    assert len(_list(preprocessors.drop_too_long(pairs, specs, limits))) == (
      number
    )
