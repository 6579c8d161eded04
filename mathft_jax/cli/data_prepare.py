"""`mathft data prepare`: a source's files to rows that can be trained on."""

import argparse
import collections
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

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

# A text is the reason of a candidate, of which there are too many to list.
_LeftOut = raw_rows.BadRow | prm800k.Dropped | splits.Leak | str
_Read = Callable[
  [argparse.Namespace, list[_LeftOut], raw_rows.OnBadRow | None],
  Iterator[SolvedProblem],
]

_SOURCES: Mapping[str, _Read] = {
  "candidates": lambda args, left_out, on_bad_row: self_generated.read(
    args.input, args.max_per_problem or _MAX_PER_PROBLEM, left_out.append
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
  encode = _encoder(args.vocabulary)
  if args.download:
    args.input = args.download.expanduser() / args.source
    download.fetch_all(args.source, args.input, args.mirror)
  left_out: list[_LeftOut] = []
  on_bad_row = left_out.append if args.skip_bad_rows else None
  rows = list(_SOURCES[args.source](args, left_out, on_bad_row))
  num_read = len(rows) + len(left_out)
  _check_some_are_rows(args, left_out, rows)
  held_out = json_lines.held_out(args.against)
  by_split, leaks = splits.without_leaks(rows, held_out)
  left_out += leaks
  json_lines.write_splits(args.output, by_split)
  listed = [one for one in left_out if not isinstance(one, str)]
  json_lines.write_left_out(args.output, listed)
  kinds = _kinds(left_out)
  num_rows = collections.Counter(row.split for row in rows)
  table = data_table.lines(
    args.source,
    by_split,
    encode,
    args.vocabulary,
    num_rows,
    [*_reasons(args, len(rows), kinds)],
  )
  print("\n".join(table))
  print(_summary(num_read, kinds, leaks))
  if listed:
    which = "Each" if len(listed) == len(left_out) else "Each, but candidates,"
    print(f"{which} is listed in {args.output / 'left_out.jsonl'}.")
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
  if args.source == "candidates" and not args.against:
    raise ValueError(
      "candidates say not of which split their problems are; name the prepared"
      " rows whose validation and test problems are kept out, by --against"
    )
  named = [ours for ours, _ in args.field]
  twice = sorted({name for name in named if named.count(name) > 1})
  if twice:
    raise ValueError(f"--field {twice[0]}=... is given twice")
  if args.input and args.output.resolve() == args.input.resolve():
    raise ValueError(
      f"--output is {args.output}, as --input is, and would be written over;"
      " give another folder"
    )


def _check_some_are_rows(
  args: argparse.Namespace,
  left_out: Sequence[_LeftOut],
  rows: Sequence[SolvedProblem],
) -> None:
  if rows:
    return
  if not left_out:
    raise ValueError(f"{args.input} holds no row")
  first = next((x for x in left_out if isinstance(x, raw_rows.BadRow)), None)
  if first is None:
    raise ValueError(
      f"none of the {len(left_out):,} rows of {args.input} is left:"
      f" {_summary(len(left_out), _kinds(left_out))}"
    )
  raise ValueError(
    f"all {len(left_out):,} rows are malformed; the first, {first.file}:"
    f"{first.line}: {first.reason}"
  )


def _kinds(left_out: Iterable[_LeftOut]) -> Mapping[str, int]:
  """Counts rows by why they are left out."""
  kinds: collections.Counter[str] = collections.Counter()
  for one in left_out:
    if isinstance(one, splits.Leak):
      kinds[_LEAK if one.is_dropped else _RESEMBLING] += one.num_rows
    elif isinstance(one, raw_rows.BadRow):
      kinds[_MALFORMED] += 1
    else:
      kinds[one if isinstance(one, str) else one.kind] += 1
  return kinds


def _summary(
  num_read: int,
  kinds: Mapping[str, int],
  leaks: Sequence[splits.Leak] = (),
) -> str:
  """Returns what was left out, counted by reason."""
  words = {
    _MALFORMED: "malformed rows",
    "incorrect": "solutions that are not correct",
    "duplicate": "solutions that stand there twice",
    "not in MATH": "solutions whose problem is not in MATH",
    self_generated.INCORRECT: "candidates that are not correct",
    self_generated.CUT_OFF: "that were cut off",
    self_generated.REPEATED: "that repeat another",
    self_generated.SURPLUS: "beyond the most that are taken of a problem",
    _LEAK: "of training or validation whose problem a later split holds",
  }
  told = [
    f"{kinds[kind]:,} {word}" for kind, word in words.items() if kinds[kind]
  ]
  text = f"Left out of {num_read:,} rows: {', '.join(told) or 'nothing'}."
  by_id = sum(leak.kind == "id" for leak in leaks)
  if by_id:
    text += (
      f" {by_id} problems have the id of a held-out one and another text: if"
      " they are other problems, leave out their ids or change them."
    )
  if kinds[_RESEMBLING]:
    text += (
      f" Left in: {kinds[_RESEMBLING]} of validation whose problem resembles a"
      " test problem."
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


def _encoder(vocabulary_name: str) -> Callable[[str], Sequence[int]]:
  third_party_logs.import_tensorflow()
  from mathft_jax.data import vocabulary

  return vocabulary.load_vocabulary(vocabulary_name).encode
