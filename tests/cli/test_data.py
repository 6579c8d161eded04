"""Tests of mathft_jax.cli.data."""

import dataclasses
import functools
import gzip
import hashlib
import http.server
import json
import pathlib
import threading
import urllib.parse

import pytest

from mathft_jax import jsonl, records, samples
from mathft_jax.cli import data, grade
from mathft_jax.records import Problem, SolvedProblem
from mathft_jax.sources import download, json_lines


def _write(path, rows) -> None:
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _rows(texts, split):
  return [
    {"question": text, "solution": "It is.", "answer": "1", "split": split}
    for text in texts
  ]


def test_prepare_writes_splits_without_leaks_and_tells(tmp_path, capsys):
  path, output = tmp_path / "mine.jsonl", tmp_path / "out"
  _write(
    path,
    _rows(["What is $a$?", "What is $b$?"], "train")
    + _rows(["what is  a"], "test"),
  )
  arguments = ["prepare", "--source=json", f"--input={path}"]
  arguments += [f"--output={output}", "--field", "problem=question"]
  assert data.main(arguments) == 0
  rows = list(json_lines.read_split(output, "train"))
  assert [row.problem.text for row in rows] == ["What is $b$?"]
  assert len(json_lines.problems(output, "test")) == 1
  assert json_lines.problems(output, "validation") == []
  (left_out,) = [row for _, row in jsonl.read(output / "left_out.jsonl")]
  assert left_out["kind"] == "normalized"
  printed = capsys.readouterr().out
  assert "1 of training or validation whose problem a later" in printed


def test_prepare_keeps_other_sources_test_problems_out(tmp_path):
  other, path = tmp_path / "other", tmp_path / "mine.jsonl"
  other.mkdir()
  row = {"problem": "What is $a$?", "solution": "s", "answer": "1"}
  _write(other / "test.jsonl", [{**row, "problem_id": "x", "split": "test"}])
  _write(other / "validation.jsonl", [])
  _write(path, [{**row, "split": "train"}])
  output = tmp_path / "out"
  arguments = ["prepare", "--source=json", f"--input={path}"]
  arguments += [f"--output={output}", f"--against={other}"]
  assert data.main(arguments) == 0
  assert not list(json_lines.read_split(output, "train"))


def test_a_bad_row_ends_with_one_line_and_2(tmp_path, capsys):
  path = tmp_path / "mine.jsonl"
  path.write_text('{"problem": "p"}\n')
  arguments = ["prepare", "--source=json", f"--input={path}"]
  assert data.main([*arguments, f"--output={tmp_path / 'out'}"]) == 2
  printed = capsys.readouterr().err
  assert printed.count("\n") == 1
  assert "mine.jsonl:1: field 'answer' is missing" in printed


def _prepare_mine(path, output, *flags) -> int:
  arguments = ["prepare", "--source=json", f"--input={path}"]
  return data.main([*arguments, f"--output={output}", *flags])


def test_bad_rows_are_listed_counted_and_skipped_when_asked(tmp_path, capsys):
  path, output = tmp_path / "mine.jsonl", tmp_path / "out"
  rows = [
    {"problem": f"What is ${i}$?", "solution": "s", "answer": "1"}
    for i in range(3)
  ]
  good = [json.dumps({**row, "split": "train"}).encode() for row in rows]
  bad = [b'{"problem": "p"}', b'{"problem": "\xff"}', b'{"problem": 1', b"3"]
  bad += [json.dumps({**rows[0], "solution": ["s"]}).encode()]
  bad += [json.dumps({**rows[0], "answer": "\ud83d"}).encode()]
  lines = [good[0], *bad[:2], b"", good[1], *bad[2:], good[2]]
  path.write_bytes(b"\n".join(lines) + b"\n")
  assert _prepare_mine(path, output) == 2
  assert "mine.jsonl:2: " in capsys.readouterr().err
  assert _prepare_mine(path, output, "--skip_bad_rows") == 0
  kept = [row.problem.text for row in json_lines.read_split(output, "train")]
  assert sorted(kept) == [row["problem"] for row in rows]
  listed = [row for _, row in jsonl.read(output / "left_out.jsonl")]
  assert {row["file"] for row in listed} == {str(path)}
  assert [row["line"] for row in listed] == [2, 3, 6, 7, 8, 9]
  for row, reason in zip(
    listed,
    ("field 'answer' is missing", "not UTF-8", "not a line of JSON",
     "expected a JSON object", "field 'solution' must be text", "not UTF-8"),
    strict=True,
  ):  # fmt: skip
    assert row["reason"].startswith(reason)
  printed = capsys.readouterr().out
  assert "Left out of 9 rows: 6 malformed rows." in printed


