"""The CPU target.

Forward operations are `operation(plan, dtype, is_contiguous, *parameters) -> Launch`, backward ones
`operation(plan, *sources, flat result, *parameters)`. Minima are maxima of elements that are read reversed, see
`elements`.
"""

from numbapool.kernels.cpu.avg import avg_pool, avg_pool_backward, sum_pool, sum_pool_backward
from numbapool.kernels.cpu.codes import from_global, to_global
from numbapool.kernels.cpu.indexed import gather, gather_all, max_pool_backward, place, scatter_add
from numbapool.kernels.cpu.lp import lp_pool, lp_pool_backward
from numbapool.kernels.cpu.max import max_pool, max_pool_with_indices

min_pool, min_pool_with_indices, min_pool_backward = max_pool, max_pool_with_indices, max_pool_backward

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
