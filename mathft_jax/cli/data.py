"""`mathft data`: prepares rows for training and shows what a model sees."""

import argparse
import collections
import importlib
import pathlib
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mathft_jax.cli import errors, third_party_logs
from mathft_jax.grading import grader
from mathft_jax.records import SolvedProblem
from mathft_jax.sources import (
  download,
  gsm8k,
  hendrycks_math,
  json_lines,
  prm800k,
  raw_rows,
  splits,
)

if TYPE_CHECKING:  # Preparing must not wait for TensorFlow.
  import seqio

_LeftOut = raw_rows.BadRow | prm800k.Dropped | splits.Leak
_Read = Callable[
  [argparse.Namespace, list[_LeftOut], raw_rows.OnBadRow | None],
  Iterator[SolvedProblem],
]

_SOURCES: Mapping[str, _Read] = {
  "math": lambda args, left_out, on_bad_row: hendrycks_math.read(
    args.input, on_bad_row
  ),
  "prm800k": lambda args, left_out, on_bad_row: prm800k.read(
    args.input,
    grader.is_equivalent,
    left_out.append,
    math=args.math and _math_rows(args.math),
    on_bad_row=on_bad_row,
  ),
  "gsm8k": lambda args, left_out, on_bad_row: gsm8k.read(
    args.input, on_bad_row
  ),
  "json": lambda args, left_out, on_bad_row: json_lines.read(
    args.input, dict(args.field), on_bad_row
  ),
}


def main(argv: Sequence[str]) -> int:
  """Runs `mathft data prepare` or `mathft data show`."""
  args = _parser().parse_args(argv)
  return errors.exit_code("mathft data", lambda: args.run(args))


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser("mathft data", description=__doc__)
  commands = parser.add_subparsers(required=True)

  prepare = commands.add_parser(
    "prepare", help="writes train, validation and test.jsonl of a source"
  )
  prepare.set_defaults(run=_prepare)
  prepare.add_argument("--source", required=True, choices=sorted(_SOURCES))
  files = prepare.add_mutually_exclusive_group(required=True)
  files.add_argument(
    "--input", type=pathlib.Path, metavar="DIR",
    help="the source's own files; for json, a file or a directory",
  )  # fmt: skip
  files.add_argument(
    "--download", nargs="?", type=pathlib.Path, metavar="DIR",
    const=pathlib.Path("~/.cache/mathft"),
    help="fetches the published files into DIR/SOURCE, unless they are there,"
    " and verifies them (default of DIR: %(const)s)",
  )  # fmt: skip
  prepare.add_argument(
    "--mirror", metavar="URL",
    help="for --download: a host that has the files under the same paths",
  )  # fmt: skip
  prepare.add_argument(
    "--output", required=True, type=pathlib.Path, metavar="DIR",
    help="where the rows are written",
  )  # fmt: skip
  prepare.add_argument(
    "--math", type=pathlib.Path, metavar="DIR",
    help="for prm800k: MATH, as --input of math or as prepared; the release of"
    " PRM800K takes problem ids and splits from it (default: math_splits"
    " beside its folder, as in a clone)",
  )  # fmt: skip
  prepare.add_argument(
    "--against", action="append", default=[], metavar="DIR",
    help="prepared rows of another source, whose validation and test problems"
    " are kept out of training too; may be given several times",
  )  # fmt: skip
  prepare.add_argument(
    "--field", action="append", default=[], type=_name_and_value,
    metavar="OURS=THEIRS",
    help="for json: what a field is called in the file, as problem=question",
  )  # fmt: skip
  prepare.add_argument(
    "--skip_bad_rows", action="store_true",
    help="lists malformed rows in left_out.jsonl and goes on, where otherwise"
    " the first is an error",
  )  # fmt: skip
  prepare.add_argument(
    "--vocabulary", default="math_2k", metavar="NAME_OR_FILE",
    help="counts lengths in its tokens (default: %(default)s)",
  )  # fmt: skip

  show = commands.add_parser(
    "show", help="prints examples of a task as a model sees them"
  )
  show.set_defaults(run=_show)
  show.add_argument("task", help="a registered task or mixture")
  show.add_argument(
    "--data", action="append", default=[], type=_name_and_value,
    metavar="SOURCE=DIR", help="where a source's prepared rows lie",
  )  # fmt: skip
  show.add_argument("--split", default="train")
  show.add_argument("--num_examples", default=3, type=int)
  show.add_argument(
    "--vocabulary", metavar="NAME_OR_FILE", help="replaces the task's own"
  )
  return parser


