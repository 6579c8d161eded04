"""Jobs to samples: what waits for the slots, and what comes out of them."""

import collections
import dataclasses
import functools
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from mathft_jax import partitioning, records
from mathft_jax.decoding import generate, sampling, slots
from mathft_jax.models import decoder_model

# Of a device. Fewer have their products computed in another way, with other
# roundings (seen on CPUs), so that samples would depend on how many are left.
FEWEST_ROWS = 64
# Likewise, sums round by the number of rows where there are more than so many,
# or the model is narrower, and products of fewer queries with their prompts do.
_MOST_ROWS = 256
_LEAST_WIDTH = 64
_FEWEST_QUERIES = 64
# The shortest length that prompts are padded to.
_SHORTEST = 32
# Prompts that are prefilled together, and results that are fetched together.
_PREFILLED = 8
_FETCHED = 64


@dataclasses.dataclass(frozen=True)
class Shape:
  """The largest size of a batch of slots; `Run` needs less at its end.

  `num_lanes` x `rows_per_lane` rows decode together, those of a lane the
  samples of up to `num_places` prompts, of which it reads each once: while the
  last samples of one come to their end, rows that are free begin with the next.
  A prompt has `prompt_capacity` tokens at most and `num_requests` samples.
  """

  num_lanes: int
  rows_per_lane: int
  num_places: int
  num_requests: int
  prompt_capacity: int
  max_tokens: int

  @property
  def num_rows(self) -> int:
    return self.num_lanes * self.rows_per_lane


_SIZES = tuple(field.name for field in dataclasses.fields(Shape))


@dataclasses.dataclass(frozen=True)
class Job:
  """Samples that are wanted of one prompt.

  Sample i draws from the random numbers of (seed, `prompt_hash`, indices[i])
  and ends after `max_tokens[i]` tokens at the latest. `tokens` start with the
  start token.
  """

  name: str
  tokens: Sequence[int]
  prompt_hash: int
  indices: Sequence[int]
  max_tokens: Sequence[int]


@dataclasses.dataclass(frozen=True)
class Sample:
  """What was drawn for one index of a job; `tokens` [n] with EOS if it ended.

  `log_probs` [n] are under the model itself, in nats.
  """

  name: str
  index: int
  tokens: np.ndarray
  log_probs: np.ndarray
  has_ended: bool


@dataclasses.dataclass
class Work:
  """What a run has done: steps, steps times rows, and tokens that these gave.

  `num_inserted` counts prompts by the lanes that they went into.
  """

  num_steps: int = 0
  num_row_steps: int = 0
  num_tokens: int = 0
  num_inserted: int = 0

  @property
  def occupancy(self) -> float:
    """The share of rows that had a sample to work on."""
    return self.num_tokens / max(1, self.num_row_steps)


class Engine:
  """Compiled programs for a model and a rule; `start` begins a run of them."""

  def __init__(
    self,
    model: decoder_model.DecoderModel,
    next_token: sampling.NextToken,
    *,
    steps_per_call: int,
  ):
    self.model = model
    self.next_token = next_token
    self.steps_per_call = steps_per_call
    self.empty = partitioning.jit_by_mesh(
      model.empty_slots, static_argnames=_SIZES
    )
    self.prefill = partitioning.jit_by_mesh(model.prefill)
    self.insert = partitioning.jit_by_mesh(_insert, donate_argnums=0)
    self.cancel = partitioning.jit_by_mesh(slots.cancel, donate_argnums=0)
    self.resize = partitioning.jit_by_mesh(
      _resize, static_argnames="rows_per_lane"
    )
    self.advance = partitioning.jit_by_mesh(
      functools.partial(
        _advance,
        model,
        next_token=next_token,
        num_steps=steps_per_call,
      ),
      donate_argnums=1,
    )

  def start(self, params: Any, shape: Shape, seed: int) -> "Run":
    """A run without jobs."""
    return Run(self, params, shape, seed)

  def lower(
    self, params: Any, shape: Shape
  ) -> tuple[jax.stages.Lowered, slots.Slots]:
    """The program that decodes, not compiled yet, and the shapes of its slots.

    `params` may be shapes with shardings, of devices that are not there.
    """
    mesh = partitioning.mesh_of(params)
    state = decoder_model.map_with_axes(
      lambda x, axes: partitioning.abstract(x, axes, mesh),
      jax.eval_shape(
        lambda: self.model.empty_slots(**dataclasses.asdict(shape))
      ),
    )
    return self.advance(params).lower(params, state), state


