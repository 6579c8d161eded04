"""Being told to end: SIGTERM, as preempted machines and schedulers send it."""

import signal
import threading
from types import FrameType

import jax
from jax.experimental import multihost_utils


class Preempted(KeyboardInterrupt):
  """The run saved its state and ended, since it was told to."""

  exit_code = 128 + signal.SIGTERM  # As shells have it.


class Notice:
  """Takes note of SIGTERM while it is open, which would end the process.

  Of several processes all learn of it at the same step, whichever was told:
  JAX takes the signal there. Threads other than the main one can take none, so
  there it never comes.
  """

  def __init__(self):
    self._has_come = False
    self._before: signal._HANDLER = None

  def __enter__(self) -> "Notice":
    is_main_thread = threading.current_thread() is threading.main_thread()
    if is_main_thread and jax.process_count() == 1:
      self._before = signal.signal(signal.SIGTERM, self._note)
    return self

  def __exit__(self, *unused) -> None:
    if self._before is not None:
      signal.signal(signal.SIGTERM, self._before)

  def has_come(self, step: int) -> bool:
    """Whether to end after this step, which no process has left behind yet."""
    if jax.process_count() > 1:
      return multihost_utils.reached_preemption_sync_point(step)
    return self._has_come

  def _note(self, number: int, frame: FrameType | None) -> None:
    del number, frame
    self._has_come = True
