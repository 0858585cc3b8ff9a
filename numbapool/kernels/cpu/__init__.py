"""The CPU target.

Forward operations are `operation(plan, dtype, is_contiguous, *parameters) -> Call`, backward ones
`operation(plan, *sources, flat result, *parameters)`.
"""

from numbapool.kernels.cpu.avg import avg_pool, avg_pool_backward
from numbapool.kernels.cpu.indexed import max_pool_backward, max_pool_backward_from_indices, max_pool_gather
from numbapool.kernels.cpu.max import max_pool, max_pool_with_indices

__all__ = [
    "avg_pool",
    "avg_pool_backward",
    "max_pool",
    "max_pool_backward",
    "max_pool_backward_from_indices",
    "max_pool_gather",
    "max_pool_with_indices",
]
