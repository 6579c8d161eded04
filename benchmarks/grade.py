"""Accuracy and speed of the grader beside public ones, in one run.

  python benchmarks/grade.py --prm800k CHECKOUT --shared ../shared

Math-Verify takes part where it is installed (pip install math-verify), the
grader of PRM800K where a checkout of its repository is given (it needs
pylatexenc). Each grader runs in a process of its own, one pair after the other,
with fresh caches. One that takes more than five seconds for a pair is killed,
which counts as "not the same", and goes on with the next. Pairs:

- the pairs with people's verdicts in tests/grading/cases;
- each MATH reference answer against forms of itself that mean the same;
- each against itself with its last digit raised by one, which does not;
- MATH-500 samples against their references, where nobody's verdict is known and
  graders are compared with each other.

Verdicts that differ from ours go to --disagreements. Then all samples of MATH
and GSM8K are graded and clustered, over all cores.
"""

import argparse
import dataclasses
import gzip
import importlib.metadata
import json
import logging
import multiprocessing
import os
import pathlib
import platform
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

from mathft_jax import records
from mathft_jax.grading import extract, grader
from mathft_jax.rerank import clusters

_ROOT = pathlib.Path(__file__).parents[1]
_TIME_LIMIT_S = 5
_POLL_S = 0.05
# Another program may disturb a short run, so it is repeated for the median.
_SHORT_S = 15
_NUM_RUNS = 5
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
    sets["MATH answers, another digit"] = list(_near_misses(args.shared))
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
  if args.shared.is_dir():
    _grade_and_cluster(args.shared)


def _grade_and_cluster(shared: pathlib.Path) -> None:
  """All samples of MATH and GSM8K, over all cores, without and with a cache."""
  problems = list(_problems(shared))
  num_candidates = sum(len(problem.candidates) for problem in problems)
  num_workers = os.cpu_count() or 1
  print(
    f"\nGrading and clustering {len(problems)} problems, {num_candidates}"
    f" samples in all, with {num_workers} processes:"
  )
  with tempfile.TemporaryDirectory() as folder:
    cache = pathlib.Path(folder) / "verdicts.sqlite"
    for name, path in (("", None), (", new cache", cache), (", cache", cache)):
      start = time.perf_counter()
      graded = list(clusters.grade_problems(problems, num_workers, path))
      print(f"both{name}: {time.perf_counter() - start:.1f} s")
  start = time.perf_counter()
  for problem in problems:
    clusters.cluster([candidate.answer for candidate in problem.candidates])
  print(f"clustering alone, one process: {time.perf_counter() - start:.1f} s")
  print(f"clusters: {sum(len(problem.clusters) for problem in graded)}")
  triples = [
    triple
    for problem in problems
    for triple in clusters.intransitive_triples(
      candidate.answer for candidate in problem.candidates
    )
  ]
  print(f"triples that are not transitive: {len(triples)}", *triples[:5])


def _problems(shared: pathlib.Path) -> Iterator[records.SampledProblem]:
  """Problems with 64 samples each: 32, and the same once more."""
  for name in ("math500", "gsm8k"):
    yield from sampled_problems(shared, name, repeats=2)


def sampled_problems(
  shared: pathlib.Path, name: str, repeats: int = 1
) -> Iterator[records.SampledProblem]:
  """The problems of "math500" or "gsm8k" with their 32 samples, as often."""
  data = shared / "data"
  references = {
    row["unique_id"]: row["answer"]
    for row in _rows(data / "math" / "lightman_test500.jsonl.gz")
  }
  path = data / "samples" / f"strictprm_{name}_n32_even.jsonl.gz"
  for row in _rows(path):
    reference = references.get(
      row.get("unique_id"), row["problem"]["ground_truth"]
    )
    answers = [
      extract.extract_answer(_solution(candidate), name == "gsm8k")
      for candidate in row["candidates"]
    ]
    yield records.SampledProblem(
      records.Problem(row["problem_id"], "", reference),
      None,
      tuple(
        records.Candidate(row["problem_id"], i, "", answer, 1, 0.0, "eos")
        for i, answer in enumerate(answers * repeats)
      ),
      name,
      {},
    )


