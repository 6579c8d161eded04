"""Coverage-guided fuzzing of the grader, for as long as one likes.

  python tests/grading/fuzz.py -max_total_time=600

Input that breaks a promise of the grader stops it with that input and a
traceback. `atheris` is in the extra `fuzz`.
"""

import json
import pathlib
import sys
import tempfile
import time

import atheris  # pyright: ignore[reportMissingImports]

with atheris.instrument_imports(include=["mathft_jax.grading"]):
  from mathft_jax.grading import extract, grader, keys
  from mathft_jax.grading.reading import normalize

_CASES = pathlib.Path(__file__).parent / "cases"
_BETWEEN = "\x00"  # parts the two answers of an input
# The worker's second, that again for `is_same`, and a busy machine.
_TIME_LIMIT_S = 5.0


def check(data: bytes) -> None:
  """Raises AssertionError if the grader breaks a promise on these bytes."""
  text = data.decode("utf-8", "surrogateescape")
  first, _, second = text.partition(_BETWEEN)
  start = time.monotonic()
  for answer in (first, second):
    form = normalize.normalize(answer)
    assert normalize.normalize(form) == form, "normalizing twice is not once"
    assert grader.is_equivalent(answer, answer), "not equal to itself"
  grade = grader.grade(first, second)
  assert grade.decided_by != "error", "a fault inside the grader"
  same = grader.is_same(first, second)
  assert same == grader.is_same(second, first), "not symmetric"
  if keys.key(first).value == keys.key(second).value:
    assert same, "one key, and not the same"
  extract.extract_answer(text, takes_last_number=True)
  elapsed = time.monotonic() - start
  assert elapsed < _TIME_LIMIT_S, f"{elapsed:.1f} s"


def _write_corpus(folder: pathlib.Path) -> None:
  """The judged pairs, to begin with."""
  for path in sorted(_CASES.glob("*.jsonl")):
    for number, line in enumerate(path.read_bytes().splitlines()):
      row = json.loads(line)
      text = f"{row['reference']}{_BETWEEN}{row['candidate']}"
      (folder / f"{path.stem}-{number}").write_text(text, encoding="utf-8")


def main() -> None:
  grader.grade("0", "\\sin\\pi")  # Starts the worker.
  with tempfile.TemporaryDirectory() as folder:
    _write_corpus(pathlib.Path(folder))
    atheris.Setup([*sys.argv, "-timeout=60", "-max_len=400", folder], check)
    atheris.Fuzz()


if __name__ == "__main__":
  main()
