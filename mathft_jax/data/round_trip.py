"""Which texts a vocabulary does not give back as they were."""

from collections.abc import Iterator, Sequence

import seqio

# Each text holds one thing that some vocabulary loses. Reading the file's own
# rules would not do: what they lose together shows on texts only.
_PROBES = {
  "line breaks": "a\nb\n\n\nc\r\nd",
  "tabs and runs of blanks": "a\tb  c    d",
  "blanks at the start": " a",
  "blanks at the end": "a ",
  "capital letters": "Let ABC be",
  "rare characters": "\u4e2d \U0001f600 \u2028 \x00 \x7f",
  "accents that are characters of their own (NFD)": "e\u0301",
  "ligatures and wide forms (NFKC)": "\ufb01 x\u00b2 \uff11",
  "U+2581, which SentencePiece writes for a blank": "a\u2581b",
}


def losses(
  vocabulary: seqio.Vocabulary, added_texts: Sequence[str] = ()
) -> Iterator[str]:
  """Yields what is changed by encoding and decoding, in words.

  `added_texts` are those of tokens that are no trained ones; their flags may
  eat the blanks around them, and decoding may drop them.
  """
  for name, text in _PROBES.items():
    if not _comes_back(vocabulary, text):
      yield name
  lost = [t for t in added_texts if not _comes_back(vocabulary, f"a {t} b")]
  if lost:
    others = f" and {len(lost) - 1} more added tokens" if lost[1:] else ""
    yield f"the text {lost[0]!r}{others}"


def _comes_back(vocabulary: seqio.Vocabulary, text: str) -> bool:
  return vocabulary.decode(vocabulary.encode(text)) == text
