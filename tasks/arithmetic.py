"""Registers the arithmetic tasks: generators', evaluators', pre-training."""

# The type stubs of SeqIO lack a part of what stands here.
# pyright: reportArgumentType=false

import seqio

from mathft_jax.data import (
  features,
  generated,
  preprocessors,
  registration,
  vocabulary,
)
from mathft_jax.sources import arithmetic

_VOCABULARY = "arith"

for _style in arithmetic.STYLES:
  registration.add_generator_task(
    f"arith_{_style}_generate",
    source=generated.arithmetic_problems(_style),
    vocabulary_name=_VOCABULARY,
  )

registration.add_mixture(
  "arith_both_generate",
  [f"arith_{_style}_generate" for _style in arithmetic.STYLES],
)

registration.add_evaluator_tasks("arith", vocabulary_name=_VOCABULARY)

seqio.TaskRegistry.add(
  "arith_base_text",
  source=generated.arithmetic_documents(),
  preprocessors=[
    preprocessors.plain_text,
    seqio.preprocessors.tokenize,
    seqio.preprocessors.append_eos,
    preprocessors.drop_too_long,
  ],
  output_features=features.output_features(
    vocabulary.load_vocabulary(_VOCABULARY)
  ),
)
