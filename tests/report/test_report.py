"""The report of a small run: the right numbers, in all three formats."""

import html.parser
import itertools
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from mathft_jax import jsonl, samples
from mathft_jax.report import (
  build,
  document,
  figures,
  manifest,
  render,
  results,
)
from mathft_jax.rerank import clusters as clusters_lib
from mathft_jax.rerank import estimators, rerankers, stopping


@pytest.fixture(scope="module")
def report(default_run) -> document.Document:
  return build.build([default_run])


@pytest.fixture(scope="module")
def page(report) -> str:
  return render.html(report)


def _table(report: document.Document, key: str) -> document.Table:
  return next(
    item
    for item in [*report.headlines, *report.body]
    if isinstance(item, document.Table) and item.key == key
  )


def _cells(table: document.Table, *first_cells: str) -> list[dict]:
  names = [column.name for column in table.columns]
  return [
    dict(zip(names, row, strict=True))
    for row in table.rows
    if row[: len(first_cells)] == first_cells
  ]


def _read(directory, decode: str):
  """The raw files again, past the code under test."""
  folder = directory / decode
  problems = {s.problem.problem_id: s for s in samples.read_candidates(folder)}
  return problems, samples.read_grades(folder / "grades-mathft-1.jsonl")


def test_table_2_holds_accuracies_counted_by_hand(report, default_run):
  table = _table(report, "table_2")
  problems, grades = _read(default_run, "decode_terse")
  (row,) = _cells(table, "terse")
  greedy = [g.grades[-1].is_correct for g in grades.values()]
  assert row["Pass@1"].value == pytest.approx(np.mean(greedy))
  assert row["Pass@1"].num_problems == len(problems)
  any_correct = [
    any(g.is_correct for i, g in graded.grades.items() if i >= 0)
    for graded in grades.values()
  ]
  assert row["Pass@16"].value == pytest.approx(np.mean(any_correct))
  right = 0
  for name, sampled in problems.items():
    answers = [c.answer for c in sampled.candidates if c.answer is not None]
    top = max(answers, key=lambda a: (answers.count(a), -answers.index(a)))
    right += top == "42"
    assert grades[name].grader == "mathft-1"
  assert row["Maj1@16"].value == pytest.approx(right / len(problems))


def test_a_run_that_was_not_made_leaves_a_row_that_says_so(report):
  for key, first, column in (
    ("table_2", ("few-shot (base model)",), "Pass@1"),
    ("table_2", ("terse + stepwise",), "Maj1@16"),
    ("table_3", ("cls_margin",), "RR.All"),
    ("table_4", ("no", "cls_margin"), "Pass@1"),
    ("table_7", ("cls_margin",), "W.RR"),
  ):
    table = _table(report, key)
    (row,) = _cells(table, *first)
    assert row[column] is None
    assert document.Column("x").text(row[column]) == "not run"


def test_a_run_with_nothing_but_training_still_has_a_report(make_run):
  directory = make_run(evaluators=[], generators=[], data=[], stages=[])
  page = render.html(build.build([directory]))
  assert "not run" in page


@pytest.fixture(params=["default_run", "uneven_run"])
def any_run(request):
  return request.getfixturevalue(request.param)


def test_table_7_fixed_row_equals_the_rerankers(any_run):
  rows = _cells(_table(build.build([any_run]), "table_7"), "cls_xent")
  fixed = next(row for row in rows if row["K or N\N{PRIME}"] == "fixed: 8")
  _, grades = _read(any_run, "decode_stepwise")
  scores = samples.read_scores(
    any_run / "decode_stepwise" / "scores-evaluator_xent.jsonl"
  )
  for column, pick in (
    ("RR.All", rerankers.best_of_n),
    ("RR.MajK", rerankers.best_of_top_clusters),
    ("W.RR", rerankers.weighted_vote),
    ("W.RR.MajK", rerankers.weighted_vote_top_clusters),
    ("Maj1", rerankers.majority_vote),
    ("Maj1.TopN", rerankers.majority_vote_top_n),
  ):
    picks = [
      pick(clusters_lib.with_scores(graded.clusters, scores[name].scores))
      for name, graded in grades.items()
    ]
    expected = np.mean([answer == "42" for answer in picks])
    assert fixed[column].value == pytest.approx(expected)


