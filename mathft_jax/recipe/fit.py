"""What a recipe's programs need of a topology, by compiling them for it."""

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jax.sharding import Mesh

from mathft_jax import chips, partitioning
from mathft_jax.data import vocabulary
from mathft_jax.inference import sampler, scorer
from mathft_jax.models import (
  decoder_model,
  evaluator,
  flops,
  generator,
  transformer,
)
from mathft_jax.planning import program, search, summary, topology
from mathft_jax.recipe import decode_and_rerank, paper, validation
from mathft_jax.training import finetune, state

Model = generator.Generator | evaluator.Evaluator


@dataclasses.dataclass(frozen=True)
class Training:
  """A training step to compile."""

  name: str
  model: Model
  config: finetune.TrainingConfig


@dataclasses.dataclass(frozen=True)
class Placed:
  """How parameters lie: on all devices, or on those of each process."""

  mesh_shape: Mapping[str, int] | None
  rules: partitioning.Rules
  is_replicated: bool = False

  def mesh(self, devices: Sequence[Any]) -> Mesh:
    if not self.is_replicated:
      return partitioning.make_mesh(self.mesh_shape, devices)
    return partitioning.make_replica_mesh(
      self.mesh_shape, devices, devices[0].process_index
    )


@dataclasses.dataclass(frozen=True)
class Sampling:
  """A sampler's program.

  With `is_greedy` each problem has one candidate, as in validation.
  """

  name: str
  model: Model
  config: sampler.SamplingConfig
  placed: Placed
  is_greedy: bool = False


@dataclasses.dataclass(frozen=True)
class Scoring:
  """A scorer's program for texts of `length` tokens."""

  name: str
  model: evaluator.Evaluator
  config: scorer.ScoringConfig
  length: int
  placed: Placed


Part = Training | Sampling | Scoring


@dataclasses.dataclass(frozen=True)
class Fit:
  """Which topology to compile for, and how long to search.

  For each training, `max_trials` further compilations at most look for the
  largest batch that fits; none for 0. The numbers are also written as JSON
  into the file `output` where it is given.
  """

  topology: str
  max_trials: int = 6
  output: str | None = None

  def run(self, parts: Sequence[Part]) -> int:
    """Compiles all parts and prints what they need; 1 if one does not fit.

    Else 0, also where no memory is known that they could be compared with.
    """
    place = topology.devices(self.topology)
    print(_headline(place), flush=True)
    rows = []
    for part in parts:
      row, lines = self._examine(part, place)
      print("\n".join(["", *lines]), flush=True)
      rows.append(row)
    fits = None if place.device is None else all(row["fits"] for row in rows)
    print(f"\n{_conclusion(fits, place)}")
    if self.output:
      table = {"topology": self.topology, "fits": fits, "programs": rows}
      path = pathlib.Path(self.output)
      path.write_text(f"{json.dumps(table, indent=2)}\n", "utf-8")
    return 1 if fits is False else 0

  def _examine(
    self, part: Part, place: topology.Topology
  ) -> tuple[dict[str, Any], list[str]]:
    """A part's numbers, as JSON has them and as lines."""
    lowered = lower(part, place.devices)
    found = program.compile_program(lowered, place.device)
    lines = summary.describe(found, place.device, place.is_exact)
    row = _row(part, lowered.mesh, found, place)
    if isinstance(part, Training):
      lines[1:1] = [f"  {_training_line(part, lowered.mesh)}"]
      if self.max_trials and found.available_bytes is not None:
        largest = largest_batch(part, place, found.fits, self.max_trials)
        row["largest_batch"] = largest._asdict()
        lines.append(f"  {_largest_line(largest)}")
    if not found.fits:
      lines += [f"  {line}" for line in advice(part, found, lowered.mesh)]
    return row, lines


def lower(part: Part, devices: Sequence[Any]) -> program.Program:
  """The program of a part for these devices, as its run would compile it."""
  if isinstance(part, Training):
    return _lower_training(part, devices)
  mesh = part.placed.mesh(devices)
  params = state.abstract_params(part.model, mesh, part.placed.rules)
  model_config = part.model.module.config
  if isinstance(part, Sampling):
    config = part.config
    lowered, slots = sampler.Sampler(part.model, config).lower(
      params, part.is_greedy
    )
    return program.Program(
      part.name,
      lowered,
      mesh,
      {"parameters": params, "slots": slots},
      flops.decode(
        model_config,
        slots.tokens.shape[0],
        config.steps_per_call,
        # Half of their solutions stand before tokens on average.
        config.max_prompt_tokens + config.max_tokens // 2,
      ),
      max_trips=config.steps_per_call,
    )
  scoring = scorer.Scorer(part.model, part.config)
  return program.Program(
    part.name,
    scoring.lower(params, part.length),
    mesh,
    {"parameters": params},
    flops.forward(
      model_config, *scoring.batch_shape(part.length), num_logits=0
    ),
  )


