"""The CUDA target: the same operations as the CPU target, as programs of launches.

An operation is `operation(plan, sources, results, *parameters) -> Program`, forward and backward alike, where `sources` and
`results` are tuples of `Operand`: dtype, steps in elements along the axes of the plan, alignment; no addresses. Programs are
remembered, so equal operands give the same one. `launch.run(program, addresses, launch)` runs it: addresses are those of
sources, results and `program.extras`, in this order (tables of constants, to be copied to the device once, and scratch, so
many bytes of the caller's allocator, which hold nothing after the last launch), and `launch(step, arguments)` starts one
kernel on the caller's stream with Python ints as arguments, 8 bytes each.

============================ ======================= ===================== ================================================
operation                    sources                 results               parameters
============================ ======================= ===================== ================================================
max_pool, min_pool           x                       out
max_/min_pool_with_indices   x                       out, indices
avg_pool                     x                       out                   count_include_pad, divisor_override, is_rounded
sum_pool                     x                       out
lp_pool                      x                       out                   power, is_norm
max_/min_pool_backward       grad_output, x          grad_input
avg_pool_backward            grad_output             grad_input            count_include_pad, divisor_override, is_rounded
sum_pool_backward            grad_output             grad_input
lp_pool_backward             grad_output, x          grad_input            power, is_norm
scatter_add                  grad_output, indices    grad_input            checks
gather, gather_all           x, indices              out
place                        x, indices              out
to_global, from_global       indices                 out                   first, steps
============================ ======================= ===================== ================================================

Plans are the CPU target's: `plan.channels_last` where the results shall lie with the channels last, then the steps of an operand
have those of the channels at the end. Any steps are read, of either sign, and 0; results are contiguous in the order of
the plan. Complex operands keep their dtype and plan; `in_parts` is not used. Indices may be int64, int32 or, as taps of the
window, unsigned.

Where indices are read, the program has a `flag`: a buffer whose first int32 is not 0 afterwards if one was out of range;
such indices are skipped. To read it is the only reason to wait for the device (and `scatter_add` looks for them only if
`checks`, in a launch of its own).

Files have the names of the CPU's where they do the same work, and say so where they have no twin. Of the CPU's `channels` has none
here, for channels are lanes of `vectors`, nor has `embedded`: no program is part of code that others compile.

`compile.compile_kernel(kernel, capability)` makes the cubin of a `Step.kernel` and remembers it on disk. Nothing here imports
Numba but the compiler.
"""

from numbapool.kernels.cuda.avg import avg_pool, sum_pool
from numbapool.kernels.cuda.codes import from_global, to_global
from numbapool.kernels.cuda.indexed import (
    gather,
    gather_all,
    max_pool_backward,
    min_pool_backward,
    place,
    scatter_add,
)
from numbapool.kernels.cuda.lp import lp_pool, lp_pool_backward
from numbapool.kernels.cuda.max import max_pool, max_pool_with_indices, min_pool, min_pool_with_indices
from numbapool.kernels.cuda.spread import avg_pool_backward, sum_pool_backward

__all__ = [
    "avg_pool",
    "avg_pool_backward",
    "from_global",
    "gather",
    "gather_all",
    "lp_pool",
    "lp_pool_backward",
    "max_pool",
    "max_pool_backward",
    "max_pool_with_indices",
    "min_pool",
    "min_pool_backward",
    "min_pool_with_indices",
    "place",
    "scatter_add",
    "sum_pool",
    "sum_pool_backward",
    "to_global",
]
