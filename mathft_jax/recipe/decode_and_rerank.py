"""Candidates of one generator, graded, scored and re-ranked, as stages."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from mathft_jax import checkpoint, partitioning, processes, samples
from mathft_jax.data import few_shot, vocabulary
from mathft_jax.inference import sampler as sampler_lib
from mathft_jax.inference import scorer as scorer_lib
from mathft_jax.models import evaluator, generator, transformer
from mathft_jax.recipe import candidates, graph, initial, manifest, shares
from mathft_jax.recipe import data as recipe_data
from mathft_jax.report import build, render
from mathft_jax.report import manifest as report_manifest

_CANDIDATES = "candidates"
_GENERATOR = "generator"
_REPORT = "report"

# What `run` may be asked for.
STAGES = ("decode", "grade", "score", _REPORT)


@dataclasses.dataclass(frozen=True)
class Decoding:
  """Candidates that are drawn from a generator.

  `shots` are solved problems to show before each: for a model that was not
  fine-tuned. `num_shards` is the number of files that the candidates are
  written in, of which each process takes its share: 1 unless several processes
  begin the run, and then 8 for each of them. Raises ValueError below 1.
  """

  checkpoint: initial.Pretrained
  problems: recipe_data.Problems
  sampling: sampler_lib.SamplingConfig
  shots: few_shot.Shots | None = None
  num_shards: int | None = None

  def __post_init__(self):
    shares.check_number(self.num_shards)


@dataclasses.dataclass(frozen=True)
class GivenCandidates:
  """Candidates that somebody drew: a folder of shards, or one file.

  They are taken over in `num_shards` files, which is as in `Decoding`.
  """

  path: str
  num_shards: int | None = None

  def __post_init__(self):
    shares.check_number(self.num_shards)


@dataclasses.dataclass(frozen=True)
class EvaluatorCheckpoint:
  """An evaluator; name and loss are what the report calls it."""

  checkpoint: initial.Pretrained
  name: str = "evaluator"
  loss: str = "cls_xent"


@dataclasses.dataclass(frozen=True)
class DecodeAndRerank:
  """What decides the results; gin files set it.

  `label` is the generator's in the report. `vocabulary` is that of generator
  and evaluators.
  """

  name: str
  label: str
  vocabulary: str
  candidates: Decoding | GivenCandidates
  evaluators: Sequence[EvaluatorCheckpoint] = ()
  scoring: scorer_lib.ScoringConfig = scorer_lib.ScoringConfig()
  note: str | None = None

  def __post_init__(self):
    names = [one.name for one in self.evaluators]
    for name in names:
      samples.scores_name(name)  # Raises ValueError unless it is plain.
    if len(set(names)) < len(names):
      raise ValueError(f"two evaluators have the same name: {names}")


@dataclasses.dataclass(frozen=True)
class _Place:
  """Where models lie, and what of the work is this process's."""

  mesh: Mesh
  rules: partitioning.Rules
  share: shares.Share


def run(
  recipe: DecodeAndRerank,
  model_dir: str,
  stages: Sequence[str] = STAGES,
  mesh_shape: Mapping[str, int] | None = None,
  rules: partitioning.Rules = partitioning.STANDARD_RULES,
  on_start: Callable[[pathlib.Path], None] = lambda directory: None,
) -> None:
  """Runs those of `stages` that `model_dir` does not have yet.

  Grades need no accelerator, so that they may be left to another start, on
  another machine. `on_start` is called with the directory once nothing speaks
  against going on in it.

  `mesh_shape` and `rules` are as in `TrainingConfig`; another start may have
  others. Several processes call it alike, with the same `model_dir`, which all
  of them see. Each has models of its own on its own devices, where `mesh_shape`
  fits these, and takes its share of the shards; else models lie on the devices
  of all, who work on all shards together. Raises ValueError for a mesh that
  fits neither, and for fewer shards than processes that share them out.
  """
  processes.check_joined()
  unknown = sorted(set(stages) - set(STAGES))
  if unknown:
    raise ValueError(f"no stages {unknown}; there are {list(STAGES)}")
  if isinstance(recipe.candidates, Decoding):
    recipe.candidates.checkpoint.check()
  for one in recipe.evaluators:
    one.checkpoint.check()
  directory = pathlib.Path(model_dir)
  mesh = partitioning.make_replica_mesh(mesh_shape)
  place = _Place(mesh, rules, shares.of_mesh(mesh))
  recipe = _with_num_shards(recipe, directory, place.share)
  directory.mkdir(parents=True, exist_ok=True)
  graph.cache_compilations(directory / "compilation_cache")
  with processes.ending_with_others():
    graph.run_stages(
      _stages(recipe, directory / _CANDIDATES, place),
      directory,
      graph.describe(recipe),
      on_start=lambda: on_start(directory),
      on_progress=functools.partial(_write_manifest, recipe, directory),
      kinds=stages,
    )
    if _REPORT in stages and checkpoint.is_main_process():
      report = render.write(build.build([directory]), directory / "report")
      print(f"Report: {report}")
    processes.wait_for_others()


