"""Rows of text to packed batches: speed, and how full the rows are.

  python benchmarks/data.py --shared ../shared

Prepares MATH and PRM800K in a temporary folder and reads one epoch of their
mixture, shuffled, in batches of 16 packed rows. Three sides in turn, the
fastest of several rounds counts; ratios are of cached examples a second, ours
to theirs:

- our stream (`stream.BatchStream`);
- our feature converter in SeqIO's pipeline, as T5X would use it;
- SeqIO's own (`seqio.DecoderFeatureConverter`, the packing of T5), likewise.

"cold" starts with the files and tokenizes, "cached" has the tokens in memory
(in SeqIO's pipeline by `tf.data.Dataset.cache`). "full" is the share of places
in rows that hold a token, "too long" that of examples that no side can take.

Then how long it takes to restore a stream after many batches, reading the next
one included.
"""

import argparse
import contextlib
import dataclasses
import importlib
import importlib.metadata
import io
import os
import pathlib
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mathft_jax.cli import data as data_command
from mathft_jax.cli import third_party_logs

third_party_logs.import_tensorflow()

import seqio  # noqa: E402
import tensorflow as tf  # noqa: E402

from mathft_jax.data import (  # noqa: E402
  converters,
  locations,
  prepared,
  stream,
  token_cache,
)

_MIXTURE = "math_prm800k_generate"
_LENGTHS = (512, 1024, 2048)
_ROUNDS = 2
_CACHED_EPOCHS = 5
_RESTORED = (10, 1_000, 100_000)
_RESTORED_AS_READ = (10, 100)

# Reads all batches of an epoch, a number of times.
_Epochs = Callable[[int], Iterable[Mapping[str, np.ndarray]]]


@dataclasses.dataclass
class Speed:
  """Of one side at one length; seconds of an epoch."""

  num_examples: int = 0
  num_rows: int = 0
  num_tokens: int = 0
  cold: float = float("inf")
  cached: float = float("inf")


