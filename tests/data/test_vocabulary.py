"""Tests of mathft_jax.data.vocabulary and the vocabulary of MATH."""

import io

import pytest
import sentencepiece

from mathft_jax.data import math_vocabulary as math_vocabulary_module
from mathft_jax.data import vocabulary
from mathft_jax.sources import hendrycks_math

_TEXTS = [
  "",
  " leading and trailing ",
  "two  blanks,\ttab\r\nand\n\n\nlines\u2028",
  "$\\frac{1}{2}$ é 中 😀 \0 \x7f",
  "incorrectly corrected",
]


@pytest.mark.parametrize("text", _TEXTS)
def test_text_comes_back_byte_for_byte(math_vocabulary, text):
  assert math_vocabulary.decode(math_vocabulary.encode(text)) == text


@pytest.mark.parametrize("text", _TEXTS)
def test_tensorflow_gives_the_same_tokens(math_vocabulary, text):
  tokens = math_vocabulary.encode_tf(text).numpy().tolist()
  assert tokens == list(math_vocabulary.encode(text))


def test_building_tensorflows_operation_prints_nothing(math_vocabulary, capfd):
  math_vocabulary.encode("loaded")  # Python's own line is not this one.
  capfd.readouterr()
  math_vocabulary.encode_tf("a")
  assert capfd.readouterr() == ("", "")


def test_special_ids_and_size(math_vocabulary):
  assert math_vocabulary.pad_id == 0
  assert math_vocabulary.eos_id == 1
  assert math_vocabulary.unk_id == 2
  assert math_vocabulary.vocab_size == 2048


def test_every_digit_is_a_token(math_vocabulary):
  assert len(math_vocabulary.encode("1234567890")) == 10
  pieces = [
    math_vocabulary.tokenizer.id_to_piece(i)
    for i in range(math_vocabulary.vocab_size)
  ]
  assert not [
    piece
    for piece in pieces
    if not piece.startswith("<0x") and sum(map(str.isdigit, piece)) > 1
  ]


def test_training_twice_gives_the_same_bytes():
  texts = ["the cat", "the hat", "12 + 3 = 15\n"] * 5
  first, second = (
    vocabulary.train_vocabulary(iter(texts), ["correct"], 290) for _ in range(2)
  )
  assert first == second


def test_a_text_that_training_would_skip_is_an_error():
  with pytest.raises(ValueError, match="text 2 .* cut it"):
    vocabulary.train_vocabulary(["a", "b" * (1 << 21)], [], 300)


def test_no_text_is_an_error():
  with pytest.raises(ValueError, match="needs some text"):
    vocabulary.train_vocabulary([], [], 300)


def test_an_unknown_name_is_an_error_that_lists_the_shipped():
  with pytest.raises(FileNotFoundError, match="math_2k"):
    vocabulary.load_vocabulary("math_3k")


@pytest.mark.parametrize(
  ("held", "taken"),
  [
    (("tokenizer.json", "tokenizer.model"), "tokenizer.json"),
    (("tokenizer.model", "a.model"), "tokenizer.model"),
    (("a.model", "b.model"), "a.model"),
  ],
)
def test_a_folder_is_what_it_holds(tmp_path, write_byte_level, held, taken):
  for name in held:
    if name == "tokenizer.json":
      write_byte_level(tmp_path)
    else:
      model = vocabulary.train_vocabulary(["abc " * 9], [name], 280)
      (tmp_path / name).write_bytes(model)
  found = vocabulary.load_vocabulary(str(tmp_path))
  expected = vocabulary.load_vocabulary(str(tmp_path / taken))
  assert vocabulary.fingerprint(found) == vocabulary.fingerprint(expected)


def test_a_folder_without_a_vocabulary_is_an_error(tmp_path):
  with pytest.raises(FileNotFoundError, match="or a folder that holds one"):
    vocabulary.load_vocabulary(str(tmp_path))


def test_a_model_with_ids_of_gemma_is_read(tmp_path):
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.Train(
    sentence_iterator=iter(["Let x be 1.", "What is x?"] * 9),
    model_writer=model,
    model_type="bpe",
    vocab_size=300,
    hard_vocab_limit=False,
    pad_id=0,
    eos_id=1,
    bos_id=2,
    unk_id=3,
    byte_fallback=True,
    add_dummy_prefix=False,
    remove_extra_whitespaces=False,
    normalization_rule_name="identity",
    minloglevel=2,
  )
  path = tmp_path / "tokenizer.model"
  path.write_bytes(model.getvalue())
  loaded = vocabulary.load_vocabulary(str(tmp_path))
  ids = (loaded.pad_id, loaded.eos_id, loaded.bos_id, loaded.unk_id)
  assert ids == (0, 1, 2, 3)
  text = "  Let\n\nx be 2 é.\n"
  assert loaded.decode(loaded.encode(text)) == text
  assert loaded.encode_tf(text).numpy().tolist() == loaded.encode(text)


def test_a_file_that_is_no_model_is_an_error(tmp_path):
  path = tmp_path / "bad.model"
  path.write_bytes(b"not a model")
  with pytest.raises(ValueError, match="bad.model is not a SentencePiece"):
    vocabulary.load_vocabulary(str(path))


def test_the_shipped_vocabulary_can_be_made_again(shared_dir):
  rows = hendrycks_math.read(shared_dir / "data/math")
  model = math_vocabulary_module.train(rows)
  assert model == math_vocabulary_module.PATH.read_bytes()
