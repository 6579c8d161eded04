"""PRM800K's correct solutions (Lightman et al., 2023)."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from mathft_jax import prompts
from mathft_jax.records import Problem, SolvedProblem
from mathft_jax.sources import hendrycks_math, json_lines, raw_rows, splits

SOURCE = "prm800k"

_LABELLED = ("phase1_train", "phase1_test", "phase2_train", "phase2_test")
_COMPLETE = "complete_solutions"

_LAYOUTS = """\
  phase1_train.jsonl, phase1_test.jsonl, phase2_train.jsonl and
    phase2_test.jsonl, or some of them, as in the release of PRM800K, or
    prm800k/data with these, as in a clone of it;
  complete_solutions.jsonl, one finished solution a row
  (each .jsonl may be a .jsonl.gz or .parquet)"""

_GOOD, _NEUTRAL, _BAD = 1, 0, -1
_ANSWER_HEADING = prompts.ANSWER_HEADING.strip()
_NO_ANSWER = "no final answer"

# (reference answer, answer) -> whether they are equal: grading's.
IsEquivalent = Callable[[str, str], bool]


@dataclasses.dataclass(frozen=True)
class Dropped:
  """A solution that is not taken over, with the reason in words.

  `kind` is "incorrect", "duplicate" or "not in MATH"; `problem_id` is "" for
  the last.
  """

  solution_id: str
  problem_id: str
  kind: str
  reason: str


@dataclasses.dataclass(frozen=True)
class _Correct:
  solution_id: str
  row: SolvedProblem


def read(
  directory: str | os.PathLike,
  is_equivalent: IsEquivalent,
  on_drop: Callable[[Dropped], None] = lambda dropped: None,
  *,
  math: Iterable[SolvedProblem] | None = None,
  on_bad_row: raw_rows.OnBadRow | None = None,
) -> Iterator[SolvedProblem]:
  """Yields each correct solution once; all others go to `on_drop`.

  A solution is correct if it was carried to its end, no step of it is rated
  bad, and its final answer is equivalent to the reference. A problem may have
  several. Its id, and so its split, are MATH's.

  The directory may have one of the layouts that the error names. The release
  knows problems by their text alone: they are looked up in `math`, MATH's
  rows, for which a clone's own math_splits are read where none are given.

  Raises FileNotFoundError for another layout, ValueError with file and line
  for a bad row unless `on_bad_row` takes it.
  """
  directory = pathlib.Path(directory)
  labelled = [
    path for paths in _labelled_files(directory).values() for path in paths
  ]
  complete = raw_rows.find(directory, _COMPLETE)
  if labelled:
    if math is None:
      math = _math_beside(labelled[0].parent)
    paths = labelled
    make = functools.partial(
      _of_labels, by_text=_by_text(math), is_equivalent=is_equivalent
    )
  elif complete:
    paths = complete
    make = functools.partial(_of_complete, is_equivalent=is_equivalent)
  else:
    raise FileNotFoundError(
      f"{directory} is not laid out as one of:\n{_LAYOUTS}"
    )
  first: dict[tuple[str, str], str] = {}
  for made in raw_rows.read(paths, make, on_bad_row):
    if isinstance(made, Dropped):
      on_drop(made)
      continue
    problem_id = made.row.problem.problem_id
    key = problem_id, _folded(made.row.solution)
    if key in first:
      reason = f"the same as {first[key]}"
      on_drop(Dropped(made.solution_id, problem_id, "duplicate", reason))
    else:
      first[key] = made.solution_id
      yield made.row


def is_whole(directory: str | os.PathLike) -> bool:
  """Whether a directory has all files of the release."""
  return all(_labelled_files(pathlib.Path(directory)).values())


def _labelled_files(
  directory: pathlib.Path,
) -> Mapping[str, list[pathlib.Path]]:
  """Each file of the release, by its stem; empty where it is not there."""
  at_hand = {stem: raw_rows.find(directory, stem) for stem in _LABELLED}
  if any(at_hand.values()):
    return at_hand
  in_clone = directory / "prm800k" / "data"
  return {stem: raw_rows.find(in_clone, stem) for stem in _LABELLED}


def _math_beside(folder: pathlib.Path) -> Iterator[SolvedProblem]:
  beside = folder.parent / "math_splits"
  if not beside.is_dir():
    raise FileNotFoundError(
      f"the files of PRM800K in {folder} name problems by their text alone;"
      " give MATH too (--math DIR), whose ids decide the splits"
    )
  return hendrycks_math.read(beside)


def _by_text(math: Iterable[SolvedProblem]) -> Mapping[str, SolvedProblem]:
  """MATH's rows by text; one that stands in two splits is the held-out one."""
  found: dict[str, SolvedProblem] = {}
  for row in sorted(math, key=lambda row: -splits.SPLITS.index(row.split)):
    found.setdefault(_folded(row.problem.text), row)
  return found


def _folded(text: str) -> str:
  return " ".join(text.split())


