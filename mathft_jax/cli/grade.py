"""`mathft grade`: grades and clusters the answers of candidates."""

import argparse
import collections
import os
import pathlib
import sys
from collections.abc import Sequence

import tqdm

from mathft_jax import records, samples
from mathft_jax.cli import errors
from mathft_jax.grading import explain, grader
from mathft_jax.rerank import clusters

_PROGRAM = "mathft grade"
_NOT_EQUIVALENT = 1
_MAX_SHOWN = 10
_OPTIONS_OF_PAIR = ("--reference", "--candidate")


def main(argv: Sequence[str] | None = None) -> int:
  """Grades a directory or one pair of answers; returns an exit code.

  For a pair 0 means equivalent and 1 not.
  """
  parser = _parser()
  args = parser.parse_args(_joined(sys.argv[1:] if argv is None else argv))
  is_pair = args.reference is not None and args.candidate is not None
  if is_pair == (args.candidates is not None) or (
    not is_pair and (args.reference, args.candidate) != (None, None)
  ):
    parser.error("give candidates, or both --reference and --candidate")
  if is_pair and (
    args.audit or args.no_cache or args.cache or args.output or args.num_workers
  ):
    parser.error(
      "--output, --audit, --cache, --no_cache and --num_workers are for"
      " candidates, not for a pair"
    )
  if args.no_cache and args.cache:
    parser.error("give --cache or --no_cache, not both")
  if args.explain and not is_pair:
    parser.error("--explain is for a pair: --reference and --candidate")
  if is_pair:
    return errors.exit_code(_PROGRAM, lambda: _grade_pair(args))
  return errors.exit_code(_PROGRAM, lambda: _grade_candidates(args))


def _joined(argv: Sequence[str]) -> list[str]:
  """Writes --candidate -x as --candidate=-x: answers may be negative."""
  joined: list[str] = []
  for argument in argv:
    is_negative = argument.startswith("-") and not argument.startswith("--")
    if is_negative and joined and joined[-1] in _OPTIONS_OF_PAIR:
      joined[-1] += f"={argument}"
    else:
      joined.append(argument)
  return joined


def _grade_pair(args: argparse.Namespace) -> int:
  grade = grader.grade(args.reference, args.candidate)
  print(
    f"{'equivalent' if grade.is_correct else 'not equivalent'}"
    f" (decided by {grade.decided_by})"
  )
  if args.explain:
    print("\n".join(explain.explain(args.reference, args.candidate)))
  return 0 if grade.is_correct else _NOT_EQUIVALENT


def _grade_candidates(args: argparse.Namespace) -> int:
  problems = samples.read_candidates(args.candidates)
  if not problems:
    raise ValueError(f"{args.candidates} holds no problem")
  output = args.output or _default_output(args.candidates)
  with samples.JsonLinesStore(output) as store:
    _check_resumable(output, problems, store.finished)
    left = [s for s in problems if s.problem.problem_id not in store.finished]
    if store.finished:
      print(f"{len(store.finished)} of {len(problems)} are graded already")
    num_workers = args.num_workers or os.cpu_count() or 1
    graded = clusters.grade_problems(left, num_workers, _cache(args))
    for problem in tqdm.tqdm(
      graded, total=len(left), unit="problem", file=sys.stderr
    ):
      store.append(problem.to_json())
  _print_summary(list(samples.read_grades(output).values()))
  if args.audit:
    _print_audit(problems)
  print(f"Grades: {output}")
  return 0


def _cache(args: argparse.Namespace) -> pathlib.Path | None:
  if args.no_cache:
    return None
  if args.cache is not None:
    return args.cache
  # As the XDG base directory specification has it.
  home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
  path = pathlib.Path(home) / "mathft" / "verdicts.sqlite"
  try:
    grader.use_cache(path)
  except ValueError as error:  # Nobody asked for it.
    print(f"{_PROGRAM}: no cache of verdicts: {error}", file=sys.stderr)
    return None
  return path


def _default_output(candidates: pathlib.Path) -> pathlib.Path:
  folder = candidates if candidates.is_dir() else candidates.parent
  return folder / samples.grades_name(grader.GRADER)


