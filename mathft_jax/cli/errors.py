"""Turns a command's errors into one line on stderr and an exit code."""

import difflib
import logging
import sys
import traceback
from collections.abc import Callable, Iterable

USER_ERROR = 2
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it.

# gin appends this to the message of what a configured function raises.
_GIN_SUFFIX = "\n  In call to configurable"


class ConfigError(ValueError):
  """A configuration that cannot run; the message is one line."""


def exit_code(program: str, command: Callable[[], int | None]) -> int:
  """Calls the command and returns its exit code, 0 for None.

  ValueError, OSError and FloatingPointError (a training that diverged) are the
  user's to mend: one line on stderr, and 2. With absl's `-v=1` the traceback is
  printed too. Other exceptions are bugs and pass through. A command returns 1
  itself where a check failed.
  """
  try:
    return command() or 0
  except KeyboardInterrupt as error:
    told = one_line(error) if error.args else "interrupted"
    print(f"{program}: {told}", file=sys.stderr)
    return getattr(error, "exit_code", _INTERRUPTED)
  except (ValueError, OSError, FloatingPointError) as error:
    if logging.getLogger("absl").isEnabledFor(logging.DEBUG):
      traceback.print_exc()
    print(f"{program}: error: {one_line(error)}", file=sys.stderr)
    return USER_ERROR


def one_line(error: BaseException) -> str:
  """Returns the error's message on one line, without gin's call chain."""
  message = str(error).partition(_GIN_SUFFIX)[0]
  return " ".join(message.split()) or type(error).__name__


def did_you_mean(name: str, options: Iterable[str]) -> str:
  """Returns "; did you mean ...?" with the nearest options, or ""."""
  near = difflib.get_close_matches(name, sorted(options), n=2)
  return f"; did you mean {' or '.join(near)}?" if near else ""
