"""Where the prepared rows of each source lie on this machine.

Tasks are registered by name, before anyone knows where the data are. They ask
here when a data set is built, and not earlier.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping

_bound: dict[str, pathlib.Path] = {}
# One set for each `watched` block that is under way.
_watchers: list[set[str]] = []


def bind(directories: Mapping[str, str | os.PathLike]) -> None:
  """Tells where sources lie; later calls add to and replace earlier ones."""
  for source, directory in directories.items():
    _bound[source] = pathlib.Path(directory)


def bound() -> list[pathlib.Path]:
  """The directories of all sources that somebody told of."""
  return sorted(set(_bound.values()))


@contextlib.contextmanager
def watched() -> Iterator[set[str]]:
  """Gives a set of the sources that are looked for inside the block."""
  found: set[str] = set()
  _watchers.append(found)
  try:
    yield found
  finally:
    _watchers.pop()


def find(source: str) -> pathlib.Path:
  """Returns the directory of a source.

  Raises ValueError that says what to bind if nobody has told, and
  FileNotFoundError if there is no such directory.
  """
  for found in _watchers:
    found.add(source)
  if source not in _bound:
    raise ValueError(
      f"nobody told where the prepared rows of {source!r} lie; give --data"
      f" {source}=/path/to/rows to mathft data show, write"
      f' single_run.run.data = {{"{source}": "/path/to/rows"}} in gin, or call'
      f" mathft_jax.data.locations.bind (bound now: {sorted(_bound) or 'none'})"
    )
  if not _bound[source].is_dir():
    raise FileNotFoundError(
      f"{source!r} is bound to {_bound[source]}, which is no directory;"
      f" `mathft data prepare` makes one"
    )
  return _bound[source]