def _check_resumable(
  output: pathlib.Path,
  problems: Sequence[records.SampledProblem],
  finished: set[str],
) -> None:
  """Raises ValueError if the file holds grades of something else."""
  strange = finished - {s.problem.problem_id for s in problems}
  if strange:
    raise ValueError(
      f"{output} holds grades of other problems, such as {min(strange)!r};"
      " give another --output"
    )
  graded = samples.read_grades(output)
  versions = {g.grader for g in graded.values()}
  others = versions - {grader.version()}
  if others:
    raise ValueError(
      f"{output} was written by grader {min(others)}, and this is"
      f" {grader.version()}; delete it, or give another --output"
    )
  for sampled in problems:
    if sampled.problem.problem_id in graded:
      try:
        clusters.check_graded(sampled, graded[sampled.problem.problem_id])
      except ValueError as error:
        raise ValueError(f"{output}: {error}") from error


def _print_summary(graded: Sequence[records.GradedProblem]) -> None:
  grades = [
    grade
    for problem in graded
    for index, grade in problem.grades.items()
    if index != records.GREEDY_INDEX
  ]
  num_correct = sum(grade.is_correct for grade in grades)
  stages = collections.Counter(grade.decided_by for grade in grades)
  num_clusters = sum(len(problem.clusters) for problem in graded)
  print(
    f"{len(graded)} problems, {len(grades)} candidates: {num_correct} correct,"
    f" {num_clusters} clusters"
  )
  counts = (f"{stage} {number}" for stage, number in stages.most_common())
  print(f"Decided by: {', '.join(counts) or 'nothing'}")


def _print_audit(problems: Sequence[records.SampledProblem]) -> None:
  found = [
    (sampled.problem.problem_id, triple)
    for sampled in tqdm.tqdm(
      problems, desc="audit", unit="problem", file=sys.stderr
    )
    for triple in clusters.intransitive_triples(
      candidate.answer for candidate in sampled.candidates
    )
  ]
  num_problems = len({problem_id for problem_id, _ in found})
  print(
    f"Triples that are not transitive: {len(found)}, in {num_problems} problems"
  )
  for problem_id, triple in found[:_MAX_SHOWN]:
    print(
      f"  {problem_id}: {triple.middle!r} is {triple.first!r} and"
      f" {triple.second!r}, which are not the same"
    )
  if len(found) > _MAX_SHOWN:
    print(f"  and {len(found) - _MAX_SHOWN} more")


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog=_PROGRAM,
    description=(
      "Grades and clusters the answers of candidates, or compares one pair."
    ),
  )
  parser.add_argument(
    "candidates",
    nargs="?",
    type=pathlib.Path,
    metavar="DIR_OR_FILE",
    help="a directory of candidates, or one of its files",
  )
  parser.add_argument(
    "--output",
    type=pathlib.Path,
    metavar="FILE",
    help=(
      "the grades file, continued if it is there (default:"
      f" {samples.grades_name(grader.GRADER)} beside the candidates)"
    ),
  )
  parser.add_argument("--reference", help="the reference answer of a pair")
  parser.add_argument("--candidate", help="the other answer of a pair")
  parser.add_argument(
    "--explain",
    action="store_true",
    help="says how the two answers of a pair were understood",
  )
  parser.add_argument(
    "--cache",
    type=pathlib.Path,
    metavar="FILE",
    help=(
      "keeps verdicts that took long for later runs (default:"
      " mathft/verdicts.sqlite in the user's cache folder)"
    ),
  )
  parser.add_argument(
    "--no_cache", action="store_true", help="keeps and looks up no verdicts"
  )
  parser.add_argument(
    "--audit",
    action="store_true",
    help=(
      "counts and shows answers for which being the same is not transitive,"
      " where clusters depend on the order of the candidates"
    ),
  )
  parser.add_argument(
    "--num_workers",
    type=_positive,
    metavar="N",
    help=(
      "processes that grade candidates, from 200 problems on (default: one a"
      " core)"
    ),
  )
  return parser


def _positive(text: str) -> int:
  number = int(text)
  if number < 1:
    raise argparse.ArgumentTypeError(f"{number} is not positive")
  return number


if __name__ == "__main__":
  sys.exit(main())
