"""The records that every part of the framework exchanges, and their JSON.

Each record is a frozen dataclass of plain values: it can be compared, hashed,
pickled by nobody and written as one line of JSON. `docs/data-formats.md`
describes the files that hold them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

# The greedy solution is a candidate too, but stands outside 0 ... N - 1.
GREEDY_INDEX = -1

FinishReason = Literal["eos", "length", "stop"]


@dataclasses.dataclass(frozen=True)
class Problem:
  """A problem to solve; `problem_id` is stable across runs and machines.

  `level` is "1" to "5" where the source has levels, else ""; `type` is the
  source's own word for the subject, or "".
  """

  problem_id: str
  text: str
  reference_answer: str
  level: str = ""
  type: str = ""

  def to_json(self) -> dict[str, Any]:
    return {
      "problem_id": self.problem_id,
      "problem": self.text,
      "reference_answer": self.reference_answer,
      "level": self.level,
      "type": self.type,
    }

  @classmethod
  def from_json(cls, row: Mapping[str, Any]) -> "Problem":
    """Raises KeyError with the field's name if a field is missing."""
    return cls(
      problem_id=row["problem_id"],
      text=row["problem"],
      reference_answer=row["reference_answer"],
      level=row.get("level", ""),
      type=row.get("type", ""),
    )


@dataclasses.dataclass(frozen=True)
class SolvedProblem:
  """A problem with one reference solution: a row of training data.

  `solution` is the worked text without the "# Answer" section.
  """

  problem: Problem
  solution: str
  source: str
  split: str

  @property
  def texts(self) -> tuple[str, str, str]:
    """(problem, solution, answer), as prompts take them."""
    return self.problem.text, self.solution, self.problem.reference_answer

  def to_json(self) -> dict[str, Any]:
    return {
      "problem_id": self.problem.problem_id,
      "problem": self.problem.text,
      "solution": self.solution,
      "answer": self.problem.reference_answer,
      "level": self.problem.level,
      "type": self.problem.type,
      "source": self.source,
      "split": self.split,
    }

  @classmethod
  def from_json(cls, row: Mapping[str, Any]) -> "SolvedProblem":
    """Raises KeyError with the field's name if a field is missing."""
    return cls(
      problem=Problem(
        problem_id=row["problem_id"],
        text=row["problem"],
        reference_answer=row["answer"],
        level=row.get("level", ""),
        type=row.get("type", ""),
      ),
      solution=row["solution"],
      source=row.get("source", ""),
      split=row.get("split", ""),
    )


@dataclasses.dataclass(frozen=True)
class Candidate:
  """A solution drawn from a generator.

  `solution` is the whole generated text, its "# Answer" section included;
  `answer` is what the extractor finds in it, None if nothing. `log_prob` is
  summed over the generated tokens with EOS, in nats, under the model itself
  (before temperature and truncation). `(problem_id, index)` is unique;
  `index` is GREEDY_INDEX for the greedy solution.
  """

  problem_id: str
  index: int
  solution: str
  answer: str | None
  num_tokens: int
  log_prob: float
  finish_reason: FinishReason

  def to_json(self) -> dict[str, Any]:
    row = dataclasses.asdict(self)
    del row["problem_id"]  # It stands once, on the line of the problem.
    return row

  @classmethod
  def from_json(cls, problem_id: str, row: Mapping[str, Any]) -> "Candidate":
    """Raises KeyError with the field's name if a field is missing."""
    return cls(
      problem_id=problem_id,
      index=row["index"],
      solution=row["solution"],
      answer=row["answer"],
      num_tokens=row["num_tokens"],
      log_prob=row["log_prob"],
      finish_reason=row["finish_reason"],
    )