def test_table_7_best_row_is_the_maximum_of_figure_1(any_run):
  report = build.build([any_run])
  rows = _cells(_table(report, "table_7"), "cls_xent")
  best = next(r for r in rows if r["K or N\N{PRIME}"].startswith("best"))
  figure = next(item for item in report.body if item.key.startswith("figure_1"))
  assert isinstance(figure, document.Figure)
  accuracy, cost = figure.panels
  assert accuracy.x == tuple(range(1, 17))
  for line in accuracy.lines:
    assert best[line.label].value == max(line.values)
  ratios = {line.label: line.values for line in cost.lines}
  assert set(ratios["Maj1"]) == {0.0}
  assert set(ratios["RR.All, W.RR, Maj1.TopN"]) == {1.0}
  growing = ratios["RR.MajK, W.RR.MajK"]
  assert growing == sorted(growing) and 0 < growing[0] < growing[-1] <= 1


def test_claims_are_paired_differences(report, default_run):
  table = _table(report, "claims")
  claim = "Pass@1: stepwise \N{MINUS SIGN} terse"
  (row,) = _cells(table, claim)
  _, first = _read(default_run, "decode_stepwise")
  _, second = _read(default_run, "decode_terse")
  names = sorted(first)
  expected = estimators.paired_difference(
    *(
      np.array([float(g[name].grades[-1].is_correct) for name in names])
      for g in (first, second)
    )
  )
  assert row["Points"] == expected
  claims = [row[0] for row in table.rows]
  assert "stepwise: Maj1@16 \N{MINUS SIGN} Pass@1" in claims
  assert any("best re-ranking" in c and "Maj1@16" in c for c in claims)
  assert any("second generator (cls_xent)" in c for c in claims)


def test_the_order_of_lines_in_the_store_changes_nothing(any_run, tmp_path):
  directory = shutil.copytree(any_run, tmp_path / any_run.name)
  before = render.as_json(build.build([directory]))
  for path in sorted(directory.glob("decode_*/*.jsonl")):
    rows = [row for _, row in jsonl.read(path)]
    for row in rows:
      if "candidates" in row:
        row["candidates"].reverse()
    lines = [json.dumps(row) + "\n" for row in reversed(rows)]
    path.write_text("".join(lines))
  assert render.as_json(build.build([directory])) == before


def test_what_a_model_wrote_is_text_and_never_markup(page):
  assert "<script" not in page
  assert "<b>41</b>" not in page
  assert "&lt;script&gt;alert" in page
  assert "&lt;b&gt;41&lt;/b&gt;" in page


def test_names_from_the_manifest_are_text_too(make_run):
  hostile = "<img src=x onerror=alert(1)>"
  page = render.html(build.build([make_run(note=hostile)]))
  assert hostile not in page


class _Checker(html.parser.HTMLParser):
  """Collects ids and addresses, and checks that elements are closed."""

  _VOID = {"meta", "input", "br", "link", "img", "hr"}

  def __init__(self):
    super().__init__()
    self.open, self.ids, self.addresses = [], [], []

  def handle_starttag(self, tag, attrs):
    if tag not in self._VOID:
      self.open.append(tag)
    self._note(attrs)

  def handle_startendtag(self, tag, attrs):
    self._note(attrs)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def _note(self, attrs):
    for name, value in attrs:
      if name == "id":
        self.ids.append(value)
      if name in ("src", "href", "xlink:href", "action", "data"):
        self.addresses.append(value)


