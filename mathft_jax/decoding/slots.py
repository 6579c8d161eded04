"""Rows of a running batch: requests take free ones, and leave results."""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from mathft_jax.decoding import prefix_cache
from mathft_jax.decoding.prefix_cache import AnyArray

# The request of a row that has none.
FREE = -1


@flax.struct.dataclass
class Requests:
  """What is wanted of the prompts of P lanes with C places each.

  Of Q requests a place has the first `number`, and `taken` of them have begun.
  Each has a random key of its own. A lane's places are served in rising
  `order`. `last_tokens` are the prompts' last tokens, which the cache does not
  hold: a request begins with them.
  """

  last_tokens: Int[AnyArray, "*P C"]
  number: Int[AnyArray, "*P C"]
  taken: Int[AnyArray, "*P C"]
  order: Int[AnyArray, "*P C"]
  keys: UInt32[AnyArray, "*P C Q 2"]
  is_greedy: Bool[AnyArray, "*P C Q"]
  max_tokens: Int[AnyArray, "*P C Q"]


@flax.struct.dataclass
class Results:
  """What requests have generated.

  `num_tokens`, EOS included, is 0 until a request has ended; its tokens stand
  there as they come, EOS among them, and their log-probabilities under the
  model itself, in nats. `has_ended` is False where the limit ended it.
  """

  tokens: Int[AnyArray, "*P C Q S"]
  log_probs: Float[AnyArray, "*P C Q S"]
  num_tokens: Int[AnyArray, "*P C Q"]
  has_ended: Bool[AnyArray, "*P C Q"]


@flax.struct.dataclass
class Slots:
  """B = P * R rows, the requests that they work on, and what came of these.

  Row b has the request `request[b]` of the place `cache.places[b]` of its lane.
  `tokens` go into the next step; `keys`, `is_greedy` and `max_tokens` are the
  request's.
  """

  cache: prefix_cache.PrefixCache
  requests: Requests
  results: Results
  request: Int[AnyArray, " B"]
  tokens: Int[AnyArray, " B"]
  keys: UInt32[AnyArray, "B 2"]
  is_greedy: Bool[AnyArray, " B"]
  max_tokens: Int[AnyArray, " B"]

  @property
  def is_active(self) -> Bool[Array, " B"]:
    return self.request != FREE

  def has_work(self) -> Bool[Array, ""]:
    """Whether a request is running or waiting."""
    is_waiting = self.requests.taken < self.requests.number
    return jnp.any(self.is_active) | jnp.any(is_waiting)


def empty(cache: prefix_cache.PrefixCache, num_requests: int) -> Slots:
  """Free rows, with room for so many requests a place."""
  rows, places = cache.places.shape[0], cache.prefix_lengths.shape
  queue = (*places, num_requests)
  tokens = (*queue, cache.max_generated)
  return Slots(
    cache=cache,
    requests=Requests(
      last_tokens=jnp.zeros(places, jnp.int32),
      number=jnp.zeros(places, jnp.int32),
      taken=jnp.zeros(places, jnp.int32),
      order=jnp.zeros(places, jnp.int32),
      keys=jnp.zeros((*queue, 2), jnp.uint32),
      is_greedy=jnp.zeros(queue, bool),
      max_tokens=jnp.zeros(queue, jnp.int32),
    ),
    results=Results(
      tokens=jnp.zeros(tokens, jnp.int32),
      log_probs=jnp.zeros(tokens, jnp.float32),
      num_tokens=jnp.zeros(queue, jnp.int32),
      has_ended=jnp.zeros(queue, bool),
    ),
    request=jnp.full(rows, FREE, jnp.int32),
    tokens=jnp.zeros(rows, jnp.int32),
    keys=jnp.zeros((rows, 2), jnp.uint32),
    is_greedy=jnp.zeros(rows, bool),
    max_tokens=jnp.zeros(rows, jnp.int32),
  )


def submit(
  slots: Slots,
  lane: Int[Array, ""],
  place: Int[Array, ""],
  *,
  last_token: Int[Array, ""],
  number: Int[Array, ""],
  order: Int[Array, ""],
  keys: UInt32[Array, "Q 2"],
  is_greedy: Bool[Array, " Q"],
  max_tokens: Int[Array, " Q"],
) -> Slots:
  """Requests for the prompt that was inserted into a place of the cache."""
  at = lane, place
  old, results = slots.requests, slots.results
  return dataclasses.replace(
    slots,
    requests=Requests(
      last_tokens=old.last_tokens.at[at].set(last_token),
      number=old.number.at[at].set(number),
      taken=old.taken.at[at].set(0),
      order=old.order.at[at].set(order),
      keys=old.keys.at[at].set(keys),
      is_greedy=old.is_greedy.at[at].set(is_greedy),
      max_tokens=old.max_tokens.at[at].set(max_tokens),
    ),
    results=dataclasses.replace(
      results,
      num_tokens=results.num_tokens.at[at].set(0),
      has_ended=results.has_ended.at[at].set(False),
    ),
  )


def cancel(slots: Slots, is_cancelled: Bool[Array, "P C Q"]) -> Slots:
  """Frees the rows of these requests; those that wait never begin.

  Of a place's requests that wait all are cancelled, or none.
  """
  requests = slots.requests
  queue = jnp.arange(is_cancelled.shape[2])[None, None]
  waits = queue >= requests.taken[..., None]
  is_closed = jnp.any(is_cancelled & waits, axis=2)
  number = jnp.where(is_closed, requests.taken, requests.number)

  def of_lane(is_cancelled, place, request):
    return jnp.where(is_cancelled[place, request], FREE, request)

  lanes = slots.cache.num_lanes
  request = jax.vmap(of_lane)(
    is_cancelled,
    slots.cache.places.reshape(lanes, -1),
    slots.request.reshape(lanes, -1),
  )
  return dataclasses.replace(
    slots,
    requests=dataclasses.replace(requests, number=number),
    request=jnp.where(slots.is_active, request.reshape(-1), FREE),
  )


