"""Tests of mathft_jax.sources.download, against a server on this machine."""

import dataclasses
import gzip
import hashlib
import http.server
import socket
import threading

import pytest

from mathft_jax.sources import download

_CONTENT = bytes(range(256)) * 500
_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n"


@dataclasses.dataclass
class _Server:
  """What the server does, and the (path, Range) that it was asked for."""

  content: bytes = _CONTENT
  takes_ranges: bool = True
  tells_length: bool = True
  # For each connection: a status that it fails with, or the bytes after which
  # it breaks off.
  statuses: list[int] = dataclasses.field(default_factory=list)
  breaks: list[int] = dataclasses.field(default_factory=list)
  asked: list[tuple[str, str | None]] = dataclasses.field(default_factory=list)
  hung_up: threading.Event = dataclasses.field(default_factory=threading.Event)
  url: str = ""


def _handler(server: _Server):
  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      asked = self.headers["Range"]
      server.asked.append((self.path, asked))
      if server.statuses:
        return self.send_error(server.statuses.pop(0))
      content, start = server.content, 0
      if asked and server.takes_ranges:
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
          return self.send_error(416)
        self.send_response(206)
        last, total = len(content) - 1, len(content)
        self.send_header("Content-Range", f"bytes {start}-{last}/{total}")
      else:
        self.send_response(200)
      body = content[start:]
      if server.tells_length:
        self.send_header("Content-Length", str(len(body)))
      self.end_headers()
      end = server.breaks.pop(0) if server.breaks else None
      try:
        self.wfile.write(body[:end])
      except ConnectionError:
        server.hung_up.set()

    def log_message(self, *args):
      pass

  return Handler


@pytest.fixture
def server(monkeypatch):
  monkeypatch.setattr(download, "_WAIT_SECONDS", (0, 0, 0))
  monkeypatch.setenv("no_proxy", "127.0.0.1")
  state = _Server()
  httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
  httpd.daemon_threads = True
  state.url = f"http://127.0.0.1:{httpd.server_port}"
  thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
  thread.start()
  yield state
  httpd.shutdown()
  thread.join()
  httpd.server_close()


@pytest.fixture
def file(server):
  digest = hashlib.sha256(_CONTENT).hexdigest()
  return download.File(
    "data/rows.jsonl", f"{server.url}/a/rows.jsonl", len(_CONTENT), digest
  )


def _partial(directory):
  return directory / "data/rows.jsonl.partial"


def _check_whole(directory):
  (found,) = (path for path in directory.rglob("*") if path.is_file())
  assert found == directory / "data/rows.jsonl"
  assert found.read_bytes() == _CONTENT


def test_a_file_is_fetched_once(server, file, tmp_path, capsys):
  download.fetch(file, tmp_path)
  _check_whole(tmp_path)
  download.fetch(file, tmp_path)
  assert server.asked == [("/a/rows.jsonl", None)]
  assert "rows.jsonl: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("tells_length", [True, False])
def test_a_connection_that_breaks_off_is_gone_on_with(
  server, file, tmp_path, tells_length
):
  server.tells_length = tells_length
  server.breaks = [1000, 50_000]
  download.fetch(file, tmp_path)
  _check_whole(tmp_path)
  ranges = [asked for _, asked in server.asked]
  assert ranges == [None, "bytes=1000-", "bytes=51000-"]


def test_a_later_call_goes_on_from_what_is_there(server, file, tmp_path):
  server.breaks = [10, 10, 10, 10]
  with pytest.raises(OSError, match="broke off, 4 times; .* 40 of 128,000"):
    download.fetch(file, tmp_path)
  assert _partial(tmp_path).read_bytes() == _CONTENT[:40]
  download.fetch(file, tmp_path)
  _check_whole(tmp_path)
  assert server.asked[-1] == ("/a/rows.jsonl", "bytes=40-")


def test_a_server_that_ignores_ranges_is_begun_anew(server, file, tmp_path):
  server.takes_ranges = False
  server.breaks = [1000]
  download.fetch(file, tmp_path)
  _check_whole(tmp_path)
  assert [asked for _, asked in server.asked] == [None, "bytes=1000-"]


@pytest.mark.parametrize(
  "left", [b"x" * 100, b"x" * len(_CONTENT), b"x" * (len(_CONTENT) + 1)]
)
def test_a_wrong_part_of_an_earlier_call_is_begun_anew(
  server, file, tmp_path, left
):
  _partial(tmp_path).parent.mkdir()
  _partial(tmp_path).write_bytes(left)
  download.fetch(file, tmp_path)
  _check_whole(tmp_path)
  assert server.asked[-1] == ("/a/rows.jsonl", None)


