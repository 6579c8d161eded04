"""The recipe of the paper, from data to report, as a list of stages.

SSFT of one generator for each data source; 64 samples a problem, graded and
clustered; evaluators fine-tuned from the main generator with both losses; their
scores; the evaluators fine-tuned again as generators (§3.3); the report.
"""

import dataclasses
import functools
import importlib
import importlib.metadata
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import tqdm

from mathft_jax import checkpoint, records, samples
from mathft_jax.data import locations, vocabulary
from mathft_jax.grading import grader
from mathft_jax.inference import sampler as sampler_lib
from mathft_jax.inference import scorer as scorer_lib
from mathft_jax.models import (
  decoder_model,
  evaluator,
  generator,
  transformer,
)
from mathft_jax.recipe import data as recipe_data
from mathft_jax.recipe import graph, initial, validation
from mathft_jax.report import build, render
from mathft_jax.rerank import clusters
from mathft_jax.training import finetune, state

MANIFEST = "manifest.json"
_REPORT = "report"


@dataclasses.dataclass(frozen=True)
class GeneratorRun:
  """A first generator: its label in tables, the task it learns."""

  label: str
  task: str

  @property
  def name(self) -> str:
    return f"generator_{self.label}"


@dataclasses.dataclass(frozen=True)
class EvaluatorRun:
  """An evaluator: its loss in the spec's name, the task, how it trains."""

  loss: str
  task: str
  training: finetune.TrainingConfig

  def __post_init__(self):
    if self.loss not in _EVALUATORS:
      raise ValueError(
        f"no evaluator loss {self.loss!r}; there are {sorted(_EVALUATORS)}"
      )

  @property
  def name(self) -> str:
    return f"evaluator_{self.loss.removeprefix('cls_')}"


_EVALUATORS: Mapping[str, type[evaluator.Evaluator]] = {
  "cls_xent": evaluator.Evaluator,
  "cls_margin": evaluator.MarginEvaluator,
}


@dataclasses.dataclass(frozen=True)
class Paper:
  """The recipe's constants; gin files set them.

  `main` is the label of the generator that evaluators start from and judge.
  `num_evaluator_problems` training problems are sampled for the evaluators'
  data, `num_validation_problems` choose checkpoints.
  """

  name: str
  data: recipe_data.RecipeData
  task_modules: Sequence[str]
  initial: initial.Initial
  vocabulary: str
  generators: Sequence[GeneratorRun]
  main: str
  generator_training: finetune.TrainingConfig
  evaluators: Sequence[EvaluatorRun]
  second_generator_training: finetune.TrainingConfig
  sampling: sampler_lib.SamplingConfig
  scoring: scorer_lib.ScoringConfig = scorer_lib.ScoringConfig()
  num_test_problems: int = 200
  num_validation_problems: int = 100
  num_evaluator_problems: int = 400
  note: str | None = None
  seed: int = 0

  def __post_init__(self):
    labels = [run.label for run in self.generators]
    if self.main not in labels:
      raise ValueError(f"main is {self.main!r}, none of the labels {labels}")


def run(recipe: Paper, model_dir: str) -> None:
  """Runs the stages that `model_dir` does not have yet; writes the report."""
  directory = pathlib.Path(model_dir)
  directory.mkdir(parents=True, exist_ok=True)
  for module in recipe.task_modules:
    importlib.import_module(module)
  graph.cache_compilations(directory / "compilation_cache")
  work = _Work(recipe, directory)
  finished = graph.run_stages(
    work.stages(),
    directory,
    graph.describe(recipe),
    lambda done: work.write_manifest(done),
  )
  report = work.write_report()
  seconds = sum(stage.seconds for stage in finished.values())
  print(f"{len(finished)} stages, {seconds:.0f} s. Report: {report}")


