"""The whole recipe on anyone's problems."""

import json
import pathlib

from mathft_jax import samples
from mathft_jax.cli import recipe
from mathft_jax.data import locations
from mathft_jax.sources import arithmetic, json_lines

_TINY = pathlib.Path(__file__).parent / "tiny.gin"


def test_a_file_with_names_of_its_own_goes_through_all_stages(
  tmp_path, monkeypatch
):
  # What is bound here holds problems out that other tests train on.
  monkeypatch.setattr(locations, "_bound", {})
  path = tmp_path / "mine.jsonl"
  rows = arithmetic.problems("train", arithmetic.STYLES[0], num_problems=400)
  with path.open("w", encoding="utf-8") as file:
    for row in rows:
      line = {
        "question": row.problem.text,
        "solution": row.solution,
        "answer": row.problem.reference_answer,
      }
      file.write(json.dumps(line) + "\n")
  directory = tmp_path / "run"
  settings = {
    "MODEL_DIR": f"'{directory}'",
    "paper.Paper.data": "@data.JsonLinesData()",
    "paper.Paper.task_modules": "['mathft_jax.tasks.json_lines']",
    "paper.Paper.generators": "[@terse/paper.GeneratorRun()]",
    "paper.Paper.main": "'terse'",
    "data.JsonLinesData.path": f"'{path}'",
    "data.JsonLinesData.fields": "{'problem': 'question'}",
    "terse/paper.GeneratorRun.task": "'json_generate'",
    "xent/paper.EvaluatorRun.task": "'json_evaluate_xent'",
    "margin/paper.EvaluatorRun.task": "'json_evaluate_pairs'",
  }
  flags = [f"--gin.{name}={value}" for name, value in settings.items()]
  assert recipe.main([f"--gin_file={_TINY}", *flags]) == 0
  by_split = {
    split: list(json_lines.read_split(directory / "data" / "json", split))
    for split in ("train", "validation", "test")
  }
  # Generated problems repeat here and there; what is held out leaves training.
  assert 350 < sum(map(len, by_split.values())) <= 400
  texts = {s: {row.problem.text for row in r} for s, r in by_split.items()}
  assert not texts["train"] & (texts["validation"] | texts["test"])
  sampled = samples.read_candidates(directory / "generator_terse_test")
  assert {s.problem.text for s in sampled} <= texts["test"]
  assert len(sampled) == 6
  assert (directory / "report" / "index.html").is_file()
