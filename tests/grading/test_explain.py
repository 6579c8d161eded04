import pytest

from mathft_jax.grading import explain
from mathft_jax.grading.reading import normalize, parse


@pytest.mark.parametrize(
  ("answer", "shown"),
  [
    ("\\frac{6}{4}", "3/2"),
    ("2\\sin(x)+1", "((2 * sin(x)) + 1)"),
    ("x^2", "(x^2)"),
    ("1011_2", "1011 in base 2"),
    ("\\text{Tuesday}", 'the words "tuesday"'),
    ("1, 2", "{1, 2}, in any order"),
    ("(1,2)\\cup(3,4)", "(1, 2), in order united with (3, 4), in order"),
    ("\\{x \\mid x > 1\\}", "all x with {x > 1}, in any order"),
    ("1 < x \\le 2", "1 < x <= 2"),
    ("3:4", "3 : 4"),
    ("x \\equiv 3 \\pmod 7", "x = 3 modulo 7"),
    (
      "\\begin{cases} 1 & x>0 \\\\ 2 & \\text{else} \\end{cases}",
      "1 if x > 0; 2 else",
    ),
    ("\\begin{pmatrix} 1 & 2 \\end{pmatrix}", "matrix [1, 2]"),
    (
      "\\mathbb{R}\\setminus\\{2\\}",
      "((-1 * infinity), infinity), in order without {2}, in any order",
    ),
    ("5) + (", "not understood"),
    ("(" * 99, "not understood (too large)"),
  ],
)
def test_every_kind_of_answer_is_shown(answer, shown):
  tree = parse.parse(normalize.normalize(answer)).tree
  assert explain.show(tree) == shown
