"""Which split a problem belongs to, the same for every source for ever.

Splits are functions of the problem's id alone. So MATH and PRM800K, which
share ids, agree on every problem, and a new row moves no old one.
"""

import collections
import dataclasses
import hashlib
import re
from collections.abc import (
  Collection,
  Iterable,
  Iterator,
  Mapping,
  Sequence,
)

from mathft_jax.records import SolvedProblem

SPLITS = ("train", "validation", "test")

# The share of problems, outside the test split, that validate. Of MATH's
# 12,000 ids outside MATH-500 exactly 1,000 hash below it (a test counts them).
VALIDATION_SHARE = 0.0838

# The share of problems of a source without a test split of its own that test.
TEST_SHARE = 0.05

_N = 13
# Two problems are near duplicates when they share this much of the 13-grams
# of the one with fewer. At 0.8 MATH's pairs differ in a number or the last
# clause; from 0.6 on they begin to share no more than a figure or a phrase.
_NEAR_SHARE = 0.8


@dataclasses.dataclass(frozen=True)
class Leak:
  """A problem that stands, the same or nearly, in a later split too.

  `kind` is "exact" (the same text), "normalized" (the same letters and digits),
  "13-gram", or "id" where nothing but the id is the same; `share` is the share
  of 13-grams, 1 for the others. `is_dropped` tells whether its `num_rows` rows
  were taken out of their split.
  """

  problem_id: str
  split: str
  other_id: str
  other_split: str
  kind: str
  share: float
  is_dropped: bool
  num_rows: int = 1


def hash_share(problem_id: str) -> float:
  """Returns a number in [0, 1) that depends on the id alone."""
  digest = hashlib.sha256(f"0:{problem_id}".encode()).digest()
  return int.from_bytes(digest[:8], "big") / 2**64


def train_or_validation(problem_id: str) -> str:
  """Returns the split of a problem that is known to be outside of test."""
  is_validation = hash_share(problem_id) < VALIDATION_SHARE
  return "validation" if is_validation else "train"


def three_way(problem_id: str) -> str:
  """Returns the split of a problem whose source has no test split."""
  if hash_share(problem_id) >= 1 - TEST_SHARE:
    return "test"
  return train_or_validation(problem_id)


def without_leaks(
  rows: Iterable[SolvedProblem],
  held_out: Collection[SolvedProblem] = (),
) -> tuple[dict[str, list[SolvedProblem]], list[Leak]]:
  """Returns rows by split, none of them held out elsewhere, and the leaks.

  A row of train leaves if its problem, or one that nearly equals it, is in
  validation or test; a row of validation leaves if the very same problem is
  in test. A validation problem that only resembles a test problem is listed
  but stays, since nothing is trained on it. Splits come in hash order, which
  mixes the source's order well.

  `held_out` are validation and test rows of other sources, which are
  compared with but not returned.

  Raises ValueError if an id stands for two problems among the rows.
  """
  by_split = {split: [] for split in SPLITS}
  for row in _with_one_text_an_id(rows):
    by_split[row.split].append(row)
  others = {split: [] for split in SPLITS}
  for row in held_out:
    others[row.split].append(row)

  test = [*by_split["test"], *others["test"]]
  validation = [*by_split["validation"], *others["validation"]]
  leaks = [
    *_find_leaks(by_split["validation"], {"test": test}),
    *_find_leaks(by_split["train"], {"test": test, "validation": validation}),
  ]
  dropped = {(k.split, k.problem_id) for k in leaks if k.is_dropped}
  kept = {
    split: sorted(
      (r for r in rows if (split, r.problem.problem_id) not in dropped),
      key=lambda r: hash_share(r.problem.problem_id),
    )
    for split, rows in by_split.items()
  }
  return kept, leaks


def _with_one_text_an_id(
  rows: Iterable[SolvedProblem],
) -> Iterator[SolvedProblem]:
  """Yields the rows; an id that comes with two texts raises ValueError."""
  texts: dict[str, str] = {}
  for row in rows:
    problem_id, text = row.problem.problem_id, row.problem.text
    first = texts.setdefault(problem_id, text)
    if first != text and words(first) != words(text):
      raise ValueError(
        f"the id {problem_id!r} stands for two problems, {first!r:.80} and"
        f" {text!r:.80}; give each problem an id of its own, or none"
      )
    yield row


