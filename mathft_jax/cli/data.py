"""`mathft data`: prepares rows for training and shows what a model sees."""

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mathft_jax.cli import data_prepare, errors, third_party_logs

if TYPE_CHECKING:  # Preparing must not wait for TensorFlow.
  import seqio


def main(argv: Sequence[str]) -> int:
  """Runs `mathft data prepare` or `mathft data show`."""
  args = _parser().parse_args(argv)
  return errors.exit_code("mathft data", lambda: args.run(args))


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser("mathft data", description=__doc__)
  commands = parser.add_subparsers(required=True)
  data_prepare.add_flags(
    commands.add_parser(
      "prepare", help="writes train, validation and test.jsonl of a source"
    )
  )
  show = commands.add_parser(
    "show", help="prints examples of a task as a model sees them"
  )
  show.set_defaults(run=_show)
  show.add_argument("task", help="a registered task or mixture")
  show.add_argument(
    "--data", action="append", default=[], type=data_prepare.name_and_value,
    metavar="SOURCE=DIR", help="where a source's prepared rows lie",
  )  # fmt: skip
  show.add_argument("--split", default="train")
  show.add_argument("--num_examples", default=3, type=int)
  show.add_argument(
    "--vocabulary", metavar="NAME_OR_FILE", help="replaces the task's own"
  )
  return parser


def _show(args: argparse.Namespace) -> int:
  third_party_logs.import_tensorflow()
  import seqio

  from mathft_jax.data import features, locations, vocabulary

  _register_all_tasks()
  locations.bind(dict(args.data))
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
  dataset = provider.get_dataset(
    sequence_length=None, split=args.split, shuffle=False, num_epochs=1
  )
  examples = dataset.take(args.num_examples).as_numpy_iterator()
  for number, example in enumerate(examples, start=1):
    print(f"--- {args.task}, {args.split}, example {number}")
    for name, feature in provider.output_features.items():
      print("\n".join(_shown(name, example[name], feature.vocabulary)))
  return 0


def _shown(
  name: str, tokens: Any, vocabulary: "seqio.Vocabulary"
) -> Iterator[str]:
  """Yields the text and the tokens of a feature; a pair's halves in turn."""
  halves = tokens.T if tokens.ndim == 2 else [tokens]
  for half in halves:
    ids = [int(token) for token in half if token]
    pieces = "|".join(_piece(vocabulary, token) for token in ids)
    loss = "loss" if name == "targets" else "no loss"
    yield f"{name} ({len(ids)} tokens, {loss}): {pieces}"


def _piece(vocabulary: "seqio.Vocabulary", token: int) -> str:
  if token == vocabulary.eos_id:
    return "<eos>"
  text = vocabulary.decode([token])
  # A piece of one byte is no character of its own.
  return f"<{token}>" if "\ufffd" in text else text.replace("\n", "\\n")


def _register_all_tasks() -> None:
  tasks = importlib.import_module("mathft_jax.tasks")
  for module in pkgutil.iter_modules(tasks.__path__):
    importlib.import_module(f"mathft_jax.tasks.{module.name}")


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
