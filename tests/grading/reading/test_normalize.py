import pytest

from mathft_jax.grading.reading import normalize


@pytest.mark.parametrize(
  ("answer", "form"),
  [
    (" 42. ", "42"),
    ("$\\dfrac{1}{2}$", "\\frac{1}{2}"),
    ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3, \\frac{\\pi}{2})"),
    ("10,\\!080", "10080"),
    ("23{,}000", "23000"),
    ("1,234,567", "1234567"),
    ("111, \\! 111, \\! 111", "111111111"),
    ("(100,101)", "(100, 101)"),
    ("100, 200", "100, 200"),
    ("0,100", "0, 100"),
    ("90^{\\circ}", "90°"),
    ("90^\\circ", "90°"),
    ("\\text{Friday}", "Friday"),
    ("\\mbox{Saturday}", "Saturday"),
    ("10 \\mbox{ cm}", "10\\text{cm}"),
    ("\\$\\,5", "＄5"),
    ("20 \\%", "20%"),
    ("**36 miles**.", "36 miles"),
    ("x**2", "x^2"),
    ("{{5}}", "5"),
    ("{1}{2}", "{1}{2}"),
    ("−3 × π", "-3*\\pi"),
    ("2√13", "2\\sqrt{13}"),
    ("x²", "x^{2}"),
    ("2 1/2", "2 1/2"),
    ("11 / 12", "11/12"),
    ("05\\!:\\!00", "05:00"),
    ("\\phantom -1", "1"),
    ("a \\\\ b", "a\\\\b"),
  ],
)
def test_marks_without_meaning_are_dropped(answer, form):
  assert normalize.normalize(answer) == form
  assert normalize.normalize(form) == form


def test_two_numbers_never_melt_into_one():
  assert normalize.normalize("1, 200") != normalize.normalize("1,200")


def test_long_text_is_only_stripped():
  text = "\\left" * normalize.MAX_LENGTH
  assert normalize.normalize(f" {text} ") == text