def check_no_leak(
  training: Iterable[tuple[str, str]], held_out: Iterable[tuple[str, str]]
) -> None:
  """Raises ValueError if a held-out problem is among training's.

  Both are (problem_id, text). The same id, or the same letters and digits, are
  the same problem; what only resembles it is for `without_leaks` to find.
  """
  ids, texts = {}, {}
  for problem_id, text in held_out:
    ids.setdefault(problem_id, text)
    texts.setdefault(tuple(words(text)), problem_id)
  texts.pop((), None)
  for problem_id, text in training:
    other_id = texts.get(tuple(words(text)))
    if other_id is not None:
      raise ValueError(
        f"problem {problem_id} is to be trained on, but it is held out as"
        f" {other_id}; `mathft data prepare` with --against writes rows"
        " without such problems"
      )
    if problem_id in ids:
      raise ValueError(
        f"problem {problem_id} is to be trained on, but a problem of this id"
        f" is held out: {text!r:.80} here, {ids[problem_id]!r:.80} there. If"
        " they are two problems give them other ids; else `mathft data prepare`"
        " with --against writes rows without such problems"
      )


def words(text: str) -> list[str]:
  """Returns runs of letters and of digits in lower case: what leaks compare.

  White space, punctuation and the marks of LaTeX do not count.
  """
  return re.findall(r"[^\W\d_]+|\d+", text.lower())


def ngrams(text_words: Sequence[str], n: int = _N) -> set[tuple[str, ...]]:
  """Returns all runs of `n` words; a shorter text is one run of its own."""
  last = max(len(text_words) - n, 0)
  return {tuple(text_words[i : i + n]) for i in range(last + 1)}


def _find_leaks(
  rows: Sequence[SolvedProblem],
  later: Mapping[str, Iterable[SolvedProblem]],
) -> list[Leak]:
  """Returns at most one leak, the worst, for each distinct problem of rows."""
  by_id: dict[str, tuple[str, str]] = {}
  by_text: dict[str, tuple[str, str]] = {}
  by_words: dict[tuple[str, ...], tuple[str, str]] = {}
  by_ngram = collections.defaultdict(set)
  # Two sources may give one id to two problems.
  num_ngrams: dict[tuple[str, str, str], int] = {}
  for split, split_rows in later.items():
    for row in split_rows:
      problem_id = row.problem.problem_id
      key = (split, problem_id, row.problem.text)
      if key in num_ngrams:
        continue
      text_words = words(row.problem.text)
      by_id.setdefault(problem_id, (split, problem_id))
      by_text.setdefault(row.problem.text, (split, problem_id))
      by_words.setdefault(tuple(text_words), (split, problem_id))
      grams = ngrams(text_words)
      num_ngrams[key] = len(grams)
      for gram in grams:
        by_ngram[gram].add(key)

  def judge(row: SolvedProblem, num_rows: int) -> Leak | None:
    problem = row.problem

    def leak(
      place: tuple[str, str],
      kind: str,
      share: float = 1.0,
      is_dropped: bool = True,
    ) -> Leak:
      return Leak(
        problem_id=problem.problem_id,
        split=row.split,
        other_id=place[1],
        other_split=place[0],
        kind=kind,
        share=share,
        is_dropped=is_dropped,
        num_rows=num_rows,
      )

    text_words = words(problem.text)
    if problem.text in by_text:
      return leak(by_text[problem.text], "exact")
    # A problem without a letter or digit resembles nothing.
    if text_words and tuple(text_words) in by_words:
      return leak(by_words[tuple(text_words)], "normalized")
    grams = ngrams(text_words)
    shared = collections.Counter(
      key for gram in grams for key in by_ngram.get(gram, ())
    )
    share, (split, other_id, _) = max(
      ((n / min(len(grams), num_ngrams[k]), k) for k, n in shared.items()),
      default=(0.0, ("", "", "")),
    )
    has_same_id = problem.problem_id in by_id
    if share >= _NEAR_SHARE and text_words:
      # A validation problem that only resembles a test problem stays.
      is_dropped = row.split == "train" or has_same_id
      return leak((split, other_id), "13-gram", share, is_dropped)
    return leak(by_id[problem.problem_id], "id") if has_same_id else None

  num_rows = collections.Counter(row.problem.problem_id for row in rows)
  distinct = {row.problem.problem_id: row for row in reversed(rows)}
  in_order = [distinct[problem_id] for problem_id in num_rows]
  leaks = (judge(row, num_rows[row.problem.problem_id]) for row in in_order)
  return [leak for leak in leaks if leak is not None]
