"""Units of answers: their words, their sizes, and words that are none."""

from fractions import Fraction

# A unit is a set of (base unit, power): mph is mile^1 hour^-1.
Measure = frozenset[tuple[str, int]]

_ALIASES = (
  "cm centimeter centimeters centimetre centimetres",
  "mm millimeter millimeters millimetre millimetres",
  "km kilometer kilometers kilometre kilometres",
  "meter meters metre metres m",
  "inch inches in",
  "foot feet ft",
  "yard yards yd",
  "mile miles mi",
  "second seconds sec secs s",
  "minute minutes min mins",
  "hour hours hr hrs h",
  "day days",
  "week weeks",
  "month months",
  "year years yr yrs",
  "dollar dollars usd ＄",
  "cent cents ¢",
  "euro euros eur €",
  "sterling gbp £",
  "yen jpy ¥",
  "gram grams g gm",
  "kg kilogram kilograms",
  "pound pounds lb lbs",
  "ounce ounces oz",
  "liter liters litre litres l",
  "ml milliliter milliliters",
  "gallon gallons",
  "degree degrees deg",
  "radian radians rad",
  "am",
  "pm",
  "acre acres",
)
CURRENCY_MARKS = "＄€£¥¢"
SQUARED = frozenset(["square", "sq", "squared"])
CUBED = frozenset(["cubic", "cu", "cubed"])

_COMPOUND: dict[str, Measure] = {
  "mph": frozenset([("mile", 1), ("hour", -1)]),
  "kph": frozenset([("km", 1), ("hour", -1)]),
  "kmh": frozenset([("km", 1), ("hour", -1)]),
}
BY_WORD: dict[str, Measure] = _COMPOUND | {
  alias: frozenset([(line.split()[0], 1)])
  for line in _ALIASES
  for alias in line.split()
}
# Written without \text{} too, these are units and no products of letters.
SHORT = frozenset(
  "cm mm km ft yd hr lb lbs kg ml oz mph kph usd eur gbp jpy deg".split()
)


# Words that change what a number before them says: never passed over.
MEANINGFUL = frozenset(
  "is are was not increasing decreasing increase decrease below above less more"
  " fewer higher lower loss gain profit up down north south east west clockwise"
  " counterclockwise anticlockwise bc bce ad ce tens ones hundreds thousands"
  " dozen dozens pair pairs factorial half halves third thirds quarter quarters"
  " fourth fourths fifth fifths sixth sixths seventh sevenths eighth eighths"
  " ninth ninths tenth tenths hundredth hundredths thousandth thousandths"
  " double doubled twice except".split()
)
# The same at the end of an answer; "3 positive integers" are three.
MEANINGFUL_LAST = frozenset(
  "even odd prime composite positive negative left right".split()
)
# Each group's sizes in its first unit, by definition.
_CUBIC_METERS_IN_LITER = Fraction(1, 1000)
_SIZES: tuple[dict[str, Fraction], ...] = tuple(
  {name: Fraction(size) for name, size in group.items()}
  for group in (
    {
      "meter": "1",
      "cm": "1/100",
      "mm": "1/1000",
      "km": "1000",
      "inch": "0.0254",
      "foot": "0.3048",
      "yard": "0.9144",
      "mile": "1609.344",
    },
    {
      "second": "1",
      "minute": "60",
      "hour": "3600",
      "day": "86400",
      "week": "604800",
    },
    {"year": "1", "month": "1/12"},
    {"dollar": "1", "cent": "1/100"},
    {"gram": "1", "kg": "1000"},
    {"pound": "1", "ounce": "1/16"},
  )
)


def factor(given: Measure, wanted: Measure) -> Fraction | None:
  """How many of `wanted` one of `given` is: 100 for m and cm.

  None where they do not measure the same.
  """
  (a, dimensions_a), (b, dimensions_b) = _in_base(given), _in_base(wanted)
  return a / b if dimensions_a == dimensions_b else None


def _in_base(measure: Measure) -> tuple[Fraction, dict[str, int]]:
  size = Fraction(1)
  dimensions: dict[str, int] = {}
  for name, exponent in measure:
    if name in ("liter", "ml"):
      size *= _CUBIC_METERS_IN_LITER**exponent
      if name == "ml":
        size *= Fraction(1, 1000) ** exponent
      name, exponent = "meter", 3 * exponent
    for group in _SIZES:
      if name in group:
        size *= group[name] ** exponent
        name = next(iter(group))
    dimensions[name] = dimensions.get(name, 0) + exponent
  return size, {name: n for name, n in dimensions.items() if n}


def power(measure: Measure, exponent: int) -> Measure:
  """The unit to a power: cm to the second is cm^2."""
  return frozenset((name, number * exponent) for name, number in measure)
