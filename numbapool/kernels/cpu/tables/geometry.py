"""The head of a program: what kernels know of a plan and their work array, in elements.

Extents of an axis are one behind the other, d, h, w, so that a loop over axes finds them.
"""

FIELDS = 42
(
    LAYOUT,  # position, in the program, of the layout of the input; first, as in all programs that have one
    PLANES,
    IN_D,
    IN_H,
    IN_W,
    OUT_D,
    OUT_H,
    OUT_W,
    KERNEL_D,
    KERNEL_H,
    KERNEL_W,
    STRIDE_D,
    STRIDE_H,
    STRIDE_W,
    DILATION_D,
    DILATION_H,
    DILATION_W,
    BEFORE_D,
    BEFORE_H,
    BEFORE_W,
    AFTER_D,
    AFTER_H,
    AFTER_W,
    PITCH,  # elements of the line of one output row: a multiple of the stride
    LINES,  # elements of all lines of a unit
    GROUP,  # planes of a unit: more than 1 only if each is one unit and the input is contiguous
    INSIDE,  # 1 if every window is inside the input, else 0
    FOLDED,  # position, in a work array, of the lines folded along d and h
    ACROSS,  # position of the lines folded across as well: the results of a unit
    STACK,  # position of a copy of input rows
    SPARE,  # position of spare lines
    STAGE,  # position of a vector on its way to the end of an output row
    WORK_SIZE,
    UNITS,  # position of the table of units of a plane
    UNIT_COUNT,
    BLOCKS,  # position of the table of blocks
    STREAMS,  # 1 if the output is written past the caches
    VARIES,  # of means: 1 if not all divisors are the same
    FACTORS,  # and the position of their factors
    IN_WINDOW,  # of indices: 1 if they count the taps of a window, 0 if they are positions in the plane
    MARK_H,  # and how far those of neighbouring taps along h are apart
    MARK_W,
) = range(FIELDS)