def test_a_range_that_the_server_refuses_is_begun_anew(server, file, tmp_path):
  _partial(tmp_path).parent.mkdir()
  _partial(tmp_path).write_bytes(_CONTENT[:10])
  server.statuses = [416]
  download.fetch(file, tmp_path)
  _check_whole(tmp_path)
  assert [asked for _, asked in server.asked] == ["bytes=10-", None]


@pytest.mark.parametrize("tells_length", [True, False])
@pytest.mark.parametrize(
  "content", [_CONTENT[:-1] + b"x", _CONTENT + b"x", _CONTENT * 50]
)
def test_wrong_bytes_are_an_error_that_keeps_nothing(
  server, file, tmp_path, content, tells_length
):
  server.content, server.tells_length = content, tells_length
  with pytest.raises(ValueError, match="rows.jsonl .*the published file"):
    download.fetch(file, tmp_path)
  assert not [path for path in tmp_path.rglob("*") if path.is_file()]
  assert len(server.asked) == 1


def test_a_server_without_an_end_is_hung_up_on(server, file, tmp_path):
  # More than the sockets between hold by themselves.
  server.content, server.tells_length = _CONTENT * 500, False
  with pytest.raises(ValueError, match="nothing was kept"):
    download.fetch(file, tmp_path)
  assert server.hung_up.wait(timeout=10)


def test_a_shorter_file_of_the_server_is_an_error_at_once(
  server, file, tmp_path
):
  server.content = _POINTER
  with pytest.raises(ValueError, match="its length is '56'"):
    download.fetch(file, tmp_path)
  assert len(server.asked) == 1


def test_a_part_of_another_file_is_not_appended(server, file, tmp_path):
  server.content = _CONTENT + b"more"
  _partial(tmp_path).parent.mkdir()
  _partial(tmp_path).write_bytes(_CONTENT[:10])
  with pytest.raises(ValueError, match="holds another file"):
    download.fetch(file, tmp_path)
  assert _partial(tmp_path).read_bytes() == _CONTENT[:10]


def test_a_servers_trouble_is_waited_out(server, file, tmp_path):
  server.statuses = [503, 429]
  download.fetch(file, tmp_path)
  _check_whole(tmp_path)


def test_a_refusal_is_an_error_at_once(server, file, tmp_path):
  server.statuses = [404]
  with pytest.raises(OSError, match=r"rows.jsonl: HTTP Error 404.*--mirror"):
    download.fetch(file, tmp_path)
  assert len(server.asked) == 1


def test_a_host_that_does_not_answer_is_named(server, file, tmp_path):
  with socket.socket() as bound:  # It does not listen.
    bound.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{bound.getsockname()[1]}/rows.jsonl"
    with pytest.raises(OSError, match=f"{url}: .*4 times"):
      download.fetch(dataclasses.replace(file, url=url), tmp_path)


def test_another_file_of_that_name_is_not_replaced(server, file, tmp_path):
  path = tmp_path / file.path
  path.parent.mkdir()
  path.write_bytes(b"mine")
  with pytest.raises(ValueError, match="rows.jsonl has 4 bytes .*remove it"):
    download.fetch(file, tmp_path)
  assert path.read_bytes() == b"mine"
  assert not server.asked


def test_a_git_lfs_pointer_is_replaced(file, tmp_path):
  path = tmp_path / file.path
  path.parent.mkdir()
  path.write_bytes(_POINTER)
  download.fetch(file, tmp_path)
  _check_whole(tmp_path)


def test_a_mirror_has_the_same_paths(server, file, tmp_path):
  there = dataclasses.replace(file, url="https://example.invalid/a/b/c.jsonl")
  download.fetch(there, tmp_path, mirror=f"{server.url}/")
  _check_whole(tmp_path)
  assert server.asked == [("/a/b/c.jsonl", None)]
  with pytest.raises(ValueError, match="must begin with http"):
    download.fetch(there, tmp_path / "b", mirror="file:///etc")


@pytest.mark.parametrize(
  ("name", "source", "path"),
  [
    ("gsm8k/train.jsonl.gz", "gsm8k", "train.jsonl"),
    ("gsm8k/test.jsonl.gz", "gsm8k", "test.jsonl"),
    ("math/lightman_test500.jsonl.gz", "math", "test.jsonl"),
  ],
)
def test_sizes_and_digests_are_those_of_the_real_files(
  shared_dir, name, source, path
):
  content = gzip.decompress((shared_dir / "data" / name).read_bytes())
  (file,) = (f for f in download.FILES[source] if f.path == path)
  assert (file.num_bytes, file.sha256) == (
    len(content),
    hashlib.sha256(content).hexdigest(),
  )


def test_files_with_one_address_are_the_same():
  by_url = {}
  for files in download.FILES.values():
    for file in files:
      key = (file.num_bytes, file.sha256)
      assert by_url.setdefault(file.url, key) == key
  # MATH twice, as a source and beside PRM800K.
  assert len(by_url) == sum(map(len, download.FILES.values())) - 2