def test_the_page_is_well_formed_and_asks_for_nothing_outside(page):
  checker = _Checker()
  checker.feed(page)
  assert checker.open == []
  assert len(set(checker.ids)) == len(checker.ids)
  assert all(address.startswith("#") for address in checker.addresses)
  assert {a[1:] for a in checker.addresses} <= set(checker.ids)
  assert not re.search(r"@import|url\((?!#)", page)
  assert {"table_1", "table_2", "table_3", "table_4", "table_7"} <= set(
    checker.ids
  )


def test_all_formats_hold_the_same_numbers(report, page):
  text = render.markdown(report)
  numbers = render.as_json(report)
  json.dumps(numbers, allow_nan=False)
  for item in [*report.headlines, *report.body]:
    if isinstance(item, document.Table):
      for row in item.rows:
        for column, value in zip(item.columns, row, strict=True):
          if isinstance(value, estimators.Estimate):
            assert column.main(value) in page
            assert column.interval(value) in page
            assert column.main(value) in text
  (table,) = [t for t in numbers["tables"] if t["key"] == "table_2"]
  (row,) = [r for r in table["rows"] if r["Fine-tuned on"] == "terse"]
  value = _cells(_table(report, "table_2"), "terse")[0]["Pass@1"]
  assert row["Pass@1"] == {
    "value": value.value,
    "low": value.low,
    "high": value.high,
    "num_problems": value.num_problems,
  }


def test_a_report_is_the_same_twice(page, default_run):
  assert render.html(build.build([default_run])) == page


def test_several_runs_share_tables_with_a_column_for_the_run(make_run):
  report = build.build([make_run("small"), make_run("large")])
  table = _table(report, "table_2")
  assert table.columns[0].name == "Run"
  assert len(_cells(table, "small")) == len(_cells(table, "large")) == 4
  checker = _Checker()
  checker.feed(render.html(report))
  assert len(set(checker.ids)) == len(checker.ids)


def test_two_runs_of_one_name_are_an_error(make_run):
  directory = make_run()
  with pytest.raises(ValueError, match="both named 'demo'"):
    build.build([directory, directory])


def test_a_table_in_markdown_survives_bars_and_stars(make_run):
  entry = {"source": "a|b*c*", "train": 1, "validation": 2, "test": 3}
  text = render.markdown(build.build([make_run(data=[entry])]))
  assert "a\\|b\\*c\\*" in text


@pytest.mark.parametrize(
  "unit, value, text",
  [
    (document.PERCENT, 0.3456, "34.6 %"),
    (document.POINTS, -0.0123, "\N{MINUS SIGN}1.2"),
    (document.POINTS, 0.0123, "+1.2"),
    (document.POINTS, -0.0001, "0.0"),
    (document.COUNT, 1234567, "1,234,567"),
    (document.MEBIBYTES, 3 * 2**20, "3 MiB"),
    (document.RATIO, 0.5, "0.500"),
  ],
)
def test_numbers_are_written_in_their_unit(unit, value, text):
  assert document.Column("x", unit).main(value) == text


def _drop_last_line(path):
  lines = path.read_text().splitlines(keepends=True)
  path.write_text("".join(lines[:-1]))


def test_unfinished_grades_and_scores_are_named(make_run):
  grades = make_run("a")
  _drop_last_line(grades / "decode_terse" / "grades-mathft-1.jsonl")
  with pytest.raises(ValueError, match="grades-mathft-1.*1 of 12 .*missing"):
    build.build([grades])
  scores = make_run("b")
  _drop_last_line(scores / "decode_stepwise" / "scores-evaluator_xent.jsonl")
  with pytest.raises(ValueError, match="scores-evaluator_xent.*missing"):
    build.build([scores])


def test_scores_of_unknown_candidates_are_an_error(make_run):
  directory = make_run()
  path = directory / "decode_stepwise" / "scores-evaluator_xent.jsonl"
  rows = [row for _, row in jsonl.read(path)]
  rows[3]["scores"].append({"index": 99, "log_p_correct": -1.0})
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  with pytest.raises(ValueError, match=r"nobody drew: \[99\]"):
    build.build([directory])