def _solution(candidate: dict) -> str:
  return candidate["raw_text"].split("\nassistant\n", 1)[-1]


def _compare(name, pairs: list[Pair], graders: dict[str, Grader], output):
  known = [pair.is_same for pair in pairs if pair.is_same is not None]
  print(f"\n{name}: {len(pairs)} pairs, {sum(known)} of {len(known)} the same")
  print(f"{'':20} {'right':>7} {'missed':>7} {'wrong':>6} {'pairs/s':>9} ratio")
  verdicts, speeds = {}, {}
  for label, is_same in graders.items():
    runs = [_judge(is_same, pairs)]
    while len(runs) < _NUM_RUNS and runs[0][1] < _SHORT_S:
      runs.append(_judge(is_same, pairs))
    verdicts[label] = runs[0][0]
    speeds[label] = len(pairs) / statistics.median(run[1] for run in runs)
    both = [
      (verdict, pair.is_same)
      for verdict, pair in zip(verdicts[label], pairs, strict=True)
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


def _judge(is_same: Grader, pairs: Sequence[Pair]) -> tuple[list[bool], float]:
  """The verdicts, False where a grader fails or hangs, and the seconds."""
  context = multiprocessing.get_context("fork")
  found = context.RawArray("b", len(pairs))
  num_done, seconds = context.RawValue("i", 0), context.RawValue("d", 0.0)
  while num_done.value < len(pairs):
    process = context.Process(
      target=_serve, args=(is_same, pairs, found, num_done, seconds)
    )
    process.start()
    seen, since = num_done.value, time.monotonic()
    while process.is_alive():
      process.join(_POLL_S)
      if num_done.value != seen:
        seen, since = num_done.value, time.monotonic()
      elif time.monotonic() - since > _TIME_LIMIT_S:
        process.kill()
        process.join()
    if num_done.value < len(pairs):
      print(f"killed at {pairs[num_done.value].candidate!r}")
      num_done.value += 1
      seconds.value += time.monotonic() - since
  return list(map(bool, found)), seconds.value


def _serve(is_same: Grader, pairs: Sequence[Pair], found, num_done, seconds):
  logging.disable()
  start = time.perf_counter() - seconds.value
  for index in range(num_done.value, len(pairs)):
    try:
      found[index] = bool(
        is_same(pairs[index].reference, pairs[index].candidate)
      )
    except Exception:
      found[index] = False
    num_done.value = index + 1
    seconds.value = time.perf_counter() - start


def _graders(prm800k: pathlib.Path | None) -> dict[str, Grader]:
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


def _near_misses(shared: pathlib.Path) -> Iterator[Pair]:
  for row in _rows(shared / "data" / "math" / "lightman_split.jsonl.gz"):
    answer = row["answer"].strip()
    # In 1_6 the last digit is the base, and 1_7 is the same number.
    digit = re.search(r"[0-9](?=[^0-9]*$)", answer)
    if digit and "_" not in answer:
      raised = str((int(digit.group()) + 1) % 10)
      near = answer[: digit.start()] + raised + answer[digit.end() :]
      yield Pair(answer, near, False, "another digit")


def _samples(shared: pathlib.Path) -> Iterator[Pair]:
  data = shared / "data"
  references = {
    row["unique_id"]: row["answer"]
    for row in _rows(data / "math" / "lightman_test500.jsonl.gz")
  }
  name = "strictprm_math500_n32_even.jsonl.gz"
  for row in _rows(data / "samples" / name):
    for candidate in row["candidates"]:
      answer = extract.extract_answer(_solution(candidate))
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
  parser.add_argument("--num_pairs", type=int, default=100_000)
  parser.add_argument("--disagreements", default="disagreements.jsonl")
  return parser


if __name__ == "__main__":
  main()
