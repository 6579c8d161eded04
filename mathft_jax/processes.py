"""Several processes as one run: each has some of its devices."""

import contextlib
import dataclasses
import itertools
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator

import jax
import orbax.checkpoint as ocp

# The exit code of a run that saved its state and ended as it was told.
_TOLD_TO_END = 128 + signal.SIGTERM

# One process may have a month more to do than another.
_LONGEST_WAIT_MS = 30 * 24 * 3600 * 1000
# A barrier's name is taken once.
_num_waits = itertools.count()

# In messages of what fails once another process is gone.
_LOST = re.compile(
  r"gloo|nccl|connection|socket|heartbeat|coordination|unavailable"
  r"|deadline.exceeded|barrier",
  re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Processes:
  """How the processes of a run find each other.

  `coordinator_address` is HOST:PORT of process 0, which is where they meet,
  `process_index` that of this one, below `process_count`. Without these they
  are what the machines' scheduler tells: TPU pods, Slurm, Open MPI, Kubernetes.
  """

  coordinator_address: str | None = None
  process_count: int | None = None
  process_index: int | None = None

  def __post_init__(self):
    given = [value is not None for value in dataclasses.asdict(self).values()]
    if any(given) and not all(given):
      raise ValueError(
        "several processes take --coordinator_address, --process_count and"
        " --process_index, all three; or none of them, where the scheduler of"
        " the machines knows"
      )
    address = self.coordinator_address
    if address is not None and not re.fullmatch(r".+:\d+", address):
      raise ValueError(
        f"coordinator_address is {address!r}; write it as HOST:PORT, with a"
        " port that is free on the host of process 0"
      )
    index, count = self.process_index, self.process_count
    if index is not None and count is not None and not 0 <= index < count:
      raise ValueError(
        f"process_index {index} is not in 0 ... process_count - 1 = {count - 1}"
      )

  def join(self) -> None:
    """Waits for the others; from here on JAX's devices are those of all.

    Raises ConnectionError where they do not come together, ValueError where no
    scheduler tells who they are.
    """
    try:
      jax.distributed.initialize(
        self.coordinator_address, self.process_count, self.process_index
      )
    except jax.errors.JaxRuntimeError as error:
      raise ConnectionError(
        f"process {self.process_index} of {self.process_count} did not meet the"
        f" others at {self.coordinator_address}: {_first_line(error)}; start"
        " all of them, with the same address, which has to be reachable"
      ) from error
    except (ValueError, RuntimeError) as error:
      raise ValueError(
        "the processes of this run do not know of each other"
        f" ({_first_line(error)}); give --coordinator_address, --process_count"
        " and --process_index"
      ) from error
    print(
      f"process {jax.process_index()} of {jax.process_count()}. If one of them"
      " is lost, JAX ends the others within two minutes; start all of them with"
      " the same command to go on with the newest checkpoint, or with the"
      " candidates that are there",
      file=sys.stderr,
    )


def run(command: Callable[[], int]) -> int:
  """Calls what is to run on all processes, and returns its exit code.

  Unless that is 0 or says that all were told to end, this process ends here and
  now: an orderly end would wait for the others, who wait for this one.
  """
  try:
    code = command()
  except BaseException:
    traceback.print_exc()
    code = 1
  if code not in (0, _TOLD_TO_END):
    _end(code)
  return code


@contextlib.contextmanager
def ending_with_others() -> Iterator[None]:
  """What fails within fails here and now, if this is one of several processes.

  Whatever is open around it would wait for the others before it closes, and
  they wait for this one, or are gone. What all of them raise alike, and what
  tells them to end, passes.
  """
  try:
    yield
  except (KeyboardInterrupt, FloatingPointError):
    raise
  except BaseException as error:
    if jax.process_count() == 1:
      raise
    who = f"error: process {jax.process_index()} of {jax.process_count()}"
    if isinstance(error, jax.errors.JaxRuntimeError) and _LOST.search(
      str(error)
    ):
      told = (
        f"{who} lost another one ({_first_line(error)}); see what that one"
        " said, then start all of them again with the same command: it goes on"
        " from the newest checkpoint, or from the candidates that are there"
      )
    else:
      traceback.print_exc()
      told = f"{who} failed; the others end because of that"
    print(told, file=sys.stderr)
    _end(2)


def wait_for_others() -> None:
  """Returns once all processes have called it as often; alone, at once.

  It waits for days, where devices that wait for each other give up within the
  hour. What a process has written before, others find behind it.
  """
  if jax.process_count() > 1:
    ocp.multihost.get_barrier_sync_fn()(
      key=f"mathft {next(_num_waits)}", timeout_ms=_LONGEST_WAIT_MS
    )


def check_joined() -> None:
  """Raises ValueError if this is one of several processes that never met.

  On TPU pods each sees all devices in any case.
  """
  if jax.process_count() > 1 and not jax.distributed.is_initialized():
    raise ValueError(
      f"this is process {jax.process_index()} of {jax.process_count()}; start"
      " each with --multiprocess"
    )


def _end(code: int) -> None:
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def _first_line(error: BaseException) -> str:
  return str(error).partition("\n")[0]
