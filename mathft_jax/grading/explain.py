"""Says in words how a pair of answers was understood and decided."""

from collections.abc import Iterator

from mathft_jax.grading import grader, trees
from mathft_jax.grading.reading import normalize, parse

_INFIX = {"add": " + ", "multiply": " * ", "power": "^"}
_STAGES = {
  "exact": "the texts are the same",
  "parse": "one of them is no mathematics that we know; letters decided",
  "value": "by exact values and structure",
  "numeric": "by values at fixed points",
  "symbolic": "by computer algebra",
  "convention": "right for this reference, though not equal to it",
  "no_answer": "there is no answer",
  "undecided": "a bound on size or time was hit",
  "error": "a fault of this package",
}


def explain(reference: str, candidate: str) -> Iterator[str]:
  """Yields lines: what each answer was read as, and what decided."""
  for label, text in (("reference", reference), ("candidate", candidate)):
    form = normalize.normalize(text)
    answer = parse.parse(form)
    yield f"{label}: {text}"
    if answer.text != text:
      yield f"  read from: {answer.text}"
    yield f"  read as: {show(answer.tree)}"
    if answer.units:
      units = sorted(answer.units)
      yield "  unit: " + " ".join(
        name if power == 1 else f"{name}^{power}" for name, power in units
      )
  decided_by = grader.grade(reference, candidate).decided_by
  if decided_by == "convention":
    pair = grader.convention(reference, candidate)
    if pair is not None and pair != (reference, candidate):
      yield f"taken as: {pair[1]} for {pair[0]}"
  yield f"decided by {decided_by}: {_STAGES[decided_by]}"


def show(tree: trees.Tree) -> str:
  """A tree in one line of plain text."""
  if isinstance(tree, trees.Number):
    return str(tree.value)
  if isinstance(tree, trees.Symbol | trees.Constant):
    return tree.name
  if isinstance(tree, trees.Based):
    return f"{tree.digits} in base {tree.base}"
  if isinstance(tree, trees.Words):
    return f'the words "{tree.text}"'
  if isinstance(tree, trees.Call):
    args = [show(arg) for arg in tree.args]
    if tree.name == "apply":
      return f"{args[0]}({args[1]})"
    if tree.name in _INFIX and len(args) > 1:
      return f"({_INFIX[tree.name].join(args)})"
    return f"{tree.name}({', '.join(args)})"
  if isinstance(tree, trees.Group):
    return f"{tree.opening}{_listed(tree.items)}{tree.closing}, in order"
  if isinstance(tree, trees.Collection):
    return f"{{{_listed(tree.items)}}}, in any order"
  if isinstance(tree, trees.Union):
    return " united with ".join(map(show, tree.items))
  if isinstance(tree, trees.Intersection):
    return " intersected with ".join(map(show, tree.items))
  if isinstance(tree, trees.Difference):
    return f"{show(tree.whole)} without {show(tree.removed)}"
  if isinstance(tree, trees.Such):
    return f"all {show(tree.variable)} with {show(tree.condition)}"
  if isinstance(tree, trees.Cases):
    return "; ".join(
      f"{show(value)} " + (f"if {show(condition)}" if condition else "else")
      for value, condition in tree.rows
    )
  if isinstance(tree, trees.Matrix):
    return f"matrix [{'; '.join(map(_listed, tree.rows))}]"
  if isinstance(tree, trees.Ratio):
    return " : ".join(map(show, tree.items))
  if isinstance(tree, trees.Congruence):
    sides = " = ".join(map(show, tree.sides))
    return f"{sides} modulo {show(tree.modulus)}"
  if isinstance(tree, trees.Relation):
    signs = [*tree.signs, ""]
    pairs = zip(tree.sides, signs, strict=True)
    return " ".join(f"{show(side)} {sign}".strip() for side, sign in pairs)
  return "not understood" + (" (too large)" if tree.exceeds_bound else "")


def _listed(items: tuple[trees.Tree, ...]) -> str:
  return ", ".join(map(show, items))
