"""The recipe of the paper, from data to report, as a list of stages.

SSFT of one generator for each data source; 64 samples a problem, graded and
clustered; evaluators fine-tuned from the main generator with both losses; their
scores; the evaluators fine-tuned again as generators (§3.3); the report.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mathft_jax import checkpoint, partitioning, prompts, records, samples
from mathft_jax.data import features, locations, vocabulary
from mathft_jax.inference import sampler as sampler_lib
from mathft_jax.inference import scorer as scorer_lib
from mathft_jax.models import evaluator, generator, transformer
from mathft_jax.models import lora as lora_lib
from mathft_jax.recipe import (
  candidates,
  evaluator_data,
  graph,
  initial,
  manifest,
  validation,
)
from mathft_jax.recipe import data as recipe_data
from mathft_jax.report import build, render
from mathft_jax.report import manifest as report_manifest
from mathft_jax.training import finetune, state


@dataclasses.dataclass(frozen=True)
class GeneratorRun:
  """A first generator: its label in tables, the task it learns.

  `name` is for folders, where the label is not a plain word.
  """

  label: str
  task: str
  name: str | None = None

  def __post_init__(self):
    samples.scores_name(self.stage)  # Raises ValueError unless it is plain.

  @property
  def stage(self) -> str:
    return f"generator_{self.name or self.label}"


@dataclasses.dataclass(frozen=True)
class EvaluatorRun:
  """An evaluator: its loss, the task, how it trains."""

  objective: evaluator.Objective
  task: str
  training: finetune.TrainingConfig

  def __post_init__(self):
    if not isinstance(self.objective, evaluator.Objective):
      raise ValueError(
        f"an evaluator's objective is {self.objective!r}, neither"
        " @evaluator.XentObjective() nor @evaluator.MarginObjective()"
      )

  @property
  def loss(self) -> str:
    return self.objective.name

  @property
  def stage(self) -> str:
    return f"evaluator_{self.loss.removeprefix('cls_')}"

  @property
  def second_generator(self) -> str:
    """The stage in which the evaluator becomes a generator again."""
    return f"generator_after_{self.stage}"


@dataclasses.dataclass(frozen=True)
class Paper:
  """The recipe's constants; gin files set them.

  `main` is the label of the generator that evaluators start from and judge.
  `num_evaluator_problems` training problems are sampled for the evaluators'
  data, `num_validation_problems` choose checkpoints. With
  `add_reference_solutions`, each of these training problems' own solution is
  one more correct candidate in the evaluators' data: for generators that solve
  too few problems to give pairs. `z_loss` is the generators' (T5X's). With
  `lora` the initial model gets adapters, which all trainings change in turn,
  and nothing else.
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
  add_reference_solutions: bool = False
  z_loss: float = 0.0
  lora: lora_lib.LoraConfig | None = None
  note: str | None = None
  seed: int = 0

  def __post_init__(self):
    labels = [run.label for run in self.generators]
    if self.main not in labels:
      raise ValueError(f"main is {self.main!r}, none of the labels {labels}")
    stages = [run.stage for run in (*self.generators, *self.evaluators)]
    twice = sorted({stage for stage in stages if stages.count(stage) > 1})
    if twice:
      raise ValueError(f"two runs would be named {twice[0]}")

  @property
  def main_generator(self) -> GeneratorRun:
    return next(run for run in self.generators if run.label == self.main)


@dataclasses.dataclass(frozen=True)
class Models:
  """The models of a recipe, which share a module and a vocabulary."""

  recipe: Paper
  config: transformer.TransformerConfig
  vocabulary: Any

  @property
  def module(self) -> transformer.Transformer:
    adapters = self.recipe.lora or self.config.lora
    return transformer.Transformer(
      dataclasses.replace(self.config, lora=adapters)
    )

  def make_generator(
    self, training: finetune.TrainingConfig
  ) -> generator.Generator:
    """The generator that such a training trains."""
    length = sum(training.feature_lengths.values())
    return generator.Generator(
      self.module,
      self.vocabulary,
      loss_normalizing_factor=float(training.batch_size * length),
      z_loss=self.recipe.z_loss,
    )

  def make_evaluator(self, judging: EvaluatorRun) -> evaluator.Evaluator:
    """The evaluator that is trained with its loss."""
    return judging.objective(
      self.module,
      self.vocabulary,
      loss_normalizing_factor=float(judging.training.batch_size),
    )


def run(
  recipe: Paper,
  model_dir: str,
  on_start: Callable[[pathlib.Path], None] = lambda directory: None,
) -> None:
  """Runs the stages that `model_dir` does not have yet; writes the report.

  `on_start` is called with the directory once nothing speaks against going on
  in it.
  """
  directory = pathlib.Path(model_dir)
  work = _Work(recipe, directory)
  work.check()
  directory.mkdir(parents=True, exist_ok=True)
  graph.cache_compilations(directory / "compilation_cache")
  progress = graph.run_stages(
    work.stages(),
    directory,
    work.configuration(),
    on_start=lambda: on_start(directory),
    on_progress=work.write_manifest,
  )
  report = render.write(build.build([directory]), directory / "report")
  seconds = sum(stage.seconds for stage in progress.finished.values())
  print(f"{len(progress.finished)} stages, {seconds:.0f} s. Report: {report}")


