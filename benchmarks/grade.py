"""Accuracy and speed of the grader beside public ones, in one run.

  python benchmarks/grade.py --prm800k CHECKOUT --shared ../shared

Math-Verify takes part where it is installed (pip install math-verify), the
grader of PRM800K where a checkout of its repository is given (it needs
pylatexenc). Each grader runs in this process, one pair after the other, with
fresh caches; none may take more than five seconds for a pair. Pairs:

- the pairs with people's verdicts in tests/grading/cases;
- each MATH reference answer against forms of itself that mean the same;
- MATH-500 samples against their references, where nobody's verdict is known and
  graders are compared with each other.

Verdicts that differ from ours go to --disagreements.
"""

import argparse
import dataclasses
import gzip
import importlib.metadata
import json
import os
import pathlib
import platform
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from mathft_jax.grading import extract, grader

_ROOT = pathlib.Path(__file__).parents[1]
_TIME_LIMIT_S = 5
_SEED = 0


@dataclasses.dataclass(frozen=True)
class Pair:
  """`is_same` is None where no verdict is known."""

  reference: str
  candidate: str
  is_same: bool | None
  category: str


Grader = Callable[[str, str], bool]


def main(argv: Sequence[str] | None = None) -> None:
  args = _parser().parse_args(argv)
  graders = _graders(args.prm800k)
  sets = {"pairs with people's verdicts": list(_cases())}
  if args.shared.is_dir():
    sets["MATH answers, rewritten"] = list(_rewritten(args.shared))
    sets["MATH-500 samples"] = list(_samples(args.shared))
  else:
    print(f"{args.shared} is not there: no MATH answers, no samples")
  _print_versions()
  with open(args.disagreements, "w", encoding="utf-8") as output:
    for name, pairs in sets.items():
      if len(pairs) > args.num_pairs:
        pairs = random.Random(_SEED).sample(pairs, args.num_pairs)
      _compare(name, pairs, graders, output)
  print(f"\nDisagreements: {args.disagreements}")


def _compare(name, pairs: list[Pair], graders: dict[str, Grader], output):
  known = [pair.is_same for pair in pairs if pair.is_same is not None]
  print(f"\n{name}: {len(pairs)} pairs, {sum(known)} of {len(known)} the same")
  print(f"{'':20} {'right':>7} {'missed':>7} {'wrong':>6} {'pairs/s':>9} ratio")
  verdicts, speeds = {}, {}
  for label, is_same in graders.items():
    start = time.perf_counter()
    found = [_bounded(is_same, pair) for pair in pairs]
    seconds = time.perf_counter() - start
    verdicts[label], speeds[label] = found, len(pairs) / seconds
    both = [
      (verdict, pair.is_same)
      for verdict, pair in zip(found, pairs, strict=True)
      if pair.is_same is not None
    ]
    missed = sum(truth and not verdict for verdict, truth in both)
    wrong = sum(verdict and not truth for verdict, truth in both)
    right = f"{1 - (missed + wrong) / len(both):7.1%}" if both else "      -"
    ours = speeds["mathft"] / speeds[label]
    print(
      f"{label:20} {right} {missed:7} {wrong:6} {speeds[label]:9,.0f}"
      f" {ours:5.1f}"
    )
  for label in graders:
    differing = [
      index
      for index, verdict in enumerate(verdicts[label])
      if verdict != verdicts["mathft"][index]
    ]
    if label != "mathft":
      print(f"{label} differs from mathft on {len(differing)}")
    for index in differing:
      pair = pairs[index]
      row = {
        "set": name,
        "grader": label,
        "its_verdict": verdicts[label][index],
        "our_verdict": verdicts["mathft"][index],
        "our_stage": grader.grade(pair.reference, pair.candidate).decided_by,
        **dataclasses.asdict(pair),
      }
      output.write(json.dumps(row, ensure_ascii=False) + "\n")


def _bounded(is_same: Grader, pair: Pair) -> bool:
  """A grader's verdict; False if it fails, or takes too long."""

  def stop(*unused):
    raise TimeoutError

  signal.signal(signal.SIGALRM, stop)
  signal.alarm(_TIME_LIMIT_S)
  try:
    return bool(is_same(pair.reference, pair.candidate))
  except Exception:
    return False
  finally:
    signal.alarm(0)


def _graders(prm800k: pathlib.Path | None) -> dict[str, Grader]:
  grader.grade("0", "\\sin\\pi")  # Starts the worker, which is not measured.
  found: dict[str, Grader] = {"mathft": grader.is_equivalent}
  if prm800k is not None:
    sys.path.insert(0, str(prm800k / "prm800k"))
    from grading import grader as theirs  # pyright: ignore

    found["PRM800K"] = lambda reference, candidate: theirs.grade_answer(
      candidate, reference
    )
  try:
    import math_verify  # pyright: ignore
  except ImportError:
    print("math-verify is not installed")
    return found

  def verify(reference: str, candidate: str) -> bool:
    gold, given = (
      math_verify.parse(f"${text}$", parsing_timeout=None)
      for text in (reference, candidate)
    )
    return math_verify.verify(gold, given, timeout_seconds=None)

  found["Math-Verify"] = verify
  return found


def _cases() -> Iterator[Pair]:
  for path in sorted((_ROOT / "tests" / "grading" / "cases").glob("*.jsonl")):
    for line in path.read_text(encoding="utf-8").split("\n"):
      if line:
        row = json.loads(line)
        yield Pair(
          row["reference"], row["candidate"], row["equivalent"], row["category"]
        )


def _rewritten(shared: pathlib.Path) -> Iterator[Pair]:
  for row in _rows(shared / "data" / "math" / "lightman_split.jsonl.gz"):
    answer = row["answer"].strip()
    if not answer:
      continue
    for name, form in (
      ("box", f"\\boxed{{{answer}}}"),
      ("display", answer.replace("\\frac", "\\dfrac")),
      ("sized", answer.replace("(", "\\left(").replace(")", "\\right)")),
      ("sentence", f"The answer is ${answer}$."),
    ):
      if form.replace("\\left\\left", "\\left") == form != answer:
        yield Pair(answer, form, True, name)


def _samples(shared: pathlib.Path) -> Iterator[Pair]:
  data = shared / "data"
  references = {
    row["unique_id"]: row["answer"]
    for row in _rows(data / "math" / "lightman_test500.jsonl.gz")
  }
  name = "strictprm_math500_n32_even.jsonl.gz"
  for row in _rows(data / "samples" / name):
    for candidate in row["candidates"]:
      text = candidate["raw_text"].split("\nassistant\n", 1)[-1]
      answer = extract.extract_answer(text)
      if answer is not None:
        yield Pair(references[row["unique_id"]], answer, None, "sample")


def _rows(path: pathlib.Path) -> Iterator[dict]:
  with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
    yield from map(json.loads, lines)


def _print_versions() -> None:
  versions = [f"Python {platform.python_version()}", grader.GRADER]
  for package in ("sympy", "math-verify"):
    try:
      versions.append(f"{package} {importlib.metadata.version(package)}")
    except importlib.metadata.PackageNotFoundError:
      pass
  print(", ".join(versions) + f", {os.cpu_count()} cores, one process each")


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--prm800k", type=pathlib.Path)
  parser.add_argument(
    "--shared",
    type=pathlib.Path,
    default=pathlib.Path(os.environ.get("MATHFT_SHARED", "../shared")),
  )
  parser.add_argument("--num_pairs", type=int, default=5_000)
  parser.add_argument("--disagreements", default="disagreements.jsonl")
  return parser


if __name__ == "__main__":
  main()
