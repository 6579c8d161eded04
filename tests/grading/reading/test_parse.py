from fractions import Fraction

import pytest

from mathft_jax.grading import trees, values
from mathft_jax.grading.reading import cursor, normalize, parse, tokens


def _read(text: str) -> parse.Answer:
  return parse.parse(normalize.normalize(text))


@pytest.mark.parametrize(
  ("text", "value"),
  [
    ("-\\frac73", Fraction(-7, 3)),
    ("\\frac 9{20}", Fraction(9, 20)),
    ("\\frac1{512}", Fraction(1, 512)),
    ("2\\frac{1}{2}", Fraction(5, 2)),
    ("-8\\frac47", Fraction(-60, 7)),
    ("2 1/2", Fraction(5, 2)),
    ("2\\frac{3}{2}", Fraction(3)),  # No mixed number: the part exceeds 1.
    ("2 + 3 * 4 - 10 / 5", Fraction(12)),
    ("-2^2", Fraction(-4)),
    ("2^-1", Fraction(1, 2)),
    ("2^3^2", Fraction(512)),
    ("(1+2)(3)", Fraction(9)),
    ("6/2/3", Fraction(1)),
    (".25", Fraction(1, 4)),
    ("0.1\\overline{6}", Fraction(1, 6)),
    ("1011_2", Fraction(11)),
    ("A5_{11}", 115),
    ("\\text{A5}_{11}", Fraction(115)),
    ("19_8", None),
    ("5!", Fraction(120)),
    ("\\binom{5}{2}", Fraction(10)),
    ("\\sqrt{\\frac{9}{4}}", Fraction(3, 2)),
    ("\\sqrt[3]{-27}", Fraction(-3)),
    ("8^{2/3}", Fraction(4)),
    ("|-3| + 2|1|", Fraction(5)),
    ("\\lfloor 3.7 \\rfloor", Fraction(3)),
    ("\\gcd(12, 18)", Fraction(6)),
    ("three", Fraction(3)),
    ("1/0", None),
    ("0^0", None),
  ],
)
def test_numbers_have_their_value(text, value):
  assert values.value_of(_read(text).tree) == value


@pytest.mark.parametrize(
  ("text", "kind"),
  [
    ("(1, 2)", trees.Group),
    ("(1, 2]", trees.Group),
    ("\\{1, 2\\}", trees.Collection),
    ("1 \\text{ and } 2", trees.Collection),
    ("1 \\pm \\sqrt{2}", trees.Collection),
    ("(0,1) \\cup (2,3)", trees.Union),
    ("\\begin{bmatrix} 1 & 2 \\\\ 3 & 4 \\end{bmatrix}", trees.Matrix),
    ("1:2", trees.Ratio),
    ("x \\le 3", trees.Relation),
    ("f(2) < f(1) < f(4)", trees.Relation),
    ("two lines", trees.Words),
    ("June 20", trees.Words),
    ("7p+4e", trees.Call),
    ("2 \\sin 5x \\cos x", trees.Call),
    ("3 + + 4)", trees.Unread),
    ("", trees.Unread),
    ("__import__('os')", trees.Unread),
    ("\\input{/etc/passwd}", trees.Unread),
  ],
)
def test_answers_are_read_as_their_kind(text, kind):
  assert isinstance(_read(text).tree, kind)


@pytest.mark.parametrize(
  ("text", "units"),
  [
    ("15\\mbox{ cm}^2", {("cm", 2)}),
    ("15 cubic centimeters", {("cm", 3)}),
    ("270^\\circ", {("degree", 1)}),
    ("60 miles per hour", {("mile", 1), ("hour", -1)}),
    ("60 mph", {("mile", 1), ("hour", -1)}),
    ("\\frac{1}{2}\\text{ square cm per minute}", {("cm", 2), ("minute", -1)}),
    ("40 daps", set()),
    ("\\$40", {("dollar", 1)}),
    ("8:34 \\text{ p.m.}", {("pm", 1)}),
    ("9\\text{ min}", {("minute", 1)}),
  ],
)
def test_units_are_kept_apart_from_the_number(text, units):
  answer = _read(text)
  assert answer.units == units
  assert not isinstance(answer.tree, trees.Unread | trees.Words)


@pytest.mark.parametrize(
  "text",
  [
    "(" * (cursor.MAX_DEPTH + 1) + "1" + ")" * (cursor.MAX_DEPTH + 1),
    "^".join("2" * (cursor.MAX_DEPTH + 2)),
    "9" * (tokens.MAX_DIGITS + 1),
    "x+" * tokens.MAX_TOKENS + "x",
    "1" * (normalize.MAX_LENGTH + 1),
  ],
)
def test_what_exceeds_a_bound_is_not_read(text):
  tree = _read(text).tree
  assert isinstance(tree, trees.Unread)
  assert tree.exceeds_bound


def test_a_matrix_needs_rows_of_one_length():
  answer = _read("\\begin{pmatrix} 1 & 2 \\\\ 3 \\end{pmatrix}")
  assert isinstance(answer.tree, trees.Unread)