def resize(slots: Slots, rows_per_lane: int) -> Slots:
  """The same work on more or fewer rows; those that are free go first.

  A lane must not have more active rows than that.
  """
  lanes, before = slots.cache.num_lanes, slots.cache.rows_per_lane
  active = slots.is_active.reshape(lanes, before)
  kept = jnp.argsort(~active, axis=1)[:, :rows_per_lane]
  num_new = max(0, rows_per_lane - before)

  def of_lane(x, kept, value):
    new = jnp.full((num_new, *x.shape[1:]), value, x.dtype)
    return jnp.concatenate([x[kept], new])

  def rows(x, value=0):
    x = x.reshape(lanes, before, *x.shape[1:])
    x = jax.vmap(of_lane, (0, 0, None))(x, kept, value)
    return x.reshape(-1, *x.shape[2:])

  return dataclasses.replace(
    slots,
    cache=slots.cache.map_rows(rows),
    request=rows(slots.request, FREE),
    tokens=rows(slots.tokens),
    keys=rows(slots.keys),
    is_greedy=rows(slots.is_greedy),
    max_tokens=rows(slots.max_tokens),
  )


def refill(slots: Slots) -> Slots:
  """Each free row takes the next request of its lane, if one waits."""
  lanes = slots.cache.num_lanes

  def by_lane(of_rows):
    return of_rows.reshape(lanes, -1, *of_rows.shape[1:])

  def by_row(of_lanes):
    return of_lanes.reshape(-1, *of_lanes.shape[2:])

  takes, place, request, taken = jax.vmap(_assign)(
    slots.requests, by_lane(slots.is_active)
  )

  def of_lane(requests: Requests, place, request):
    return (
      requests.last_tokens[place],
      requests.keys[place, request],
      requests.is_greedy[place, request],
      requests.max_tokens[place, request],
    )

  tokens, keys, is_greedy, max_tokens = map(
    by_row, jax.vmap(of_lane)(slots.requests, place, request)
  )
  takes, place, request = map(by_row, (takes, place, request))
  cache = slots.cache
  return dataclasses.replace(
    slots,
    cache=dataclasses.replace(
      cache,
      places=jnp.where(takes, place, cache.places),
      num_generated=jnp.where(takes, 0, cache.num_generated),
    ),
    requests=dataclasses.replace(slots.requests, taken=taken),
    request=jnp.where(takes, request, slots.request),
    tokens=jnp.where(takes, tokens, slots.tokens),
    keys=jnp.where(takes[:, None], keys, slots.keys),
    is_greedy=jnp.where(takes, is_greedy, slots.is_greedy),
    max_tokens=jnp.where(takes, max_tokens, slots.max_tokens),
  )


def _assign(
  requests: Requests, is_active: Bool[Array, " R"]
) -> tuple[Array, Array, Array, Array]:
  """Of one lane: which rows take a request, of which place, which; `taken`.

  The k-th free row takes the k-th waiting request, place by place in order.
  """
  waiting = requests.number - requests.taken
  in_order = jnp.argsort(requests.order)
  ends = jnp.cumsum(waiting[in_order])
  rank = jnp.cumsum(~is_active) - 1  # Among the free rows.
  turn = jnp.sum(rank[:, None] >= ends[None], axis=1)
  takes = ~is_active & (turn < ends.shape[0])
  turn = jnp.minimum(turn, ends.shape[0] - 1)
  place = in_order[turn]
  before = (ends - waiting[in_order])[turn]
  request = requests.taken[place] + rank - before
  given = jnp.zeros_like(waiting).at[place].add(takes.astype(jnp.int32))
  return takes, place, request, requests.taken + given


def record(
  slots: Slots,
  drawn: Int[Array, " B"],
  log_probs: Float[Array, " B"],
  *,
  eos_id: int,
) -> Slots:
  """Each row's next token; a row whose request has ended becomes free."""
  lanes = slots.cache.num_lanes
  num_tokens = slots.cache.num_generated + 1
  has_ended = slots.is_active & (drawn == eos_id)
  is_done = slots.is_active & (has_ended | (num_tokens >= slots.max_tokens))
  # An index beyond the last is written nowhere.
  capacity = slots.results.num_tokens.shape[2]
  request = jnp.where(slots.is_active, slots.request, capacity)
  done = jnp.where(is_done, slots.request, capacity)

  def of_lane(results: Results, place, request, done, rows):
    drawn, log_probs, num_tokens, has_ended = rows
    here, ended = (place, request, num_tokens - 1), (place, done)
    return Results(
      tokens=results.tokens.at[here].set(drawn, mode="drop"),
      log_probs=results.log_probs.at[here].set(log_probs, mode="drop"),
      num_tokens=results.num_tokens.at[ended].set(num_tokens, mode="drop"),
      has_ended=results.has_ended.at[ended].set(has_ended, mode="drop"),
    )

  results = jax.vmap(of_lane)(
    slots.results,
    *jax.tree.map(
      lambda x: x.reshape(lanes, -1),
      (
        slots.cache.places,
        request,
        done,
        (drawn, log_probs, num_tokens, has_ended),
      ),
    ),
  )
  goes_on = slots.is_active & ~is_done
  return dataclasses.replace(
    slots,
    # A free row's steps count for nothing, and have to stay where there is
    # room for them.
    cache=dataclasses.replace(
      slots.cache, num_generated=jnp.where(goes_on, num_tokens, 0)
    ),
    results=results,
    request=jnp.where(goes_on, slots.request, FREE),
    tokens=drawn,
  )
