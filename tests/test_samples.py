"""The samples store: whole rows or none, and clear words about the rest."""

import gzip
import json
import logging
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from mathft_jax import jsonl, records, samples


def _sampled(problem_id: str, num_candidates: int = 2):
  candidates = tuple(
    records.Candidate(problem_id, i, f"solution {i}", str(i), 3, -1.5, "eos")
    for i in range(num_candidates)
  )
  greedy = records.Candidate(
    problem_id, records.GREEDY_INDEX, "greedy", None, 2, -0.5, "length"
  )
  problem = records.Problem(problem_id, "1 + 1", "2", "1", "sum")
  return records.SampledProblem(
    problem, greedy, candidates, "generator", {"seed": 0}
  )


def _write_shard(
  directory: pathlib.Path, shard: int, num_shards: int, *problems
) -> pathlib.Path:
  path = directory / samples.shard_name(shard, num_shards)
  with samples.JsonLinesStore(path) as store:
    for sampled in problems:
      store.append(sampled.to_json())
  return path


def test_shards_are_read_back_as_they_were_written(tmp_path):
  written = [_sampled(name) for name in "abc"]
  _write_shard(tmp_path, 1, 2, written[2])
  _write_shard(tmp_path, 0, 2, *written[:2])
  assert samples.read_candidates(tmp_path) == written


def test_a_compressed_shard_is_read_too(tmp_path):
  plain = _write_shard(tmp_path, 0, 1, _sampled("a"))
  with gzip.open(f"{plain}.gz", "wb") as file:
    file.write(plain.read_bytes())
  plain.unlink()
  assert samples.read_candidates(tmp_path) == [_sampled("a")]


def test_shard_names_count_from_zero():
  assert samples.shard_name(3, 16) == "candidates-00003-of-00016.jsonl"
  with pytest.raises(ValueError, match="shard 16 does not exist"):
    samples.shard_name(16, 16)


def test_a_missing_shard_is_named(tmp_path):
  _write_shard(tmp_path, 0, 2, _sampled("a"))
  with pytest.raises(ValueError, match="missing: candidates-00001-of-00002"):
    samples.read_candidates(tmp_path)


def test_shards_of_two_runs_are_not_mixed(tmp_path):
  _write_shard(tmp_path, 0, 1, _sampled("a"))
  _write_shard(tmp_path, 0, 2, _sampled("b"))
  with pytest.raises(ValueError, match="mixes shards"):
    samples.read_candidates(tmp_path)


def test_a_directory_without_candidates_is_an_error(tmp_path):
  with pytest.raises(FileNotFoundError, match="holds no shard"):
    samples.read_candidates(tmp_path)
  with pytest.raises(FileNotFoundError, match="no directory"):
    samples.read_candidates(tmp_path / "nowhere")


def test_a_problem_in_two_shards_is_an_error_with_both_places(tmp_path):
  _write_shard(tmp_path, 0, 2, _sampled("a"))
  _write_shard(tmp_path, 1, 2, _sampled("b"), _sampled("a"))
  with pytest.raises(
    ValueError, match=r"00001-of-00002.jsonl:2.*00000-of-00002.jsonl:1"
  ):
    samples.read_candidates(tmp_path)


@pytest.mark.parametrize(
  "change, message",
  [
    (lambda row: row.pop("problem"), "'problem' is missing"),
    (lambda row: row["candidates"][1].pop("answer"), "'answer' is missing"),
    (lambda row: row["candidates"][1].update(index=0), "0 stands twice"),
    (lambda row: row["candidates"][1].update(index=-1), "counts from 0"),
    (lambda row: row["candidates"][1].update(answer=7), "'answer' is 7"),
    (lambda row: row["candidates"][1].update(index=True), "'index' is True"),
    (lambda row: row["greedy"].update(index=3), "has the index 3, not -1"),
    (lambda row: row.update(candidates=5), "object is not iterable"),
    (lambda row: row.update(candidates=["x"]), "indices must be"),
  ],
)
def test_a_malformed_candidate_is_named_with_its_line(
  tmp_path, change, message
):
  row = _sampled("b").to_json()
  change(row)
  path = _write_shard(tmp_path, 0, 1, _sampled("a"))
  with open(path, "a") as file:
    file.write(json.dumps(row) + "\n")
  with pytest.raises(ValueError, match=f"{path.name}:2: .*{message}"):
    samples.read_candidates(tmp_path)


