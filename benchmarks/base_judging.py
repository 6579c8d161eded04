"""How well a model judges arithmetic statements, by the kind of document.

For each kind of the base model's text that ends in a truth value: how often
the model finds "true" more likely than "false" where it is so, at the last
truth value of a document. Documents are drawn from a seed that no training
used. Chance is about 50 %.

  python benchmarks/base_judging.py [MODEL]

MODEL is a shipped model's name, a folder of safetensors or a training run; the
default is arith_base.
"""

import random
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np

from mathft_jax.data import vocabulary
from mathft_jax.models import transformer
from mathft_jax.recipe import initial
from mathft_jax.sources import arithmetic_text

_NUM_DOCUMENTS = 500
_LENGTH = 128


def main(argv: list[str]) -> None:
  name = argv[0] if argv else "arith_base"
  config, params = initial.Pretrained(name)()
  words = vocabulary.load_vocabulary("arith")
  module = transformer.Transformer(config)

  @jax.jit
  def next_logits(tokens, positions):
    logits, _ = module.apply(
      {"params": params}, tokens, logit_positions=positions
    )
    return logits[:, 0]

  print(f"{name}, {_NUM_DOCUMENTS} documents a kind, jax {jax.__version__}")
  for kind in arithmetic_text.KINDS:
    rng = random.Random(f"benchmark/{kind.__name__}")
    documents = []
    while len(documents) < _NUM_DOCUMENTS:
      document = kind(rng)
      if not re.search(r"\s(true|false)$", document):
        break
      documents.append(document)
    if len(documents) < _NUM_DOCUMENTS:
      continue
    tokens = np.zeros((_NUM_DOCUMENTS, _LENGTH), np.int32)
    lengths = []
    verdicts = np.zeros((_NUM_DOCUMENTS, 2), np.int32)  # Said, the other one.
    for i, document in enumerate(documents):
      said = document.rsplit(maxsplit=1)[-1]
      other = "false" if said == "true" else "true"
      *start, verdict = words.encode(document)
      verdicts[i] = (
        verdict,
        words.encode(document.removesuffix(said) + other)[-1],
      )
      tokens[i, 1 : len(start) + 1] = start  # Training shifts a 0 in.
      lengths.append(len(start))
    logits = next_logits(jnp.asarray(tokens), jnp.asarray(lengths))
    said, other = np.take_along_axis(np.asarray(logits), verdicts, axis=1).T
    label = kind.__name__.strip("_").replace("_", " ")
    print(f"{label:20} {np.mean(said > other):6.1%}")


if __name__ == "__main__":
  main(sys.argv[1:])
