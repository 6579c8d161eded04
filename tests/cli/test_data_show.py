"""Tests of mathft_jax.cli.data_show."""

import io
import json
import re

import pytest
import sentencepiece

from mathft_jax import prompts
from mathft_jax.cli import data
from mathft_jax.data import features, vocabulary
from mathft_jax.sources import arithmetic


@pytest.fixture
def show(capsys):
  """Runs the command; what it prints, and the error where it fails."""

  def run(*arguments: str) -> tuple[str, str]:
    code = data.main(["show", *arguments])
    printed = capsys.readouterr()
    assert code == (2 if printed.err.startswith("mathft data: error") else 0)
    return printed.out, printed.err

  return run


@pytest.fixture
def graded(tmp_path):
  """Rows of an evaluator: a problem with three candidates."""
  row = {
    "problem_id": "a",
    "problem": "What is $3!$?",
    "candidates": [
      {"solution": "Six!", "is_correct": True},
      {"solution": "!", "is_correct": False},
      {"solution": "It is 7!", "is_correct": False},
    ],
  }
  (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
  return tmp_path


def _line(name: str, tokens: list[str], num_with_loss: int) -> str:
  text = "|".join(tokens)
  if num_with_loss:
    text = "".join(f"[{token}]" for token in tokens)
  text = text.replace("\n", "\\n")
  return f"{name} ({len(tokens)} tokens, {num_with_loss} with loss): {text}"


def _pieces(loaded, text: str) -> list[str]:
  return [loaded.decode([i]) for i in loaded.encode(text)]


def test_each_token_of_the_targets_is_marked_and_none_of_the_inputs(
  show, arith_vocabulary
):
  printed, _ = show("arith_terse_generate", "--num_examples=2")
  (row, _) = arithmetic.problems("train", "terse", num_problems=2)
  answer = row.problem.reference_answer
  inputs = prompts.generator_inputs(row.problem.text)
  targets = prompts.generator_targets(row.solution, answer)
  lines = printed.splitlines()
  pieces = [*_pieces(arith_vocabulary, targets), "<eos>"]
  assert lines[0] == "--- arith_terse_generate, train, example 1"
  assert lines[1] == _line("inputs", _pieces(arith_vocabulary, inputs), 0)
  assert lines[2] == _line("targets", pieces, len(pieces))
  assert lines[3] == "--- arith_terse_generate, train, example 2"


def test_both_halves_of_a_pair_are_shown_with_all_their_tokens(
  show, graded, write_byte_level
):
  path = write_byte_level(graded / "vocabulary")
  loaded = vocabulary.load_vocabulary(str(path))
  printed, _ = show(
    *("math_evaluate_pairs", "--data", f"evaluator={graded}"),
    *("--vocabulary", str(path)),
  )
  lines = printed.splitlines()
  halves = set()
  for place in (1, 3, 6, 8):  # Headings stand between.
    is_correct = place in (3, 8)
    solutions = ["Six!"] if is_correct else ["!", "It is 7!"]
    word = prompts.CORRECT if is_correct else prompts.INCORRECT
    options = []
    for solution in solutions:
      text = prompts.evaluator_inputs("What is $3!$?", solution) + word
      *inputs, verdict = _pieces(loaded, text)
      options.append(
        (_line("inputs", inputs, 0), _line("targets", [verdict], 1))
      )
    assert (lines[place], lines[place + 1]) in options
    halves.add(lines[place])
  assert len(halves) == 3


def test_a_group_ends_in_the_solution_that_is_to_be_written(
  show, graded, write_byte_level
):
  path = write_byte_level(graded / "vocabulary")
  loaded = vocabulary.load_vocabulary(str(path))
  printed, _ = show(
    *("math_multitask_pairs", "--data", f"evaluator={graded}"),
    *("--vocabulary", str(path), "--num_examples=1"),
  )
  lines = printed.splitlines()
  inputs = _pieces(loaded, prompts.generator_inputs("What is $3!$?"))
  targets = [*_pieces(loaded, "Six!"), "<eos>"]
  assert [line.split(":")[0].split(" ")[0] for line in lines[1:7]] == (
    ["inputs", "targets"] * 3
  )
  assert lines[5] == _line("inputs", inputs, 0)
  assert lines[6] == _line("targets", targets, len(targets))


def test_verdicts_of_several_tokens_are_marked_whole(
  show, graded, write_byte_level
):
  path = write_byte_level(graded / "vocabulary", ["no such words here"] * 9)
  loaded = vocabulary.load_vocabulary(str(path))
  printed, _ = show(
    *("math_evaluate_xent", "--data", f"evaluator={graded}"),
    *("--vocabulary", str(path), "--num_examples=1"),
  )
  correct, _ = features.verdict_words(loaded)
  pieces = [loaded.decode([token]) for token in correct]
  assert len(pieces) > 1
  assert printed.splitlines()[2] == _line("targets", pieces, len(pieces))


def test_a_piece_keeps_the_blank_that_decoding_it_alone_would_drop(
  show, tmp_path
):
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.Train(
    sentence_iterator=iter(["Compute the value. Compute the sum."] * 9),
    model_writer=model,
    model_type="bpe",
    vocab_size=310,
    hard_vocab_limit=False,
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    byte_fallback=True,
    minloglevel=2,
  )
  path = tmp_path / "with_prefix.model"
  path.write_bytes(model.getvalue())
  printed, _ = show("arith_terse_generate", "--vocabulary", str(path))
  assert "| Compute|" in printed


def test_lengths_are_those_of_the_examples(show, arith_vocabulary):
  printed, _ = show(
    *("arith_terse_generate", "--num_examples=0", "--num_lengths=30"),
    *("--length", "inputs=15", "--length", "targets=1000"),
  )
  rows = list(arithmetic.problems("train", "terse", num_problems=30))
  inputs = [
    len(arith_vocabulary.encode(prompts.generator_inputs(row.problem.text)))
    for row in rows
  ]
  lines = printed.splitlines()
  assert lines[0].endswith("train, the first 30 examples")
  row = next(line for line in lines if line.startswith("inputs "))
  too_long = sum(length > 15 for length in inputs)
  assert 0 < too_long < 30
  mean, *_, largest = re.split(r" {2,}", row.partition("   ")[2].strip())[:6]
  assert float(mean) == pytest.approx(sum(inputs) / 30, abs=0.05)
  assert int(largest) == max(inputs)
  assert f"   {too_long} ({too_long / 30:.1%}) above 15" in row
  assert f"{too_long} of 30 examples are longer than allowed" in printed
  histogram = printed.split("inputs, tokens | examples\n")[1].split("\n\n")[0]
  counts = [int(line.split()[-1]) for line in histogram.splitlines()]
  assert sum(counts) == 30


def test_a_split_that_is_read_whole_is_said_to_be(show, graded):
  printed, _ = show("math_evaluate_xent", "--data", f"evaluator={graded}")
  assert "train, all 3 examples" in printed


@pytest.mark.parametrize("suffix", [".html", ".png", ".svg"])
def test_the_histogram_is_written(show, tmp_path, suffix):
  path = tmp_path / f"lengths{suffix}"
  printed, _ = show(
    *("arith_terse_generate", "--num_examples=0", "--num_lengths=30"),
    *("--length", "inputs=15", "--histogram", str(path)),
  )
  assert f"Wrote {path}" in printed
  content = path.read_bytes()
  if suffix == ".png":
    assert content.startswith(b"\x89PNG")
  else:
    assert b"most: 15" in content
    assert (b"<pre>" in content) == (suffix == ".html")


def test_data_beside_those_that_a_task_reads_are_refused(show, graded):
  _, error = show(
    *("math_evaluate_xent", "--data", f"evaluator={graded}"),
    *("--data", f"evaluater={graded}"),
  )
  assert "evaluater=...: math_evaluate_xent does not read it" in error
  assert "did you mean evaluator?; it reads evaluator" in error


@pytest.mark.parametrize(
  ("arguments", "expected"),
  [
    (["math_generat"], "did you mean math_generate"),
    (["arith_terse_generate", "--split=trian"], "has no split 'trian', only"),
    (
      ["arith_terse_generate", "--data=math=x"],
      "--data math=...: arith_terse_generate does not read it; it reads no fil",
    ),
    (["math_generate", "--data=maht=x"], "(bound now: ['maht'])"),
    (
      ["math_prm800k_generate", "--data=math=x", "--data=math=y"],
      "--data math=... is given twice",
    ),
    (["math_generate"], "'math' lie; give --data math=/path/to/rows to mathf"),
    (
      ["arith_terse_generate", "--length=input=5"],
      "--length input: arith_terse_generate has no such feature, only inputs",
    ),
    (
      ["arith_terse_generate", "--length=inputs=5", "--length=inputs=6"],
      "--length inputs=... is given twice",
    ),
    (
      ["arith_terse_generate", "--histogram=a.pdf"],
      "a.pdf: its name has to end in .html, .png, .svg",
    ),
    (
      ["arith_terse_generate", "--histogram=a.png", "--num_lengths=0"],
      "--histogram needs lengths",
    ),
  ],
)
def test_what_would_be_ignored_or_fail_is_one_line(
  show, arguments, expected, monkeypatch
):
  from mathft_jax.data import locations

  monkeypatch.setattr(locations, "_bound", {})
  printed, error = show(*arguments)
  assert not printed and error.count("\n") == 1
  assert expected in error
