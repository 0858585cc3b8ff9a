"""The head of a program of `spread`: what its kernel knows of planes, their tiles and its work array, in elements."""

FIELDS = 47
(
    LAYOUT,  # position of the layout of the gradient of the output; first, as in all programs that have one
    IN_D,
    IN_H,
    IN_W,
    OUT_D,
    OUT_H,
    OUT_W,
    STRIDE_D,
    STRIDE_H,
    STRIDE_W,
    PLANES,
    GROUP,  # planes of a tile: more than 1 only if it holds whole planes, of one slab, and the gradient is contiguous
    STEPS_H,  # steps of a tile
    STEPS_W,
    TILES_H,  # tiles of a slab
    TILES_W,
    BEFORE_H,  # how many outputs before those of its steps a tile takes
    BEFORE_W,
    EXTRA_H,  # and how many before and after together
    EXTRA_W,
    PITCH,
    FILLS,  # 1 if zeros around the stacked outputs are not in the same place in every tile
    KINDS_D,  # positions of the tables of kinds and of runs
    KINDS_H,
    KINDS_W,
    RUNS_D,
    RUNS_H,
    RUNS_W,
    KIND_COUNT_H,
    KIND_COUNT_W,
    RUN_COUNT_H,
    RUN_COUNT_W,
    STREAMS,  # 1 if the result is written past the caches
    VARIES,  # 1 if not all divisors are the same
    FULL_W,  # taps along w of windows that are inside the input: those from INSIDE0 up to INSIDE1
    INSIDE0,
    INSIDE1,
    EDGES,  # position in the divisors of the taps along w of all other windows
    STACK,  # positions in the work array
    DOWN,
    ACROSS,
    REGION,  # elements of each line of "down" and "across"
    SPARE,
    COLUMNS,
    ZEROS,
    STAGE,
    WORK_SIZE,
) = range(FIELDS)