def largest_batch(
  part: Training, place: topology.Topology, fits: bool, max_trials: int
) -> search.Largest:
  """The largest batch that fits, in rows; `fits` tells of the part's own."""
  mesh = partitioning.make_mesh(part.config.mesh_shape, place.devices)
  unit = partitioning.num_row_shards(mesh) * part.config.num_microbatches

  def try_one(number: int) -> bool:
    config = dataclasses.replace(part.config, batch_size=number * unit)
    changed = dataclasses.replace(part, config=config)
    lowered = lower(changed, place.devices)
    return program.compile_program(lowered, place.device).fits

  found = search.largest_that_fits(
    try_one, part.config.batch_size // unit, max_trials, known=fits
  )
  return search.Largest(
    found.largest and found.largest * unit,
    found.too_large and found.too_large * unit,
    found.num_trials,
  )


def advice(part: Part, found: program.Compiled, mesh: Mesh) -> Iterator[str]:
  """What would help a part that does not fit."""
  available = found.available_bytes or 0
  fixed = sum(size for kind, size in found.arguments.items() if kind != "batch")
  yield "what would help:"
  if fixed > available:
    yield (
      f"- {summary.gib(fixed)} are parameters and optimizer state: spread them"
      " over more devices (mesh_shape, axes fsdp and tensor; now"
      f" {_shape(mesh)}), or take a larger slice"
    )
    return
  slices = partitioning.num_slices(mesh.devices.flatten().tolist())
  if mesh.shape["data"] * mesh.shape["replica"] > slices:
    yield (
      "- fsdp in the place of data in mesh_shape, which spreads parameters and"
      f" optimizer state further (now {_shape(mesh)})"
    )
  if isinstance(part, Training):
    shards = partitioning.num_row_shards(mesh)
    rows = part.config.batch_size // (shards * part.config.num_microbatches)
    if rows > 1:
      yield (
        f"- fewer rows at once, now {rows} a device: a smaller BATCH_SIZE, or"
        " more num_microbatches"
      )
    else:
      yield "- shorter rows (TASK_FEATURE_LENGTHS); a device has one at a time"
    if part.model.module.config.remat != "full":
      yield '- computing activations again: TransformerConfig.remat = "full"'
    if (
      part.model.loss_chunk_length
      > decoder_model.DecoderModel.loss_chunk_length
    ):
      yield (
        f"- a smaller loss_chunk_length than {part.model.loss_chunk_length}"
      )
  elif isinstance(part, Sampling):
    yield "- fewer num_slots, or shorter max_tokens"
  else:
    yield "- fewer tokens_per_batch or problems_per_batch"
  yield "- a larger slice, or one with more memory a chip"


# Parts of the commands' configurations ----------------------------------------


def parts_of_training(
  model: Model,
  training: finetune.TrainingConfig,
  make_evaluate: Any = None,
  **unused: Any,
) -> list[Part]:
  """What `single_run.run` with these arguments compiles."""
  parts: list[Part] = [Training("train step", model, training)]
  placed = Placed(training.mesh_shape, training.rules)
  if isinstance(make_evaluate, validation.GreedyAccuracy):
    given = make_evaluate.sampling
    parts.append(
      Sampling("validation's sampler", model, given, placed, is_greedy=True)
    )
  if isinstance(make_evaluate, validation.RerankingAccuracy) and isinstance(
    model, evaluator.Evaluator
  ):
    length = sum(training.feature_lengths.values())
    parts.append(
      Scoring(
        "validation's scorer", model, make_evaluate.scoring, length, placed
      )
    )
  return parts


def parts_of_paper(recipe: paper.Paper, **unused: Any) -> list[Part]:
  """What `paper.run` compiles."""
  words = vocabulary.load_vocabulary(recipe.vocabulary)
  models = paper.Models(recipe, recipe.initial.read_config(), words)
  training = recipe.generator_training
  main = models.make_generator(training)
  parts: list[Part] = [Training("generator's train step", main, training)]
  parts += [
    Training(
      f"{judging.stage}'s train step",
      models.make_evaluator(judging),
      judging.training,
    )
    for judging in recipe.evaluators
  ]
  placed = Placed(training.mesh_shape, training.rules)
  parts.append(Sampling("sampler", main, recipe.sampling, placed))
  for judging in recipe.evaluators[:1]:
    length = sum(judging.training.feature_lengths.values())
    model = evaluator.Evaluator(models.module, words)
    placed = Placed(judging.training.mesh_shape, judging.training.rules)
    parts.append(Scoring("scorer", model, recipe.scoring, length, placed))
  return parts