def test_a_directory_without_manifest_is_an_error(tmp_path):
  with pytest.raises(FileNotFoundError, match="no run directory"):
    build.build([tmp_path])


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"generators": [{"name": "a"}]}, r"generators\[0\]: .*'label'"),
    ({"stages": {}}, "'stages' must be a list"),
    ({"evaluators": [{"name": "e", "loss": "l"}] * 2}, "two evaluators"),
    (
      {"evaluators": [{"name": "e", "loss": "l", "scores": {"x": "y"}}]},
      "none of the generators",
    ),
  ],
)
def test_a_malformed_manifest_is_named(make_run, changes, message):
  with pytest.raises(ValueError, match=f"manifest.json: .*{message}"):
    manifest.read(make_run(**changes))


def test_majority_curves_end_at_majority_vote(default_run):
  run = results.read(manifest.read(default_run))
  for generated in run.generators.values():
    assert (generated.maj_at_k[:, -1] == generated.majority).all()
    assert (generated.pass_at_k[:, -1] == generated.any_candidate).all()
    oracle = generated.top_clusters
    assert (oracle[:, 0] == generated.majority).all()
    assert (oracle[:, -1] == generated.any_candidate).all()
    by_length = generated.tallies.is_correct
    assert (by_length[:, -1] == generated.majority).all()
    assert (by_length[:, 0] == generated.candidates[:, 0]).all()


def _majority(answers: list[str | None]) -> str | None:
  answered = [answer for answer in answers if answer is not None]
  return max(answered, key=answered.count, default=None)


def test_adaptive_budgets_are_those_of_stopping_each_problem(
  report, default_run
):
  table = _table(report, "adaptive_budgets")
  problems, _ = _read(default_run, "decode_stepwise")
  for threshold in (0.8, 0.95):
    rule = stopping.BetaStopping(threshold)
    (row,) = _cells(table, "generator_stepwise", threshold)
    lengths, right, to_all, to_fixed = [], [], [], []
    for sampled in problems.values():
      answers = [c.answer for c in sampled.candidates]
      lengths.append(rule.num_needed(answers, str.__eq__) or len(answers))
    for sampled, length in zip(problems.values(), lengths, strict=True):
      answers = [c.answer for c in sampled.candidates]
      right.append(_majority(answers[:length]) == "42")
      to_all.append(right[-1] - (_majority(answers) == "42"))
      fixed = _majority(answers[: round(np.mean(lengths))])
      to_fixed.append(right[-1] - (fixed == "42"))
    assert row["Samples a problem"].value == pytest.approx(np.mean(lengths))
    assert row["Of 16"] == pytest.approx(np.mean(lengths) / 16)
    assert row["Accuracy"].value == pytest.approx(np.mean(right))
    assert row["To Maj1@16"].value == pytest.approx(np.mean(to_all))
    assert row["To as many each"].value == pytest.approx(np.mean(to_fixed))
  assert 1 < np.mean(lengths) < 16


@pytest.fixture(scope="module")
def uneven_report(uneven_run) -> document.Document:
  return build.build([uneven_run])


def _answers(directory, decode: str) -> list[list[str | None]]:
  problems, _ = _read(directory, decode)
  return [[c.answer for c in s.candidates] for s in problems.values()]


