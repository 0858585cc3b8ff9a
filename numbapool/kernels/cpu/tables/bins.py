"""The head of a program of `bins`: what its forward kernels know of planes and their work array, in elements."""

FIELDS = 18
(
    LAYOUT,  # position of the layout of the input; first, as in all programs that have one
    IN_D,
    IN_H,
    IN_W,
    OUT_D,
    OUT_H,
    OUT_W,
    ROWS,  # rows of outputs of a unit
    UNIT_COUNT,  # units of a slab of outputs
    NARROWEST,  # elements of the narrowest window across
    KEPT,  # elements of what a window is first folded to: a vector, if windows are wide, else 1
    LINES,  # elements of all lines of a unit
    FOLDED,  # positions in a work array: of the lines folded along d and h
    SPARE,  # of two times as many lines, folded across
    ACROSS,  # of the windows picked out of these
    STACK,  # of a copy of input rows, last: rows that are runs of neighbours need none
    WORK_SIZE,
    STREAMS,  # 1 if the output is written past the caches
) = range(FIELDS)