@dataclasses.dataclass(frozen=True)
class SampledProblem:
  """One line of a candidates file: a problem with all its candidates.

  `generator` names the model that drew them; `sampling` is how, as plain
  JSON values (rule, temperature, seed, ...).
  """

  problem: Problem
  greedy: Candidate | None
  candidates: tuple[Candidate, ...]
  generator: str
  sampling: Mapping[str, Any]

  def to_json(self) -> dict[str, Any]:
    return {
      **self.problem.to_json(),
      "greedy": self.greedy.to_json() if self.greedy else None,
      "candidates": [c.to_json() for c in self.candidates],
      "generator": self.generator,
      "sampling": dict(self.sampling),
    }

  @classmethod
  def from_json(cls, row: Mapping[str, Any]) -> "SampledProblem":
    """Raises KeyError with the field's name if a field is missing."""
    problem = Problem.from_json(row)
    greedy = row.get("greedy")
    return cls(
      problem=problem,
      greedy=(
        Candidate.from_json(problem.problem_id, greedy) if greedy else None
      ),
      candidates=tuple(
        Candidate.from_json(problem.problem_id, c) for c in row["candidates"]
      ),
      generator=row["generator"],
      sampling=row["sampling"],
    )


@dataclasses.dataclass(frozen=True)
class Grade:
  """Whether an answer equals the reference answer: a fact.

  `decided_by` names the grading stage that decided, or "undecided" where a
  bound was hit (then `is_correct` is False).
  """

  is_correct: bool
  decided_by: str


@dataclasses.dataclass(frozen=True)
class Cluster:
  """Candidates of one problem whose answers are equivalent.

  `answer` is the first member's; `members` are candidate indices, rising;
  `scores` are log P(correct) in nats, one for each member, or () when nobody
  scored them.
  """

  answer: str
  members: tuple[int, ...]
  scores: tuple[float, ...] = ()

  def __post_init__(self):
    if not self.members:
      raise ValueError(f"the cluster of answer {self.answer!r} has no member")
    if self.scores and len(self.scores) != len(self.members):
      raise ValueError(
        f"the cluster of answer {self.answer!r} has {len(self.members)}"
        f" members but {len(self.scores)} scores"
      )


@dataclasses.dataclass(frozen=True)
class GradedProblem:
  """One line of a grades file: grades and clusters of one problem.

  `grades` maps a candidate's index (GREEDY_INDEX too) to its grade;
  `clusters` partition the candidates with an answer, in order of first member.
  `answers_sha256` is that of the answers that were graded, reference first.
  """

  problem_id: str
  grader: str
  grades: Mapping[int, Grade]
  clusters: tuple[Cluster, ...]
  answers_sha256: str = ""

  def to_json(self) -> dict[str, Any]:
    return {
      "problem_id": self.problem_id,
      "grader": self.grader,
      "answers_sha256": self.answers_sha256,
      "grades": [
        {"index": index, **dataclasses.asdict(grade)}
        for index, grade in sorted(self.grades.items())
      ],
      "clusters": [
        {"answer": c.answer, "members": list(c.members)} for c in self.clusters
      ],
    }

  @classmethod
  def from_json(cls, row: Mapping[str, Any]) -> "GradedProblem":
    """Raises KeyError with the field's name if a field is missing."""
    return cls(
      problem_id=row["problem_id"],
      grader=row["grader"],
      grades={
        g["index"]: Grade(g["is_correct"], g["decided_by"])
        for g in row["grades"]
      },
      clusters=tuple(
        Cluster(c["answer"], tuple(c["members"])) for c in row["clusters"]
      ),
      answers_sha256=row.get("answers_sha256", ""),
    )


@dataclasses.dataclass(frozen=True)
class ScoredProblem:
  """One line of a scores file: an evaluator's opinion of one problem.

  `scores` maps a candidate's index to log S(X|P) of Eq. 7, in nats.
  """

  problem_id: str
  evaluator: str
  scores: Mapping[int, float]

  def to_json(self) -> dict[str, Any]:
    return {
      "problem_id": self.problem_id,
      "evaluator": self.evaluator,
      "scores": [
        {"index": index, "log_p_correct": score}
        for index, score in sorted(self.scores.items())
      ],
    }

  @classmethod
  def from_json(cls, row: Mapping[str, Any]) -> "ScoredProblem":
    """Raises KeyError with the field's name if a field is missing."""
    return cls(
      problem_id=row["problem_id"],
      evaluator=row["evaluator"],
      scores={s["index"]: s["log_p_correct"] for s in row["scores"]},
    )
