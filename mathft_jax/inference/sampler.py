"""Problems to candidates."""

import bisect
import collections
import dataclasses
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mathft_jax import partitioning, prompts, records
from mathft_jax.decoding import sampling, slots
from mathft_jax.grading import extract
from mathft_jax.inference import budgets
from mathft_jax.inference import engine as engine_lib
from mathft_jax.models import decoder_model
from mathft_jax.rerank import stopping as stopping_lib

# How many samples of a problem are drawn side by side, where it has as many.
# More share a prompt's keys, and leave fewer rows idle at the end of a run.
_ROWS_PER_LANE = 64
# Prompts that such rows can be busy with at a time.
_PLACES = 2
# Jobs that wait for a place: their prompts are read together.
_AHEAD = 8

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
  With `stopping` a problem ends with fewer than `num_candidates` where the
  answers up to an index settle its vote: those behind it are not drawn, or
  dropped.

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
  stopping: stopping_lib.BetaStopping | None = None

  def __post_init__(self):
    fewest = engine_lib.FEWEST_ROWS
    if self.num_slots < fewest:
      raise ValueError(
        f"num_slots is {self.num_slots}; it must be at least {fewest}, below"
        " which roundings would depend on how many are left to draw"
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
      **({"stopping": self.stopping.describe()} if self.stopping else {}),
      **sampling.describe(self.next_token),
    }


@dataclasses.dataclass(frozen=True)
class Progress:
  """What a run of the sampler has done since it was started.

  `num_left` candidates are still to come, at most. Of the `num_tokens` drawn,
  `num_kept_tokens` are of candidates that problems have ended with.
  `occupancy` is the share of slots that had a candidate to work on.
  """

  num_problems: int
  num_candidates: int
  num_left: int
  num_tokens: int
  num_kept_tokens: int
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
    """Candidates of each problem at most, the greedy one among them."""
    return self._config.num_candidates + 1

  def lower(
    self, params: Any, is_greedy: bool = False
  ) -> tuple[jax.stages.Lowered, slots.Slots]:
    """The program that decodes in all slots, and the shapes of these.

    It is that of `greedy` or that of `sample`, not compiled yet. `params` may
    be shapes with shardings, of devices that are not there.
    """
    num_candidates = 0 if is_greedy else self._config.num_candidates
    shape = self._shape(params, num_candidates, self._config.num_slots)
    return self._engine.lower(params, shape)

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
    for problem, candidates in self._draw(
      params,
      [p for p in problems if p.problem_id not in finished],
      self._config.num_candidates,
      drawn or {},
      on_drawn,
      on_progress,
    ):
      yield records.SampledProblem(
        problem=problem,
        greedy=candidates.pop(records.GREEDY_INDEX),
        candidates=tuple(candidates.values()),
        generator=generator,
        sampling=self._describe(),
      )

  def greedy(
    self, params: Any, problems: Sequence[records.Problem]
  ) -> list[records.Candidate]:
    """The greedy candidate of each problem, in the order of the problems."""
    found = {
      problem.problem_id: candidates[records.GREEDY_INDEX]
      for problem, candidates in self._draw(params, problems, 0, {})
    }
    return [found[problem.problem_id] for problem in problems]

  def _draw(
    self,
    params: Any,
    problems: Sequence[records.Problem],
    num_candidates: int,
    drawn: Drawn,
    on_drawn: Callable[[Sequence[records.Candidate]], None] = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
  ) -> Iterator[tuple[records.Problem, dict[int, records.Candidate]]]:
    """Problems with their candidates by rising index, short prompts first."""
    tokens = {p.problem_id: self._prompt(p) for p in problems}
    ordered = sorted(problems, key=lambda p: len(tokens[p.problem_id]))
    waiting = collections.deque(ordered)
    open_ = {
      problem.problem_id: budgets.Budget(
        num_candidates,
        self._config.stopping,
        drawn.get(problem.problem_id),
      )
      for problem in ordered
    }
    num_left = sum(budget.num_left for budget in open_.values())
    shape = self._shape(params, num_candidates, num_left)
    run = self._engine.start(params, shape, self._config.seed)
    num_drawn = num_kept_tokens = 0
    while True:
      # In order, so that files do not depend on what ended first.
      while waiting and not open_[waiting[0].problem_id].num_left:
        problem = waiting.popleft()
        yield problem, open_.pop(problem.problem_id).candidates()
      self._begin(run, open_, tokens)
      if not run.has_work:
        return
      new = [self._candidate(sample) for sample in self._step(run)]
      for candidate in new:
        open_[candidate.problem_id].add(candidate)
      for name in dict.fromkeys(candidate.problem_id for candidate in new):
        released = open_[name].release()
        if released:
          run.cancel(name, released)
        if not open_[name].num_left:
          num_kept_tokens += open_[name].num_new_tokens
      num_drawn += len(new)
      on_drawn(new)
      on_progress(
        Progress(
          num_problems=len(problems) - len(waiting),
          num_candidates=num_drawn,
          num_left=sum(budget.num_left for budget in open_.values()),
          num_tokens=run.work.num_tokens,
          num_kept_tokens=num_kept_tokens,
          num_steps=run.work.num_steps,
          occupancy=run.work.occupancy,
        )
      )

  def _begin(
    self,
    run: engine_lib.Run,
    open_: Mapping[str, budgets.Budget],
    tokens: Mapping[str, Sequence[int]],
  ) -> None:
    """Submits what is wanted for sure, problem by problem, as places are free.

    Only places that would stay empty go to what may turn out not to be wanted,
    of all problems in turn.
    """

    def submit(name: str) -> None:
      run.submit(self._job(name, tokens[name], open_[name].begin()))

    for name, budget in open_.items():
      while budget.has_to_begin:
        if run.num_free_places <= -_AHEAD:
          return
        submit(name)
    ahead = collections.deque(
      name for name, budget in open_.items() if budget.may_begin
    )
    while ahead and run.num_free_places > 0:
      name = ahead.popleft()
      submit(name)
      if open_[name].may_begin:
        ahead.append(name)

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
    self, params: Any, num_candidates: int, num_wanted: int
  ) -> engine_lib.Shape:
    """Slots for so many candidates; powers of two, so that shapes are few."""
    config = self._config
    shards = partitioning.num_shards_of_rows(params)
    fewest = min(config.num_slots, shards * engine_lib.FEWEST_ROWS)
    num_rows = max(fewest, min(config.num_slots, _power(num_wanted)))
    per_job = budgets.wave_size(num_candidates, config.stopping) + 1
    rows_per_lane = min(
      _ROWS_PER_LANE, _power(per_job + 1) // 2, max(1, num_rows // shards)
    )
    num_lanes = _round_up(-(-num_rows // rows_per_lane), shards)
    return engine_lib.Shape(
      num_lanes=num_lanes,
      rows_per_lane=rows_per_lane,
      num_places=_PLACES,
      num_requests=per_job,
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