def _of_labels(
  row: raw_rows.Row,
  where: raw_rows.Place,
  *,
  by_text: Mapping[str, SolvedProblem],
  is_equivalent: IsEquivalent,
) -> _Correct | Dropped:
  """A solution of the release: one line with the labels of every step."""
  solution_id = f"{where.path.name.partition('.')[0]}/{where.number}"
  text = json_lines.field(_part(row, "question", dict, where), "problem", where)
  in_math = by_text.get(_folded(text))
  if in_math is None:
    reason = f"no problem of MATH has the text {text!r:.80}"
    return Dropped(solution_id, "", "not in MATH", reason)
  problem = in_math.problem

  def incorrect(reason: str) -> Dropped:
    return Dropped(solution_id, problem.problem_id, "incorrect", reason)

  label = _part(row, "label", dict, where)
  finish_reason = json_lines.field(label, "finish_reason", where)
  if finish_reason != "solution":
    return incorrect(f"not carried to its end: {finish_reason}")
  steps = []
  for step in _part(label, "steps", list, where):
    chosen = _chosen(step, where)
    if chosen is None:
      return incorrect("a step without a chosen completion")
    text, rating = chosen
    if rating not in (_GOOD, _NEUTRAL):
      return incorrect(f"a step is {_in_words(rating)}")
    steps.append(text)
  solution, heading, answer = "\n".join(steps).rpartition(_ANSWER_HEADING)
  # The heading of an earlier step is none: the solution went on after it.
  if not heading or _ANSWER_HEADING not in steps[-1]:
    return incorrect(_NO_ANSWER)
  reason = _fault_of_answer(answer.strip(), problem, is_equivalent)
  if reason:
    return incorrect(reason)
  correct = SolvedProblem(problem, solution.rstrip(), SOURCE, in_math.split)
  return _Correct(solution_id, correct)


def _chosen(step: Any, where: raw_rows.Place) -> tuple[str, int | None] | None:
  """Text and rating of what a solution goes on with, None if nothing was.

  A step that a person wrote is good: nobody rated it.
  """
  step = _is_object(step, "a step", where)
  index = step.get("chosen_completion")
  if index is None:
    if step.get("human_completion") is None:
      return None
    human = _part(step, "human_completion", dict, where)
    return json_lines.field(human, "text", where), _GOOD
  completions = _part(step, "completions", list, where)
  if not isinstance(index, int) or not 0 <= index < len(completions):
    raise ValueError(
      f"{where}: 'chosen_completion' {index!r} is none of the step's"
      f" {len(completions)} completions"
    )
  chosen = _is_object(completions[index], "a completion", where)
  rating = chosen.get("rating")
  if rating not in (_GOOD, _NEUTRAL, _BAD, None):
    raise ValueError(
      f"{where}: field 'rating' must be 1, 0, -1 or null but is {rating!r:.80}"
    )
  return json_lines.field(chosen, "text", where), rating


def _in_words(rating: int | None) -> str:
  return "not rated" if rating is None else f"rated {rating}"


def _fault_of_answer(
  answer: str | None, problem: Problem, is_equivalent: IsEquivalent
) -> str | None:
  reference = problem.reference_answer
  if not answer:
    return _NO_ANSWER
  if not is_equivalent(reference, answer):
    return f"final answer {answer!r}, reference {reference!r}"
  return None


def _is_object(value: Any, name: str, where: raw_rows.Place) -> dict[str, Any]:
  if not isinstance(value, dict):
    raise ValueError(f"{where}: {name} must be an object but is {value!r:.80}")
  return value


def _part(
  row: Mapping[str, Any], name: str, kind: type[Any], where: raw_rows.Place
) -> Any:
  """Returns a row's object (dict) or list; ValueError if it is none."""
  if not isinstance(row.get(name), kind):
    word = {dict: "an object", list: "a list"}[kind]
    raise ValueError(
      f"{where}: field {name!r} must be {word} but is {row.get(name)!r:.80}"
    )
  return row[name]


def _of_complete(
  row: raw_rows.Row, where: raw_rows.Place, *, is_equivalent: IsEquivalent
) -> _Correct | Dropped:
  """A solution of complete_solutions: `ratings` are null where unknown."""
  steps = _part(row, "steps", list, where)
  if not all(isinstance(step, str) for step in steps):
    raise ValueError(f"{where}: field 'steps' must be a list of texts")
  if not isinstance(row.get("in_test500"), bool):
    raise ValueError(f"{where}: field 'in_test500' must be true or false")
  problem_id = json_lines.field(row, "unique_id", where)
  problem = Problem(
    problem_id=problem_id,
    text=json_lines.field(row, "problem", where),
    reference_answer=json_lines.field(row, "ground_truth_answer", where),
    type=_subject(problem_id),
  )
  ratings, answer = [], None
  if row.get("ratings") is not None:
    ratings = _part(row, "ratings", list, where)
    strange = [r for r in ratings if r not in (_GOOD, _NEUTRAL, _BAD, None)]
    if strange or len(ratings) != len(steps):
      raise ValueError(
        f"{where}: field 'ratings' must have 1, 0, -1 or null for each of the"
        f" {len(steps)} steps but is {ratings!r:.80}"
      )
  if row.get("final_answer") is not None:
    answer = json_lines.field(row, "final_answer", where)
  if _BAD in ratings:
    reason = f"a step is {_in_words(_BAD)}"
  else:
    reason = _fault_of_answer(answer, problem, is_equivalent)
  solution_id = str(row.get("solution_id", where.number))
  if reason:
    return Dropped(solution_id, problem_id, "incorrect", reason)
  held_out = row["in_test500"]
  split = "test" if held_out else splits.train_or_validation(problem_id)
  correct = SolvedProblem(problem, "\n".join(steps), SOURCE, split)
  return _Correct(solution_id, correct)


def _subject(problem_id: str) -> str:
  """Returns MATH's word for the subject in "train/number_theory/7.json"."""
  parts = problem_id.split("/")
  if len(parts) != 3:
    return ""
  return _SUBJECTS.get(parts[1], parts[1])


_SUBJECTS = {
  "algebra": "Algebra",
  "counting_and_probability": "Counting & Probability",
  "geometry": "Geometry",
  "intermediate_algebra": "Intermediate Algebra",
  "number_theory": "Number Theory",
  "prealgebra": "Prealgebra",
  "precalculus": "Precalculus",
}
