"""A row of the table of units: one piece of the output of a plane."""

FIELDS = 9
(
    OD,  # its first output
    OH,
    OW,
    ROWS,
    COLS,
    TOUCHES_PADDING,
    FIRST_BLOCK,
    END_BLOCK,
    DIVISORS,  # means only: position of its line of divisors, see `avg.divisors_of`
) = range(FIELDS)
