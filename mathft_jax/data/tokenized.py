"""Tokenized examples in a few arrays, and how they are laid out in rows."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int, Num

from mathft_jax.data import features, packing


@dataclasses.dataclass(frozen=True)
class Feature:
  """A feature of several examples, one behind the other.

  `values` are [tokens], or [tokens, 2] of pairs, whose shorter half is padded
  with NO_TOKEN at its end.
  """

  values: Int[np.ndarray, " tokens"] | Int[np.ndarray, "tokens 2"]
  lengths: Int[np.ndarray, " E"]


@dataclasses.dataclass(frozen=True)
class Examples:
  """Examples of one token sequence each, or of two (pairs).

  Sequence i is tokens[starts[i]:starts[i + 1]], without padding; the first
  num_inputs[i] tokens are inputs, the others targets. Example e has the
  sequences from e * width on.
  """

  tokens: Int[np.ndarray, " tokens"]
  starts: Int[np.ndarray, " S+1"]
  num_inputs: Int[np.ndarray, " S"]
  width: int = 1

  def __len__(self) -> int:
    return len(self.num_inputs) // self.width

  def lengths(self) -> Int[np.ndarray, " E"]:
    """Returns what each example takes of a row: its longer half."""
    return self._longest(np.diff(self.starts))

  def feature_lengths(self) -> Mapping[str, Int[np.ndarray, " E"]]:
    """Returns the tokens of inputs and of targets, each of the longer half."""
    num_targets = np.diff(self.starts) - self.num_inputs
    return {
      "inputs": self._longest(self.num_inputs),
      "targets": self._longest(num_targets),
    }

  def _longest(self, sizes: Int[np.ndarray, " S"]) -> Int[np.ndarray, " E"]:
    return sizes.reshape(-1, self.width).max(axis=1)


@dataclasses.dataclass(frozen=True)
class Layout:
  """How examples become rows of `length` tokens.

  Inputs of the model are targets shifted right in each sequence, which starts
  with `bos_id`. With `pack`, examples share rows: segments count them from 1,
  and positions start at 0 in each.
  """

  length: int
  bos_id: int = 0
  pack: bool = True


def join(inputs: Feature, targets: Feature) -> Examples:
  """Returns the examples that have these features."""
  width = 1
  if inputs.values.ndim == 2:
    width = inputs.values.shape[1]
    inputs, targets = _halves(inputs), _halves(targets)
  sizes = np.stack([inputs.lengths, targets.lengths], axis=1)  # [S, 2]
  starts = _starts(sizes.T.ravel()).reshape(2, -1).T
  values = np.concatenate([inputs.values, targets.values])
  return Examples(
    tokens=values[_ranges(starts.ravel(), sizes.ravel())],
    starts=np.append(0, np.cumsum(sizes.sum(axis=1))),
    num_inputs=inputs.lengths,
    width=width,
  )


def concatenate(parts: Sequence[Examples], width: int) -> Examples:
  """Returns the examples of several parts, all of this width, in order."""
  sizes = [np.diff(part.starts) for part in parts]
  no_tokens, none = np.zeros(0, np.int32), np.zeros(0, np.int64)
  return Examples(
    tokens=np.concatenate([no_tokens, *(part.tokens for part in parts)]),
    starts=np.append(0, np.cumsum(np.concatenate([none, *sizes]))),
    num_inputs=np.concatenate([none, *(part.num_inputs for part in parts)]),
    width=width,
  )


def lay_out(
  examples: Examples, rows: packing.Rows, layout: Layout
) -> dict[str, Num[np.ndarray, "R ..."]]:
  """Returns the features of rows, [R, length], or [R, 2, length] of pairs.

  Both halves of a pair stand in the same segment of the two halves of a row.
  """
  halves = [
    _lay_out(examples, rows.examples * examples.width + half, rows, layout)
    for half in range(examples.width)
  ]
  if examples.width == 1:
    return halves[0]
  return {
    name: np.stack([half[name] for half in halves], axis=1)
    for name in halves[0]
  }


def _halves(pairs: Feature) -> Feature:
  """Returns the halves of pairs one behind the other, without padding."""
  width = pairs.values.shape[1]
  starts = _starts(pairs.lengths)[:, None] + np.arange(width) * len(
    pairs.values
  )
  lengths = np.repeat(pairs.lengths, width)
  padded = pairs.values.T.ravel()[_ranges(starts.ravel(), lengths)]
  is_token = padded != features.NO_TOKEN
  num_before = np.append(0, np.cumsum(is_token))
  return Feature(
    values=padded[is_token],
    lengths=np.diff(num_before[np.append(0, np.cumsum(lengths))]),
  )


def _lay_out(
  examples: Examples,
  sequences: Int[np.ndarray, " C"],
  rows: packing.Rows,
  layout: Layout,
) -> dict[str, Num[np.ndarray, "R T"]]:
  """Returns the features of rows with these sequences, one for each example."""
  sizes = examples.starts[sequences + 1] - examples.starts[sequences]
  tokens = examples.tokens[_ranges(examples.starts[sequences], sizes)]
  positions = _ranges(np.zeros_like(sizes), sizes)
  previous = np.roll(tokens, 1)
  previous[positions == 0] = layout.bos_id
  is_target = positions >= np.repeat(examples.num_inputs[sequences], sizes)
  filled = np.add.reduceat(sizes, rows.starts[:-1])
  is_filled = np.arange(layout.length) < filled[:, None]  # [R, T]

  def to_rows(values: np.ndarray, dtype: type = np.int32) -> np.ndarray:
    laid_out = np.zeros(is_filled.shape, dtype)
    laid_out[is_filled] = values
    return laid_out

  row_features = {
    "decoder_input_tokens": to_rows(previous),
    "decoder_target_tokens": to_rows(tokens),
    "decoder_loss_weights": to_rows(is_target, np.float32),
  }
  if layout.pack:
    first = np.repeat(rows.starts[:-1], np.diff(rows.starts))
    segments = np.arange(len(sequences)) - first + 1
    row_features["decoder_segment_ids"] = to_rows(np.repeat(segments, sizes))
    row_features["decoder_positions"] = to_rows(positions)
  return row_features


def _starts(sizes: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
  return np.cumsum(sizes) - sizes


def _ranges(
  starts: Int[np.ndarray, " n"], sizes: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " all"]:
  """Returns starts[0], starts[0] + 1, ...: sizes[0] of them, and so on."""
  return np.arange(sizes.sum()) + np.repeat(starts - _starts(sizes), sizes)