class _Work:
  """The stages of one run: what they need from each other lies on disk."""

  def __init__(self, recipe: Paper, directory: pathlib.Path):
    self._recipe = recipe
    self._directory = directory
    self._vocabulary = vocabulary.load_vocabulary(recipe.vocabulary)
    recipe.data.bind(directory / "data")
    locations.bind({"evaluator": directory / "data" / "evaluator"})

  def check(self) -> None:
    """Raises ValueError for what would else be found after the first hour."""
    recipe = self._recipe
    recipe_data.register_tasks(
      recipe.task_modules,
      [run.task for run in (*recipe.generators, *recipe.evaluators)],
    )
    for judging in recipe.evaluators:
      max_tokens = judging.training.feature_lengths.get("targets")
      features.verdict_words(self._vocabulary, max_tokens)
    initial.check_vocabulary(self._start[0], self._vocabulary)
    for training in (
      recipe.generator_training,
      recipe.second_generator_training,
    ):
      finetune.check(self._models.make_generator(training), training)
    for judging in recipe.evaluators:
      finetune.check(self._models.make_evaluator(judging), judging.training)

  def configuration(self) -> Mapping[str, Any]:
    """What decides the results: another start must have the same.

    Names alone would not do: a model or vocabulary may be made anew.
    """
    return {
      **graph.describe(self._recipe),
      "initial_sha256": initial.fingerprint(self._start[1]),
      "vocabulary_sha256": vocabulary.fingerprint(self._vocabulary),
    }

  def stages(self) -> list[graph.Stage]:
    """All stages, in order."""
    recipe = self._recipe
    main = recipe.main_generator
    stages = [graph.Stage("data", "data", self._prepare_data)]
    for first in recipe.generators:
      stages += self._generator_stages(
        first.stage, first.task, recipe.generator_training, None
      )
    for split, number in (
      ("train", recipe.num_evaluator_problems),
      ("validation", recipe.num_validation_problems),
    ):
      stages += self._decode_stages(
        main.stage, split, number, recipe.generator_training
      )
    stages.append(
      graph.Stage("evaluator_data", "data", self._write_evaluator_data)
    )
    for judging in recipe.evaluators:
      train = functools.partial(self._train_evaluator, judging)
      score = functools.partial(self._score, judging)
      stages += [
        graph.Stage(judging.stage, "train", train),
        graph.Stage(f"score_{judging.stage}", "score", score),
      ]
    for judging in recipe.evaluators:
      stages += self._generator_stages(
        judging.second_generator,
        main.task,
        recipe.second_generator_training,
        judging.stage,
      )
    return stages

  def _generator_stages(
    self,
    name: str,
    task: str,
    training: finetune.TrainingConfig,
    start: str | None,
  ) -> list[graph.Stage]:
    """A generator: trained, decoded on the test problems, graded."""
    train = functools.partial(self._train_generator, name, task, training)
    return [
      graph.Stage(name, "train", functools.partial(train, start)),
      *self._decode_stages(
        name, "test", self._recipe.num_test_problems, training
      ),
    ]

  def _decode_stages(
    self,
    name: str,
    split: str,
    number: int,
    training: finetune.TrainingConfig,
  ) -> list[graph.Stage]:
    decode = functools.partial(self._decode, name, split, number, training)
    place = _decoded(name, split)
    grade = functools.partial(candidates.grade, self._directory / place)
    return [
      graph.Stage(f"decode_{place}", "decode", decode),
      graph.Stage(f"grade_{place}", "grade", grade),
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
    start: str | None,
  ) -> Mapping[str, Any]:
    solved = self._solved("validation", self._recipe.num_validation_problems)
    evaluate = validation.greedy_accuracy(
      self._sampler, [row.problem for row in solved]
    )
    params = self._restore(start, training) if start else self._start[1]
    return self._finetune(
      name,
      self._models.make_generator(training),
      task,
      training,
      evaluate,
      params,
    )

  def _train_evaluator(self, judging: EvaluatorRun) -> Mapping[str, Any]:
    main = self._recipe.main_generator.stage
    model = self._models.make_evaluator(judging)
    place = self._directory / _decoded(main, "validation")
    evaluate = validation.reranking_accuracy(
      self._scorer,
      samples.read_candidates(place),
      candidates.read_grades(place),
    )
    return self._finetune(
      judging.stage,
      model,
      judging.task,
      judging.training,
      evaluate,
      self._restore(main, judging.training),
    )

  def _finetune(
    self,
    name: str,
    model: generator.Generator | evaluator.Evaluator,
    task: str,
    training: finetune.TrainingConfig,
    evaluate: finetune.Evaluate,
    params: Any,
  ) -> Mapping[str, Any]:
    initial.write_config(self._directory / name, self._module.config)
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

  def _decode(
    self,
    name: str,
    split: str,
    number: int,
    training: finetune.TrainingConfig,
  ) -> Mapping[str, Any]:
    return candidates.decode(
      self._directory / _decoded(name, split),
      self._sampler,
      self._restore(name, training),
      [row.problem for row in self._solved(split, number)],
      generator=name,
    )

  def _write_evaluator_data(self) -> Mapping[str, Any]:
    """The main generator's graded candidates as rows for the evaluators."""
    recipe = self._recipe
    references = {}
    if recipe.add_reference_solutions:
      references = {
        row.problem.problem_id: prompts.generator_targets(
          row.solution, row.problem.reference_answer
        )
        for row in self._solved("train", recipe.num_evaluator_problems)
      }
    main = recipe.main_generator.stage
    return {
      f"num_mixed_{split}": evaluator_data.write(
        self._directory / "data" / "evaluator" / f"{split}.jsonl",
        self._directory / _decoded(main, split),
        references,
      )
      for split in ("train", "validation")
    }

  def _score(self, judging: EvaluatorRun) -> Mapping[str, Any]:
    main = self._recipe.main_generator.stage
    return candidates.score(
      self._directory / _decoded(main, "test"),
      self._scorer,
      self._restore(judging.stage, judging.training),
      evaluator=judging.stage,
    )

  # What stages share --------------------------------------------------------

  @functools.cached_property
  def _start(self) -> tuple[transformer.TransformerConfig, Any]:
    return self._recipe.initial()

  @functools.cached_property
  def _module(self) -> transformer.Transformer:
    return self._models.module

  @functools.cached_property
  def _models(self) -> Models:
    return Models(self._recipe, self._start[0], self._vocabulary)

  @functools.cached_property
  def _sampler(self) -> sampler_lib.Sampler:
    model = generator.Generator(self._module, self._vocabulary)
    return sampler_lib.Sampler(model, self._recipe.sampling)

  @functools.cached_property
  def _scorer(self) -> scorer_lib.Scorer:
    model = evaluator.Evaluator(self._module, self._vocabulary)
    return scorer_lib.Scorer(model, self._recipe.scoring)

  def _solved(self, split: str, number: int) -> list[records.SolvedProblem]:
    return self._recipe.data.solved_problems(
      self._directory / "data", split, number
    )

  def _restore(self, stage: str, training: finetune.TrainingConfig) -> Any:
    """The best parameters of a training stage, laid out as in a training."""
    model = generator.Generator(self._module, self._vocabulary)
    mesh = partitioning.make_mesh(training.mesh_shape)
    return checkpoint.restore_params(
      self._directory / stage / "checkpoints",
      state.abstract_params(model, mesh, training.rules),
    )

  # Manifest -----------------------------------------------------------------

  def write_manifest(self, progress: graph.Progress) -> None:
    """Writes what the report needs to know of the finished stages."""
    recipe, done = self._recipe, progress.finished
    main = recipe.main_generator
    firsts = [
      _generator_entry(done, run.stage, run.label, run.task, "base", None)
      for run in recipe.generators
    ]
    seconds = [
      _generator_entry(
        done,
        judging.second_generator,
        f"{recipe.main} after {judging.stage}",
        main.task,
        judging.stage,
        judging.loss,
      )
      for judging in recipe.evaluators
    ]
    manifest.write(
      self._directory,
      progress,
      name=recipe.name,
      note=recipe.note,
      seed=recipe.seed,
      data=done["data"].facts["counts"] if "data" in done else [],
      generators=[*firsts, *seconds],
      evaluators=[
        _evaluator_entry(done, judging, main.stage)
        for judging in recipe.evaluators
      ],
    )


