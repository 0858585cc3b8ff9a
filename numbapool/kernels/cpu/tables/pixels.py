"""The head of a program of `channels`: lengths in pixels, and where in it the tables of each axis are.

A table says, for each output along an axis, which is the first tap inside the input and how many there are; STEP is from one to
the next. A table of receivers says the same of the outputs that hold an input element.
"""

FIELDS = 13
(
    CHANNELS,
    IN_D,
    IN_H,
    IN_W,
    OUT_D,
    OUT_H,
    OUT_W,
    STEP_D,
    STEP_H,
    STEP_W,
    TABLE_D,
    TABLE_H,
    TABLE_W,
) = range(FIELDS)