def test_rows_that_are_all_malformed_are_an_error(tmp_path, capsys):
  path = tmp_path / "mine.jsonl"
  _write(path, [{"question": "q", "solution": "s", "answer": "1"}] * 2)
  assert _prepare_mine(path, tmp_path / "out", "--skip_bad_rows") == 2
  printed = capsys.readouterr().err
  assert "all 2 rows are malformed" in printed
  assert "mine.jsonl:1: field 'problem' is missing" in printed
  assert not (tmp_path / "out").exists()


@pytest.fixture
def mirror(tmp_path, monkeypatch):
  """(folder, address) of a server on this machine; its files are published."""
  folder = tmp_path / "mirror"
  handler = functools.partial(_QuietHandler, directory=folder)
  httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
  thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
  thread.start()
  monkeypatch.setenv("no_proxy", "127.0.0.1")
  yield folder, f"http://127.0.0.1:{httpd.server_port}"
  httpd.shutdown()
  thread.join()
  httpd.server_close()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
  def log_message(self, *args):
    pass


def test_published_files_are_fetched_and_prepared(
  mirror, tmp_path, monkeypatch, capsys
):
  folder, address = mirror
  published = []
  for file in download.FILES["gsm8k"]:
    served = folder / urllib.parse.urlsplit(file.url).path.lstrip("/")
    served.parent.mkdir(parents=True, exist_ok=True)
    _write(served, [{"question": f"{file.path}?", "answer": "s\n#### 1"}])
    content = served.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    published.append(
      dataclasses.replace(file, num_bytes=len(content), sha256=digest)
    )
  monkeypatch.setattr(download, "FILES", {"gsm8k": tuple(published)})
  monkeypatch.setenv("HOME", str(tmp_path / "home"))
  output = tmp_path / "out"
  arguments = ["prepare", "--source=gsm8k", f"--output={output}"]
  arguments += [f"--mirror={address}"]
  assert data.main([*arguments, "--download"]) == 0
  raw = tmp_path / "home/.cache/mathft/gsm8k"
  assert sorted(path.name for path in raw.iterdir()) == [
    "test.jsonl",
    "train.jsonl",
  ]
  (row,) = json_lines.read_split(output, "test")
  assert row.problem.text == "test.jsonl?"
  # Another folder, and a server whose file is another one by now.
  served.write_text(served.read_text().replace("s", "t"))
  arguments.append(f"--download={tmp_path / 'there'}")
  capsys.readouterr()
  assert data.main(arguments) == 2
  *_, error = capsys.readouterr().err.splitlines()
  assert "error: http://127.0.0.1" in error and "nothing was kept" in error
  assert not (tmp_path / "there/gsm8k/test.jsonl").exists()


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--source=json", "--download"], "json has no files to download"),
    (["--source=gsm8k", "--input=x", "--math=y"], "--math is given but not"),
    (["--source=math", "--input=x", "--field=a=b"], "--field is given but not"),
    (["--source=math", "--input=x", "--mirror=y"], "--mirror is given but not"),
  ],
)
def test_a_flag_that_changes_nothing_is_an_error(
  tmp_path, capsys, flags, message
):
  assert data.main(["prepare", *flags, f"--output={tmp_path / 'out'}"]) == 2
  assert message in capsys.readouterr().err


