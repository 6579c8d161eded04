"""How far decoding has come: a bar to look at, metrics to keep."""

import time
from typing import Any

import jax
import tqdm

from mathft_jax.inference import sampler
from mathft_jax.recipe import graph
from mathft_jax.training import metric_writer

_SECONDS_BETWEEN_METRICS = 10.0


class DecodingProgress:
  """A bar of candidates with problems, tokens/s and the time that is left.

  Those that need not be drawn, since votes are settled, count as done.
  `writer` gets the numbers every ten seconds and once at the end: candidates,
  tokens per second since the last, the occupancy of the slots, and the memory
  used.
  """

  def __init__(
    self,
    name: str,
    num_candidates: int,
    num_done: int,
    writer: metric_writer.MetricWriter,
  ):
    """Of `num_candidates`, `num_done` were there before this start."""
    self._writer = writer
    self._bar = tqdm.tqdm(
      total=num_candidates,
      initial=num_done,
      desc=name,
      unit="sample",
      mininterval=1.0,
    )
    self._num_candidates = num_candidates
    self._started = self._written_at = time.perf_counter()
    self._written: sampler.Progress | None = None
    self._last: sampler.Progress | None = None

  def __enter__(self) -> "DecodingProgress":
    return self

  def __exit__(self, *unused) -> None:
    self._write()
    self._bar.close()

  def update(self, progress: sampler.Progress) -> None:
    """Shows what has been done since this start."""
    self._last = progress
    seconds = time.perf_counter() - self._started
    self._bar.set_postfix_str(
      f"{progress.num_problems} problems,"
      f" {progress.num_tokens / seconds:,.0f} tokens/s,"
      f" {progress.occupancy:.0%} of slots",
      refresh=False,
    )
    num_done = self._num_candidates - progress.num_left
    self._bar.update(num_done - self._bar.n)
    if time.perf_counter() - self._written_at > _SECONDS_BETWEEN_METRICS:
      self._write()

  @property
  def facts(self) -> dict[str, float]:
    """What this start has done, for the record of a stage."""
    if self._last is None:
      return {}
    return {
      "occupancy": round(self._last.occupancy, 4),
      "num_drawn_tokens": self._last.num_tokens,
      "num_kept_tokens": self._last.num_kept_tokens,
    }

  def _write(self) -> None:
    last, before = self._last, self._written
    if last is None or last == before:
      return
    now = time.perf_counter()
    num_tokens = last.num_tokens - (before.num_tokens if before else 0)
    self._writer.write(
      last.num_steps,
      {
        "num_problems": last.num_problems,
        "num_candidates": last.num_candidates,
        "num_tokens": last.num_tokens,
        "num_kept_tokens": last.num_kept_tokens,
        "tokens_per_second": num_tokens / (now - self._written_at),
        "occupancy": last.occupancy,
        "memory_gib": _memory_bytes() / 2**30,
      },
    )
    self._written, self._written_at = last, now


def _memory_bytes() -> int:
  """The most that a device of this process has held, or else this process."""
  stats: list[Any] = [device.memory_stats() for device in jax.local_devices()]
  in_use = [found["peak_bytes_in_use"] for found in stats if found]
  return max(in_use, default=0) or graph.peak_rss_bytes()
