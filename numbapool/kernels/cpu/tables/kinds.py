"""A kind of phases, whose elements are in equally many windows: of step j those of o = j + FIRST + i * STEP, i < TAPS."""

FIELDS = 3
(FIRST, STEP, TAPS) = range(FIELDS)