@pytest.mark.parametrize(
  "line", [b"{", b"[1]", b'{"a": NaN}', b"\x00\x00", b"\xff", b"[" * 99_999]
)
def test_a_line_that_is_no_json_object_is_named(tmp_path, line):
  path = tmp_path / "rows.jsonl"
  path.write_bytes(b'{"a": 1}\n\n' + line + b"\n")
  rows = jsonl.read(path)
  assert next(rows) == (1, {"a": 1})
  with pytest.raises(ValueError, match=r"rows.jsonl:3: "):
    next(rows)


def test_a_cut_off_compressed_file_is_an_error(tmp_path):
  path = tmp_path / "rows.jsonl.gz"
  path.write_bytes(gzip.compress(b'{"a": 1}\n' * 1000)[:-12])
  with pytest.raises(ValueError, match="damaged or cut short"):
    list(jsonl.read(path))


def test_line_ends_of_unicode_do_not_end_a_row(tmp_path):
  path = tmp_path / "rows.jsonl"
  text = "a\u2028b\u0085c\x0bd\r\ne"
  with samples.JsonLinesStore(path) as store:
    store.append({"problem_id": "a", "text": text})
  assert [row["text"] for _, row in jsonl.read(path)] == [text]


def test_a_lone_surrogate_survives_the_store(tmp_path):
  path = tmp_path / "rows.jsonl"
  with samples.JsonLinesStore(path) as store:
    store.append({"problem_id": "a", "text": "\ud800"})
  assert [row["text"] for _, row in jsonl.read(path)] == ["\ud800"]


@pytest.mark.parametrize("num_bytes_lost", range(1, 31))
def test_a_torn_last_line_is_dropped_and_written_again(
  tmp_path, caplog, num_bytes_lost
):
  path = tmp_path / "rows.jsonl"
  rows = [{"problem_id": name, "text": "ä" * 9} for name in "abc"]
  with samples.JsonLinesStore(path) as store:
    for row in rows:
      store.append(row)
  whole = path.read_bytes()
  path.write_bytes(whole[:-num_bytes_lost])
  with caplog.at_level(logging.WARNING):
    store = samples.JsonLinesStore(path)
  with store:
    # Without its line end alone, the last row is still whole.
    is_whole = num_bytes_lost == 1
    assert store.finished == ({"a", "b", "c"} if is_whole else {"a", "b"})
    assert ("rows.jsonl:3" in caplog.text) == (not is_whole)
    if not is_whole:
      store.append(rows[2])
  assert path.read_bytes() == whole


def test_damage_in_the_middle_is_an_error_and_touches_nothing(tmp_path):
  path = tmp_path / "rows.jsonl"
  damaged = b'{"problem_id": "a"}\n{"probl\n{"problem_id": "c"}\n'
  path.write_bytes(damaged)
  with pytest.raises(ValueError, match=r"rows.jsonl:2: "):
    samples.JsonLinesStore(path)
  assert path.read_bytes() == damaged


def test_a_row_cannot_be_appended_twice(tmp_path):
  path = tmp_path / "rows.jsonl"
  with samples.JsonLinesStore(path) as store:
    store.append({"problem_id": "a"})
  with samples.JsonLinesStore(path) as store:
    with pytest.raises(ValueError, match="'a' already"):
      store.append({"problem_id": "a"})


def test_not_a_number_never_reaches_the_disk(tmp_path):
  path = tmp_path / "rows.jsonl"
  with samples.JsonLinesStore(path) as store:
    with pytest.raises(ValueError, match="not JSON"):
      store.append({"problem_id": "a", "log_prob": float("nan")})
    assert store.finished == set()
  assert path.read_bytes() == b""


