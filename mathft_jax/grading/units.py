"""Units of answers: which words name the same one."""

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
  "liter liters litre litres",
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


def power(measure: Measure, exponent: int) -> Measure:
  """The unit to a power: cm to the second is cm^2."""
  return frozenset((name, number * exponent) for name, number in measure)