def parts_of_decoding(
  recipe: decode_and_rerank.DecodeAndRerank,
  mesh_shape: Mapping[str, int] | None = None,
  rules: partitioning.Rules = partitioning.STANDARD_RULES,
  **unused: Any,
) -> list[Part]:
  """What `decode_and_rerank.run` compiles."""
  placed = Placed(mesh_shape, rules, is_replicated=True)
  words = vocabulary.load_vocabulary(recipe.vocabulary)
  parts: list[Part] = []
  length = 0  # Known once candidates are.
  source = recipe.candidates
  if isinstance(source, decode_and_rerank.Decoding):
    module = transformer.Transformer(source.checkpoint.read_config())
    model = generator.Generator(module, words)
    parts.append(Sampling("sampler", model, source.sampling, placed))
    length = source.sampling.max_prompt_tokens + source.sampling.max_tokens
  elif recipe.evaluators:
    raise ValueError(
      "the length of given candidates is not known, so that their scoring"
      " cannot be compiled; give CANDIDATES=@decode_and_rerank.Decoding()"
    )
  for one in recipe.evaluators:
    module = transformer.Transformer(one.checkpoint.read_config())
    model = evaluator.Evaluator(module, words)
    parts.append(
      Scoring(f"{one.name}'s scorer", model, recipe.scoring, length, placed)
    )
  return parts


def _lower_training(part: Training, devices: Sequence[Any]) -> program.Program:
  step = finetune.make_step(part.model, part.config, devices)
  return program.Program(
    part.name,
    step.function.lower(step.state, step.batch),
    step.mesh,
    {
      "parameters": step.state.params,
      "optimizer state": (step.state.opt_state, step.state.step),
      "batch": step.batch,
    },
    flops.train_step(part.model, step.batch),
  )


# Text -------------------------------------------------------------------------


def _conclusion(fits: bool | None, place: topology.Topology) -> str:
  if fits is None:
    return (
      f"There is no memory to compare with: that of {place.name} is not known,"
      " so whether this fits is not told."
    )
  return "Everything fits." if fits else "Not everything fits."


def _headline(place: topology.Topology) -> str:
  if place.device is None:
    return f"{place.name}: {len(place.devices)} devices"
  slices = partitioning.num_slices(place.devices)
  between = ""
  if slices > 1:
    between = f"; {slices} slices, {place.device.dcn_gbps:g} GB/s between them"
  return (
    f"{place.name}: {len(place.devices)} devices of {place.device.hbm_gib:g}"
    f" GiB, {place.device.tflops:g} TFLOP/s, {place.device.hbm_gbps:g} GB/s of"
    f" memory, {place.device.link_gbps:g} GB/s of links{between}"
  )


def _training_line(part: Training, mesh: Mesh) -> str:
  config = part.config
  params = state.abstract_params(part.model, mesh)
  return (
    f"{state.num_params(params):,} parameters{_trained(params)}"
    f" on {_shape(mesh)}, {config.batch_size} rows of"
    f" {sum(config.feature_lengths.values())} tokens in"
    f" {config.num_microbatches} microbatch"
    f"{'' if config.num_microbatches == 1 else 'es'}"
  )


def _trained(params: Any) -> str:
  """How many of them are trained, where not all are."""
  total, trained = state.num_params(params), state.num_trained(params)
  if trained == total:
    return ""
  return f" ({trained:,} trained, {trained / total:.2%})"


def _largest_line(found: search.Largest) -> str:
  tried = f"{found.num_trials} more compilations"
  if found.largest is None:
    return f"no batch fits, not one of {found.too_large} rows ({tried})"
  more = (
    "more may fit" if found.too_large is None else f"{found.too_large} do not"
  )
  return f"largest batch: {found.largest} rows fit, {more} ({tried})"


def _shape(mesh: Mesh) -> str:
  named = [f"{axis} {size}" for axis, size in mesh.shape.items() if size > 1]
  return " x ".join(named) or "one device"


def _row(
  part: Part,
  mesh: Mesh,
  found: program.Compiled,
  place: topology.Topology,
) -> dict[str, Any]:
  """A part's numbers as JSON has them."""
  row: dict[str, Any] = {
    "name": found.name,
    "mesh": dict(mesh.shape),
    "fits": None if found.available_bytes is None else found.fits,
    "arguments_bytes": dict(found.arguments),
    "temporary_bytes": found.temporary_bytes,
    "needed_bytes": found.needed_bytes,
    "available_bytes": found.available_bytes,
    "compile_seconds": round(found.seconds, 1),
    "is_exact": place.is_exact,
  }
  if isinstance(part, Training):
    row["batch_size"] = part.config.batch_size
    params = state.abstract_params(part.model, mesh)
    row["num_params"] = state.num_params(params)
    row["num_trained"] = state.num_trained(params)
  if found.costs is not None and place.is_exact:
    row |= _cost_row(found.costs, place.device)
  return row


def _cost_row(
  costs: program.Costs, device: chips.Chip | None
) -> Mapping[str, Any]:
  row: dict[str, Any] = {
    "model_flops": costs.model_flops,
    "xla_flops": costs.xla_flops,
    "hbm_bytes": costs.hbm_bytes,
    "sent_bytes": {
      "+".join(axes): sent for axes, sent in costs.sent_bytes.items()
    },
    "dcn_bytes": costs.dcn_bytes,
  }
  if device is not None:
    row["bound"] = costs.bound(device)
    row["max_mfu"] = costs.max_mfu(device)
  return row
