"""The vocabulary of the recipes on MATH, trained on MATH's training split.

`python -m mathft_jax.data.math_vocabulary MATH_DIR` writes the shipped file
anew, the same bytes every time; MATH_DIR is what `hendrycks_math.read` reads.
"""

import pathlib
import sys
from collections.abc import Iterable, Iterator

from mathft_jax import prompts
from mathft_jax.data import vocabulary
from mathft_jax.records import SolvedProblem
from mathft_jax.sources import hendrycks_math, splits

PATH = pathlib.Path(__file__).parent / "vocabularies" / "math_2k.model"

_SIZE = 2048


def train(rows: Iterable[SolvedProblem]) -> bytes:
  """Returns the SentencePiece model for MATH's rows, in any order."""
  by_split, _ = splits.without_leaks(rows)
  return vocabulary.train_vocabulary(
    _texts(by_split["train"]),
    # Each verdict is one piece wherever it stands.
    user_defined_symbols=[prompts.INCORRECT, prompts.CORRECT],
    vocab_size=_SIZE,
  )


def main(argv: list[str]) -> int:
  """Trains on the MATH directory argv[1] and writes PATH."""
  PATH.write_bytes(train(hendrycks_math.read(argv[1])))
  print(f"wrote {PATH}")
  return 0


def _texts(rows: Iterable[SolvedProblem]) -> Iterator[str]:
  for row in rows:
    yield prompts.generator_inputs(row.problem.text)
    yield prompts.generator_targets(row.solution, row.problem.reference_answer)


if __name__ == "__main__":
  sys.exit(main(sys.argv))