def _with_num_shards(
  recipe: DecodeAndRerank, directory: pathlib.Path, share: shares.Share
) -> DecodeAndRerank:
  """The recipe with a number of shards: the given one, or that of the run."""
  number = recipe.candidates.num_shards
  if number is None:
    before = graph.read_configuration(directory).get("candidates", {})
    number = before.get("num_shards") or shares.default_num_shards(share)
  shares.check(share, number)
  source = dataclasses.replace(recipe.candidates, num_shards=number)
  return dataclasses.replace(recipe, candidates=source)


def _stages(
  recipe: DecodeAndRerank, directory: pathlib.Path, place: _Place
) -> list[graph.Stage]:
  return [
    graph.Stage(
      _CANDIDATES,
      "decode",
      functools.partial(
        _together,
        functools.partial(_decode, recipe, directory, place),
        functools.partial(candidates.finish_decoding, directory),
      ),
    ),
    graph.Stage(
      "grade",
      "grade",
      functools.partial(
        _together,
        functools.partial(candidates.grade, directory, shares.of_process()),
        functools.partial(candidates.finish_grading, directory),
      ),
      needs=(_CANDIDATES,),
    ),
    *(
      graph.Stage(
        f"score_{one.name}",
        "score",
        functools.partial(
          _together,
          functools.partial(_score, recipe, one, directory, place),
          functools.partial(candidates.finish_scoring, directory, one.name),
        ),
        needs=(_CANDIDATES,),
      )
      for one in recipe.evaluators
    ),
  ]


def _together(
  work: Callable[[], candidates.Facts], finish: Callable[[], candidates.Facts]
) -> candidates.Facts:
  """Does this process's share, and the rest once all have done theirs."""
  facts = work()
  if jax.process_count() == 1:
    return facts
  processes.wait_for_others()
  if checkpoint.is_main_process():
    facts = {**finish(), **facts}
  # What comes next reads what was finished.
  processes.wait_for_others()
  return facts


def _decode(
  recipe: DecodeAndRerank, directory: pathlib.Path, place: _Place
) -> Mapping[str, Any]:
  source = recipe.candidates
  assert source.num_shards is not None
  if isinstance(source, GivenCandidates):
    if not checkpoint.is_main_process():
      return {}
    return candidates.copy(source.path, directory, source.num_shards)
  problems = source.problems()
  words = vocabulary.load_vocabulary(recipe.vocabulary)
  config, params = source.checkpoint(place.mesh, place.rules)
  initial.check_vocabulary(config, words)
  model = generator.Generator(transformer.Transformer(config), words)
  return candidates.decode(
    directory,
    sampler_lib.Sampler(
      model, source.sampling, source.shots() if source.shots else ()
    ),
    params,
    problems,
    generator=source.checkpoint.name_or_directory,
    num_shards=source.num_shards,
    share=place.share,
  )


def _score(
  recipe: DecodeAndRerank,
  one: EvaluatorCheckpoint,
  directory: pathlib.Path,
  place: _Place,
) -> Mapping[str, Any]:
  words = vocabulary.load_vocabulary(recipe.vocabulary)
  config, params = one.checkpoint(place.mesh, place.rules)
  initial.check_vocabulary(config, words)
  model = evaluator.Evaluator(transformer.Transformer(config), words)
  return candidates.score(
    directory,
    scorer_lib.Scorer(model, recipe.scoring),
    params,
    evaluator=one.name,
    share=place.share,
  )


def _write_manifest(
  recipe: DecodeAndRerank, directory: pathlib.Path, progress: graph.Progress
) -> None:
  done, source = progress.finished, recipe.candidates
  place = pathlib.Path(_CANDIDATES)
  grades = str(candidates.grades_path(place)) if "grade" in done else None
  manifest.write(
    directory,
    progress,
    name=recipe.name,
    note=recipe.note,
    seed=source.sampling.seed if isinstance(source, Decoding) else None,
    data=[],
    generators=[
      report_manifest.Generator(
        name=_GENERATOR,
        label=recipe.label,
        # Without it the report would take it for a model that was not trained.
        data=recipe.label,
        candidates=str(place) if grades else None,
        grades=grades,
      )
    ],
    evaluators=[
      report_manifest.Evaluator(
        name=one.name,
        loss=one.loss,
        initial=_GENERATOR,
        scores={
          _GENERATOR: str(place / samples.scores_name(one.name))
          if f"score_{one.name}" in done
          else None
        },
      )
      for one in recipe.evaluators
    ],
  )
