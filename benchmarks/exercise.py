"""Every operation on small tensors, so that every kernel for GPUs runs: what `python -m benchmarks.gpu sanitize` watches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

import numbapool

FLOATS = ("float32", "float16", "bfloat16", "float64")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool")
COMPLEX = ("complex64", "complex128")  # of which there are sums and means
DTYPES = (*FLOATS, *INTEGERS, *COMPLEX)
# In one to three dimensions. Each kernel takes half a second to compile, and all of them for all dtypes ten minutes.
EVERYWHERE = ("float32", "int8", "complex64")
# Shapes and windows, each with kernels or loads of its own.
PLANES: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    ((2, 8, 16, 32), {"kernel_size": 2}),  # tiles of 16 bytes, forward and backward
    ((2, 8, 19, 21), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ((2, 8, 19, 21), {"kernel_size": 2, "stride": 3, "dilation": 2, "ceil_mode": True}),
    ((1, 4, 40, 40), {"kernel_size": 13, "stride": 1, "padding": 6}),  # an axis at a time
    ((2, 3, 40, 40), {"kernel_size": 40}),  # a block for each plane
    ((1, 1, 200, 200), {"kernel_size": 200}),  # several
    ((3, 16, 6, 6), {"kernel_size": 6}),  # several planes for a block
)
LINES = (((2, 3, 37), {"kernel_size": 3, "stride": 2, "padding": 1}), ((1, 4, 64), {"kernel_size": 2}))
VOLUMES = (((1, 2, 9, 10, 11), {"kernel_size": 3, "stride": 2, "padding": 1}), ((1, 2, 8, 8, 16), {"kernel_size": 2}))


def exercise(dtype: str, device: str) -> None:
    """Call every function that takes a dtype; in two dimensions only where other dtypes do the same with the others."""
    ranks = ((1, LINES), (2, PLANES), (3, VOLUMES)) if dtype in EVERYWHERE else ((2, PLANES),)
    for rank, geometries in ranks:
        for shape, window in geometries:
            for x in layouts(numbers(shape, dtype, device)):
                pools(rank, x, window)
        x = numbers(geometries[0][0], dtype, device)
        bins(rank, x)
        if dtype not in COMPLEX:
            unpooling(rank, x)
        if dtype in FLOATS:
            powers(rank, x)
    x = numbers((2, 3, 9, 10), dtype, device)
    averages("global_avg_pool", x)
    averages("pool", x, "sum", 2, axes=(0, 2))
    if dtype not in COMPLEX:
        index_kinds(x)
        extrema("global_max_pool", x)


def numbers(shape: tuple[int, ...], dtype: str, device: str) -> Tensor:
    """Small integers, of which some are equal, in any dtype."""
    values = torch.from_numpy(np.random.default_rng(0).integers(0, 100, shape))
    return values.to(getattr(torch, dtype)).to(device)


def layouts(x: Tensor) -> Iterator[Tensor]:
    """A tensor in several arrangements."""
    yield x
    if x.dim() > 3:
        yield x.movedim(1, -1).contiguous().movedim(-1, 1)
    yield x[..., 1:]  # of rows that start anywhere
    yield x[..., ::2]


def pools(rank: int, x: Tensor, window: dict[str, Any]) -> None:
    """Sliding windows; smaller ones where a view has become too small for them."""
    window = window | {"kernel_size": [min(window["kernel_size"], length) for length in x.shape[-rank:]]}
    if not x.is_complex():
        extrema(f"max_pool{rank}d", x, **window)
        extrema(f"min_pool{rank}d", x, **window)
    averages(f"sum_pool{rank}d", x, **window)
    if x.dtype is torch.bool:
        return
    for options in ({}, {"count_include_pad": False}, {"divisor_override": 7}):
        averages(f"avg_pool{rank}d", x, **window, **options)
    if not (x.is_floating_point() or x.is_complex()):
        getattr(numbapool, f"avg_pool{rank}d")(x, **window, rounding="nearest")
    if x.is_floating_point():
        averages(f"lp_pool{rank}d", x, 2.0, **window)


def extrema(name: str, x: Tensor, *arguments: Any, **options: Any) -> None:
    """Maxima or minima, without and with indices, and their gradients: by the indices, or by finding them again."""
    function, backward = getattr(numbapool, name), getattr(numbapool, f"{name}_backward")
    function(x, *arguments, **options)
    values, indices = function(x, *arguments, return_indices=True, **options)
    function(x, *arguments, return_indices=True, index_kind="window", **options)
    if x.is_floating_point():
        for checks in (False, True):
            backward(values, x, *arguments, indices=indices, check_indices=checks, **options)
        backward(values, x, *arguments, **options)
        leaf = x.detach().requires_grad_()  # whose indices are those that autograd saves
        function(leaf, *arguments, **options).backward(values)


def averages(name: str, x: Tensor, *arguments: Any, **options: Any) -> None:
    """Means, sums or norms, and their gradients."""
    if name.endswith("avg_pool") and x.dtype is torch.bool:
        return
    out = getattr(numbapool, name)(x, *arguments, **options)
    if x.is_floating_point() or x.is_complex():
        getattr(numbapool, f"{name}_backward")(out, x, *arguments, **options)


def bins(rank: int, x: Tensor) -> None:
    """Adaptive and fractional windows."""
    size = tuple(range(3, 3 + rank))
    if x.dtype is not torch.bool:
        averages(f"adaptive_avg_pool{rank}d", x, size)
    if x.is_complex():
        return
    extrema(f"adaptive_max_pool{rank}d", x, size)
    if rank > 1:
        samples = torch.from_numpy(np.random.default_rng(0).random((*x.shape[:2], rank))).to(x.device)
        function = getattr(numbapool, f"fractional_max_pool{rank}d")
        values, indices = function(x, 2, output_size=size, return_indices=True, _random_samples=samples)
        if x.is_floating_point():
            backward = getattr(numbapool, f"fractional_max_pool{rank}d_backward")
            backward(values, x, 2, output_size=size, indices=indices)
            backward(values, x, 2, output_size=size, _random_samples=samples)


def unpooling(rank: int, x: Tensor) -> None:
    """Unpooling, with and without looking for indices out of range."""
    values, indices = getattr(numbapool, f"max_pool{rank}d")(x, 2, return_indices=True)
    for checks in (False, True):
        options = {"output_size": tuple(x.shape[-rank:]), "check_indices": checks}
        back = getattr(numbapool, f"max_unpool{rank}d")(values, indices, 2, **options)
        if x.is_floating_point():
            getattr(numbapool, f"max_unpool{rank}d_backward")(back, values, indices, 2, **options)


def index_kinds(x: Tensor) -> None:
    """Indices of each kind, made and taken."""
    for kind in ("plane", "window", "global"):
        values, indices = numbapool.max_pool2d(x, 3, 3, return_indices=True, index_kind=kind)
        numbapool.max_unpool2d(values, indices, 3, output_size=tuple(x.shape[2:]), index_kind=kind)
        if x.is_floating_point():
            numbapool.max_pool2d_backward(values, x, 3, 3, indices=indices, index_kind=kind)


def powers(rank: int, x: Tensor) -> None:
    """Norms of every kind."""
    for power in (1.0, 2.0, 3.0, 2.5, float("inf")):
        for is_norm in (False, True):
            averages(f"lp_pool{rank}d", x, power, 3, 2, true_norm=is_norm)
    if rank == 2:
        averages("global_lp_pool", x, 3.0)