class Run:
  """A batch of slots at work, and the jobs that wait for a place in it.

  Jobs are begun in the order in which they were submitted.
  """

  def __init__(self, engine: Engine, params: Any, shape: Shape, seed: int):
    self._engine = engine
    self._params = params
    self._shape = shape
    self._rows_per_lane = shape.rows_per_lane  # Of those that are there now.
    shards = partitioning.num_shards_of_rows(params)
    config = engine.model.module.config
    self._fewest_rows = FEWEST_ROWS * shards
    self._fewest_per_lane = (
      _FEWEST_QUERIES * config.num_kv_heads // config.num_heads
    )
    self._may_resize = (
      shape.num_rows <= _MOST_ROWS * shards and config.model_dim >= _LEAST_WIDTH
    )
    self._key = jax.random.key(seed)
    self._waiting: collections.deque[Job] = collections.deque()
    self._prefilled: dict[str, tuple[Any, int]] = {}
    self._slots = engine.empty(params)(**dataclasses.asdict(shape))
    # By lane and place; `_is_open` tells which samples are still to come.
    self._jobs: dict[tuple[int, int], Job] = {}
    self._is_open = np.zeros(
      (shape.num_lanes, shape.num_places, shape.num_requests), bool
    )
    self.work = Work()

  @property
  def has_work(self) -> bool:
    return bool(self._waiting) or bool(self._jobs)

  @property
  def num_free_places(self) -> int:
    """Places for jobs to begin in, less the jobs that wait for one."""
    is_taken = np.any(self._is_open, axis=2)
    return int(np.sum(~is_taken)) - len(self._waiting)

  def submit(self, job: Job) -> None:
    """Raises ValueError for more tokens or samples than there is room for."""
    shape = self._shape
    for what, size, room in (
      ("prompt tokens", len(job.tokens), shape.prompt_capacity),
      ("samples", len(job.indices), shape.num_requests),
      ("tokens a sample", max(job.max_tokens, default=0), shape.max_tokens),
    ):
      if size > room:
        raise ValueError(
          f"{job.name} has {size} {what}; there is room for {room}"
        )
    if job.indices:
      self._waiting.append(job)

  def step(self) -> list[Sample]:
    """Decodes on for a while; returns the samples that have ended."""
    self._share_out()
    self._fill()
    self._resize()
    self._slots, counts = self._engine.advance(self._params)(
      self._params, self._slots
    )
    results = self._slots.results
    counts, num_tokens, has_ended = partitioning.to_host(
      (counts, results.num_tokens, results.has_ended)
    )
    self.work.num_steps += int(counts[0])
    num_rows = self._shape.num_lanes * self._rows_per_lane
    self.work.num_row_steps += int(counts[0]) * num_rows
    self.work.num_tokens += int(counts[1])
    is_done = self._is_open & (num_tokens > 0)
    samples = self._samples(
      np.argwhere(is_done), num_tokens[is_done], has_ended[is_done]
    )
    self._close(is_done)
    return samples

  def running(self) -> list[Sample]:
    """What the samples that have begun and not ended have so far."""
    state = self._slots
    request, places, num_tokens = partitioning.to_host(
      (state.request, state.cache.places, state.cache.num_generated)
    )
    lanes = np.arange(len(request)) // self._rows_per_lane
    has_begun = (request != slots.FREE) & (num_tokens > 0)
    at = np.stack([lanes, places, request], axis=1)[has_begun]
    return self._samples(at, num_tokens[has_begun], np.zeros(len(at), bool))

  def cancel(self, name: str, indices: Collection[int]) -> None:
    """Samples of a prompt that are no longer wanted.

    Of those that have not begun all have to go, or none.
    """
    wanted = [
      _without(job, indices) if job.name == name else job
      for job in self._waiting
    ]
    self._waiting = collections.deque(job for job in wanted if job.indices)
    is_cancelled = np.zeros_like(self._is_open)
    for at, job in self._jobs.items():
      if job.name == name:
        gone = [index in indices for index in job.indices]
        is_cancelled[at][: len(gone)] = gone
    self._cancel(is_cancelled & self._is_open)

  def _cancel(self, is_cancelled: np.ndarray) -> None:
    if is_cancelled.any():
      self._slots = self._engine.cancel(self._params)(self._slots, is_cancelled)
      self._close(is_cancelled)

  def _close(self, is_done: np.ndarray) -> None:
    """Nothing more comes of these; places of which that is true are free."""
    self._is_open &= ~is_done
    for at in list(self._jobs):
      if not self._is_open[at].any():
        del self._jobs[at]

  def _is_idle(self) -> np.ndarray:
    """Which lanes have nothing to do, [P]."""
    return ~np.any(self._is_open, axis=(1, 2))

  def _share_out(self) -> None:
    """Where lanes would idle, jobs are split, and waiting samples move."""
    num_idle = int(np.sum(self._is_idle()))
    if num_idle and self._jobs and not self._waiting:
      self._take_back(num_idle)
    if num_idle > len(self._waiting) > 0:
      num_parts = num_idle // len(self._waiting)
      self._waiting = collections.deque(
        part
        for job in self._waiting
        for part in _split(job, num_parts, self._shape.rows_per_lane)
      )

  def _take_back(self, num_idle: int) -> None:
    """Requests that wait in busy lanes go to idle lanes, the most first."""
    requests = self._slots.requests
    number, taken = partitioning.to_host((requests.number, requests.taken))
    by_waiting = sorted(self._jobs, key=lambda at: taken[at] - number[at])
    for at in by_waiting[:num_idle]:
      # Fewer begin soon where they are.
      if number[at] - taken[at] <= self._rows_per_lane // 2:
        return
      job = self._jobs[at]
      rest = _part(job, range(taken[at], number[at]))
      is_cancelled = np.zeros_like(self._is_open)
      is_cancelled[at][taken[at] : number[at]] = True
      self._cancel(is_cancelled)
      self._waiting += _split(rest, 2, 1)

  def _resize(self) -> None:
    """Half of the rows, or fewer, once what is left has room in them.

    And more again where more has been submitted since. With half of the rows a
    step takes half of the time; each half is a compiled program of its own.
    Only among numbers of rows that round alike.
    """
    if not self._may_resize:
      return
    num_left = np.sum(self._is_open, axis=(1, 2))  # Of a lane, [P].
    num_waiting = sum(len(job.indices) for job in self._waiting)
    lanes, rows = self._shape.num_lanes, self._shape.rows_per_lane
    while (
      rows % 2 == 0
      and rows // 2 >= self._fewest_per_lane
      and lanes * rows // 2 >= self._fewest_rows
      and num_left.max() <= rows // 2
      and num_left.sum() + num_waiting <= lanes * rows // 2
    ):
      rows //= 2
    if rows != self._rows_per_lane:
      self._slots = self._engine.resize(self._params)(
        self._slots, rows_per_lane=rows
      )
      self._rows_per_lane = rows

  def _fill(self) -> None:
    """Jobs that wait move into places that are free, where least is to do.

    Also behind rows that are all busy: once one is free, its next sample has
    to be there, since a step of the run is many tokens.
    """
    while self._waiting:
      is_free = ~np.any(self._is_open, axis=2)  # [P, C]
      to_do = np.sum(self._is_open, axis=(1, 2))
      lane = int(np.argmin(np.where(is_free.any(axis=1), to_do, np.inf)))
      if not is_free[lane].any():
        return
      place = int(np.argmax(is_free[lane]))
      self._insert(self._waiting.popleft(), lane, place)

  def _insert(self, job: Job, lane: int, place: int) -> None:
    (keys, values), row = self._prefill(job)
    shape = self._shape
    number = len(job.indices)
    indices = np.zeros(shape.num_requests, np.int32)
    limits = np.zeros(shape.num_requests, np.int32)
    indices[:number], limits[:number] = job.indices, job.max_tokens
    self._slots = self._engine.insert(self._params)(
      self._slots,
      keys,
      values,
      row,
      lane,
      place,
      length=len(job.tokens) - 1,
      last_token=job.tokens[-1],
      number=number,
      order=self.work.num_inserted,
      key=self._key,
      prompt_hash=np.uint32(job.prompt_hash),
      indices=indices,
      max_tokens=limits,
    )
    self.work.num_inserted += 1
    self._jobs[lane, place] = job
    self._is_open[lane, place] = np.arange(shape.num_requests) < number

  def _prefill(self, job: Job) -> tuple[Any, int]:
    """Keys and values of a batch of prompts, and the job's row in it.

    A prompt is padded to a length that depends on its own alone, so that it
    has the same bits in whatever company.
    """
    if job.name not in self._prefilled:
      padded = _padded(len(job.tokens), self._shape.prompt_capacity)
      chosen = [job]
      for other in self._waiting:
        is_new = other.name not in {one.name for one in chosen}
        of_length = _padded(len(other.tokens), self._shape.prompt_capacity)
        if is_new and of_length == padded:
          chosen.append(other)
        if len(chosen) == _PREFILLED:
          break
      prompts = np.zeros((_PREFILLED, padded), np.int32)
      for row, one in enumerate(chosen):
        prompts[row, : len(one.tokens)] = one.tokens
      keys_values = self._engine.prefill(self._params)(self._params, prompts)
      self._prefilled = {
        one.name: (keys_values, row) for row, one in enumerate(chosen)
      }
    return self._prefilled[job.name]

  def _samples(
    self, at: np.ndarray, num_tokens: np.ndarray, has_ended: np.ndarray
  ) -> list[Sample]:
    """What requests [n, 3] have so far, `num_tokens` [n] each."""
    results = self._slots.results
    samples = []
    for start in range(0, len(at), _FETCHED):
      chosen = np.zeros((_FETCHED, 3), np.int32)
      last = min(start + _FETCHED, len(at))
      chosen[: last - start] = at[start:last]
      tokens, log_probs = partitioning.to_host(
        _gather(results.tokens, results.log_probs, chosen)
      )
      for row, which in enumerate(range(start, last)):
        lane, place, number = map(int, at[which])
        job, length = self._jobs[lane, place], int(num_tokens[which])
        samples.append(
          Sample(
            name=job.name,
            index=job.indices[number],
            tokens=tokens[row, :length],
            log_probs=log_probs[row, :length],
            has_ended=bool(has_ended[which]),
          )
        )
    return samples


