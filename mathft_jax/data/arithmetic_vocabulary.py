"""The vocabulary of the arithmetic demo: one token a number.

A small model learns facts about numbers many times faster when a number is one
token (docs/demo.md has the measurement), and short rows cost less. So numbers
and the fixed phrases of the prompts and problems are pieces of their own; what
else a text may hold falls to trained pieces and bytes.

`python -m mathft_jax.data.arithmetic_vocabulary` writes the shipped file anew.
"""

import pathlib

from mathft_jax import prompts
from mathft_jax.data import vocabulary
from mathft_jax.sources import arithmetic, arithmetic_text

PATH = pathlib.Path(__file__).parent / "vocabularies" / "arith.model"

_BLANK = "\u2581"  # How SentencePiece writes a blank inside a piece.
_SIZE = 512

_SIGNS = [
  " + ", " - ", " * ", " = ", " < ", " > ", "/", ", ", "\n", "(", ")", ".",
  "x", "y", "n",
]  # fmt: skip
_PHRASES = [
  "# Problem\n\n",
  "\n\n# Solution\n\n",
  prompts.ANSWER_HEADING,
  "Here is a math problem: ",
  ". Here is a candidate solution: ",
  ". The above candidate solution is ",
  prompts.CORRECT,
  prompts.INCORRECT,
  "Compute ",
  "Solve ",
  "Find x and y with ",
  " and ",
  "Find the remainder of ",
  " divided by ",
  "Find n from ",
  " to ",
  " with remainder ",
  " and remainder ",
  " by ",
  "The value is ",
  "The remainder is ",
  " true",
  " false",
  "\nall",
  "\nthen ",
]


def train() -> bytes:
  """The vocabulary's SentencePiece model, the same bytes every time."""
  symbols = [str(number) for number in range(arithmetic.LIMIT)]
  symbols += [text.replace(" ", _BLANK) for text in _SIGNS + _PHRASES]
  drawn = arithmetic.problems("train", "terse", num_problems=2000)
  texts = [
    prompts.generator_inputs(row.problem.text) + row.solution for row in drawn
  ]
  texts += arithmetic_text.documents(seed=0, num_documents=2000)
  return vocabulary.train_vocabulary(texts, symbols, _SIZE)


if __name__ == "__main__":
  PATH.write_bytes(train())