def main(argv: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument(
    "--shared",
    type=pathlib.Path,
    default=pathlib.Path(os.environ.get("MATHFT_SHARED", "../shared")),
  )
  args = parser.parse_args(argv)
  importlib.import_module("mathft_jax.tasks.prm800k")
  with tempfile.TemporaryDirectory() as folder:
    _prepare(args.shared / "data", pathlib.Path(folder))
    _print_versions()
    for length in _LENGTHS:
      _compare(length)
    _restore(_LENGTHS[1])


def _prepare(data: pathlib.Path, folder: pathlib.Path) -> None:
  for source, against in (("math", []), ("prm800k", ["math"])):
    command = ["prepare", "--source", source]
    command += ["--input", str(data / source), "--output", str(folder / source)]
    for other in against:
      command += ["--against", str(folder / other)]
    with contextlib.redirect_stdout(io.StringIO()):
      if data_command.main(command):
        raise SystemExit(f"{source} could not be prepared from {data}")
    locations.bind({source: folder / source})


def _config(length: int, **changes: Any) -> stream.StreamConfig:
  config = stream.StreamConfig(
    _MIXTURE,
    "train",
    {"inputs": length // 4, "targets": length * 3 // 4},
    batch_size=16,
    feature_converter=converters.DecoderOnlyFeatureConverter(pack=True),
    num_epochs=1,
    drop_remainder=False,
  )
  return dataclasses.replace(config, **changes)


def _compare(length: int) -> None:
  config = _config(length)
  counts = stream.count_by_task(config).values()
  sides = {
    "our stream": (_stream_epochs(config), _forget_tokens),
    "our converter in tf.data": _pipeline(config),
    "SeqIO's converter in tf.data": _pipeline(
      _config(
        length, feature_converter=seqio.DecoderFeatureConverter(pack=True)
      )
    ),
  }
  speeds = {label: Speed() for label in sides}
  for _ in range(_ROUNDS):
    for label, (epochs, forget) in sides.items():
      _measure(speeds[label], epochs, forget)
  num_examples = sum(c.num_examples for c in counts)
  num_kept = num_examples - sum(c.num_too_long for c in counts)
  too_long = 1 - num_kept / num_examples
  print(
    f"\n{length} tokens: {num_kept:,} examples, {too_long:.1%} of all too long"
  )
  print(
    f"{'':30}{'cold':>8}{'cached':>9}{'ratio':>7}{'rows/s':>9}"
    f"{'tokens/s':>13}{'full':>8}"
  )
  ours = next(iter(speeds.values()))
  for label, speed in speeds.items():
    print(
      f"{label:30}{speed.num_examples / speed.cold:8,.0f}"
      f"{speed.num_examples / speed.cached:9,.0f}"
      f"{speed.cached / ours.cached:7.1f}"
      f"{speed.num_rows / speed.cached:9,.0f}"
      f"{speed.num_tokens / speed.cached:13,.0f}"
      f"{speed.num_tokens / speed.num_rows / length:8.1%}"
    )


def _measure(speed: Speed, epochs: _Epochs, forget: Callable[[], None]) -> None:
  forget()
  start = time.perf_counter()
  batches = list(epochs(1))
  speed.cold = min(speed.cold, time.perf_counter() - start)
  speed.num_rows = sum(len(b["decoder_segment_ids"]) for b in batches)
  speed.num_tokens = sum(
    int(np.count_nonzero(b["decoder_segment_ids"])) for b in batches
  )
  speed.num_examples = sum(
    int(b["decoder_segment_ids"].max(axis=1).sum()) for b in batches
  )
  start = time.perf_counter()
  for _ in epochs(_CACHED_EPOCHS):
    pass
  seconds = (time.perf_counter() - start) / _CACHED_EPOCHS
  speed.cached = min(speed.cached, seconds)


def _stream_epochs(config: stream.StreamConfig) -> _Epochs:
  return lambda num_epochs: stream.BatchStream(
    dataclasses.replace(config, num_epochs=num_epochs)
  )


def _forget_tokens() -> None:
  token_cache._load.cache_clear()
  prepared._rows.cache_clear()


def _pipeline(
  config: stream.StreamConfig,
) -> tuple[_Epochs, Callable[[], None]]:
  """Epochs of SeqIO's pipeline with tokens cached, and what makes it cold."""
  held: list[tf.data.Dataset] = []

  def forget() -> None:
    _forget_tokens()
    dataset = seqio.get_mixture_or_task(_MIXTURE).get_dataset(
      config.feature_lengths,
      config.split,
      seed=config.seed,
      num_epochs=1,
      trim_output_features=False,
      try_in_mem_cache=False,
    )
    dataset = config.feature_converter(dataset.cache(), config.feature_lengths)
    options = tf.data.Options()
    options.autotune.enabled = False  # As in stream.make_dataset.
    dataset = dataset.batch(config.batch_size).with_options(options)
    held[:] = [dataset.prefetch(tf.data.AUTOTUNE)]

  def epochs(num_epochs: int) -> Iterable[Any]:
    for _ in range(num_epochs):
      yield from held[0].as_numpy_iterator()

  return epochs, forget


def _restore(length: int) -> None:
  print(f"\nTo restore after so many batches of {length} tokens, in seconds:")
  endless = _config(length, num_epochs=None)
  as_read = dataclasses.replace(endless, feature_converter=_AsRead(pack=True))
  for label, config, numbers in (
    ("our stream", endless, _RESTORED),
    ("the same, as read", as_read, _RESTORED_AS_READ),
  ):
    batches = stream.BatchStream(config)
    for number in numbers:
      restored = stream.BatchStream(config)
      start = time.perf_counter()
      restored.restore({**batches.state(), "num_batches": number})
      next(restored)
      print(f"{label:30}{number:8,}{time.perf_counter() - start:10.4f}")


class _AsRead(converters.DecoderOnlyFeatureConverter):
  """One of which the stream does not know what it does."""


def _print_versions() -> None:
  versions = [f"Python {platform.python_version()}"]
  for package in ("numpy", "tensorflow", "tensorflow-text", "seqio"):
    versions.append(f"{package} {importlib.metadata.version(package)}")
  print(f"{', '.join(versions)}, {os.cpu_count()} cores")


if __name__ == "__main__":
  main()
