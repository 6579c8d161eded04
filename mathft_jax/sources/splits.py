"""Which split a problem belongs to, the same for every source for ever.

Splits are functions of the problem's id alone. So MATH and PRM800K, which
share ids, agree on every problem, and a new row moves no old one.
"""

import collections
import dataclasses
import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

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

  `kind` is "id", "exact" (the same text), "normalized" (the same letters and
  digits) or "13-gram"; `share` is the share of 13-grams, 1 for the others.
  `is_dropped` tells whether the row was taken out of its split.
  """

  problem_id: str
  split: str
  other_id: str
  other_split: str
  kind: str
  share: float
  is_dropped: bool


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
  """
  by_split = {split: [] for split in SPLITS}
  for row in rows:
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


def check_no_leak(
  training: Iterable[tuple[str, str]], held_out: Iterable[tuple[str, str]]
) -> None:
  """Raises ValueError if a held-out problem is among training's.

  Both are (problem_id, text). The same id, or the same letters and digits, are
  the same problem; what only resembles it is for `without_leaks` to find.
  """
  ids, texts = set(), {}
  for problem_id, text in held_out:
    ids.add(problem_id)
    texts.setdefault(tuple(words(text)), problem_id)
  texts.pop((), None)
  for problem_id, text in training:
    if problem_id in ids:
      other_id = problem_id
    else:
      other_id = texts.get(tuple(words(text)))
    if other_id is not None:
      raise ValueError(
        f"problem {problem_id} is to be trained on, but it is held out as"
        f" {other_id}; `mathft data prepare` with --against writes rows"
        " without such problems"
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
  rows: Iterable[SolvedProblem],
  later: Mapping[str, Iterable[SolvedProblem]],
) -> list[Leak]:
  """Returns at most one leak, the worst, for each distinct problem of rows."""
  by_id: dict[str, str] = {}
  by_text: dict[str, tuple[str, str]] = {}
  by_words: dict[tuple[str, ...], tuple[str, str]] = {}
  by_ngram = collections.defaultdict(set)
  num_ngrams: dict[tuple[str, str], int] = {}
  for split, split_rows in later.items():
    for row in split_rows:
      key = (split, row.problem.problem_id)
      if key in num_ngrams:
        continue
      text_words = words(row.problem.text)
      by_id.setdefault(row.problem.problem_id, split)
      by_text.setdefault(row.problem.text, key)
      by_words.setdefault(tuple(text_words), key)
      grams = ngrams(text_words)
      num_ngrams[key] = len(grams)
      for gram in grams:
        by_ngram[gram].add(key)

  def judge(row: SolvedProblem) -> Leak | None:
    problem = row.problem
    text_words = words(problem.text)
    same = [
      ("id", by_id.get(problem.problem_id), problem.problem_id),
      ("exact", *by_text.get(problem.text, (None, ""))),
      ("normalized", *by_words.get(tuple(text_words), (None, ""))),
    ]
    for kind, split, other_id in same:
      # A problem without a letter or digit resembles nothing.
      if split and (kind != "normalized" or text_words):
        return Leak(
          problem.problem_id, row.split, other_id, split, kind, 1.0, True
        )
    grams = ngrams(text_words)
    shared = collections.Counter(
      key for gram in grams for key in by_ngram.get(gram, ())
    )
    share, (split, other_id) = max(
      ((n / min(len(grams), num_ngrams[k]), k) for k, n in shared.items()),
      default=(0.0, ("", "")),
    )
    if share < _NEAR_SHARE or not text_words:
      return None
    return Leak(
      problem.problem_id,
      row.split,
      other_id,
      split,
      "13-gram",
      share,
      is_dropped=row.split == "train",
    )

  leaks: dict[str, Leak] = {}
  for row in rows:
    if row.problem.problem_id not in leaks and (leak := judge(row)):
      leaks[row.problem.problem_id] = leak
  return list(leaks.values())
