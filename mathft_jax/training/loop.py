"""The training loop: it knows time, and builds nothing that it drives."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
import tqdm

from mathft_jax import checkpoint
from mathft_jax.training import state as train_state

# (state, batch) -> (state, metrics), compiled
StepFn = Callable[[train_state.TrainState, Any], tuple[Any, Mapping[str, Any]]]


@runtime_checkable
class Stream(Protocol):
  """Batches that can be taken up where a checkpoint left them."""

  def __next__(self) -> Mapping[str, np.ndarray]: ...
  def state(self) -> Mapping[str, Any]: ...
  def restore(self, state: Mapping[str, Any]) -> None: ...


@runtime_checkable
class MetricWriter(Protocol):
  """Where numbers go: TensorBoard, metrics.jsonl."""

  def write(self, step: int, values: Mapping[str, float]) -> None: ...


def train(
  state: train_state.TrainState,
  *,
  step_fn: StepFn,
  stream: Stream,
  num_steps: int,
  evaluate: Callable[[Any], Mapping[str, float]],
  eval_period: int,
  checkpointer: checkpoint.Checkpointer,
  writer: MetricWriter,
  put_batch: Callable[[Mapping[str, np.ndarray]], Any],
  log_period: int = 50,
  name: str = "train",
  on_start: Callable[[], None] = lambda: None,
) -> train_state.TrainState:
  """Trains to `num_steps` and returns the last state.

  Goes on from the newest checkpoint of `checkpointer` where there is one.
  Every `eval_period` steps, and at the end, `evaluate(params)` runs, and a
  checkpoint is saved with its numbers, `checkpoint.BEST` among them. `on_start`
  is called once the checkpoint is found to be of the same stream.

  Raises FloatingPointError, which names the steps, if a loss or gradient was
  not finite; nothing was updated with it.
  """
  restored = checkpointer.restore_latest(_abstract(state))
  if restored is not None:
    state, stream_state = restored
    stream.restore(stream_state)
  on_start()
  start = int(state.step)
  window = _Window(start)
  progress = tqdm.tqdm(
    total=num_steps,
    initial=start,
    desc=name,
    unit="step",
    disable=not checkpoint.is_main_process(),
    mininterval=1.0,
  )
  with progress:
    for step in range(start + 1, num_steps + 1):
      batch = next(stream)
      state, metrics = step_fn(state, put_batch(batch))
      window.add(metrics, _num_tokens(batch))
      is_due = step % eval_period == 0 or step == num_steps
      if step % log_period == 0 or is_due:
        values = window.close(step)
        writer.write(step, values)
        progress.set_postfix(
          loss=f"{values['loss']:.3f}",
          tokens_per_s=f"{values['tokens_per_second']:,.0f}",
        )
      progress.update()
      if is_due:
        scores = evaluate(state.params)
        writer.write(step, scores)
        checkpointer.save(state, stream.state(), scores)
        window = _Window(step)  # Its clock leaves the evaluation out.
  return state


class _Window:
  """Metrics of the steps since the last log line, kept on the device."""

  def __init__(self, step: int):
    self._first_step = step + 1
    self._metrics: list[Mapping[str, Any]] = []
    self._num_tokens = 0
    self._start = time.perf_counter()

  def add(self, metrics: Mapping[str, Any], num_tokens: int) -> None:
    self._metrics.append(metrics)
    self._num_tokens += num_tokens

  def close(self, step: int) -> dict[str, float]:
    """The window's numbers; a new window begins after `step`."""
    host = jax.device_get(self._metrics)
    seconds = time.perf_counter() - self._start
    bad = [
      self._first_step + i
      for i, metrics in enumerate(host)
      if metrics["nonfinite"].compute()
    ]
    if bad:
      raise FloatingPointError(
        f"the loss or its gradient was NaN or Inf at step {bad[0]}"
        f" ({len(bad)} of the steps {self._first_step} to {step}); these"
        " updates were left out. Lower the learning rate, or look at the batch"
        f" of step {bad[0]} (the stream is the same on every start)"
      )
    values = {}
    for name in host[0]:
      total = host[0][name]
      for metrics in host[1:]:
        total = total.merge(metrics[name])
      values[name] = float(total.compute())
    values["tokens_per_second"] = self._num_tokens / seconds
    values["seconds_per_step"] = seconds / len(host)
    self.__init__(step)
    return values


def _num_tokens(batch: Mapping[str, np.ndarray]) -> int:
  """Tokens that are no padding; their ids do not tell, 0 may be one."""
  if "decoder_segment_ids" in batch:
    return int(np.count_nonzero(batch["decoder_segment_ids"]))
  # An example ends in its last target.
  has_loss = batch["decoder_loss_weights"] > 0
  lengths = has_loss.shape[-1] - has_loss[..., ::-1].argmax(axis=-1)
  return int(lengths[has_loss.any(axis=-1)].sum())


def _abstract(state: train_state.TrainState) -> train_state.TrainState:
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
    state,
  )
