"""`mathft data show`: what a model sees of a task."""

import argparse
import collections
import importlib
import itertools
import pathlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from mathft_jax.cli import data_prepare, errors, third_party_logs
from mathft_jax.report import lengths

if TYPE_CHECKING:  # The other commands must not wait for TensorFlow.
  import seqio

_Value = TypeVar("_Value")

# Examples that TensorFlow hands over at a time.
_BATCH = 1024


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of `mathft data show` and what runs with them."""
  parser.set_defaults(run=_show)
  parser.add_argument("task", help="a registered task or mixture")
  parser.add_argument(
    "--data", action="append", default=[], type=data_prepare.name_and_value,
    metavar="SOURCE=DIR", help="where a source's prepared rows lie",
  )  # fmt: skip
  parser.add_argument("--split", default="train")
  parser.add_argument(
    "--num_examples", default=3, type=_count,
    help="examples to print (default: %(default)s)",
  )  # fmt: skip
  parser.add_argument(
    "--vocabulary", metavar="NAME_OR_PATH", help="replaces the task's own"
  )
  parser.add_argument(
    "--num_lengths", default=10_000, type=_count, metavar="N",
    help="of the first N examples, tells how long they are (default:"
    " %(default)s)",
  )  # fmt: skip
  parser.add_argument(
    "--length", action="append", default=[], type=_name_and_count,
    metavar="FEATURE=TOKENS",
    help="counts examples that are longer, as inputs=512; a run leaves them"
    " out (TASK_FEATURE_LENGTHS)",
  )  # fmt: skip
  parser.add_argument(
    "--histogram", type=pathlib.Path, metavar="FILE",
    help=f"draws the lengths into a file ({', '.join(lengths.SUFFIXES)})",
  )  # fmt: skip


def _show(args: argparse.Namespace) -> int:
  data, limits = _once(args.data, "--data"), _once(args.length, "--length")
  if args.histogram:
    lengths.check_suffix(args.histogram)
    if not args.num_lengths:
      raise ValueError("--histogram needs lengths; --num_lengths is 0")
  provider = _provider(args)
  unknown = sorted(limits.keys() - provider.output_features.keys())
  if unknown:
    raise ValueError(
      f"--length {unknown[0]}: {args.task} has no such feature, only"
      f" {', '.join(provider.output_features)}"
    )
  dataset = _dataset(args, provider, data)
  for number, lines in enumerate(
    _shown(dataset.take(args.num_examples), provider), start=1
  ):
    print(f"--- {args.task}, {args.split}, example {number}")
    print("\n".join(lines))
  if args.num_lengths:
    _print_lengths(args, dataset, limits)
  return 0


def _provider(args: argparse.Namespace) -> "seqio.Task | seqio.Mixture":
  """The task; ValueError for a name, split or vocabulary that is not there."""
  third_party_logs.import_tensorflow()
  import seqio

  from mathft_jax.data import features, vocabulary

  _register_all_tasks()
  names = [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]
  if args.task not in names:
    raise ValueError(
      f"no task or mixture {args.task!r}"
      f"{errors.did_you_mean(args.task, names)}; there are"
      f" {', '.join(sorted(names))}"
    )
  provider = seqio.get_mixture_or_task(args.task)
  if args.vocabulary:
    provider = features.with_vocabulary(
      provider, vocabulary.load_vocabulary(args.vocabulary)
    )
  if args.split not in provider.splits:
    raise ValueError(
      f"{args.task} has no split {args.split!r}, only"
      f" {', '.join(sorted(provider.splits))}"
    )
  return provider


def _dataset(
  args: argparse.Namespace,
  provider: "seqio.Task | seqio.Mixture",
  data: Mapping[str, str],
) -> Any:
  """Inputs and targets; ValueError for data that are not read for them."""
  from mathft_jax.data import locations

  locations.bind(data)
  with locations.watched() as read:
    dataset = provider.get_dataset(
      sequence_length=None,
      split=args.split,
      shuffle=False,
      num_epochs=1,
      # TensorFlow would warn that the cache is not filled to its end.
      try_in_mem_cache=False,
    )
  unused = sorted(data.keys() - read)
  if unused:
    raise ValueError(
      f"--data {unused[0]}=...: {args.task} does not read it"
      f"{errors.did_you_mean(unused[0], read)}; it reads"
      f" {', '.join(sorted(read)) or 'no files'}"
    )
  return dataset.map(
    lambda example: {name: example[name] for name in provider.output_features}
  )


# Examples ---------------------------------------------------------------------


def _shown(
  dataset: Any, provider: "seqio.Task | seqio.Mixture"
) -> Iterator[Iterator[str]]:
  """Yields the lines of each example, as the trainer's converter marks it."""
  from mathft_jax.data import converters, features

  examples = list(dataset.as_numpy_iterator())
  if not examples:
    return
  vocabulary = provider.output_features["targets"].vocabulary
  width = examples[0]["targets"].shape[1:]  # () of single sequences.
  converter = (
    converters.PairFeatureConverter(width=width[0])
    if width
    else converters.DecoderOnlyFeatureConverter(pack=False)
  )
  longest = {
    name: max(len(example[name]) for example in examples)
    for name in provider.output_features
  }
  rows = converter(dataset, longest).as_numpy_iterator()
  for example, row in zip(examples, rows, strict=True):
    sizes = {
      name: (values != features.NO_TOKEN).sum(axis=0)
      for name, values in example.items()
    }
    yield _lines(row, sizes, vocabulary, range(*width) if width else [...])


