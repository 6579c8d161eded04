"""Tests of mathft_jax.data.round_trip and of the warning at loading."""

import logging

import pytest
from tokenizers import normalizers

from mathft_jax.data import round_trip, vocabulary


@pytest.mark.parametrize("name", ["arith", "math_2k"])
def test_the_shipped_vocabularies_lose_one_character_only(name):
  loaded = vocabulary.load_vocabulary(name)
  assert list(round_trip.losses(loaded)) == [
    "U+2581, which SentencePiece writes for a blank"
  ]


def test_byte_level_vocabularies_lose_nothing(byte_level_vocabulary):
  added = byte_level_vocabulary.added_texts
  assert "<|im_end|>" in added
  assert not list(round_trip.losses(byte_level_vocabulary, added))


@pytest.mark.parametrize(
  ("normalizer", "lost"),
  [
    (normalizers.NFC(), ["accents"]),
    (normalizers.NFKC(), ["accents", "ligatures"]),
    (normalizers.Lowercase(), ["capital letters"]),
    (
      normalizers.Strip(),
      ["blanks at the start", "blanks at the end"],
    ),
  ],
  ids=lambda value: type(value).__name__,
)
def test_what_a_normalizer_changes_is_said_at_loading(
  tmp_path, write_byte_level, caplog, normalizer, lost
):
  path = write_byte_level(tmp_path, normalizer=normalizer)
  with caplog.at_level(logging.WARNING):
    vocabulary.load_vocabulary(str(path))
  (record,) = caplog.records
  message = record.getMessage()
  assert f"{path} does not give back" in message
  assert message.count(";") == len(lost) - 1
  assert all(name in message for name in lost)


def test_added_tokens_that_eat_blanks_are_said_at_loading(
  tmp_path, write_byte_level, caplog
):
  import tokenizers

  path = write_byte_level(tmp_path)
  tokenizer = tokenizers.Tokenizer.from_file(str(path))
  tokenizer.add_tokens(
    [tokenizers.AddedToken(f"<{i}>", rstrip=True) for i in range(3)]
  )
  tokenizer.save(str(path))
  with caplog.at_level(logging.WARNING):
    vocabulary.load_vocabulary(str(path))
  assert "the text '<0>' and 2 more added tokens" in caplog.text


def test_a_file_that_gives_all_back_is_loaded_silently(
  tmp_path, write_byte_level, caplog
):
  vocabulary.load_vocabulary(str(write_byte_level(tmp_path)))
  assert not caplog.records
