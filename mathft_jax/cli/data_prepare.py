"""`mathft data prepare`: a source's files to rows that can be trained on."""

import argparse
import collections
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from mathft_jax.cli import data_table, third_party_logs
from mathft_jax.data import self_generated
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

_NUM_MATH = 12_500
_MAX_PER_PROBLEM = 4

# What `left_out.jsonl` holds, beside the kinds of `prm800k.Dropped`.
_MALFORMED, _LEAK, _RESEMBLING = "malformed", "leak", "resembling"

_LeftOut = raw_rows.BadRow | prm800k.Dropped | splits.Leak
_Read = Callable[
  [argparse.Namespace, list[_LeftOut], raw_rows.OnBadRow | None],
  Iterator[SolvedProblem],
]

_SOURCES: Mapping[str, _Read] = {
  "candidates": lambda args, left_out, on_bad_row: self_generated.read(
    args.input, args.max_per_problem or _MAX_PER_PROBLEM
  ),
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


def add_flags(parser: argparse.ArgumentParser) -> None:
  parser.set_defaults(run=prepare)
  parser.add_argument("--source", required=True, choices=sorted(_SOURCES))
  files = parser.add_mutually_exclusive_group(required=True)
  files.add_argument(
    "--input", type=pathlib.Path, metavar="DIR",
    help="the source's own files; for json, a file or a directory; for"
    " candidates, a graded folder of a generator's own solutions",
  )  # fmt: skip
  files.add_argument(
    "--download", nargs="?", type=pathlib.Path, metavar="DIR",
    const=pathlib.Path("~/.cache/mathft"),
    help="fetches the published files into DIR/SOURCE, unless they are there,"
    " and verifies them (default of DIR: %(const)s)",
  )  # fmt: skip
  parser.add_argument(
    "--mirror", metavar="URL",
    help="for --download: a host that has the files under the same paths",
  )  # fmt: skip
  parser.add_argument(
    "--output", required=True, type=pathlib.Path, metavar="DIR",
    help="where the rows are written",
  )  # fmt: skip
  parser.add_argument(
    "--math", type=pathlib.Path, metavar="DIR",
    help="for prm800k: MATH, as --input of math or as prepared; the release of"
    " PRM800K takes problem ids and splits from it (default: math_splits"
    " beside its folder, as in a clone)",
  )  # fmt: skip
  parser.add_argument(
    "--against", action="append", default=[], metavar="DIR",
    help="prepared rows of another source, whose validation and test problems"
    " are kept out of training too; may be given several times",
  )  # fmt: skip
  parser.add_argument(
    "--field", action="append", default=[], type=name_and_value,
    metavar="OURS=THEIRS",
    help="for json: what a field is called in the file, as problem=question",
  )  # fmt: skip
  parser.add_argument(
    "--max_per_problem", type=int, metavar="K",
    help="for candidates: so many correct solutions of a problem at most"
    f" (default: {_MAX_PER_PROBLEM})",
  )  # fmt: skip
  parser.add_argument(
    "--skip_bad_rows", action="store_true",
    help="lists malformed rows in left_out.jsonl and goes on, where otherwise"
    " the first is an error",
  )  # fmt: skip
  parser.add_argument(
    "--vocabulary", default="math_2k", metavar="NAME_OR_FILE",
    help="counts lengths in its tokens (default: %(default)s)",
  )  # fmt: skip


def prepare(args: argparse.Namespace) -> int:
  """Writes the rows and what was left out; prints Table 1."""
  _check_flags(args)
  if args.download:
    args.input = args.download.expanduser() / args.source
    download.fetch_all(args.source, args.input, args.mirror)
  left_out: list[_LeftOut] = []
  on_bad_row = left_out.append if args.skip_bad_rows else None
  rows = list(_SOURCES[args.source](args, left_out, on_bad_row))
  num_read = len(rows) + len(left_out)
  _check_some_are_rows(left_out, num_read)
  held_out = [
    row
    for directory in args.against
    for split in ("validation", "test")
    for row in json_lines.read_split(directory, split)
  ]
  by_split, leaks = splits.without_leaks(rows, held_out)
  left_out += leaks
  json_lines.write_splits(args.output, by_split)
  json_lines.write_left_out(args.output, left_out)
  kinds = collections.Counter(map(_kind, left_out))
  num_rows = collections.Counter(row.split for row in rows)
  reasons = [*_reasons(args, len(rows), kinds)]
  print("\n".join(_table(args, by_split, num_rows, reasons)))
  print(_summary(num_read, kinds))
  if left_out:
    print(f"Each is listed in {args.output / 'left_out.jsonl'}.")
  return 0


def name_and_value(text: str) -> tuple[str, str]:
  """Parses a flag's "name=value"."""
  name, mark, value = text.partition("=")
  if not (name and mark and value):
    raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
  return name, value


def _check_flags(args: argparse.Namespace) -> None:
  """Raises ValueError for a flag that would change nothing."""
  if args.download and args.source not in download.FILES:
    raise ValueError(f"--source {args.source} has no files to download")
  if args.max_per_problem is not None and args.max_per_problem < 1:
    raise ValueError(f"--max_per_problem is {args.max_per_problem}, below 1")
  for flag, is_used in (
    ("--math", not args.math or args.source == "prm800k"),
    ("--field", not args.field or args.source == "json"),
    (
      "--max_per_problem",
      args.max_per_problem is None or args.source == "candidates",
    ),
    (
      "--skip_bad_rows",
      not args.skip_bad_rows or args.source != "candidates",
    ),
    ("--mirror", not args.mirror or args.download),
  ):
    if not is_used:
      raise ValueError(f"{flag} is given but not used here; see --help")


def _check_some_are_rows(left_out: Sequence[_LeftOut], num_read: int) -> None:
  bad_rows = [one for one in left_out if isinstance(one, raw_rows.BadRow)]
  if bad_rows and len(bad_rows) == num_read:
    first = bad_rows[0]
    raise ValueError(
      f"all {num_read:,} rows are malformed; the first, {first.file}:"
      f"{first.line}: {first.reason}"
    )


def _kind(left_out: _LeftOut) -> str:
  if isinstance(left_out, raw_rows.BadRow):
    return _MALFORMED
  if isinstance(left_out, splits.Leak):
    return _LEAK if left_out.is_dropped else _RESEMBLING
  return left_out.kind


def _summary(num_read: int, kinds: Mapping[str, int]) -> str:
  """Returns what was left out, counted by reason."""
  words = {
    _MALFORMED: "malformed rows",
    "incorrect": "solutions that are not correct",
    "duplicate": "solutions that stand there twice",
    "not in MATH": "solutions whose problem is not in MATH",
    _LEAK: "training or validation problems that a later split holds",
  }
  told = [
    f"{kinds[kind]:,} {word}" for kind, word in words.items() if kinds[kind]
  ]
  text = f"Left out of {num_read:,} rows: {', '.join(told) or 'nothing'}."
  if kinds[_RESEMBLING]:
    text += (
      f" Left in: {kinds[_RESEMBLING]} validation problems that resemble a test"
      " problem."
    )
  return text


def _reasons(
  args: argparse.Namespace, num_rows: int, kinds: Mapping[str, int]
) -> Iterator[str]:
  """Yields why there may be other solutions than in the paper's Table 1."""
  if args.source == "math" and num_rows != _NUM_MATH:
    yield f"the files at hand hold {num_rows:,} of {_NUM_MATH:,} problems"
  if args.source == "prm800k":
    yield (
      "the paper does not say how it chose and graded its solutions"
      if prm800k.is_whole(args.input)
      else "the files at hand are only a part of PRM800K"
    )
  if kinds[_MALFORMED]:
    yield f"{kinds[_MALFORMED]:,} rows are malformed"


def _math_rows(directory: pathlib.Path) -> Iterator[SolvedProblem]:
  """MATH's rows from its own files or from prepared ones."""
  is_prepared = bool(raw_rows.find(directory, "validation"))
  read = json_lines.read if is_prepared else hendrycks_math.read
  return read(directory)


def _table(
  args: argparse.Namespace,
  by_split: Mapping[str, Sequence[SolvedProblem]],
  num_rows: Mapping[str, int],
  reasons: Sequence[str],
) -> Iterator[str]:
  """Yields the lines of Table 1 for one source."""
  third_party_logs.import_tensorflow()
  from mathft_jax.data import vocabulary

  encode = vocabulary.load_vocabulary(args.vocabulary).encode
  return data_table.lines(
    args.source, by_split, encode, args.vocabulary, num_rows, reasons
  )
