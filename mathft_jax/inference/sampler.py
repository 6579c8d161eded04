"""Problems to candidates."""

import bisect
import dataclasses
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mathft_jax import partitioning, prompts, records
from mathft_jax.decoding import sampling, slots
from mathft_jax.grading import extract
from mathft_jax.inference import engine as engine_lib
from mathft_jax.models import decoder_model

# Fewer rows have their products computed in another way, with other roundings
# (seen on CPUs), so that candidates would depend on how many are left to draw.
_FEWEST_SLOTS = 64
# How many samples of a problem are drawn side by side, where it has as many.
# More share a prompt's keys, fewer wait for the last of a problem.
_ROWS_PER_LANE = 16
# Prompts that such rows can be busy with at a time.
_PLACES = 2

Drawn = Mapping[str, Mapping[int, records.Candidate]]


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
  """How candidates are drawn; the paper's setting is the default (§4.1).

  `num_slots` candidates are decoded at a time, whichever problems they are of;
  results depend on it by roundings at most. A prompt longer than
  `max_prompt_tokens` is an error. A candidate without EOS after `max_tokens`
  ends there, and one that comes to contain a text of `stop` ends before it.
  Every `steps_per_call` tokens what has ended is taken out, and new prompts
  come in.
  `takes_last_number` is for solutions that may state no answer, as those of
  GSM8K (`grading.extract`).

  Raises ValueError for fewer than 64 slots, and for an empty text in `stop`.
  """

  num_candidates: int = 64
  next_token: sampling.NextToken = sampling.Nucleus()
  max_prompt_tokens: int = 256
  max_tokens: int = 512
  num_slots: int = 512
  steps_per_call: int = 16
  seed: int = 0
  stop: Sequence[str] = ()
  takes_last_number: bool = False

  def __post_init__(self):
    if self.num_slots < _FEWEST_SLOTS:
      raise ValueError(
        f"num_slots is {self.num_slots}; it must be at least {_FEWEST_SLOTS},"
        " below which roundings would depend on how many are left to draw"
      )
    # A string would stop at each of its characters.
    if isinstance(self.stop, str) or not all(self.stop):
      raise ValueError(
        f"stop is {self.stop!r}; it must be a list of texts, and each text"
        " needs a character"
      )

  def describe(self) -> dict[str, Any]:
    """What a candidates file says of how it came about."""
    return {
      "num_candidates": self.num_candidates,
      "seed": self.seed,
      "max_tokens": self.max_tokens,
      "takes_last_number": self.takes_last_number,
      **({"stop": list(self.stop)} if self.stop else {}),
      **sampling.describe(self.next_token),
    }


@dataclasses.dataclass(frozen=True)
class Progress:
  """What a run of the sampler has done since it was started.

  `occupancy` is the share of slots that had a candidate to work on.
  """

  num_problems: int
  num_candidates: int
  num_tokens: int
  num_steps: int
  occupancy: float


