"""Tests of mathft_jax.sources.raw_rows."""

import gzip
import json
import sys

import pyarrow
import pytest
from pyarrow import parquet

from mathft_jax.sources import gsm8k, hendrycks_math, json_lines, raw_rows


def _write_lines(path, rows) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_parquet(path, rows) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2)


def _numbers(paths):
  return list(raw_rows.read(paths, lambda row, where: (row["a"], str(where))))


def test_rows_are_counted_through_all_files(tmp_path):
  first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"
  first.write_text('{"a": 0}\n\n{"a": 1}\n')
  second.write_bytes(gzip.compress(b'{"a": 2}\n'))
  made = raw_rows.read([first, second], lambda row, where: (row["a"], where))
  assert [(a, where.index, where.number) for a, where in made] == [
    (0, 0, 1),
    (1, 1, 3),
    (2, 2, 1),
  ]


def test_parquet_rows_are_the_rows_of_json_lines(tmp_path):
  # More rows than are read at once, in many row groups.
  rows = [{"a": i, "b": "x\u2028\\" * (i % 3), "c": None} for i in range(1500)]
  _write_lines(tmp_path / "rows.jsonl", rows)
  _write_parquet(tmp_path / "rows.parquet", rows)
  read = [
    list(raw_rows.read([tmp_path / name], lambda row, where: dict(row)))
    for name in ("rows.jsonl", "rows.parquet")
  ]
  assert read[0] == read[1] == rows


def test_shards_are_found_in_order_and_a_missing_one_is_named(tmp_path):
  for i in range(3):
    path = tmp_path / f"train-0000{i}-of-00003.parquet"
    _write_parquet(path, [{"a": 2 * i}, {"a": 2 * i + 1}])
  paths = raw_rows.find(tmp_path, "train")
  assert [a for a, _ in _numbers(paths)] == list(range(6))
  paths[1].unlink()
  with pytest.raises(ValueError, match="train-00001-of-00003.parquet is miss"):
    raw_rows.find(tmp_path, "train")
  assert raw_rows.find(tmp_path, "test") == []


def test_a_row_that_is_refused_is_named_by_file_and_row(tmp_path):
  _write_parquet(tmp_path / "rows.parquet", [{"a": "x"}] * 3 + [{"a": None}])
  with pytest.raises(ValueError, match="rows.parquet, row 4: field 'a' must"):
    list(
      raw_rows.read(
        [tmp_path / "rows.parquet"],
        lambda row, where: json_lines.field(row, "a", where),
      )
    )


def test_text_in_parquet_that_is_not_utf8_is_named(tmp_path):
  path = tmp_path / "rows.parquet"
  column = pyarrow.array([b"x", b"\xff"]).view(pyarrow.utf8())
  parquet.write_table(pyarrow.table({"a": column}), path)
  with pytest.raises(ValueError, match="rows.parquet, row 2: not UTF-8"):
    _numbers([path])


@pytest.mark.parametrize("num_bytes", [0, 3, 500])
def test_a_parquet_file_that_is_cut_short_is_named(tmp_path, num_bytes):
  path = tmp_path / "rows.parquet"
  _write_parquet(path, [{"a": str(i) * 50} for i in range(50)])
  path.write_bytes(path.read_bytes()[:num_bytes])
  with pytest.raises(ValueError, match="rows.parquet, row 1: .*cut short"):
    _numbers([path])