@pytest.mark.parametrize("source", ["math", "prm800k", "gsm8k"])
def test_real_sources_are_prepared_and_shown(
  shared_dir, tmp_path, capsys, source
):
  raw, output = shared_dir / "data" / source, tmp_path / source
  arguments = ["prepare", f"--source={source}", f"--input={raw}"]
  assert data.main([*arguments, f"--output={output}"]) == 0
  printed = capsys.readouterr().out
  reasons = {
    "math": "train +0, validation +0, test +0 rows",
    "prm800k": "Other counts: the files at hand are only a part of PRM800K",
    "gsm8k": "Left out of 8,792 rows: nothing.",
  }
  assert reasons[source] in printed
  assert ("paper" in printed) == (source != "gsm8k")
  files = {
    "math": ["math_train", "math_test"],
    "prm800k": ["complete_solutions"],
    "gsm8k": ["train", "test"],
  }[source]
  rows = []
  for name in files:
    with gzip.open(raw / f"{name}.jsonl.gz", "rt", newline="\n") as lines:
      rows += [json.loads(line) for line in lines]
  left_out = [row for _, row in jsonl.read(output / "left_out.jsonl")]
  ids = {row["solution_id"] for row in left_out if "solution_id" in row}
  leaked = {row["problem_id"] for row in left_out if row.get("is_dropped")}
  kept = [
    row for row in rows
    if row.get("solution_id") not in ids and row.get("unique_id") not in leaked
  ]  # fmt: skip
  num_written = sum(
    len((output / f"{split}.jsonl").read_bytes().splitlines())
    for split in ("train", "validation", "test")
  )
  assert num_written == len(kept)
  assert f"Left out of {len(rows):,} rows: " in printed
  arguments = ["show", f"{source}_generate", "--num_examples=1"]
  arguments += ["--num_lengths=50", "--data", f"{source}={output}"]
  assert data.main(arguments) == 0
  printed = capsys.readouterr().out
  assert printed.count("targets (") == 1
  assert printed.count("[<eos>]\n") == 1
  assert "the first 50 examples" in printed


@pytest.mark.parametrize("is_prepared", [False, True])
def test_prm800ks_release_takes_ids_and_splits_from_math(
  tmp_path, capsys, is_prepared
):
  math, raw, output = (tmp_path / name for name in ("math", "raw", "out"))
  math.mkdir()
  row = {"problem": "What is $a$?", "solution": "It is $\\boxed{1}$."}
  ids = {"unique_id": "test/algebra/1.json"}
  _write(math / "train.jsonl", [])
  _write(math / "test.jsonl", [{**row, **ids}])
  if is_prepared:
    arguments = ["prepare", "--source=math", f"--input={math}"]
    assert data.main([*arguments, f"--output={tmp_path / 'rows'}"]) == 0
    assert "files at hand hold 1 of 12,500" in capsys.readouterr().out
    math = tmp_path / "rows"
  steps = [
    {
      "completions": [{"text": "Is 1.\n\n# Answer\n\n1", "rating": 1}],
      "human_completion": None,
      "chosen_completion": 0,
    }
  ]
  raw.mkdir()
  _write(
    raw / "phase2_test.jsonl",
    [
      {
        "question": {"problem": text},
        "label": {"steps": steps, "finish_reason": "solution"},
      }
      for text in ("What is  $a$?", "What is $a$?", "What is $b$?")
    ],
  )
  arguments = ["prepare", "--source=prm800k", f"--input={raw}"]
  arguments += [f"--math={math}", f"--output={output}"]
  assert data.main(arguments) == 0
  (kept,) = json_lines.read_split(output, "test")
  assert kept.problem.problem_id == "test/algebra/1.json"
  left_out = [row["kind"] for _, row in jsonl.read(output / "left_out.jsonl")]
  assert left_out == ["duplicate", "not in MATH"]
  printed = capsys.readouterr().out
  assert "1 solutions that stand there twice, 1 solutions whose" in printed
  assert "the files at hand are only a part of PRM800K" in printed
  for name in ("phase1_train", "phase1_test", "phase2_train"):
    _write(raw / f"{name}.jsonl", [])
  assert data.main(arguments) == 0
  assert "only a part" not in capsys.readouterr().out


