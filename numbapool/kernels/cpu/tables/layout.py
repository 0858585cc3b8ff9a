"""Where in a flat array element (plane, d, h, w) is, in elements.

Plane p is outer plane p // inner count, inner plane p % inner count. Backends make layouts, too, in this order.
"""

# Which entry of a program says at which position in it the layout is.
POSITION = 0

FIELDS = 8
(
    OFFSET,  # position of the first element
    OUTER_STEP,
    INNER_STEP,
    INNER_COUNT,
    D_STEP,
    H_STEP,
    W_STEP,
    DIRECT,  # 1 where rows are runs of neighbours
) = range(FIELDS)