def test_problems_of_several_sizes_count_by_what_they_have(
  uneven_report, uneven_run
):
  answers = _answers(uneven_run, "decode_stepwise")
  sizes = list(map(len, answers))
  assert len(set(sizes)) > 4 and min(sizes) < 6 and max(sizes) == 16
  (row,) = _cells(_table(uneven_report, "table_2"), "stepwise")
  is_right = [_majority(drawn) == "42" for drawn in answers]
  assert row["Maj1@N"].value == pytest.approx(np.mean(is_right))
  is_any = ["42" in drawn for drawn in answers]
  assert row["Pass@N"].value == pytest.approx(np.mean(is_any))
  firsts = [[a == "42" for a in drawn[: min(sizes)]] for drawn in answers]
  assert row["One sample"].value == pytest.approx(np.mean(firsts))
  of_all = np.mean([np.mean([a == "42" for a in drawn]) for drawn in answers])
  assert row["One sample"].value != pytest.approx(of_all)
  (row,) = _cells(_table(uneven_report, "samples_used"), "generator_stepwise")
  assert (row["Fewest"], row["Most"]) == (min(sizes), 16)
  assert row["Mean"].value == pytest.approx(np.mean(sizes))
  assert row["Mean of most"] == pytest.approx(np.mean(sizes) / 16)
  assert row["Problems with fewer"] == np.mean(np.array(sizes) < 16)
  (row,) = _cells(_table(uneven_report, "candidates"), "generator_stepwise")
  assert row["N"] == f"{min(sizes)} to 16"
  num_unanswered = sum(drawn.count(None) for drawn in answers)
  assert row["No answer"] == pytest.approx(num_unanswered / sum(sizes))
  label = f"stepwise: problems have {min(sizes)} to 16 samples"
  assert any(note.startswith(label) for note in uneven_report.notes)


def test_problems_of_one_size_have_no_table_of_sizes(report):
  assert "samples_used" not in {item.key for item in report.body}


def test_curves_are_of_the_samples_that_all_problems_have(
  uneven_report, uneven_run
):
  figure = next(
    item for item in uneven_report.body if item.key.startswith("sampling_")
  )
  assert isinstance(figure, document.Figure)
  by_generator = {
    name: _answers(uneven_run, f"decode_{name}")
    for name in ("terse", "stepwise", "second")
  }
  shared = min(len(drawn) for all_ in by_generator.values() for drawn in all_)
  assert 2 < shared < 16
  pass_at, maj_at = figure.panels
  assert pass_at.x == maj_at.x == tuple(range(1, shared + 1))
  for name, answers in by_generator.items():
    (line,) = [line for line in pass_at.lines if line.label == name]
    first = min(map(len, answers))
    for k in pass_at.x:
      found = [
        np.mean(["42" in s for s in itertools.combinations(drawn[:first], k)])
        for drawn in answers
      ]
      assert line.values[k - 1] == pytest.approx(np.mean(found))
  run = results.read(manifest.read(uneven_run))
  for name, answers in by_generator.items():
    generated = run.generators[f"generator_{name}"]
    first = min(map(len, answers))
    assert generated.maj_at_k.shape == (len(answers), first)
    is_right = [_majority(drawn[:first]) == "42" for drawn in answers]
    assert generated.maj_at_k[:, -1].tolist() == is_right
    assert generated.majority.tolist() == [
      _majority(drawn) == "42" for drawn in answers
    ]


def test_sizes_that_differ_leave_clusters_and_costs_as_they_are(uneven_run):
  run = results.read(manifest.read(uneven_run))
  (evaluated,) = run.evaluators
  answers = _answers(uneven_run, "decode_stepwise")
  num_drawn = sum(map(len, answers))
  for k in (1, 2, 3, 16):
    in_top, is_right = 0, []
    for drawn in answers:
      found = [answer for answer in drawn if answer is not None]
      by_size = sorted(
        set(found), key=lambda a: (-found.count(a), found.index(a))
      )
      in_top += sum(map(found.count, by_size[:k]))
      is_right.append("42" in by_size[:k])
    assert evaluated.cost_ratio[k - 1] == pytest.approx(in_top / num_drawn)
    assert evaluated.generated.top_clusters[:, k - 1].tolist() == is_right


