"""Candidates to evaluator scores."""

import dataclasses
import functools
import itertools
import operator
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mathft_jax import partitioning, records
from mathft_jax.data import features, packing
from mathft_jax.models import evaluator

# A text of a batch: the problem's place in the batch, and the solution.
_Text = tuple[int, str]

# Rows are at most so many times as long as the longest text.
_MAX_STRETCH = 4

# Tokens of the shortest rows.
_SHORTEST = 32


@dataclasses.dataclass(frozen=True)
class ScoringConfig:
  """How much is scored at once.

  The texts of `problems_per_batch` problems are packed together: the more, the
  less padding. A forward pass takes `tokens_per_batch` places of rows, or one
  row where a text is longer. Rows have few lengths, and a batch few numbers of
  them, so that a handful of shapes is compiled. Raises ValueError for values
  below 1.
  """

  tokens_per_batch: int = 16384
  problems_per_batch: int = 16

  def __post_init__(self):
    for name, value in dataclasses.asdict(self).items():
      if value < 1:
        raise ValueError(f"ScoringConfig.{name} is {value}; it must be >= 1")


@dataclasses.dataclass(frozen=True)
class Counts:
  """What scoring took.

  Of `num_candidates` candidates `num_distinct` texts were scored. Tokens of
  what a problem's texts share count once in `num_tokens`; `num_places` are
  those of all rows computed, with padding.
  """

  num_candidates: int = 0
  num_distinct: int = 0
  num_tokens: int = 0
  num_places: int = 0

  def __add__(self, other: "Counts") -> "Counts":
    return self._with(operator.add, other)

  def __sub__(self, other: "Counts") -> "Counts":
    return self._with(operator.sub, other)

  @property
  def padding(self) -> float:
    """The share of places that hold no token; 0 where there is none."""
    return 1 - self.num_tokens / self.num_places if self.num_places else 0.0

  def describe(self) -> dict[str, int | float]:
    """What a stage says of its scoring."""
    return {**dataclasses.asdict(self), "padding": round(self.padding, 4)}

  def _with(self, operation: Any, other: "Counts") -> "Counts":
    pairs = dataclasses.astuple(self), dataclasses.astuple(other)
    return Counts(*map(operation, *pairs))


