"""Vocabularies: how they are trained, shipped and found."""

# The type stubs of SentencePiece lack its messages.
# pyright: reportAttributeAccessIssue=false

import collections.abc
import functools
import hashlib
import io
import logging
import pathlib
import struct

import sentencepiece
import seqio
import tensorflow_text as tf_text
from sentencepiece import sentencepiece_model_pb2

from mathft_jax.data import round_trip

_logger = logging.getLogger(__name__)

_SHIPPED = pathlib.Path(__file__).parent / "vocabularies"

# What a folder of an open checkpoint may hold, the first found is taken. Llama
# 3 calls tokenizer.model what is no SentencePiece model.
_IN_FOLDER = ("tokenizer.json", "tokenizer.model", "spiece.model", "*.model")

# Longer texts than this many bytes would be left out of training silently.
_MAX_TEXT_BYTES = 1 << 20

# Rules of normalisation that match no text: the size of a search tree, the
# tree, which is empty, and what it points to.
_NO_RULES = struct.pack("<I", 1024) + bytes(1024) + bytes(1)


def train_vocabulary(
  texts: collections.abc.Iterable[str],
  user_defined_symbols: collections.abc.Sequence[str],
  vocab_size: int,
) -> bytes:
  """Returns a SentencePiece BPE model of at most `vocab_size` pieces.

  Padding is 0, end of sequence 1, unknown 2. Every digit is a piece of its own
  unless a user-defined symbol holds it. Text comes back byte for byte, except
  that U+2581, which SentencePiece writes for a blank, comes back as a blank.

  The same texts in the same order give the same bytes on any machine: BPE
  counts in whole numbers, and neither a path nor a time is stored.

  Raises ValueError if a text is too long to be taken in, or if there is none.
  """
  model = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.Train(
      sentence_iterator=_checked(texts),
      model_writer=model,
      model_type="bpe",
      vocab_size=vocab_size,
      hard_vocab_limit=False,
      user_defined_symbols=list(user_defined_symbols),
      pad_id=0,
      eos_id=1,
      unk_id=2,
      bos_id=-1,
      byte_fallback=True,
      # Rare characters are left to the byte pieces.
      character_coverage=0.9999,
      normalization_rule_name="identity",
      add_dummy_prefix=False,
      remove_extra_whitespaces=False,
      split_digits=True,
      allow_whitespace_only_pieces=True,
      max_sentence_length=_MAX_TEXT_BYTES,
      num_threads=1,
      minloglevel=2,
    )
  except RuntimeError as error:
    raise ValueError(
      f"no vocabulary of {vocab_size} pieces could be trained: {error}; it"
      " needs some text and room for 3 control, 256 byte and"
      f" {len(user_defined_symbols)} user-defined pieces and the alphabet"
    ) from error
  return model.getvalue()


@functools.lru_cache
def load_vocabulary(name_or_path: str) -> seqio.Vocabulary:
  """Returns a shipped vocabulary by name, or one from files.

  These are a SentencePiece `.model`, a Hugging Face `tokenizer.json`, or a
  folder that holds one of them, as that of an open checkpoint. A warning says
  which texts such a vocabulary does not give back as they were; the shipped
  ones change nothing but U+2581.

  Raises FileNotFoundError that lists the shipped names if it is none of these.
  """
  shipped = _SHIPPED / f"{name_or_path}.model"
  if shipped.is_file():
    return _sentencepiece(shipped)
  path = _file(pathlib.Path(name_or_path))
  added_texts = ()
  if path.suffix == ".json":
    # Here, so that nobody waits for the library in vain.
    from mathft_jax.data import tokenizer_json

    loaded = tokenizer_json.TokenizerJsonVocabulary(path)
    added_texts = loaded.added_texts
  else:
    loaded = _sentencepiece(path)
  if lost := list(round_trip.losses(loaded, added_texts)):
    _logger.warning(
      "vocabulary %s does not give back as they were: %s. Texts that hold them"
      " are changed where a model reads and writes them.",
      path,
      "; ".join(lost),
    )
  return loaded


def fingerprint(vocabulary: seqio.Vocabulary) -> str | None:
  """SHA-256 of what decides the tokens of a text.

  None of a vocabulary that `load_vocabulary` does not make.
  """
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    return hashlib.sha256(vocabulary.sp_model or b"").hexdigest()
  from mathft_jax.data import tokenizer_json

  if isinstance(vocabulary, tokenizer_json.TokenizerJsonVocabulary):
    return vocabulary.fingerprint()
  return None


class _Vocabulary(seqio.SentencePieceVocabulary):
  """A SeqIO vocabulary that gives blanks back, and is silent in TensorFlow.

  Without rules of normalisation, tensorflow_text prints a line each time that
  a data set is built, and takes no log level. It gets rules that do nothing.
  """

  @property
  def tf_tokenizer(self):
    return tf_text.SentencepieceTokenizer(model=_with_rules(self.sp_model))

  def _decode(self, ids):
    # A vocabulary without a piece for a lone blank spells it in bytes, as the
    # character that SentencePiece writes for it.
    return super()._decode(ids).replace("\u2581", " ")


@functools.lru_cache
def _with_rules(serialized_model: bytes) -> bytes:
  model = sentencepiece_model_pb2.ModelProto.FromString(serialized_model)
  if not model.normalizer_spec.precompiled_charsmap:
    model.normalizer_spec.precompiled_charsmap = _NO_RULES
  return model.SerializeToString()


def _checked(
  texts: collections.abc.Iterable[str],
) -> collections.abc.Iterator[str]:
  for number, text in enumerate(texts, start=1):
    size = len(text.encode())
    if size > _MAX_TEXT_BYTES:
      raise ValueError(
        f"text {number} of the vocabulary's training texts has {size} bytes,"
        f" more than {_MAX_TEXT_BYTES}; cut it into pieces"
      )
    yield text


def _file(path: pathlib.Path) -> pathlib.Path:
  """The vocabulary's file that a path names, itself or as its folder."""
  if path.is_file():
    return path
  found = (p for name in _IN_FOLDER for p in sorted(path.glob(name)))
  for file in found:
    return file
  names = ", ".join(sorted(p.stem for p in _SHIPPED.glob("*.model")))
  raise FileNotFoundError(
    f"vocabulary {str(path)!r} is neither a shipped one ({names}) nor a file or"
    " folder of a vocabulary; give one of these names, the path of a"
    " SentencePiece .model file or of a tokenizer.json, or a folder that holds"
    " one"
  )


def _sentencepiece(path: pathlib.Path) -> seqio.SentencePieceVocabulary:
  """The vocabulary of a SentencePiece model, checked."""
  vocabulary = _Vocabulary(str(path))
  try:
    tokenizer = vocabulary.tokenizer
  except Exception as error:  # SentencePiece and protobuf raise their own.
    raise ValueError(f"{path} is not a SentencePiece model: {error}") from error
  if tokenizer.pad_id() != 0 or tokenizer.eos_id() < 0:
    raise ValueError(
      f"vocabulary {path} has padding id {tokenizer.pad_id()} and"
      f" end-of-sequence id {tokenizer.eos_id()}; of a SentencePiece model,"
      " padding must be 0 and an end of sequence must exist: train it with"
      " pad_id=0, eos_id=1, or give the tokenizer.json of the same checkpoint"
    )
  return vocabulary