def test_a_replay_does_not_tell_what_was_not_drawn(uneven_report, uneven_run):
  table = _table(uneven_report, "adaptive_budgets")
  answers = _answers(uneven_run, "decode_stepwise")
  for threshold in (0.8, 0.9):
    rule = stopping.BetaStopping(threshold)
    (row,) = _cells(table, "generator_stepwise", threshold)
    used = [drawn[: rule.num_needed(drawn, str.__eq__)] for drawn in answers]
    assert row["Samples a problem"].value == np.mean(list(map(len, used)))
    assert row["Of most"] == pytest.approx(np.mean(list(map(len, used))) / 16)
    is_right = [_majority(drawn) == "42" for drawn in used]
    assert row["Accuracy"].value == pytest.approx(np.mean(is_right))
    as_many = round(row["Samples a problem"].value)
    assert as_many > min(map(len, answers))
    assert row["To as many each"] == "\N{EN DASH}"
  # The run's own certainty uses what it has drawn.
  assert used == answers
  for threshold in (0.95, 0.99, 0.999):
    (row,) = _cells(table, "generator_stepwise", threshold)
    assert set(list(row.values())[2:]) == {"\N{EN DASH}"}
  figure = next(
    item
    for item in uneven_report.body
    if item.key.startswith("adaptive_budgets_")
  )
  assert isinstance(figure, document.Figure)
  assert {len(points.x) for points in figure.panels[0].points} == {2}


def test_a_report_of_several_sizes_has_all_formats(uneven_report):
  checker = _Checker()
  checker.feed(render.html(uneven_report))
  assert checker.open == []
  assert "Samples of each problem" in render.markdown(uneven_report)
  json.dumps(render.as_json(uneven_report), allow_nan=False)


def test_a_problem_without_candidates_is_named(make_run):
  directory = make_run()
  path = directory / "decode_terse" / samples.shard_name(0, 1)
  rows = [row for _, row in jsonl.read(path)]
  rows[3]["candidates"] = []
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  with pytest.raises(ValueError, match="decode_terse: problem 'p03' has no ca"):
    build.build([directory])


def test_the_points_of_adaptive_budgets_are_those_of_the_table(report):
  table = _table(report, "adaptive_budgets")
  figure = next(
    item for item in report.body if item.key.startswith("adaptive_budgets_")
  )
  assert isinstance(figure, document.Figure)
  (panel,) = figure.panels
  (points,) = [p for p in panel.points if p.label.startswith("terse,")]
  rows = _cells(table, "generator_terse")
  assert points.x == tuple(row["Samples a problem"].value for row in rows)
  assert points.y == tuple(row["Accuracy"].value for row in rows)
  assert list(points.x) == sorted(points.x)
  assert points.label in figures.svg(panel, "key")
  numbers = render.as_json(report)
  (written,) = [f for f in numbers["figures"] if f["key"] == figure.key]
  assert [p["label"] for p in written["panels"][0]["points"]] == [
    p.label for p in panel.points
  ]


def test_panels_are_drawn_with_text_that_stays_text():
  panel = document.Panel(
    "A <title>", "x & y", "y", (1, 2), (document.Line("<l>", (0.1, 0.2)),),
    document.PERCENT,
  )  # fmt: skip
  drawn = figures.svg(panel, "key")
  assert drawn.startswith("<svg") and "A &lt;title&gt;" in drawn
  assert "<l>" not in drawn
  ids = re.findall(r'id="([^"]*)"', drawn)
  assert ids and all(i.startswith("key-") for i in ids)
  used = itertools.chain(
    re.findall(r"url\(#([^)]*)\)", drawn),
    re.findall(r'href="#([^"]*)"', drawn),
  )
  assert set(used) <= set(ids)


def test_the_report_loads_neither_jax_nor_tensorflow():
  code = (
    "import sys\n"
    "from mathft_jax.report import build, render\n"
    "from mathft_jax.rerank import estimators, sweeps\n"
    "assert not {'jax', 'tensorflow', 'seqio'} & set(sys.modules)\n"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