class Scorer:
  """Scores candidates: log S(X|P) of Eq. 7, in nats.

  Identical solutions of a problem are scored once, and the tokens that all
  texts of a problem begin with are computed once; what follows them is packed,
  in each row that of one problem. Batches are laid out by the list of problems
  alone, as the sampler's are.

  Texts whose verdicts are several tokens are padded to the longest of a batch,
  each read whole.
  """

  def __init__(
    self, model: evaluator.Evaluator, config: ScoringConfig = ScoringConfig()
  ):
    self._model = model
    self._config = config
    self._read = partitioning.jit_by_mesh(model.read_prefixes)
    self._score = partitioning.jit_by_mesh(model.log_p_correct_packed)
    self._score_words = partitioning.jit_by_mesh(model.log_p_correct_of_words)
    self._counts = Counts()

  @property
  def counts(self) -> Counts:
    """Of all that this scorer has scored."""
    return self._counts

  def batch_shape(self, length: int) -> tuple[int, int]:
    """How many rows a full batch has, and their length, for texts of `length`.

    Rows of short texts are longer than that; a batch has as many places.
    """
    length = _bucket(length)
    return _rows_per_batch(self._config, length), length

  def lower(self, params: Any, length: int) -> jax.stages.Lowered:
    """The compiled program of a batch of that length, not compiled yet.

    Solutions are as long, and so is what they share, which is the most that
    texts of that length take. `params` may be shapes with shardings, of devices
    that are not there.
    """
    shape = self.batch_shape(length)
    tokens = jax.ShapeDtypeStruct(shape, np.int32)
    rows = jax.ShapeDtypeStruct(shape[:1], np.int32)
    if self._model.verdict_ids is None:
      words = (
        jax.ShapeDtypeStruct((shape[0], *array.shape[1:]), array.dtype)
        for array in evaluator.padded_words([self._model.verdict_words])
      )
      return self._score_words(params).lower(params, tokens, rows, *words)
    beginnings = jax.ShapeDtypeStruct(
      (self._config.problems_per_batch, shape[1]), np.int32
    )
    keys_values = jax.eval_shape(self._read(params), params, beginnings)
    lengths = jax.ShapeDtypeStruct(beginnings.shape[:1], np.int32)
    places = jax.ShapeDtypeStruct((shape[0], 1), np.int32)
    return self._score(params).lower(
      params, keys_values, lengths, rows, tokens, tokens, tokens, places
    )

  def score(
    self,
    params: Any,
    sampled: Sequence[records.SampledProblem],
    *,
    evaluator: str,
    finished: Collection[str] = (),
  ) -> Iterator[records.ScoredProblem]:
    """Yields the scores of each problem that is not in `finished`."""
    size = self._config.problems_per_batch
    for start in range(0, len(sampled), size):
      batch = sampled[start : start + size]
      if all(s.problem.problem_id in finished for s in batch):
        continue
      scores = self._score_batch(params, batch)
      for i, s in enumerate(batch):
        if s.problem.problem_id not in finished:
          yield records.ScoredProblem(
            problem_id=s.problem.problem_id,
            evaluator=evaluator,
            scores={c.index: scores[i, c.solution] for c in s.candidates},
          )

  def _score_batch(
    self, params: Any, batch: Sequence[records.SampledProblem]
  ) -> Mapping[_Text, float]:
    by_problem = [
      list(dict.fromkeys(c.solution for c in s.candidates)) for s in batch
    ]
    self._counts += Counts(
      num_candidates=sum(len(s.candidates) for s in batch),
      num_distinct=sum(map(len, by_problem)),
    )
    texts = [(i, x) for i, found in enumerate(by_problem) for x in found]
    if not texts:
      return {}
    vocabulary, start = self._model.vocabulary, self._model.start_id
    pairs = [(batch[i].problem.text, solution) for i, solution in texts]
    if self._model.verdict_ids is None:
      both = [features.evaluator_tokens(vocabulary, *pair) for pair in pairs]
      rows = [[start, *row] for row, _ in both]
      scores = self._score_padded(params, rows, [words for _, words in both])
    else:
      encode = functools.partial(features.evaluator_input_tokens, vocabulary)
      rows = [[start, *encode(*pair)] for pair in pairs]
      scores = self._score_packed(params, rows, [i for i, _ in texts])
    return dict(zip(texts, scores, strict=True))

  def _score_packed(
    self,
    params: Any,
    rows: Sequence[Sequence[int]],
    problems: Sequence[int],
  ) -> list[float]:
    """The scores of texts, of which those of a problem stand together."""
    packed = _pack(rows, problems)
    lengths = packed.prefix_lengths
    shape = _bucket(len(lengths), 1), _bucket(max(lengths.tolist()))
    tokens = np.zeros(shape, np.int32)
    for row, text in zip(tokens, packed.prefixes, strict=False):
      row[: len(text)] = text
    keys_values = self._read(params)(params, tokens)
    self._count(sum(lengths.tolist()), tokens.size)
    padded_lengths = np.ones((len(tokens),), np.int32)
    padded_lengths[: len(lengths)] = lengths
    scores = np.empty((len(rows),))
    for length, texts in self._batches(packed):
      num_rows = _rows_per_batch(self._config, length)
      # Half a batch, or a quarter, where that holds what is left.
      while num_rows >= 2 * len(texts):
        num_rows //= 2
      laid_out = _lay_out(packed, rows, texts, (num_rows, length))
      of_rows = np.zeros((num_rows,), np.int32)
      of_rows[: len(texts)] = [packed.places[t[0]] for t in texts]
      found = self._score(params)(
        params, keys_values, padded_lengths, of_rows, *laid_out
      )
      found = partitioning.to_host(found)
      for row, of_row in zip(found, texts, strict=False):
        scores[of_row] = row[: len(of_row)]
      self._count(int(np.count_nonzero(laid_out[2])), laid_out[0].size)
    return scores.tolist()

  def _batches(
    self, packed: "_Packed"
  ) -> Iterator[tuple[int, Sequence[Sequence[int]]]]:
    """The length of a batch's rows, and the texts of each of them."""
    for length, texts in packed.by_length.items():
      size = _rows_per_batch(self._config, length)
      for first in range(0, len(texts), size):
        yield length, texts[first : first + size]

  def _score_padded(
    self,
    params: Any,
    rows: Sequence[Sequence[int]],
    words: Sequence[features.Words],
  ) -> list[float]:
    """The scores of texts by words of several tokens, short texts first."""
    scores = np.empty((len(rows),))
    by_length = sorted(range(len(rows)), key=lambda r: len(rows[r]))
    per_batch = _rows_per_batch(self._config, _bucket(max(map(len, rows))))
    for start in range(0, len(rows), per_batch):
      chosen = by_length[start : start + per_batch]
      longest = len(rows[chosen[-1]])
      tokens = np.zeros((per_batch, _bucket(longest)), np.int32)
      positions = np.zeros((per_batch,), np.int32)
      for place, r in enumerate(chosen):
        tokens[place, : len(rows[r])] = rows[r]
        positions[place] = len(rows[r]) - 1
      # The rows that fill the batch up have words too.
      filled = [*chosen, *[chosen[0]] * (per_batch - len(chosen))]
      of_rows = evaluator.padded_words([words[r] for r in filled])
      values = self._score_words(params)(params, tokens, positions, *of_rows)
      scores[chosen] = partitioning.to_host(values)[: len(chosen)]
      self._count(sum(len(rows[r]) for r in chosen), tokens.size)
    return scores.tolist()

  def _count(self, num_tokens: int, num_places: int) -> None:
    self._counts += Counts(num_tokens=num_tokens, num_places=num_places)