def _name_and_value(text: str) -> tuple[str, str]:
  name, mark, value = text.partition("=")
  if not (name and mark and value):
    raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
  return name, value


def _math_rows(directory: pathlib.Path) -> Iterator[SolvedProblem]:
  """MATH's rows from its own files or from prepared ones."""
  is_prepared = bool(raw_rows.find(directory, "validation"))
  read = json_lines.read if is_prepared else hendrycks_math.read
  return read(directory)


def _prepare(args: argparse.Namespace) -> int:
  _check_flags(args)
  if args.download:
    args.input = args.download.expanduser() / args.source
    download.fetch_all(args.source, args.input, args.mirror)
  left_out: list[_LeftOut] = []
  on_bad_row = left_out.append if args.skip_bad_rows else None
  rows = list(_SOURCES[args.source](args, left_out, on_bad_row))
  bad_rows = [one for one in left_out if isinstance(one, raw_rows.BadRow)]
  if bad_rows and len(bad_rows) == len(left_out) and not rows:
    raise ValueError(
      f"all {len(bad_rows)} rows are malformed; the first, {bad_rows[0].file}:"
      f"{bad_rows[0].line}: {bad_rows[0].reason}"
    )
  held_out = [
    row
    for directory in args.against
    for split in ("validation", "test")
    for row in json_lines.read_split(directory, split)
  ]
  by_split, leaks = splits.without_leaks(rows, held_out)
  json_lines.write_splits(args.output, by_split)
  json_lines.write_left_out(args.output, [*left_out, *leaks])
  print("\n".join(_table(args, by_split)))
  print(_summary(args, len(rows), left_out, leaks))
  return 0


def _check_flags(args: argparse.Namespace) -> None:
  """Raises ValueError for a flag that would change nothing."""
  if args.download and args.source not in download.FILES:
    raise ValueError(f"--source {args.source} has no files to download")
  for flag, is_used in (
    ("--math", not args.math or args.source == "prm800k"),
    ("--field", not args.field or args.source == "json"),
    ("--mirror", not args.mirror or args.download),
  ):
    if not is_used:
      raise ValueError(f"{flag} is given but not used here; see --help")


def _summary(
  args: argparse.Namespace,
  num_rows: int,
  left_out: Sequence[_LeftOut],
  leaks: Sequence[splits.Leak],
) -> str:
  """Returns what was left out, counted by reason."""
  kinds = collections.Counter(
    one.kind if isinstance(one, prm800k.Dropped) else "malformed"
    for one in left_out
  )
  num_leaks = sum(leak.is_dropped for leak in leaks)
  counts = {
    "malformed rows": kinds["malformed"],
    "solutions that are not correct": kinds["incorrect"],
    "solutions that stand there twice": kinds["duplicate"],
    "solutions whose problem is not in MATH": kinds["not in MATH"],
    "training or validation problems that a later split holds": num_leaks,
  }
  told = [f"{number:,} {what}" for what, number in counts.items() if number]
  return (
    f"Left out: {', '.join(told) or 'nothing'}"
    f" (read: {num_rows + len(left_out):,} rows). Listed, but left in:"
    f" {len(leaks) - num_leaks} validation problems that resemble a test"
    f" problem. See {args.output / 'left_out.jsonl'}."
  )


def _table(
  args: argparse.Namespace, by_split: Mapping[str, Sequence[SolvedProblem]]
) -> Iterator[str]:
  """Yields the lines of Table 1 for one source."""
  third_party_logs.import_tensorflow()
  from mathft_jax.data import vocabulary

  encode = vocabulary.load_vocabulary(args.vocabulary).encode
  yield f"{args.source}, lengths in tokens of {args.vocabulary}:"
  yield (
    f"{'split':<12}{'solutions':>10}{'problems':>10}"
    f"{'problem length':>16}{'solution length':>17}"
  )
  for split, rows in by_split.items():
    problem = _mean(len(encode(row.problem.text)) for row in rows)
    solution = _mean(len(encode(row.solution)) for row in rows)
    num_problems = len({row.problem.problem_id for row in rows})
    yield (
      f"{split:<12}{len(rows):>10,}{num_problems:>10,}"
      f"{problem:>16.1f}{solution:>17.1f}"
    )


def _mean(values: Iterable[int]) -> float:
  values = list(values)
  return sum(values) / len(values) if values else float("nan")


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
