"""Fetches the published files of a source, and keeps only the right bytes."""

import dataclasses
import hashlib
import http
import http.client
import os
import pathlib
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping

import tqdm

from mathft_jax import jsonl

# Git LFS files have a host of their own: GitHub's raw files are the pointers.
_PRM800K = (
  "https://media.githubusercontent.com/media/openai/prm800k/"
  "7ecc794703b2877f63226f2477a49b34f9b25163/"
)
_GSM8K = (
  "https://raw.githubusercontent.com/openai/grade-school-math/"
  "3101c7d5072418e28b9008a6636bde82a006892c/"
)

_WAIT_SECONDS = (1, 2, 4, 8)  # Before the second try and those after it.
_TIMEOUT_SECONDS = 60
_CHUNK_BYTES = 1 << 20
# A server's trouble of the moment; other refusals are for good.
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


@dataclasses.dataclass(frozen=True)
class File:
  """A published file, and where it goes below the folder of the download."""

  path: str
  url: str
  num_bytes: int
  sha256: str


def _math_splits(folder: str) -> tuple[File, ...]:
  return (
    File(
      f"{folder}train.jsonl",
      f"{_PRM800K}prm800k/math_splits/train.jsonl",
      10_896_985,
      "90d96daeac3fe343ebb1e22ce93dd99690f75983e957f88de42f87cffe1e8076",
    ),
    File(
      f"{folder}test.jsonl",
      f"{_PRM800K}prm800k/math_splits/test.jsonl",
      446_564,
      "35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132",
    ),
  )


def _labels(stem: str, num_bytes: int, sha256: str) -> File:
  path = f"prm800k/data/{stem}.jsonl"
  return File(path, f"{_PRM800K}{path}", num_bytes, sha256)


# By source; each folder is one that the source's reader takes.
FILES: Mapping[str, tuple[File, ...]] = {
  "math": _math_splits(""),
  "prm800k": (
    *_math_splits("prm800k/math_splits/"),
    _labels(
      "phase1_train",
      7_900_236,
      "e9da6a73f827ffb9a8c0dc644c541d34ed76b3d4d1e4896ff5f7b37ddf5ae34d",
    ),
    _labels(
      "phase1_test",
      829_105,
      "f4b3bc5b095e45c816453dc4d748b755c680d61d55f9895d929a335b487c727d",
    ),
    _labels(
      "phase2_train",
      456_135_365,
      "1110237feeb51d1bc200cb37b8f965cfdc1036eac7d506094049366fe7dc1089",
    ),
    _labels(
      "phase2_test",
      12_240_719,
      "6b172efa884ac8341a946dd82e06947c135b7254109fb3f7aa907c715d98aaad",
    ),
  ),
  "gsm8k": (
    File(
      "train.jsonl",
      f"{_GSM8K}grade_school_math/data/train.jsonl",
      4_166_206,
      "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
    ),
    File(
      "test.jsonl",
      f"{_GSM8K}grade_school_math/data/test.jsonl",
      749_738,
      "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
    ),
  ),
}


def fetch_all(
  source: str, directory: str | os.PathLike, mirror: str | None = None
) -> None:
  """Fetches the files of a source into a directory.

  What is there already is checked and kept. `mirror`, "http://host:port" say,
  replaces scheme and host of every address. Raises as `fetch`.
  """
  for file in FILES[source]:
    fetch(file, directory, mirror)


def fetch(
  file: File, directory: str | os.PathLike, mirror: str | None = None
) -> None:
  """Fetches one file, unless it is there.

  It grows as <name>.partial, from which a broken download goes on, and gets
  its name when size and sha256 are right. Raises OSError if it cannot be had
  now, ValueError if what is there or what comes is not the published file;
  nothing wrong is kept.
  """
  path = pathlib.Path(directory) / file.path
  published = _size_and_digest(file.num_bytes, file.sha256)
  # A Git LFS pointer stands for the file and may be replaced.
  if path.is_file() and not jsonl.is_pointer(path):
    if (found := _found(path)) != published:
      raise ValueError(
        f"{path} has {found}, but the published file {published}; remove it,"
        " or name another folder"
      )
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(path.name + ".partial")
  url = _at_mirror(file.url, mirror) if mirror else file.url
  goes_on = partial.exists()
  _complete(url, partial, file.num_bytes)
  found = _found(partial)
  if found != published and goes_on:
    # What an earlier download left may be to blame.
    partial.unlink()
    _complete(url, partial, file.num_bytes)
    found = _found(partial)
  if found != published:
    partial.unlink()
    raise ValueError(
      f"{url} gave {found}, but the published file has {published}; nothing"
      " was kept"
    )
  partial.replace(path)