class _Work:
  """The stages of one run: what they need from each other lies on disk."""

  def __init__(self, recipe: Paper, directory: pathlib.Path):
    self._recipe = recipe
    self._directory = directory
    self._created = graph.now()
    self._vocabulary = vocabulary.load_vocabulary(recipe.vocabulary)
    recipe.data.bind(directory / "data")
    locations.bind({"evaluator": directory / "data" / "evaluator"})

  def stages(self) -> list[graph.Stage]:
    """All stages, in order."""
    recipe = self._recipe
    main = f"generator_{recipe.main}"
    stages = [graph.Stage("data", "data", self._prepare_data)]
    for first in recipe.generators:
      stages += self._generator_stages(
        first.name, first.task, recipe.generator_training, initial=None
      )
    for split, number in (
      ("train", recipe.num_evaluator_problems),
      ("validation", recipe.num_validation_problems),
    ):
      stages += self._decode_stages(main, split, number)
    stages.append(
      graph.Stage("evaluator_data", "data", self._write_evaluator_data)
    )
    task = next(r.task for r in recipe.generators if r.name == main)
    for judge in recipe.evaluators:
      stages += [
        graph.Stage(
          judge.name,
          "train",
          functools.partial(self._train_evaluator, judge, main),
        ),
        graph.Stage(
          f"score_{judge.name}",
          "score",
          functools.partial(self._score, judge, main),
        ),
      ]
    for judge in recipe.evaluators:
      stages += self._generator_stages(
        _second_name(judge),
        task,
        recipe.second_generator_training,
        initial=judge.name,
      )
    return stages

  def _generator_stages(
    self,
    name: str,
    task: str,
    training: finetune.TrainingConfig,
    initial: str | None,
  ) -> list[graph.Stage]:
    """A generator: trained, decoded on the test problems, graded."""
    train = functools.partial(
      self._train_generator, name, task, training, initial
    )
    return [
      graph.Stage(name, "train", train),
      *self._decode_stages(name, "test", self._recipe.num_test_problems),
    ]

  def _decode_stages(
    self, name: str, split: str, number: int
  ) -> list[graph.Stage]:
    place = _decoded(name, split)
    return [
      graph.Stage(
        f"decode_{place}",
        "decode",
        functools.partial(self._decode, name, split, number),
      ),
      graph.Stage(
        f"grade_{place}", "grade", functools.partial(self._grade, place)
      ),
    ]

  # Stages -------------------------------------------------------------------

  def _prepare_data(self) -> Mapping[str, Any]:
    lines = self._recipe.data.prepare(
      self._directory / "data", self._vocabulary
    )
    return {"counts": lines}

  def _train_generator(
    self,
    name: str,
    task: str,
    training: finetune.TrainingConfig,
    initial: str | None,
  ) -> Mapping[str, Any]:
    model = self._generator(training)
    evaluate = validation.greedy_accuracy(
      self._sampler, self._problems("validation")
    )
    params = self._restore(initial) if initial else self._initial_params
    return self._finetune(name, model, task, training, evaluate, params)

  def _train_evaluator(
    self, judge: EvaluatorRun, main: str
  ) -> Mapping[str, Any]:
    model = self._evaluator(judge)
    place = self._directory / _decoded(main, "validation")
    evaluate = validation.reranking_accuracy(
      self._scorer,
      samples.read_candidates(place),
      samples.read_grades(place / samples.grades_name(grader.GRADER)),
    )
    return self._finetune(
      judge.name,
      model,
      judge.task,
      judge.training,
      evaluate,
      self._restore(main),
    )

  def _finetune(
    self,
    name: str,
    model: Any,
    task: str,
    training: finetune.TrainingConfig,
    evaluate: finetune.Evaluate,
    params: Any,
  ) -> Mapping[str, Any]:
    finished = finetune.finetune(
      model,
      task,
      training,
      evaluate,
      model_dir=self._directory / name,
      params=params,
      seed=self._recipe.seed,
    )
    return {
      "num_steps": training.num_steps,
      "best_step": finished.best_step,
      "num_params": finished.num_params,
      "validation": dict(finished.metrics),
    }

  def _decode(self, name: str, split: str, number: int) -> Mapping[str, Any]:
    problems = self._recipe.data.problems(
      self._directory / "data", split, number
    )
    path = self._directory / _decoded(name, split) / samples.shard_name(0, 1)
    params = self._restore(name)
    num_tokens = 0
    with (
      samples.JsonLinesStore(path) as store,
      _progress(len(problems), len(store.finished), "problem") as progress,
    ):
      for sampled in self._sampler.sample(
        params, problems, generator=name, finished=frozenset(store.finished)
      ):
        store.append(sampled.to_json())
        num_tokens += sum(c.num_tokens for c in sampled.candidates)
        progress.update()
    return {"num_problems": len(problems), "num_tokens": num_tokens}

  def _grade(self, place: str) -> Mapping[str, Any]:
    directory = self._directory / place
    path = directory / samples.grades_name(grader.GRADER)
    sampled = samples.read_candidates(directory)
    with (
      samples.JsonLinesStore(path) as store,
      _progress(len(sampled), len(store.finished), "problem") as progress,
    ):
      for problem in sampled:
        if problem.problem.problem_id not in store.finished:
          store.append(clusters.grade_problem(problem).to_json())
          progress.update()
    return {}

  def _write_evaluator_data(self) -> Mapping[str, Any]:
    """The main generator's graded candidates as rows for the evaluators."""
    main = f"generator_{self._recipe.main}"
    facts = {}
    for split in ("train", "validation"):
      place = self._directory / _decoded(main, split)
      graded = samples.read_grades(place / samples.grades_name(grader.GRADER))
      path = self._directory / "data" / "evaluator" / f"{split}.jsonl"
      path.unlink(missing_ok=True)  # Written whole, from finished stages.
      num_mixed = 0
      with samples.JsonLinesStore(path) as store:
        for sampled in samples.read_candidates(place):
          row = _evaluator_row(sampled, graded[sampled.problem.problem_id])
          store.append(row)
          num_mixed += len({c["is_correct"] for c in row["candidates"]}) == 2
      facts[f"num_mixed_{split}"] = num_mixed
    return facts

  def _score(self, judge: EvaluatorRun, main: str) -> Mapping[str, Any]:
    directory = self._directory / _decoded(main, "test")
    sampled = samples.read_candidates(directory)
    path = directory / samples.scores_name(judge.name)
    params = self._restore(judge.name)
    with (
      samples.JsonLinesStore(path) as store,
      _progress(len(sampled), len(store.finished), "problem") as progress,
    ):
      for scored in self._scorer.score(
        params,
        sampled,
        evaluator=judge.name,
        finished=frozenset(store.finished),
      ):
        store.append(scored.to_json())
        progress.update()
    return {}

  # What stages share --------------------------------------------------------

  @functools.cached_property
  def _start(self) -> tuple[transformer.TransformerConfig, Any]:
    return self._recipe.initial()

  @property
  def _initial_params(self) -> Any:
    return self._start[1]

  @functools.cached_property
  def _module(self) -> transformer.Transformer:
    config = self._start[0]
    if config.vocab_size < self._vocabulary.vocab_size:
      raise ValueError(
        f"the model has {config.vocab_size} embeddings, but vocabulary"
        f" {self._recipe.vocabulary!r} has {self._vocabulary.vocab_size}"
        " pieces; take the vocabulary that the model was trained with"
      )
    return transformer.Transformer(config)

  def _generator(
    self, training: finetune.TrainingConfig
  ) -> generator.Generator:
    length = sum(training.feature_lengths.values())
    return generator.Generator(
      self._module,
      self._vocabulary,
      loss_normalizing_factor=float(training.batch_size * length),
    )

  def _evaluator(self, judge: EvaluatorRun) -> evaluator.Evaluator:
    return _EVALUATORS[judge.loss](
      self._module,
      self._vocabulary,
      loss_normalizing_factor=float(judge.training.batch_size),
    )

  @functools.cached_property
  def _sampler(self) -> sampler_lib.Sampler:
    model = self._generator(self._recipe.generator_training)
    return sampler_lib.Sampler(model, self._recipe.sampling)

  @functools.cached_property
  def _scorer(self) -> scorer_lib.Scorer:
    model = evaluator.Evaluator(self._module, self._vocabulary)
    return scorer_lib.Scorer(model, self._recipe.scoring)

  def _problems(self, split: str) -> list[records.Problem]:
    return self._recipe.data.problems(
      self._directory / "data", split, self._recipe.num_validation_problems
    )

  def _restore(self, stage: str) -> Any:
    """The best parameters of a training stage."""
    model = decoder_model.DecoderModel(self._module, self._vocabulary)
    return checkpoint.restore_params(
      self._directory / stage / "checkpoints", state.abstract_params(model)
    )

  # Manifest and report ------------------------------------------------------

  def write_manifest(self, done: Mapping[str, graph.Finished]) -> None:
    """What the report needs to know of the finished stages."""
    recipe = self._recipe
    main = f"generator_{recipe.main}"
    generators = [
      self._generator_entry(done, r.name, r.label, r.task, "base", None)
      for r in recipe.generators
    ]
    generators += [
      self._generator_entry(
        done,
        _second_name(judge),
        f"{recipe.main} after {judge.name}",
        next(r.task for r in recipe.generators if r.name == main),
        judge.name,
        judge.loss,
      )
      for judge in recipe.evaluators
    ]
    evaluators = [
      {
        "name": judge.name,
        "loss": judge.loss,
        "initial": main,
        **_training_facts(done, judge.name),
        "scores": {
          main: f"{_decoded(main, 'test')}/{samples.scores_name(judge.name)}"
          if f"score_{judge.name}" in done
          else None
        },
      }
      for judge in recipe.evaluators
    ]
    counts = done["data"].facts["counts"] if "data" in done else []
    samples.write_json(
      self._directory / MANIFEST,
      {
        "name": recipe.name,
        "note": recipe.note,
        "created": self._created,
        "versions": {
          name: importlib.metadata.version(name)
          for name in ("mathft-jax", "jax", "flax", "optax")
        },
        "seed": recipe.seed,
        "data": counts,
        "generators": generators,
        "evaluators": evaluators,
        "stages": [
          {
            "name": stage.name,
            "kind": stage.kind,
            "seconds": stage.seconds,
            "peak_rss_bytes": stage.peak_rss_bytes,
          }
          for stage in done.values()
        ],
      },
    )

  def _generator_entry(
    self,
    done: Mapping[str, graph.Finished],
    name: str,
    label: str,
    task: str,
    initial: str,
    evaluator_loss: str | None,
  ) -> dict[str, Any]:
    place = _decoded(name, "test")
    is_graded = f"grade_{place}" in done
    grades = f"{place}/{samples.grades_name(grader.GRADER)}"
    return {
      "name": name,
      "label": label,
      "data": task.removesuffix("_generate"),
      "initial": initial,
      "evaluator_loss": evaluator_loss,
      **_training_facts(done, name),
      "candidates": place if is_graded else None,
      "grades": grades if is_graded else None,
    }

  def write_report(self) -> pathlib.Path:
    """Writes the report of this run; returns the page's path."""
    return render.write(
      build.build([self._directory]), self._directory / _REPORT
    )


def _second_name(judge: EvaluatorRun) -> str:
  return f"generator_after_{judge.name}"


def _decoded(name: str, split: str) -> str:
  """The folder of a generator's candidates for a split."""
  return f"{name}_{split}"


def _training_facts(
  done: Mapping[str, graph.Finished], name: str
) -> dict[str, Any]:
  if name not in done:
    return {}
  facts = done[name].facts
  keys = ("num_steps", "best_step", "num_params")
  return {key: facts[key] for key in keys}


def _evaluator_row(
  sampled: records.SampledProblem, graded: records.GradedProblem
) -> dict[str, Any]:
  return {
    "problem_id": sampled.problem.problem_id,
    "problem": sampled.problem.text,
    "candidates": [
      {
        "solution": candidate.solution,
        "is_correct": graded.grades[candidate.index].is_correct,
      }
      for candidate in sampled.candidates
    ],
  }


def _progress(total: int, initial: int, unit: str) -> Any:
  return tqdm.tqdm(total=total, initial=initial, unit=unit, mininterval=1.0)
