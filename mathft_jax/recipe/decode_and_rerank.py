"""Candidates of one generator, graded, scored and re-ranked, as stages."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mathft_jax import samples
from mathft_jax.data import few_shot, vocabulary
from mathft_jax.inference import sampler as sampler_lib
from mathft_jax.inference import scorer as scorer_lib
from mathft_jax.models import evaluator, generator, transformer
from mathft_jax.recipe import candidates, graph, initial, manifest
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
  fine-tuned.
  """

  checkpoint: initial.Pretrained
  problems: recipe_data.Problems
  sampling: sampler_lib.SamplingConfig
  shots: few_shot.Shots | None = None


@dataclasses.dataclass(frozen=True)
class GivenCandidates:
  """Candidates that somebody drew: a folder of shards, or one file."""

  path: str


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


def run(
  recipe: DecodeAndRerank,
  model_dir: str,
  stages: Sequence[str] = STAGES,
  on_start: Callable[[pathlib.Path], None] = lambda directory: None,
) -> None:
  """Runs those of `stages` that `model_dir` does not have yet.

  Grades need no accelerator, so that they may be left to another start, on
  another machine. `on_start` is called with the directory once nothing speaks
  against going on in it.
  """
  unknown = sorted(set(stages) - set(STAGES))
  if unknown:
    raise ValueError(f"no stages {unknown}; there are {list(STAGES)}")
  if isinstance(recipe.candidates, Decoding):
    recipe.candidates.checkpoint.check()
  for one in recipe.evaluators:
    one.checkpoint.check()
  directory = pathlib.Path(model_dir)
  directory.mkdir(parents=True, exist_ok=True)
  graph.cache_compilations(directory / "compilation_cache")
  graph.run_stages(
    _stages(recipe, directory / _CANDIDATES),
    directory,
    graph.describe(recipe),
    on_start=lambda: on_start(directory),
    on_progress=functools.partial(_write_manifest, recipe, directory),
    kinds=stages,
  )
  if _REPORT in stages:
    report = render.write(build.build([directory]), directory / "report")
    print(f"Report: {report}")


def _stages(
  recipe: DecodeAndRerank, directory: pathlib.Path
) -> list[graph.Stage]:
  return [
    graph.Stage(
      _CANDIDATES, "decode", functools.partial(_decode, recipe, directory)
    ),
    graph.Stage(
      "grade",
      "grade",
      functools.partial(candidates.grade, directory),
      needs=(_CANDIDATES,),
    ),
    *(
      graph.Stage(
        f"score_{one.name}",
        "score",
        functools.partial(_score, recipe, one, directory),
        needs=(_CANDIDATES,),
      )
      for one in recipe.evaluators
    ),
  ]


def _decode(
  recipe: DecodeAndRerank, directory: pathlib.Path
) -> Mapping[str, Any]:
  source = recipe.candidates
  if isinstance(source, GivenCandidates):
    return candidates.copy(source.path, directory)
  problems = source.problems()
  words = vocabulary.load_vocabulary(recipe.vocabulary)
  config, params = source.checkpoint()
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
  )


def _score(
  recipe: DecodeAndRerank, one: EvaluatorCheckpoint, directory: pathlib.Path
) -> Mapping[str, Any]:
  words = vocabulary.load_vocabulary(recipe.vocabulary)
  config, params = one.checkpoint()
  initial.check_vocabulary(config, words)
  model = evaluator.Evaluator(transformer.Transformer(config), words)
  return candidates.score(
    directory,
    scorer_lib.Scorer(model, recipe.scoring),
    params,
    evaluator=one.name,
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
