"""Tests of mathft_jax.data.tokenizer_json."""

import copy
import io
import itertools
import json
import pathlib
import pickle

import hypothesis
import hypothesis.strategies as st
import pytest
import sentencepiece
import tensorflow as tf
import tokenizers
from tokenizers import decoders, models, normalizers

from mathft_jax import jsonl
from mathft_jax.data import tokenizer_json, vocabulary
from mathft_jax.sources import arithmetic_text

_ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_TEXTS = ["", " a ", "two  blanks,\ttab\r\n\n\nlines\u2028", "é 中 😀 \0 \x7f!"]


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory, write_byte_level):
  """As of Qwen 2.5, without its normaliser, trained on English and LaTeX."""
  path = write_byte_level(
    tmp_path_factory.mktemp("bpe"),
    [r"What is $\frac{1}{2}$ of the sum?", "Let $x$ be 100 and y be 2."] * 9,
    config={
      "eos_token": "<|im_end|>",
      "pad_token": "<|endoftext|>",
      "bos_token": None,
    },
  )
  return vocabulary.load_vocabulary(str(path))


@pytest.fixture(scope="module")
def llama_2(tmp_path_factory) -> pathlib.Path:
  """A folder as of Llama 2: a SentencePiece model and its tokenizer.json.

  The second is made of the first as Llama 2's was: a merge for each way of
  parting a piece into two, in the order of the pieces.
  """
  folder = tmp_path_factory.mktemp("llama_2")
  model = io.BytesIO()
  documents = arithmetic_text.documents(seed=0, num_documents=300)
  sentencepiece.SentencePieceTrainer.Train(
    sentence_iterator=itertools.chain(documents, [r"the $\frac{1}{2}$!"] * 9),
    model_writer=model,
    model_type="bpe",
    vocab_size=600,
    hard_vocab_limit=False,
    unk_id=0,
    bos_id=1,
    eos_id=2,
    pad_id=-1,
    byte_fallback=True,
    normalization_rule_name="identity",
    remove_extra_whitespaces=False,
    allow_whitespace_only_pieces=True,
    minloglevel=2,
  )
  (folder / "tokenizer.model").write_bytes(model.getvalue())
  judge = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
  pieces = [judge.id_to_piece(i) for i in range(judge.get_piece_size())]
  ids = {piece: i for i, piece in enumerate(pieces)}
  merges = [
    merge
    for piece in pieces[3 + 256 :]
    for merge in sorted(
      (
        (piece[:k], piece[k:])
        for k in range(1, len(piece))
        if piece[:k] in ids and piece[k:] in ids
      ),
      key=lambda merge: (ids[merge[0]], ids[merge[1]]),
    )
  ]
  tokenizer = tokenizers.Tokenizer(
    models.BPE(
      ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )
  )
  tokenizer.normalizer = normalizers.Sequence(
    [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
  )
  tokenizer.decoder = decoders.Sequence(
    [
      decoders.Replace("\u2581", " "),
      decoders.ByteFallback(),
      decoders.Fuse(),
      decoders.Strip(" ", 1, 0),
    ]
  )
  tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
  tokenizer.save(str(folder / "tokenizer.json"))
  return folder


@pytest.fixture(scope="module")
def real_texts(shared_dir) -> list[str]:
  """All problems and solutions of MATH, and the problems of GSM8K."""
  texts = []
  for path in sorted((shared_dir / "data").glob("*/*t*.jsonl.gz")):
    if path.parent.name in ("math", "gsm8k"):
      for _, row in jsonl.read(path):
        texts += [row[k] for k in ("problem", "solution") if k in row]
        texts += [row["question"]] if "question" in row else []
  assert len(texts) > 25_000
  return texts


@hypothesis.given(_ANY_TEXT)
@hypothesis.example("<|im_end|> and <|endoftext|>!!")
def test_byte_level_text_comes_back(byte_level, text):
  assert byte_level.decode(byte_level.encode(text)) == text


@hypothesis.given(_ANY_TEXT.filter(lambda text: "\u2581" not in text))
@hypothesis.example("<s> 1</s>")
def test_text_comes_back_from_byte_fallback(llama_2, text):
  loaded = vocabulary.load_vocabulary(str(llama_2))
  assert loaded.decode(loaded.encode(text)) == text


def test_real_texts_come_back_byte_for_byte(byte_level, llama_2, real_texts):
  by_bytes = vocabulary.load_vocabulary(str(llama_2))
  for loaded, texts in (
    (byte_level, real_texts[::2]),
    (by_bytes, real_texts[::6]),
  ):
    lost = [t for t in texts if loaded.decode(loaded.encode(t)) != t]
    assert not lost


def test_a_llama_2_file_gives_the_ids_of_its_sentencepiece_model(
  llama_2, real_texts
):
  loaded = vocabulary.load_vocabulary(str(llama_2))
  judge = sentencepiece.SentencePieceProcessor(
    model_file=str(llama_2 / "tokenizer.model")
  )
  for text in [*_TEXTS, *real_texts[::5]]:
    assert loaded.encode(text) == judge.encode(text)


def test_the_ids_are_those_of_the_libraries_that_read_such_files(
  byte_level, llama_2, real_texts
):
  transformers = pytest.importorskip("transformers")
  for loaded in (byte_level, vocabulary.load_vocabulary(str(llama_2))):
    file = str(loaded.path)
    judge = tokenizers.Tokenizer.from_file(file)
    other = transformers.PreTrainedTokenizerFast(tokenizer_file=file)
    for text in [*_TEXTS, *real_texts[::20]]:
      ids = loaded.encode(text)
      assert ids == judge.encode(text, add_special_tokens=False).ids
      assert ids == other.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("text", _TEXTS)
def test_tensorflow_gives_the_same_tokens_and_texts(byte_level, text):
  ids = byte_level.encode(text)
  tokens = byte_level.encode_tf(tf.constant(text))
  assert tokens.dtype == tf.int32
  assert tokens.numpy().tolist() == ids
  assert byte_level.decode_tf(tokens).numpy() == text.encode()


def test_batches_keep_their_shapes_inside_a_dataset(byte_level):
  texts = [text.encode() for text in _TEXTS] * 25
  dataset = tf.data.Dataset.from_tensor_slices(texts).batch(4)
  dataset = dataset.map(byte_level.encode_tf, num_parallel_calls=8)
  assert isinstance(dataset.element_spec, tf.RaggedTensorSpec)
  assert dataset.element_spec.shape.as_list() == [None, None]
  dataset = dataset.map(lambda tokens: (tokens, tokens.to_tensor(0)))
  found = []
  for tokens, padded in dataset:
    found += tokens.to_list()
    decoded = byte_level.decode_tf(padded)
    assert decoded.shape == [4]
    # A padding of ordinary tokens stays unless EOS stands before it.
    ended = tf.concat([tokens, tf.fill([4, 1], byte_level.eos_id)], axis=1)
    again = byte_level.decode_tf(ended.to_tensor(0))
    assert again.numpy().tolist() == texts[:4]
  assert found == [byte_level.encode(text.decode()) for text in texts]


def test_single_texts_keep_their_shapes_inside_a_dataset(byte_level):
  dataset = tf.data.Dataset.from_tensor_slices(_TEXTS * 50)
  dataset = dataset.map(byte_level.encode_tf, num_parallel_calls=8)
  assert dataset.element_spec == tf.TensorSpec([None], tf.int32)
  texts = dataset.map(byte_level.decode_tf, num_parallel_calls=8)
  assert texts.element_spec == tf.TensorSpec([], tf.string)
  assert [t.decode() for t in texts.as_numpy_iterator()] == _TEXTS * 50


def test_decoding_ends_at_eos_and_leaves_special_tokens_out(byte_level):
  ids = [byte_level.pad_id, *byte_level.encode("a!"), byte_level.eos_id]
  assert byte_level.decode([*ids, *byte_level.encode("b")]) == "a!"
  with_more = tf.constant([*ids, *byte_level.encode("b")])
  assert byte_level.decode_tf(with_more).numpy() == b"a!"


def test_a_special_tokens_text_is_text(byte_level):
  ids = byte_level.encode("<|im_end|>")
  assert byte_level.eos_id not in ids
  assert byte_level.decode(ids) == "<|im_end|>"
  copies = [copy.deepcopy(byte_level), pickle.loads(pickle.dumps(byte_level))]
  for copied in copies:
    assert copied == byte_level
    assert copied.encode("<|im_end|>") == ids


def test_what_would_cut_fill_or_vary_tokens_is_switched_off(
  tmp_path, write_byte_level
):
  path = write_byte_level(tmp_path)
  text = "Is it correct? Is it incorrect?"
  expected = vocabulary.load_vocabulary(str(path)).encode(text)
  row = json.loads(path.read_text("utf-8"))
  row["truncation"] = {
    "max_length": 2, "strategy": "LongestFirst", "stride": 0,
    "direction": "Right",
  }  # fmt: skip
  row["padding"] = {
    "strategy": {"Fixed": 50}, "direction": "Right", "pad_id": 0,
    "pad_type_id": 0, "pad_token": "!", "pad_to_multiple_of": None,
  }  # fmt: skip
  row["model"]["dropout"] = 0.9
  path.write_text(json.dumps(row), "utf-8")
  loaded = tokenizer_json.TokenizerJsonVocabulary(path)
  assert [loaded.encode(text) for _ in range(3)] == [expected] * 3


def _ids(path: pathlib.Path) -> dict[str, int | None]:
  loaded = tokenizer_json.TokenizerJsonVocabulary(path)
  return {
    role: getattr(loaded, f"{role}_id") for role in ("eos", "bos", "pad", "unk")
  }


_NAMES = ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<pad>")


@pytest.mark.parametrize(
  ("files", "expected"),
  [
    ({}, {"eos": 1, "bos": 0, "pad": 3}),
    ({"tokenizer_config": {"eos_token": "<|eot_id|>"}}, {"eos": 2, "pad": 2}),
    (
      {
        "tokenizer_config": {"eos_token": {"content": "<|eot_id|>"}},
        "special_tokens_map": {"eos_token": "<pad>", "bos_token": "<pad>"},
      },
      {"eos": 2, "bos": 3, "pad": 2},
    ),
    ({"tokenizer_config": {"eos_token": None}}, {"eos": 1, "pad": 1}),
    (
      {"generation_config": {"eos_token_id": [2, 1], "bos_token_id": 0}},
      {"eos": 2, "bos": 0, "pad": 2},
    ),
  ],
  ids=["alone", "config", "both", "null", "generation"],
)
def test_special_tokens_come_from_the_files_beside(
  tmp_path, write_byte_level, files, expected
):
  """Ids, here and in `expected`, count from that of the first special token."""
  path = write_byte_level(tmp_path, special=_NAMES)
  first = tokenizers.Tokenizer.from_file(str(path)).token_to_id(_NAMES[0])
  for name, row in files.items():
    if name == "generation_config":
      row = {
        "eos_token_id": [first + i for i in row["eos_token_id"]],
        "bos_token_id": first + row["bos_token_id"],
      }
    (tmp_path / f"{name}.json").write_text(json.dumps(row), "utf-8")
  assert _ids(path) == {
    role: None if place is None else first + place
    for role, place in {"bos": None, "unk": None, **expected}.items()
  }


def test_a_file_without_an_end_says_how_to_name_it(tmp_path, write_byte_level):
  path = write_byte_level(tmp_path, special=["<done>"])
  with pytest.raises(ValueError, match='write {"eos_token": "..."} into a'):
    tokenizer_json.TokenizerJsonVocabulary(path)
  config = tmp_path / "tokenizer_config.json"
  config.write_text('{"eos_token": "<done>"}', "utf-8")
  assert _ids(path)["eos"] == tokenizers.Tokenizer.from_file(
    str(path)
  ).token_to_id("<done>")


@pytest.mark.parametrize(
  ("file", "row"),
  [
    ("tokenizer_config.json", {"eos_token": "<ende>"}),
    ("generation_config.json", {"eos_token_id": 9999}),
  ],
)
def test_a_special_token_that_is_not_there_is_an_error(
  tmp_path, write_byte_level, file, row
):
  path = write_byte_level(tmp_path)
  (tmp_path / file).write_text(json.dumps(row), "utf-8")
  with pytest.raises(ValueError, match=f"{file}: eos_token.*has no such"):
    tokenizer_json.TokenizerJsonVocabulary(path)


def test_a_file_that_is_no_tokenizer_is_an_error(tmp_path):
  path = tmp_path / "tokenizer.json"
  path.write_text("{}", "utf-8")
  with pytest.raises(ValueError, match="tokenizer.json is not a Hugging Face"):
    vocabulary.load_vocabulary(str(path))


def test_the_size_covers_the_highest_id(tmp_path, write_byte_level):
  path = write_byte_level(tmp_path)
  row = json.loads(path.read_text("utf-8"))
  row["model"]["vocab"]["zz"] = 999
  path.write_text(json.dumps(row), "utf-8")
  assert tokenizer_json.TokenizerJsonVocabulary(path).vocab_size == 1000


def test_the_fingerprint_knows_the_special_tokens(tmp_path, write_byte_level):
  paths = [
    write_byte_level(tmp_path / str(i), config={"eos_token": eos})
    for i, eos in enumerate(("<|im_end|>", "<|im_end|>", "<|endoftext|>"))
  ]
  same, again, other = (
    vocabulary.fingerprint(vocabulary.load_vocabulary(str(path)))
    for path in paths
  )
  assert same == again != other
