"""Neighbouring phases of one kind, FIRST <= phase < END."""

FIELDS = 3
(KIND, FIRST, END) = range(FIELDS)