@dataclasses.dataclass(frozen=True)
class _Packed:
  """Which texts share a row, by the length of rows, and what they share.

  `prefixes` are what all texts of each problem begin with, of `prefix_lengths`
  tokens; `places` says for each text which of them is its own.
  """

  prefixes: Sequence[Sequence[int]]
  places: Sequence[int]
  by_length: Mapping[int, Sequence[Sequence[int]]]

  @functools.cached_property
  def prefix_lengths(self) -> np.ndarray:
    return np.array([len(prefix) for prefix in self.prefixes], np.int32)


def _pack(rows: Sequence[Sequence[int]], problems: Sequence[int]) -> _Packed:
  """Rows of the length that leaves the fewest places empty.

  And of half and a quarter of it, where a problem's last row needs no more.
  """
  prefixes, places, of_problems = [], [], []
  for _, group in itertools.groupby(range(len(rows)), problems.__getitem__):
    texts = list(group)
    # The last token of each text is left: its hidden state is wanted.
    shared = os.path.commonprefix([tuple(rows[t][:-1]) for t in texts])
    places += [len(prefixes)] * len(texts)
    prefixes.append(shared)
    of_problems.append(texts)

  def packed(length: int) -> dict[int, list[list[int]]]:
    smaller = [n for n in (length // 4, length // 2) if n >= _SHORTEST]
    sizes = [*smaller, length]
    found: dict[int, list[list[int]]] = {size: [] for size in sizes}
    for texts, prefix in zip(of_problems, prefixes, strict=True):
      lengths = np.array([len(rows[t]) - len(prefix) for t in texts])
      of_rows = packing.Packing(lengths, length).rows()
      parts = np.split(np.array(texts)[of_rows.examples], of_rows.starts[1:-1])
      for part in parts:
        texts_of_row = part.tolist()
        total = sum(len(rows[t]) - len(prefix) for t in texts_of_row)
        found[min(n for n in sizes if n >= total)].append(texts_of_row)
    return found

  longest = max(
    len(row) - len(prefixes[place])
    for row, place in zip(rows, places, strict=True)
  )
  lengths = [_bucket(longest)]
  while lengths[-1] < _MAX_STRETCH * longest:
    lengths.append(_bucket(lengths[-1] + 1))
  ways = [packed(length) for length in lengths]
  best = min(ways, key=lambda way: sum(n * len(way[n]) for n in way))
  return _Packed(prefixes, places, best)


def _lay_out(
  packed: _Packed,
  rows: Sequence[Sequence[int]],
  texts: Sequence[Sequence[int]],
  shape: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Tokens, positions and segments [B, T], and where segments end [B, M].

  M is one of few numbers too.
  """
  tokens, positions, segments = (np.zeros(shape, np.int32) for _ in "tps")
  most = max(len(row) for rows in packed.by_length.values() for row in rows)
  ends = np.zeros((shape[0], _bucket(most, 8)), np.int32)
  for row, of_row in enumerate(texts):
    first = 0
    for segment, text in enumerate(of_row):
      start = len(packed.prefixes[packed.places[text]])
      part = rows[text][start:]
      last = first + len(part)
      tokens[row, first:last] = part
      positions[row, first:last] = np.arange(start, start + len(part))
      segments[row, first:last] = segment + 1
      ends[row, segment] = last - 1
      first = last
  return tokens, positions, segments, ends


def _bucket(number: int, least: int = _SHORTEST) -> int:
  """The next of 32, 48, 64, 96, 128, ..., so that shapes are few."""
  power = max(least, 1 << (number - 1).bit_length())
  between = power * 3 // 4
  return between if least < between and number <= between else power


def _rows_per_batch(config: ScoringConfig, length: int) -> int:
  """A power of two, of which halves are taken too."""
  rows = max(1, config.tokens_per_batch // length)
  return 1 << (rows.bit_length() - 1)
