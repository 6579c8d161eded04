"""The `tokenizer.json` of an open checkpoint, as a SeqIO vocabulary."""

# The type stubs of TensorFlow lack a part of what stands here.
# pyright: reportAttributeAccessIssue=false

import functools
import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
import tokenizers

from mathft_jax import samples

# Which tokens are special stands in files beside the tokenizer; the first one
# that says anything about a role decides.
_BY_NAME = ("tokenizer_config.json", "special_tokens_map.json")
_BY_ID = "generation_config.json"

# What the open families call these tokens. The end of a document comes before
# that of a turn in a chat: solutions are documents.
_USUAL_NAMES = {
  "eos": (
    *("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"),
    *("<|im_end|>", "<|eot_id|>"),
  ),
  "bos": ("<|begin_of_text|>", "<s>", "<bos>"),
  "pad": ("<pad>", "[PAD]"),
  "unk": ("<unk>", "[UNK]"),
}


class TokenizerJsonVocabulary(seqio.Vocabulary):
  """Byte-level BPE (Llama 3, Qwen), BPE with byte fallback (Llama 2), others.

  The text of a special token, as `</s>`, is text like any other: a problem
  cannot end itself. Nothing is added to a text, neither BOS nor EOS. `pad_id`
  is EOS where the file has no token for padding; id 0 may be any token.
  """

  def __init__(self, path: pathlib.Path):
    """Raises ValueError if the file is none, or if nothing names its EOS."""
    super().__init__()
    self.path = path
    self._content = path.read_text(encoding="utf-8")
    self._special = _special_ids(self.tokenizer, path)

  @functools.cached_property
  def tokenizer(self) -> tokenizers.Tokenizer:
    """The tokenizer, without what would cut, fill or vary a text's tokens."""
    try:
      tokenizer = tokenizers.Tokenizer.from_str(self._content)
    except Exception as error:  # The library raises nothing more precise.
      raise ValueError(
        f"{self.path} is not a Hugging Face tokenizer: {error}"
      ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if getattr(tokenizer.model, "dropout", None):
      tokenizer.model.dropout = None
    tokenizer.encode_special_tokens = True
    return tokenizer

  @property
  def bos_id(self) -> int | None:
    return self._special["bos"]

  @property
  def eos_id(self) -> int:
    eos = self._special["eos"]
    assert eos is not None  # _special_ids raises where there is none.
    return eos

  @property
  def pad_id(self) -> int:
    pad = self._special["pad"]
    return self.eos_id if pad is None else pad

  @property
  def unk_id(self) -> int | None:
    return self._special["unk"]

  @property
  def added_texts(self) -> Sequence[str]:
    """The texts of tokens that stand beside the trained ones."""
    added = self.tokenizer.get_added_tokens_decoder()
    return [added[i].content for i in sorted(added)]

  def fingerprint(self) -> str:
    """SHA-256 of the file and of the special ids, which it does not tell."""
    special = json.dumps(self._special, sort_keys=True)
    return hashlib.sha256(f"{special}\n{self._content}".encode()).hexdigest()

  @functools.cached_property
  def _base_vocab_size(self) -> int:
    # Ids may have gaps, so their number would be too small.
    return 1 + max(self.tokenizer.get_vocab(with_added_tokens=True).values())

  def _encode(self, s: str) -> list[int]:
    return self.tokenizer.encode(s, add_special_tokens=False).ids

  def _decode(self, ids: Iterable[int]) -> str:
    # Also for a file that does not mark its special tokens as such.
    dropped = {self.bos_id, self.eos_id, self.pad_id}
    return self.tokenizer.decode(
      [i for i in ids if i not in dropped], skip_special_tokens=True
    )

  def _encode_tf(self, s: tf.Tensor) -> tf.Tensor | tf.RaggedTensor:
    """int32 [T] of a scalar, ragged [N, T] of a text [N]."""
    s = tf.convert_to_tensor(s)
    if s.shape.rank not in (0, 1):
      raise ValueError(
        f"texts of shape {s.shape} cannot be tokenized; give one text or a"
        " list of texts"
      )
    tokens, lengths = tf.numpy_function(
      self._encode_all,
      [tf.reshape(s, [-1])],
      (tf.int32, tf.int64),
      stateful=False,
    )
    tokens = tf.ensure_shape(tokens, [None])
    if s.shape.rank == 0:
      return tokens
    return tf.RaggedTensor.from_row_lengths(
      tokens, tf.ensure_shape(lengths, s.shape), validate=False
    )

  def _encode_all(self, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # One by one: the library's own threads would complain about later forks.
    each = [self._encode(text.decode()) for text in texts]
    tokens = [token for ids in each for token in ids]
    return np.array(tokens, np.int32), np.array([*map(len, each)], np.int64)

  def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
    """Texts [...] of ids [..., T]; what follows EOS is padding by now."""
    ids = tf.convert_to_tensor(ids)
    texts = tf.numpy_function(
      self._decode_all, [ids], tf.string, stateful=False
    )
    return tf.ensure_shape(texts, ids.shape[:-1])

  def _decode_all(self, ids: np.ndarray) -> np.ndarray:
    texts = np.empty(ids.shape[:-1], object)
    for place in np.ndindex(texts.shape):
      texts[place] = self._decode(ids[place].tolist()).encode()
    return texts

  def __eq__(self, other: object) -> bool:
    return (
      isinstance(other, TokenizerJsonVocabulary)
      and self._special == other._special
      and self._content == other._content
    )

  def __hash__(self) -> int:
    return hash(self._content)

  def __getstate__(self) -> Mapping[str, Any]:
    # gin copies what it configures, and the tokenizer's own copy forgets that
    # special tokens are text.
    return {k: v for k, v in self.__dict__.items() if k != "tokenizer"}

  def __repr__(self) -> str:
    return f"TokenizerJsonVocabulary({str(self.path)!r})"


def _special_ids(
  tokenizer: tokenizers.Tokenizer, path: pathlib.Path
) -> Mapping[str, int | None]:
  """The ids of EOS, BOS, padding and unknown; None for what there is not."""
  files = {
    name: samples.read_json(path.with_name(name))
    for name in (*_BY_NAME, _BY_ID)
    if path.with_name(name).is_file()
  }
  found: dict[str, int | None] = {}
  for role, usual in _USUAL_NAMES.items():
    found[role] = _named(role, files, tokenizer, path)
    # Where other files speak for the tokenizer, what they leave out is not
    # there. But a text has to end.
    if found[role] is None and (role == "eos" or not files):
      ids = map(tokenizer.token_to_id, usual)
      found[role] = next((i for i in ids if i is not None), None)
  if found["eos"] is None:
    raise ValueError(
      f"which token ends a text is not known for {path}: none of"
      f" {', '.join((*_BY_NAME, _BY_ID))} beside it says so, and it has none of"
      f" {', '.join(_USUAL_NAMES['eos'])}; write"
      ' {"eos_token": "..."} into a tokenizer_config.json beside it'
    )
  return found


def _named(
  role: str,
  files: Mapping[str, Mapping[str, Any]],
  tokenizer: tokenizers.Tokenizer,
  path: pathlib.Path,
) -> int | None:
  """The id by the files beside the tokenizer; ValueError for an unknown one."""
  for name in _BY_NAME:
    token = files.get(name, {}).get(f"{role}_token")
    if token is None:
      continue
    # Older files give the token's properties too.
    content = token["content"] if isinstance(token, Mapping) else token
    found = tokenizer.token_to_id(content)
    if found is None:
      raise ValueError(
        f"{path.with_name(name)}: {role}_token is {content!r}, but {path} has"
        " no such token; correct one of the two"
      )
    return found
  found = files.get(_BY_ID, {}).get(f"{role}_token_id")
  if isinstance(found, list):
    # A model may stop at several tokens; its document's end comes first.
    found = found[0]
  if found is not None and tokenizer.id_to_token(found) is None:
    raise ValueError(
      f"{path.with_name(_BY_ID)}: {role}_token_id is {found!r}, but {path} has"
      " no such id; correct one of the two"
    )
  return found
