"""`mathft grade` grades each problem once, and single pairs."""

import concurrent.futures

import pytest

from mathft_jax import records, samples
from mathft_jax.cli import grade
from mathft_jax.rerank import clusters


@pytest.fixture
def candidates(tmp_path):
  """A directory of three problems with two candidates each."""
  with samples.JsonLinesStore(tmp_path / samples.shard_name(0, 1)) as store:
    for name in "abc":
      answers = ["4", "5"]
      store.append(
        records.SampledProblem(
          records.Problem(name, "2 + 2", "4"),
          records.Candidate(name, -1, "text", "4", 1, -1.0, "eos"),
          tuple(
            records.Candidate(name, i, "text", answer, 1, -1.0, "eos")
            for i, answer in enumerate(answers)
          ),
          "generator",
          {},
        ).to_json()
      )
  return tmp_path


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
  """No test leaves verdicts in the home of who runs it."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  return tmp_path / "cache"


def _grades(candidates):
  return samples.read_grades(
    candidates / samples.grades_name(grade.grader.GRADER)
  )


def test_every_candidate_of_a_directory_is_graded(candidates, capsys):
  assert grade.main([str(candidates)]) == 0
  graded = _grades(candidates)
  assert list(graded) == ["a", "b", "c"]
  verdicts = {i: g.is_correct for i, g in graded["b"].grades.items()}
  assert verdicts == {-1: True, 0: True, 1: False}
  printed = capsys.readouterr().out
  assert "3 problems, 6 candidates: 3 correct" in printed
  assert "Decided by: exact 3, value 3" in printed


def test_one_file_may_be_named_instead_of_its_directory(candidates):
  assert grade.main([str(candidates / samples.shard_name(0, 1))]) == 0
  assert len(_grades(candidates)) == 3


def test_verdicts_are_kept_where_one_says(candidates, cache_home, tmp_path):
  assert grade.main([str(candidates), "--no_cache"]) == 0
  assert not cache_home.exists()
  output = tmp_path / "again.jsonl"
  assert grade.main([str(candidates), "--output", str(output)]) == 0
  assert (cache_home / "mathft" / "verdicts.sqlite").is_file()
  named = tmp_path / "my.sqlite"
  output = tmp_path / "once_more.jsonl"
  assert (
    grade.main(
      [str(candidates), "--output", str(output), "--cache", str(named)]
    )
    == 0
  )
  assert named.is_file()


def test_a_cache_that_is_none_is_one_line(candidates, tmp_path, capsys):
  path = tmp_path / "poem.txt"
  path.write_text("shall I compare thee " * 9)
  assert grade.main([str(candidates), "--cache", str(path)]) == 2
  error = capsys.readouterr().err.strip().splitlines()[-1]
  assert error.startswith("mathft grade: ") and "poem.txt" in error


def test_as_many_processes_grade_as_one_says(candidates, monkeypatch):
  started = []

  class Pool(concurrent.futures.ProcessPoolExecutor):
    def __init__(self, max_workers, *args, **kwargs):
      started.append(max_workers)
      super().__init__(max_workers, *args, **kwargs)

  monkeypatch.setattr(clusters, "_FEW_PROBLEMS", 2)
  monkeypatch.setattr(clusters.concurrent.futures, "ProcessPoolExecutor", Pool)
  assert grade.main([str(candidates), "--num_workers", "1"]) == 0
  assert not started
  alone = _grades(candidates)
  output = candidates / "again.jsonl"
  argv = [str(candidates), "--output", str(output), "--num_workers", "2"]
  assert grade.main(argv) == 0
  assert started == [2]
  assert samples.read_grades(output) == alone


def test_an_audit_shows_where_clusters_depend_on_the_order(tmp_path, capsys):
  answers = ["0.5", "50\\%", "50", "7"]
  with samples.JsonLinesStore(tmp_path / samples.shard_name(0, 1)) as store:
    store.append(
      records.SampledProblem(
        records.Problem("half", "1/2 in percent", "50"),
        None,
        tuple(
          records.Candidate("half", i, "text", answer, 1, -1.0, "eos")
          for i, answer in enumerate(answers)
        ),
        "generator",
        {},
      ).to_json()
    )
  assert grade.main([str(tmp_path), "--audit"]) == 0
  printed = capsys.readouterr().out
  assert "not transitive: 1, in 1 problems" in printed
  assert "half: '50\\\\%' is '0.5' and '50'" in printed


def test_a_stopped_run_goes_on_where_it_was(candidates, monkeypatch):
  grade_problem = clusters.grade_problem
  calls = []

  def stop_at_second(sampled):
    calls.append(sampled.problem.problem_id)
    if len(calls) == 2:
      raise KeyboardInterrupt
    return grade_problem(sampled)

  monkeypatch.setattr(clusters, "grade_problem", stop_at_second)
  assert grade.main([str(candidates)]) == 130
  assert list(_grades(candidates)) == ["a"]
  assert grade.main([str(candidates)]) == 0
  assert calls == ["a", "b", "b", "c"]
  assert list(_grades(candidates)) == ["a", "b", "c"]


def test_grades_of_other_problems_are_not_continued(candidates, capsys):
  output = candidates / "other.jsonl"
  with samples.JsonLinesStore(output) as store:
    store.append(records.GradedProblem("z", "mathft-1", {}, ()).to_json())
  assert grade.main([str(candidates), "--output", str(output)]) == 2
  assert "'z'" in capsys.readouterr().err


def test_grades_of_other_answers_are_not_continued(candidates, capsys):
  assert grade.main([str(candidates)]) == 0
  path = candidates / samples.shard_name(0, 1)
  before = path.read_text()
  for old, new in (
    ('"reference_answer": "4"', '"reference_answer": "5"'),
    ('"answer": "5"', '"answer": "6"'),
  ):
    assert old in before
    path.write_text(before.replace(old, new, 1))
    assert grade.main([str(candidates)]) == 2
    error = capsys.readouterr().err
    assert "'a' has other answers, or another reference" in error
  path.write_text(before)
  assert grade.main([str(candidates)]) == 0


def test_no_candidates_are_an_error(candidates, capsys):
  (candidates / samples.shard_name(0, 1)).write_text("")
  assert grade.main([str(candidates)]) == 2
  assert "holds no problem" in capsys.readouterr().err


def test_grades_of_another_grader_are_not_continued(candidates, capsys):
  output = candidates / "other.jsonl"
  with samples.JsonLinesStore(output) as store:
    store.append(records.GradedProblem("a", "old-0", {}, ()).to_json())
  assert grade.main([str(candidates), "--output", str(output)]) == 2
  assert "old-0" in capsys.readouterr().err


def test_grades_of_other_source_are_not_continued(
  candidates, monkeypatch, capsys
):
  assert grade.main([str(candidates)]) == 0
  assert {g.grader for g in _grades(candidates).values()} == {
    grade.grader.version()
  }
  assert grade.main([str(candidates)]) == 0
  monkeypatch.setattr(grade.grader, "version", lambda: "mathft-4+changed")
  assert grade.main([str(candidates)]) == 2
  assert "mathft-4+changed; delete it" in capsys.readouterr().err


def test_a_missing_directory_is_one_line_and_exit_code_2(tmp_path, capsys):
  assert grade.main([str(tmp_path / "nowhere")]) == 2
  err = capsys.readouterr().err
  assert err.startswith("mathft grade: error: ") and err.count("\n") == 1


def test_a_pair_answers_with_its_exit_code(capsys):
  assert grade.main(["--reference", "1/2", "--candidate", "0.5"]) == 0
  assert capsys.readouterr().out.startswith("equivalent")
  assert grade.main(["--reference", "1/2", "--candidate", "2"]) == 1
  assert capsys.readouterr().out.startswith("not equivalent")


@pytest.mark.parametrize("answer", ["-x", "-1/2", "-h", "-\\infty", "-"])
def test_answers_may_be_negative(answer, capsys):
  pair = ["--reference", answer, "--candidate", answer]
  assert grade.main(pair) == 0
  assert capsys.readouterr().out.startswith("equivalent")
  assert grade.main(["--reference", "5", "--candidate", answer]) == 1


def test_a_pair_is_explained(capsys):
  pair = ["--reference", "(2,\\infty)", "--candidate", "x > 2 cm"]
  assert grade.main([*pair, "--explain"]) == 0
  assert capsys.readouterr().out.splitlines() == [
    "equivalent (decided by value)",
    "reference: (2,\\infty)",
    "  read from: (2, \\infty)",
    "  read as: (2, infinity), in order",
    "candidate: x > 2 cm",
    "  read from: x>2 cm",
    "  read as: x > 2",
    "  unit: cm",
    "decided by value: by exact values and structure",
  ]


@pytest.mark.parametrize(
  "argv",
  [
    [],
    ["--reference", "1"],
    ["--reference", "--candidate", "1"],
    ["--reference", "1", "--candidate"],
    ["dir", "--reference", "1"],
    ["dir", "--explain"],
    ["dir", "--num_workers", "0"],
    ["dir", "--cache", "file", "--no_cache"],
    ["--reference", "1", "--candidate", "1", "--audit"],
    ["--reference", "1", "--candidate", "1", "--no_cache"],
    ["--reference", "1", "--candidate", "1", "--output", "file"],
    ["--reference", "1", "--candidate", "1", "--num_workers", "2"],
  ],
)
def test_half_a_request_is_refused(argv):
  with pytest.raises(SystemExit) as stopped:
    grade.main(argv)
  assert stopped.value.code == 2