def _lines(
  row: Mapping[str, Any],
  sizes: Mapping[str, Any],
  vocabulary: "seqio.Vocabulary",
  places: Iterable[Any],
) -> Iterator[str]:
  """Yields inputs and targets of a row, or of each sequence of a group."""
  for place in places:
    tokens = row["decoder_target_tokens"][place]
    weights = row["decoder_loss_weights"][place]
    start = 0
    for name in ("inputs", "targets"):
      end = start + int(sizes[name][place])
      num_with_loss = int((weights[start:end] > 0).sum())
      yield (
        f"{name} ({end - start} tokens, {num_with_loss} with loss):"
        f" {_marked(tokens[start:end], weights[start:end], vocabulary)}"
      )
      start = end


def _marked(
  tokens: Sequence[int],
  weights: Sequence[float],
  vocabulary: "seqio.Vocabulary",
) -> str:
  """The tokens with bars between them, those with loss in brackets."""
  text = ""
  for place, (token, weight) in enumerate(zip(tokens, weights, strict=True)):
    piece = _piece(vocabulary, int(token))
    if weight > 0:
      text += f"[{piece}]"
    else:
      is_first = place == 0 or weights[place - 1] > 0
      text += piece if is_first else f"|{piece}"
  return text


def _piece(vocabulary: "seqio.Vocabulary", token: int) -> str:
  if token == vocabulary.eos_id:
    return "<eos>"
  # Alone, or at the start, a piece may lose its blank.
  before = list(vocabulary.encode("a"))
  text = vocabulary.decode([*before, token])[1:]
  # A piece of one byte is no character of its own, a control piece no text.
  if not text or "\ufffd" in text:
    return f"<{token}>"
  return text.replace("\n", "\\n")


# Lengths ----------------------------------------------------------------------


def _print_lengths(
  args: argparse.Namespace, dataset: Any, limits: Mapping[str, int]
) -> None:
  import numpy as np
  import tensorflow as tf

  found = collections.defaultdict(list)
  # One more, to know whether there are more.
  sizes = dataset.take(args.num_lengths + 1).map(
    lambda example: {k: tf.shape(v)[0] for k, v in example.items()},
    num_parallel_calls=tf.data.AUTOTUNE,
  )
  for batch in sizes.batch(_BATCH).as_numpy_iterator():
    for name, values in batch.items():
      found[name].append(values)
  if not found:
    print(f"{args.task} has no example in {args.split}.")
    return
  tokens = {k: np.concatenate(v)[: args.num_lengths] for k, v in found.items()}
  tokens["total"] = np.sum(list(tokens.values()), axis=0)
  num_examples = len(tokens["total"])
  is_all = sum(map(len, found["targets"])) <= args.num_lengths
  which = "all" if is_all else "the first"
  measured = lengths.Lengths(tokens, limits)
  title = f"{args.task}, {args.split}, {which} {num_examples:,} examples"
  print(f"--- {title}")
  print("\n".join(lengths.text(measured)))
  if limits:
    print(
      f"\n{measured.num_left_out():,} of {num_examples:,} examples are longer"
      " than allowed; a run would leave them out."
    )
  if args.histogram:
    lengths.write(measured, title, args.histogram)
    print(f"\nWrote {args.histogram}")


# Flags ------------------------------------------------------------------------


def _name_and_count(text: str) -> tuple[str, int]:
  name, value = data_prepare.name_and_value(text)
  return name, _count(value)


def _count(text: str) -> int:
  if not text.isdecimal():
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
  return int(text)


def _once(
  pairs: Sequence[tuple[str, _Value]], flag: str
) -> Mapping[str, _Value]:
  """The pairs by name; ValueError where one name would hide another's value."""
  names = sorted(name for name, _ in pairs)
  for name, other in itertools.pairwise(names):
    if name == other:
      raise ValueError(f"{flag} {name}=... is given twice; give it once")
  return dict(pairs)


def _register_all_tasks() -> None:
  tasks = importlib.import_module("mathft_jax.tasks")
  for module in pkgutil.iter_modules(tasks.__path__):
    importlib.import_module(f"mathft_jax.tasks.{module.name}")