def test_a_killed_writer_loses_no_appended_row(tmp_path):
  path = tmp_path / "rows.jsonl"
  writer = (
    "import os, signal, sys\n"
    "from mathft_jax import samples\n"
    "store = samples.JsonLinesStore(sys.argv[1])\n"
    "for i in range(5): store.append({'problem_id': str(i)})\n"
    "os.kill(os.getpid(), signal.SIGKILL)\n"
  )
  done = subprocess.run([sys.executable, "-c", writer, os.fspath(path)])
  assert done.returncode == -signal.SIGKILL
  assert len(list(jsonl.read(path))) == 5


def test_grades_and_scores_are_read_by_problem(tmp_path):
  graded = records.GradedProblem(
    "a",
    "mathft-1",
    {-1: records.Grade(False, "no_answer"), 0: records.Grade(True, "text")},
    (records.Cluster("2", (0,)),),
  )
  scored = records.ScoredProblem("a", "evaluator", {0: -0.25})
  grades = tmp_path / samples.grades_name("mathft-1")
  scores = tmp_path / samples.scores_name("evaluator")
  for path, record in ((grades, graded), (scores, scored)):
    with samples.JsonLinesStore(path) as store:
      store.append(record.to_json())
  assert samples.read_grades(grades) == {"a": graded}
  assert samples.read_scores(scores) == {"a": scored}
  assert grades.name == "grades-mathft-1.jsonl"


def test_parts_become_one_file_in_the_order_of_problems(tmp_path):
  whole = tmp_path / "scores-e.jsonl"
  parts = [tmp_path / samples.part_name(whole.name, s, 2) for s in range(2)]
  assert parts[1].name == "scores-e-00001-of-00002.jsonl"
  for path, names in ((whole, "c"), (parts[0], "da"), (parts[1], "bc")):
    with samples.JsonLinesStore(path) as store:
      for name in names:
        store.append({"problem_id": name, "at": path.name, "text": "\ud800é"})
  with pytest.raises(ValueError, match=r"problem 'e' \(1 in all\)"):
    samples.join(whole, parts, [*"abcde"])
  assert all(part.exists() for part in parts)
  samples.join(whole, parts, [*"abcd"])
  rows = [json.loads(line) for line in whole.read_text().splitlines()]
  assert [(row["problem_id"], row["at"]) for row in rows] == [
    ("a", parts[0].name),
    ("b", parts[1].name),
    ("c", whole.name),  # As it stood there.
    ("d", parts[0].name),
  ]
  assert {row["text"] for row in rows} == {"\ud800é"}
  assert not any(part.exists() for part in parts)
  before = whole.read_bytes()
  samples.join(whole, parts, [*"abcd"])  # After a kill, say.
  assert whole.read_bytes() == before


def test_who_does_not_write_reads_and_keeps_count(tmp_path):
  path = tmp_path / "rows.jsonl"
  with samples.JsonLinesStore(path) as store:
    store.append({"problem_id": "a"})
  before = path.read_bytes()
  with samples.JsonLinesStore(path, is_writing=False) as store:
    assert store.finished == {"a"}
    store.append({"problem_id": "b"})
    assert store.finished == {"a", "b"}
    with pytest.raises(ValueError, match="has a row for problem_id 'a'"):
      store.append({"problem_id": "a"})
  assert path.read_bytes() == before
  with pytest.raises(FileNotFoundError):
    samples.JsonLinesStore(tmp_path / "other.jsonl", is_writing=False)


def test_a_score_above_zero_is_no_log_probability(tmp_path):
  path = tmp_path / "scores-x.jsonl"
  row = {"index": 0, "log_p_correct": 0.5}
  path.write_text(
    json.dumps({"problem_id": "a", "evaluator": "x", "scores": [row]}) + "\n"
  )
  with pytest.raises(ValueError, match="at most 0"):
    samples.read_scores(path)


def test_a_name_that_leaves_its_directory_is_refused():
  with pytest.raises(ValueError, match="file name"):
    samples.scores_name("../evaluator")


def test_write_json_replaces_the_file_at_once(tmp_path):
  path = tmp_path / "deep" / "manifest.json"
  samples.write_json(path, {"a": 1})
  with pytest.raises(TypeError):
    samples.write_json(path, {"a": object()})
  assert samples.read_json(path) == {"a": 1}
  assert [p.name for p in path.parent.iterdir()] == ["manifest.json"]