def test_what_would_be_written_over_or_do_nothing_is_an_error(tmp_path, capsys):
  rows = tmp_path / "rows"
  rows.mkdir()
  _write(
    rows / "train.jsonl", [{"problem": "p", "solution": "s", "answer": "1"}]
  )
  before = (rows / "train.jsonl").read_bytes()
  output = str(tmp_path / "out")
  for flags, message in (
    (["--output", str(rows)], "would be written over"),
    (["--output", output, "--field", "typ=foo"], "no field 'typ' of ours"),
    (["--output", output, "--field", "type=sub"], "field 'sub' is missing"),
    (
      ["--output", output, "--field", "type=a", "--field", "type=b"],
      "--field type=... is given twice",
    ),
    (["--output", output, "--vocabulary", "nope"], "vocabulary 'nope'"),
  ):
    argv = ["prepare", "--source", "json", "--input", str(rows), *flags]
    assert data.main(argv) == 2, flags
    assert message in capsys.readouterr().err
  assert (rows / "train.jsonl").read_bytes() == before
  assert not pathlib.Path(output).exists()


def test_null_is_as_good_as_no_field_and_no_row_is_an_error(tmp_path, capsys):
  rows, output = tmp_path / "rows.jsonl", tmp_path / "out"
  row = {"problem": "p", "solution": "s", "answer": "1", "split": "train"}
  _write(rows, [{**row, "type": None, "level": None, "problem_id": None}])
  argv = ["prepare", "--source", "json", "--input", str(rows)]
  argv += ["--output", str(output)]
  assert data.main(argv) == 0
  (read,) = json_lines.read_split(output, "train")
  assert (read.problem.type, read.problem.level) == ("", "")
  _write(rows, [{**row, "difficulty": [5]}])
  assert data.main([*argv, "--field", "level=difficulty"]) == 2
  assert "field 'difficulty' must be text" in capsys.readouterr().err
  _write(rows, [{**row, "problem": " "}])
  assert data.main(argv) == 2
  assert "rows.jsonl:1: field 'problem' is blank" in capsys.readouterr().err
  _write(rows, [{**row, "answer": 0.5}, {**row, "problem": "q", "answer": 4}])
  assert data.main(argv) == 0
  read = json_lines.read_split(output, "train")
  assert {r.problem.reference_answer for r in read} == {"0.5", "4"}
  capsys.readouterr()
  _write(rows, [])
  assert data.main(argv) == 2
  assert "rows.jsonl holds no row" in capsys.readouterr().err


def test_a_generators_own_solutions_become_rows(tmp_path, capsys):
  problem = records.Problem("train/x/1.json", "2 + 2", "4")
  sampled = records.SampledProblem(
    problem,
    None,
    tuple(
      records.Candidate(
        problem.problem_id, i, f"{text}\n\n# Answer\n\n{a}", a, 9, -1.0, "eos"
      )
      for i, (text, a) in enumerate(
        [("Two and two.", "4"), ("Wrong.", "5"), ("It is four.", "4.0")]
      )
    ),
    "generator",
    {},
  )
  given = tmp_path / "given"
  with samples.JsonLinesStore(given / samples.shard_name(0, 1)) as store:
    store.append(sampled.to_json())
  output = tmp_path / "rows"
  flags = ["prepare", "--source", "candidates", "--input", str(given)]
  flags += ["--output", str(output)]
  assert data.main(flags) == 2
  assert "--against" in capsys.readouterr().err
  test = SolvedProblem(Problem("t", "6 + 7", "13"), "s", "json", "test")
  held_out = tmp_path / "held_out"
  json_lines.write_splits(held_out, {"validation": [], "test": [test]})
  flags += ["--against", str(held_out)]
  assert data.main(flags) == 2
  assert "`mathft grade" in capsys.readouterr().err
  assert grade.main([str(given), "--no_cache"]) == 0
  assert data.main([*flags, "--max_per_problem", "1"]) == 0
  printed = capsys.readouterr().out
  assert "Left out of 3 rows: 1 candidates that are not correct, 1 beyond" in (
    printed
  )
  rows = list(json_lines.read_split(output, "train"))
  assert [(row.problem, row.solution) for row in rows] == [
    (problem, "Two and two.")
  ]
  assert data.main(flags) == 0
  assert len(list(json_lines.read_split(output, "train"))) == 2
  for unused in (["--max_per_problem", "0"], ["--skip_bad_rows"]):
    assert data.main([*flags, *unused]) == 2
  assert data.main([
    "prepare", "--source", "json", "--input", str(given),
    "--output", str(output), "--max_per_problem", "2",
  ]) == 2  # fmt: skip
