"""What libraries print although nothing is wrong.

Each kind is named here, and nothing else is held back.
"""

import contextlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator

# Which CPU and GPU TensorFlow would use: it feeds JAX, and computes nothing.
_START_UP = re.compile(
  r"absl::InitializeLog"
  r"|cudart_stub\.cc.*GPU will not be used"
  r"|cuda_platform\.cc.*failed call to cuInit"
)
# What libtpu misses where it only compiles.
_LIBTPU = re.compile(
  r"Failed to find host bounds for accelerator type"
  r"|Logging before InitGoogle\(\) is written to STDERR"
  r"|common_lib\.cc.*TPU_WORKER_HOSTNAMES"
  r"|=== Source Location Trace: ==="
  r"|^learning/.*libtpu"
)
# Orbax says so each time that checkpoints are opened only to be read.
_READ_ONLY = "Given directory is read only"


def import_tensorflow() -> None:
  """Imports TensorFlow without its talk, and keeps it away from GPUs.

  It would take the memory of those that JAX is to have. Two variables are set
  unless they are set already: TF_CPP_MIN_LOG_LEVEL to 1, warnings, and
  TF_ENABLE_ONEDNN_OPTS to 0, since on some CPUs those operations print an error
  for each data set of integers.
  """
  import sentencepiece

  sentencepiece.set_min_log_level(1)  # Warnings.
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
  os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
  logging.getLogger("absl").addFilter(_is_worth_reading)
  with _stderr_without(_START_UP):
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")


@contextlib.contextmanager
def of_libtpu_held_back() -> Iterator[None]:
  """Holds back what libtpu says of a machine that has no TPU."""
  with _stderr_without(_LIBTPU):
    yield


def _is_worth_reading(record: logging.LogRecord) -> bool:
  return not str(record.msg).startswith(_READ_ONLY)


@contextlib.contextmanager
def _stderr_without(pattern: re.Pattern[str]) -> Iterator[None]:
  """Holds back lines of stderr, those of C++ code too, while it is open."""
  sys.stderr.flush()
  stderr = os.dup(2)
  with tempfile.TemporaryFile() as held:
    os.dup2(held.fileno(), 2)
    try:
      yield
    finally:
      sys.stderr.flush()
      os.dup2(stderr, 2)
      os.close(stderr)
      held.seek(0)
      for line in held.read().decode(errors="replace").splitlines():
        if not pattern.search(line):
          print(line, file=sys.stderr)
