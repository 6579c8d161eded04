"""Large allocations on huge pages, which glibc grants at a process's start."""

import os
import sys

_SETTING = "GLIBC_TUNABLES"


def use() -> None:
  """Starts this process anew, with the same arguments, with huge pages.

  On a CPU every training step allocates its activations anew, and touching
  them 4 KiB at a time took a third of the step (docs/benchmarks.md). Does
  nothing where the user set GLIBC_TUNABLES, so the second start goes on.
  """
  if sys.platform != "linux" or _SETTING in os.environ:
    return
  os.environ[_SETTING] = "glibc.malloc.hugetlb=1"
  sys.stdout.flush()
  os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
