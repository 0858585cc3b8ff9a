"""A row of the table of blocks: neighbouring output rows of a unit whose windows hold equally many input rows."""

FIELDS = 8
(
    LINE,  # where the first goes, from the start of the unit's lines
    FIRST_D,  # first input element that the first window reads
    FIRST_H,
    FIRST_W,
    D_TAPS,
    H_TAPS,
    ROWS,
    WIDTH,  # input elements of each row
) = range(FIELDS)
