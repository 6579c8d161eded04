import gzip
import json

import pytest

from mathft_jax import jsonl


def test_rows_are_split_at_line_feeds_only(tmp_path):
  path = tmp_path / "rows.jsonl"
  line = json.dumps({"text": "a\u2028b\x85c"}, ensure_ascii=False)
  path.write_text(line + "\n\n" + line + "\n", encoding="utf-8")
  assert [number for number, _ in jsonl.read(path)] == [1, 3]


def test_shards_part_the_rows_and_look_into_their_own_alone(tmp_path):
  path = tmp_path / "rows.jsonl"
  path.write_text('{"a": 0}\n\n{"a": 1}\nno row\n{"a": 3}\n')
  shards = [
    [row["a"] for _, row in jsonl.read(path, index, 3)] for index in (0, 1)
  ]
  assert shards == [[0, 3], [1]]
  with pytest.raises(ValueError, match="rows.jsonl:4"):
    list(jsonl.read(path, 2, 3))
  assert jsonl.count(path) == 4


@pytest.mark.parametrize(
  ("line", "message"),
  [
    (b'{"a": 1', "not a line of JSON"),
    (b'{"a": NaN}', "not a line of JSON"),
    (b"[1, 2]", "expected a JSON object"),
    (b'{"a": "\xff"}', "not UTF-8"),
  ],
)
def test_a_malformed_line_is_named_by_file_and_line(tmp_path, line, message):
  path = tmp_path / "rows.jsonl"
  path.write_bytes(b'{"a": 0}\n' + line + b"\n")
  with pytest.raises(ValueError, match=f"rows.jsonl:2: {message}"):
    list(jsonl.read(path))


def test_a_truncated_gzip_file_is_named_with_a_line(tmp_path):
  path = tmp_path / "rows.jsonl.gz"
  rows = "".join(f'{{"a": "{i * 7919}"}}\n' for i in range(5000))
  path.write_bytes(gzip.compress(rows.encode())[:-5000])
  with pytest.raises(ValueError, match=r"rows.jsonl.gz:\d+: .*cut short"):
    list(jsonl.read(path))


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match="nowhere.jsonl"):
    list(jsonl.read(tmp_path / "nowhere.jsonl"))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_a_git_lfs_pointer_is_told_from_a_malformed_file(tmp_path, name):
  path = tmp_path / name
  path.write_text(
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:6b172efa884ac8341a946dd82e06947c135b7254109fb3f7aa907c7"
    "\nsize 12240719\n"
  )
  with pytest.raises(ValueError, match=f"{name} is a Git LFS pointer") as error:
    list(jsonl.read(path))
  assert "git lfs pull" in str(error.value)
  assert "--download" in str(error.value)