def test_pages_of_a_parquet_file_that_are_damaged_are_told(tmp_path):
  path = tmp_path / "rows.parquet"
  _write_parquet(path, [{"a": str(i) * 50} for i in range(50)])
  damaged = bytearray(path.read_bytes())
  damaged[len(damaged) // 3 : len(damaged) // 3 + 99] = bytes(99)
  path.write_bytes(damaged)
  with pytest.raises(ValueError, match=r"rows.parquet, row \d+: "):
    _numbers([path])


def test_a_pointer_in_the_place_of_a_parquet_file_is_named(tmp_path):
  path = tmp_path / "rows.parquet"
  path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:a\n")
  with pytest.raises(ValueError, match="rows.parquet is a Git LFS pointer"):
    _numbers([path])


def test_without_pyarrow_the_error_says_how_to_get_it(tmp_path, monkeypatch):
  path = tmp_path / "rows.parquet"
  _write_parquet(path, [{"a": 1}])
  monkeypatch.setitem(sys.modules, "pyarrow", None)
  with pytest.raises(ValueError, match="rows.parquet .*pip install pyarrow"):
    _numbers([path])


def _read_past_bad_rows(path, make=lambda row, where: row["a"]):
  bad_rows = []
  made = list(raw_rows.read([path], make, bad_rows.append))
  assert {row.file for row in bad_rows} <= {str(path)}
  return made, [(row.line, row.reason) for row in bad_rows]


def test_the_lost_rest_of_a_compressed_file_is_one_bad_row(tmp_path):
  path = tmp_path / "rows.jsonl.gz"
  lines = [f'{{"a": "{i * 7919}"}}\n' for i in range(5000)]
  path.write_bytes(gzip.compress("".join(lines).encode())[:-5000])
  with pytest.raises(ValueError, match="cut short"):
    _numbers([path])
  made, ((line, reason),) = _read_past_bad_rows(path)
  assert made == [str(i * 7919) for i in range(line - 1)]
  assert 0 < line < 5000
  assert reason.startswith("the compressed file is damaged or cut short")


def test_files_after_a_damaged_one_are_read_on(tmp_path):
  damaged, whole = tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl"
  damaged.write_bytes(gzip.compress(b'{"a": 1}\n')[:-3])
  whole.write_text('{"a": 2}\n')
  bad_rows = []
  made = raw_rows.read(
    [damaged, whole], lambda row, where: row["a"], bad_rows.append
  )
  assert list(made)[-1] == 2
  assert [row.file for row in bad_rows] == [str(damaged)]


def test_the_lost_rest_of_a_parquet_file_is_one_bad_row(tmp_path):
  path = tmp_path / "rows.parquet"
  rows = [{"a": f"{i}" * 50} for i in range(50)]
  parquet.write_table(
    pyarrow.Table.from_pylist(rows), path, row_group_size=10, compression="none"
  )
  group = parquet.ParquetFile(path).metadata.row_group(3).column(0)
  damaged = bytearray(path.read_bytes())
  start = group.dictionary_page_offset
  damaged[start : start + 20] = bytes(20)
  path.write_bytes(damaged)
  made, ((line, reason),) = _read_past_bad_rows(path)
  assert made == [row["a"] for row in rows[: line - 1]]
  assert reason.startswith("the Parquet file is damaged")


def test_a_bad_row_of_parquet_is_passed_over_with_its_number(tmp_path):
  path = tmp_path / "rows.parquet"
  column = pyarrow.array([b"x", b"\xff", b"y"]).view(pyarrow.utf8())
  parquet.write_table(pyarrow.table({"a": column}), path)
  made, ((line, reason),) = _read_past_bad_rows(path)
  assert (made, line) == (["x", "y"], 2)
  assert reason.startswith("not UTF-8")


def test_a_pointer_is_no_bad_row_but_an_error(tmp_path):
  path = tmp_path / "rows.jsonl"
  path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:a\n")
  with pytest.raises(ValueError, match="is a Git LFS pointer"):
    _read_past_bad_rows(path)


def test_a_bad_row_moves_no_id_of_gsm8k(tmp_path):
  rows = [{"question": f"{i}?", "answer": f"#### {i}"} for i in range(4)]
  _write_lines(tmp_path / "test.jsonl", [])
  _write_lines(tmp_path / "train.jsonl", rows)
  expected = {r.problem.problem_id: r for r in gsm8k.read(tmp_path)}
  _write_lines(tmp_path / "train.jsonl", [rows[0], {}, *rows[2:]])
  bad_rows = []
  read = {
    row.problem.problem_id: row for row in gsm8k.read(tmp_path, bad_rows.append)
  }
  del expected["gsm8k/train/1"]
  assert (read, len(bad_rows)) == (expected, 1)


def test_gsm8k_reads_parquet_as_it_reads_json_lines(tmp_path):
  rows = [
    {"question": f"{i}?", "answer": f"<<1+1=2>>2\n#### {i}"} for i in range(9)
  ]
  _write_lines(tmp_path / "lines/train.jsonl", rows)
  _write_lines(tmp_path / "lines/test.jsonl", rows[:2])
  for i, part in enumerate((rows[:5], rows[5:])):
    path = tmp_path / f"hub/train-0000{i}-of-00002.parquet"
    _write_parquet(path, part)
  _write_parquet(tmp_path / "hub/test-00000-of-00001.parquet", rows[:2])
  lines = list(gsm8k.read(tmp_path / "lines"))
  assert len({row.problem.problem_id for row in lines}) == 11
  assert list(gsm8k.read(tmp_path / "hub")) == lines


def test_math_reads_parquet_as_it_reads_json_lines(tmp_path):
  rows = [
    {"unique_id": f"train/algebra/{i}.json", "problem": f"{i}?", "level": i,
     "solution": "s", "answer": "1", "subject": "Algebra"}
    for i in range(1, 6)
  ]  # fmt: skip
  for stem, part in (("train", rows[:3]), ("test", rows[3:])):
    _write_lines(tmp_path / f"lines/{stem}.jsonl", part)
    _write_parquet(tmp_path / f"hub/{stem}.parquet", part)
  lines = list(hendrycks_math.read(tmp_path / "lines"))
  assert [row.split for row in lines].count("test") == 2
  assert list(hendrycks_math.read(tmp_path / "hub")) == lines


def test_anyones_rows_are_read_from_parquet(tmp_path):
  rows = [{"question": f"{i}?", "solution": "s", "answer": "1"} for i in "abc"]
  fields = {"problem": "question"}
  _write_lines(tmp_path / "lines/mine.jsonl", rows)
  _write_parquet(tmp_path / "hub/mine.parquet", rows)
  _write_parquet(tmp_path / "split/validation.parquet", rows)
  lines = list(json_lines.read(tmp_path / "lines/mine.jsonl", fields))
  assert list(json_lines.read(tmp_path / "hub/mine.parquet", fields)) == lines
  read = json_lines.read(tmp_path / "split", fields)
  assert [row.split for row in read] == ["validation"] * 3