def _size_and_digest(num_bytes: int, sha256: str) -> str:
  return f"{num_bytes:,} bytes with sha256 {sha256}"


def _found(path: pathlib.Path) -> str:
  with path.open("rb") as file:
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
  return _size_and_digest(path.stat().st_size, sha256)


def _at_mirror(url: str, mirror: str) -> str:
  if not mirror.startswith(("http://", "https://")):
    raise ValueError(f"the mirror {mirror!r} must begin with http(s)://")
  return mirror.rstrip("/") + urllib.parse.urlsplit(url).path


class _BrokenError(Exception):
  """A download that ended early and may be tried again."""


def _complete(url: str, partial: pathlib.Path, num_bytes: int) -> None:
  """Lets a file grow to its size, over several connections if need be."""
  for wait in (*_WAIT_SECONDS, None):
    try:
      return _grow(url, partial, num_bytes)
    except _BrokenError as error:
      if wait is None:
        raise OSError(
          f"{url}: {error}, {len(_WAIT_SECONDS) + 1} times; the same command"
          f" goes on from {_size(partial):,} of {num_bytes:,} bytes"
        ) from error
      time.sleep(wait)


def _grow(url: str, partial: pathlib.Path, num_bytes: int) -> None:
  """Appends what one connection gives, asking for what is missing."""
  start = _size(partial)
  if start >= num_bytes:
    return
  headers = {"Range": f"bytes={start}-"} if start else {}
  request = urllib.request.Request(url, headers=headers)
  try:
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
      if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        start = 0  # The server gives the whole file, asked for it or not.
      _check_length(url, response.headers, start, num_bytes)
      _save(response, partial, start, num_bytes)
  except urllib.error.HTTPError as error:
    if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
      partial.unlink()
    elif error.code not in _TRANSIENT:
      raise OSError(
        f"{url}: {error}; look whether the address is still right, or name"
        " another host with --mirror"
      ) from error
    raise _BrokenError(str(error)) from error
  except (
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    ConnectionError,
    TimeoutError,
  ) as error:
    raise _BrokenError(str(error) or type(error).__name__) from error
  if _size(partial) < num_bytes:
    raise _BrokenError("the connection broke off")


def _check_length(
  url: str, headers: Mapping[str, str], start: int, num_bytes: int
) -> None:
  """Raises ValueError if the server says that it has another file.

  It is spared half a gigabyte that would be refused afterwards.
  """
  if start:
    told = headers.get("Content-Range")
    expected = f"bytes {start}-{num_bytes - 1}/{num_bytes}"
  else:
    told = headers.get("Content-Length")
    expected = str(num_bytes)
  if told not in (None, expected):
    raise ValueError(
      f"{url} holds another file: its length is {told!r}, that of the"
      f" published file {expected!r}; nothing of it was kept"
    )


def _save(
  response: http.client.HTTPResponse,
  partial: pathlib.Path,
  start: int,
  num_bytes: int,
) -> None:
  progress = tqdm.tqdm(
    total=num_bytes,
    initial=start,
    desc=partial.stem,
    unit="B",
    unit_scale=True,
    mininterval=1.0,
  )
  with progress, partial.open("ab" if start else "wb") as out:
    while out.tell() <= num_bytes and (chunk := response.read(_CHUNK_BYTES)):
      out.write(chunk)
      progress.update(len(chunk))


def _size(path: pathlib.Path) -> int:
  return path.stat().st_size if path.exists() else 0