class Sampler:
  """Draws candidates from a generator; compiled once for each batch shape.

  Slots and their keys and values lie on the devices that the parameters lie
  on, as rows do in training.

  The random numbers of a candidate are a function of (seed, problem_id,
  index). What it becomes does not depend on the other candidates, nor on when
  and where it is drawn; in float32 on a CPU not in a single bit. The number of
  slots can change how products and sums round (docs/recipe.md).
  """

  def __init__(
    self,
    model: decoder_model.DecoderModel,
    config: SamplingConfig,
    shots: Sequence[records.SolvedProblem] = (),
  ):
    """With `shots`, these solved problems stand before each problem."""
    self._model = model
    self._config = config
    self._shots = tuple(shots)
    self._engine = engine_lib.Engine(
      model, config.next_token, steps_per_call=config.steps_per_call
    )

  @property
  def num_per_problem(self) -> int:
    """Candidates of each problem, the greedy one among them."""
    return self._config.num_candidates + 1

  def lower(
    self, params: Any, is_greedy: bool = False
  ) -> tuple[jax.stages.Lowered, slots.Slots]:
    """The program that decodes in all slots, and the shapes of these.

    It is that of `greedy` or that of `sample`, not compiled yet. `params` may
    be shapes with shardings, of devices that are not there.
    """
    per_problem = 1 if is_greedy else self.num_per_problem
    return self._engine.lower(
      params, self._shape(params, per_problem, self._config.num_slots)
    )

  def sample(
    self,
    params: Any,
    problems: Sequence[records.Problem],
    *,
    generator: str,
    finished: Collection[str] = (),
    drawn: Drawn | None = None,
    on_drawn: Callable[[Sequence[records.Candidate]], None] = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
  ) -> Iterator[records.SampledProblem]:
    """Yields each problem that is not in `finished` with all its candidates.

    Problems with short prompts come first, whenever their candidates end.
    Those in `drawn`, by problem id and index, are not drawn again; `on_drawn`
    is told of each new one once it has ended, `on_progress` now and then.
    Raises ValueError for a prompt that is too long.
    """
    indices = [records.GREEDY_INDEX, *range(self._config.num_candidates)]
    for problem, candidates in self._draw(
      params,
      [p for p in problems if p.problem_id not in finished],
      indices,
      drawn or {},
      on_drawn,
      on_progress,
    ):
      greedy, *others = (candidates[index] for index in indices)
      yield records.SampledProblem(
        problem=problem,
        greedy=greedy,
        candidates=tuple(others),
        generator=generator,
        sampling=self._describe(),
      )

  def greedy(
    self, params: Any, problems: Sequence[records.Problem]
  ) -> list[records.Candidate]:
    """The greedy candidate of each problem, in the order of the problems."""
    index = records.GREEDY_INDEX
    found = {
      problem.problem_id: candidates[index]
      for problem, candidates in self._draw(params, problems, [index], {})
    }
    return [found[problem.problem_id] for problem in problems]

  def _draw(
    self,
    params: Any,
    problems: Sequence[records.Problem],
    indices: Sequence[int],
    drawn: Drawn,
    on_drawn: Callable[[Sequence[records.Candidate]], None] = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
  ) -> Iterator[tuple[records.Problem, Mapping[int, records.Candidate]]]:
    """Problems with their candidates by index, short prompts first."""
    tokens = {p.problem_id: self._prompt(p) for p in problems}
    problems = sorted(problems, key=lambda p: len(tokens[p.problem_id]))
    found = {
      problem.problem_id: dict(drawn.get(problem.problem_id, {}))
      for problem in problems
    }
    jobs = [
      self._job(name, tokens[name], sorted(set(indices) - found[name].keys()))
      for name in found
    ]
    num_wanted = sum(len(job.indices) for job in jobs)
    shape = self._shape(params, len(indices), num_wanted)
    run = self._engine.start(params, shape, self._config.seed)
    for job in jobs:
      run.submit(job)
    num_yielded = num_candidates = 0
    while True:
      # In order, so that files do not depend on what ended first.
      while num_yielded < len(problems):
        problem = problems[num_yielded]
        if len(found[problem.problem_id]) < len(indices):
          break
        yield problem, found.pop(problem.problem_id)
        num_yielded += 1
      if not run.has_work:
        return
      new = [self._candidate(sample) for sample in self._step(run)]
      for candidate in new:
        found[candidate.problem_id][candidate.index] = candidate
      num_candidates += len(new)
      on_drawn(new)
      on_progress(
        Progress(
          num_problems=num_yielded,
          num_candidates=num_candidates,
          num_tokens=run.work.num_tokens,
          num_steps=run.work.num_steps,
          occupancy=run.work.occupancy(shape.num_rows),
        )
      )

  def _step(self, run: engine_lib.Run) -> list[engine_lib.Sample]:
    samples = run.step()
    if self._config.stop:
      for sample in run.running():
        if self._stopped_at(sample) is not None:
          run.cancel(sample.name, [sample.index])
          samples.append(sample)
    return samples

  def _stopped_at(self, sample: engine_lib.Sample) -> int | None:
    """After how many tokens the text contains one of `stop`."""

    def contains(num_tokens: int) -> bool:
      text = self._text(sample.tokens[:num_tokens])
      return any(stop in text for stop in self._config.stop)

    num_tokens = len(sample.tokens) - sample.has_ended
    if not contains(num_tokens):
      return None
    return bisect.bisect_left(range(num_tokens), True, key=contains)

  def _shape(
    self, params: Any, per_problem: int, num_wanted: int
  ) -> engine_lib.Shape:
    """Slots for so many candidates; powers of two, so that shapes are few."""
    config = self._config
    mesh = partitioning.mesh_of(params)
    shards = partitioning.num_row_shards(mesh) if mesh else 1
    fewest = min(config.num_slots, shards * _FEWEST_SLOTS)
    num_rows = max(fewest, min(config.num_slots, _power(num_wanted)))
    rows_per_lane = min(_ROWS_PER_LANE, _power(per_problem + 1) // 2)
    num_lanes = _round_up(-(-num_rows // rows_per_lane), shards)
    return engine_lib.Shape(
      num_lanes=num_lanes,
      rows_per_lane=rows_per_lane,
      num_places=_PLACES,
      num_requests=per_problem,
      prompt_capacity=config.max_prompt_tokens,
      max_tokens=config.max_tokens,
    )

  def _describe(self) -> dict[str, Any]:
    described = self._config.describe()
    if self._shots:
      described["shots"] = [shot.problem.problem_id for shot in self._shots]
    return described

  def _prompt(self, problem: records.Problem) -> list[int]:
    text = prompts.few_shot_inputs(
      [shot.texts for shot in self._shots], problem.text
    )
    ids = [self._model.start_id, *self._model.vocabulary.encode(text)]
    longest = self._config.max_prompt_tokens
    if len(ids) > longest:
      raise ValueError(
        f"the prompt of problem {problem.problem_id} has {len(ids)} tokens,"
        f" more than max_prompt_tokens = {longest}; raise it"
      )
    return ids

  def _job(
    self, problem_id: str, tokens: Sequence[int], indices: Sequence[int]
  ) -> engine_lib.Job:
    return engine_lib.Job(
      name=problem_id,
      tokens=tokens,
      prompt_hash=_hash(problem_id),
      indices=indices,
      max_tokens=[self._config.max_tokens] * len(indices),
    )

  def _candidate(self, sample: engine_lib.Sample) -> records.Candidate:
    num_tokens = len(sample.tokens)
    finish_reason = "eos" if sample.has_ended else "length"
    solution = self._text(sample.tokens[: num_tokens - sample.has_ended])
    stopped_at = self._stopped_at(sample) if self._config.stop else None
    if stopped_at is not None:
      num_tokens, finish_reason = stopped_at, "stop"
      text = self._text(sample.tokens[:stopped_at])
      solution = text[
        : min(text.find(s) for s in self._config.stop if s in text)
      ]
    return records.Candidate(
      problem_id=sample.name,
      index=sample.index,
      solution=solution,
      answer=extract.extract_answer(solution, self._config.takes_last_number),
      num_tokens=num_tokens,
      log_prob=float(np.sum(sample.log_probs[:num_tokens], dtype=np.float64)),
      finish_reason=finish_reason,
    )

  def _text(self, tokens: np.ndarray) -> str:
    return self._model.vocabulary.decode([int(i) for i in tokens])


def _hash(problem_id: str) -> int:
  digest = hashlib.sha256(problem_id.encode()).digest()
  return int.from_bytes(digest[:4], "big")


def _power(number: int) -> int:
  """The smallest power of two that is not below a number."""
  return 1 << max(0, number - 1).bit_length()


def _round_up(number: int, step: int) -> int:
  return -(-number // step) * step
