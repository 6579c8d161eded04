"""Vocabularies that the tests of data share."""

import pytest
import seqio

from mathft_jax.data import vocabulary


@pytest.fixture(scope="session")
def math_vocabulary() -> seqio.SentencePieceVocabulary:
  return vocabulary.load_vocabulary("math_2k")


@pytest.fixture(scope="session")
def plain_vocabulary(tmp_path_factory) -> seqio.SentencePieceVocabulary:
  """Bytes and a few pieces; "yes" and "no" are its only one-token verdicts."""
  path = tmp_path_factory.mktemp("vocabulary") / "plain.model"
  model = vocabulary.train_vocabulary(["abc " * 9], ["yes", "no"], 280)
  path.write_bytes(model)
  return vocabulary.load_vocabulary(str(path))
