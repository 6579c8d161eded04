"""Feature converters: from a task's tokens to the batch of a model.

All features of a batch are [T] in an example ([2, T] in a pair), where T is
the sum of the lengths of inputs and targets. The loss is on targets alone.
Padding is 0 everywhere, but a 0 need not be padding: in many vocabularies it is
a token like any other. Loss weights and segment ids tell.
"""

# The type stubs of TensorFlow and SeqIO lack a part of what stands here.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

from collections.abc import Mapping

import seqio
import tensorflow as tf

from mathft_jax.data import features

# So many examples are looked over at a time for what fits into a row; more
# fill the rows better and take longer.
_PACKING_WINDOW = 1024

_Example = Mapping[str, tf.Tensor]
_Spec = seqio.FeatureConverter.FeatureSpec


class DecoderOnlyFeatureConverter(seqio.FeatureConverter):
  """inputs and targets, one after the other, for a decoder-only model.

  `decoder_input_tokens` are the targets shifted right within each example,
  starting with `bos_id` (0 by default). With `pack`, several examples share
  a row: `decoder_segment_ids` count them from 1, `decoder_positions` start
  at 0 in each; no example is cut or stands in two rows.

  Examples that are longer than their lengths are an error, not cut:
  `preprocessors.drop_too_long` drops them before.
  """

  TASK_FEATURES = {
    "inputs": _Spec(dtype=tf.int32),
    "targets": _Spec(dtype=tf.int32),
  }
  MODEL_FEATURES = {
    "decoder_input_tokens": _Spec(dtype=tf.int32),
    "decoder_target_tokens": _Spec(dtype=tf.int32),
    "decoder_loss_weights": _Spec(dtype=tf.float32),
  }
  PACKING_FEATURE_DTYPES = {
    "decoder_segment_ids": tf.int32,
    "decoder_positions": tf.int32,
  }

  def _convert_features(
    self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
  ) -> tf.data.Dataset:
    length = sum(task_feature_lengths.values())
    ds = ds.map(self._convert_example, num_parallel_calls=tf.data.AUTOTUNE)
    if not self.pack:
      return ds.map(
        lambda example: {k: _pad(v, length) for k, v in example.items()},
        num_parallel_calls=tf.data.AUTOTUNE,
      )
    return (
      ds.ragged_batch(_PACKING_WINDOW)
      .map(
        lambda examples: _pack(examples, length),
        num_parallel_calls=tf.data.AUTOTUNE,
      )
      .unbatch()
    )

  def _convert_example(self, example: _Example) -> _Example:
    return _join(example["inputs"], example["targets"], self.bos_id)

  def get_model_feature_lengths(
    self, task_feature_lengths: Mapping[str, int]
  ) -> Mapping[str, int]:
    names = [*self.MODEL_FEATURES]
    if self.pack:
      names += [*self.PACKING_FEATURE_DTYPES]
    return dict.fromkeys(names, sum(task_feature_lengths.values()))


class PairFeatureConverter(seqio.FeatureConverter):
  """inputs and targets [length, 2] to [2, T]: row 0 the incorrect.

  Each row is what DecoderOnlyFeatureConverter makes of its half of the pair.
  Pairs cannot be packed.
  """

  TASK_FEATURES = {
    "inputs": _Spec(dtype=tf.int32, rank=2),
    "targets": _Spec(dtype=tf.int32, rank=2),
  }
  MODEL_FEATURES = {
    "decoder_input_tokens": _Spec(dtype=tf.int32, rank=2, sequence_dim=1),
    "decoder_target_tokens": _Spec(dtype=tf.int32, rank=2, sequence_dim=1),
    "decoder_loss_weights": _Spec(dtype=tf.float32, rank=2, sequence_dim=1),
  }

  def __init__(self, pack: bool = False, **kwargs):
    """Raises ValueError if `pack` is true."""
    if pack:
      raise ValueError(
        "pairs cannot be packed; set pack = False for tasks of pairs"
      )
    super().__init__(pack=False, **kwargs)

  def _convert_features(
    self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
  ) -> tf.data.Dataset:
    length = sum(task_feature_lengths.values())

    def convert(example: _Example) -> _Example:
      rows = []
      for half in range(2):
        # The shorter half is filled up to the longer, but the verdict must
        # follow the last token.
        inputs, targets = (
          tf.boolean_mask(tokens, tokens != features.NO_TOKEN)
          for tokens in (example[name][:, half] for name in self.TASK_FEATURES)
        )
        row = _join(inputs, targets, self.bos_id)
        rows.append({k: _pad(v, length) for k, v in row.items()})
      return {k: tf.stack([row[k] for row in rows]) for k in rows[0]}

    return ds.map(convert, num_parallel_calls=tf.data.AUTOTUNE)

  def get_model_feature_lengths(
    self, task_feature_lengths: Mapping[str, int]
  ) -> Mapping[str, int]:
    length = sum(task_feature_lengths.values())
    return dict.fromkeys(self.MODEL_FEATURES, length)


def _join(inputs: tf.Tensor, targets: tf.Tensor, bos_id: int) -> _Example:
  """Returns the features of one unpadded example."""
  tokens = tf.concat([inputs, targets], axis=0)
  weights = tf.concat(
    [tf.zeros_like(inputs, tf.float32), tf.ones_like(targets, tf.float32)],
    axis=0,
  )
  return {
    "decoder_input_tokens": tf.concat([[bos_id], tokens[:-1]], axis=0),
    "decoder_target_tokens": tokens,
    "decoder_loss_weights": weights,
  }


def _pad(value: tf.Tensor, length: int) -> tf.Tensor:
  padded = tf.pad(value, [[0, length - tf.shape(value)[0]]])
  return tf.ensure_shape(padded, [length])


def _pack(
  examples: Mapping[str, tf.RaggedTensor], length: int
) -> Mapping[str, tf.Tensor]:
  """Returns as few rows [rows, length] as first fit makes of the examples."""
  lengths = examples["decoder_target_tokens"].row_lengths()
  rows = _first_fit(lengths, length)
  order = tf.argsort(rows, stable=True)
  rows, lengths = tf.gather(rows, order), tf.gather(lengths, order)
  row_lengths = tf.math.segment_sum(lengths, rows)

  def to_rows(values: tf.Tensor) -> tf.Tensor:
    ragged = tf.RaggedTensor.from_row_lengths(values, row_lengths)
    return ragged.to_tensor(shape=[None, length])

  # Examples stand in order of rows, so the first of its row has the number
  # of examples in all earlier rows.
  numbers = tf.range(tf.size(rows, out_type=tf.int32))
  first = tf.gather(tf.math.segment_min(numbers, rows), rows)
  packed = {
    name: to_rows(tf.gather(value, order).values)
    for name, value in examples.items()
  }
  packed["decoder_segment_ids"] = to_rows(
    tf.repeat(numbers - first + 1, lengths)
  )
  packed["decoder_positions"] = to_rows(
    tf.cast(tf.ragged.range(lengths).values, tf.int32)
  )
  return packed


def _first_fit(lengths: tf.Tensor, length: int) -> tf.Tensor:
  """Returns for each example the first row that has room left for it."""
  num_examples = tf.size(lengths)
  room = tf.fill([num_examples], tf.cast(length, lengths.dtype))

  def place(
    state: tuple[tf.Tensor, tf.Tensor], size: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    room, _ = state
    row = tf.argmax(room >= size, output_type=tf.int32)
    return tf.tensor_scatter_nd_sub(room, [[row]], [size]), row

  _, rows = tf.scan(place, lengths, initializer=(room, 0))
  return rows