def _decoded(name: str, split: str) -> str:
  """The folder of a generator's candidates for a split."""
  return f"{name}_{split}"


def _generator_entry(
  done: Mapping[str, graph.Finished],
  name: str,
  label: str,
  task: str,
  start: str,
  evaluator_loss: str | None,
) -> report_manifest.Generator:
  place = _decoded(name, "test")
  is_graded = f"grade_{place}" in done
  return report_manifest.Generator(
    name=name,
    label=label,
    data=task.removesuffix("_generate"),
    initial=start,
    evaluator_loss=evaluator_loss,
    candidates=place if is_graded else None,
    grades=str(candidates.grades_path(pathlib.Path(place)))
    if is_graded
    else None,
    **_facts(done, name, ("num_steps", "best_step", "num_params")),
  )


def _evaluator_entry(
  done: Mapping[str, graph.Finished], judging: EvaluatorRun, main: str
) -> report_manifest.Evaluator:
  path = f"{_decoded(main, 'test')}/{samples.scores_name(judging.stage)}"
  is_scored = f"score_{judging.stage}" in done
  return report_manifest.Evaluator(
    name=judging.stage,
    loss=judging.loss,
    initial=main,
    scores={main: path if is_scored else None},
    **_facts(done, judging.stage, ("num_steps", "best_step")),
  )


def _facts(
  done: Mapping[str, graph.Finished], name: str, keys: Sequence[str]
) -> dict[str, Any]:
  return {key: done[name].facts[key] for key in keys} if name in done else {}