def _advance(model, params, state, *, next_token, num_steps):
  state, counts = generate.advance(
    functools.partial(model.decode_step, params),
    state,
    next_token=next_token,
    eos_id=model.vocabulary.eos_id,
    num_steps=num_steps,
  )
  return decoder_model.laid_out(state), counts


def _resize(state, *, rows_per_lane):
  return decoder_model.laid_out(slots.resize(state, rows_per_lane))


def _insert(
  state,
  keys,
  values,
  row,
  lane,
  place,
  *,
  length,
  key,
  prompt_hash,
  indices,
  **job,
):
  pick = functools.partial(
    jax.lax.dynamic_index_in_dim, index=row, axis=1, keepdims=False
  )
  cache = state.cache.insert(pick(keys), pick(values), length, lane, place)
  state = slots.submit(
    dataclasses.replace(state, cache=cache),
    lane,
    place,
    keys=jax.random.key_data(request_keys(key, prompt_hash, indices)),
    is_greedy=indices == records.GREEDY_INDEX,
    **job,
  )
  return decoder_model.laid_out(state)


def request_keys(
  key: Key[Array, ""], prompt_hash: Array, indices: Array
) -> Key[Array, " Q"]:
  """The random key of each sample of a prompt."""
  of_prompt = jax.random.fold_in(key, prompt_hash)
  return jax.vmap(jax.random.fold_in, (None, 0))(
    of_prompt, indices.astype(jnp.uint32)
  )


@jax.jit
def _gather(tokens, log_probs, at):
  at = tuple(at.T)
  return tokens[at], log_probs[at]


def _padded(length: int, capacity: int) -> int:
  padded = _SHORTEST
  while padded < length:
    padded *= 2
  return min(padded, capacity)


def _without(job: Job, indices: Collection[int]) -> Job:
  kept = [i for i, index in enumerate(job.indices) if index not in indices]
  return _part(job, kept)


def _split(job: Job, num_parts: int, smallest: int) -> list[Job]:
  """A job as several of about the same size, none below `smallest`."""
  size = len(job.indices)
  num_parts = max(1, min(num_parts, size // smallest))
  cuts = [round(i * size / num_parts) for i in range(num_parts + 1)]
  return [
    _part(job, range(first, last))
    for first, last in zip(cuts, cuts[1:], strict=False)
  ]


def _part(job: Job, places: Iterable[int]) -> Job:
  places = list(places)
  return dataclasses.replace(
    job,
    indices=[job.indices[i] for i in places],
    max_tokens=[job.max_tokens[i] for i in places],
  )
