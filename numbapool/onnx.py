"""The pooling operators of ONNX, for evaluators in Python: inputs by position in ONNX's order, attributes by ONNX's names.

Each takes any registered array type, `opset`, the version of the operator set that the model asks for, and `n_outputs`, how
many of the operator's outputs the node has. Source of all rules: https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from numbapool.arguments import as_int, shown
from numbapool.dispatch import backend_of
from numbapool.functional import global_avg_pool, global_lp_pool, global_max_pool, pool
from numbapool.functional.arrangement import to_global
from numbapool.functional.engine import unpooled_to
from numbapool.geometry import unpool_lengths
from numbapool.kinds import Mean, Norm

__all__ = [
    "AveragePool",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "LpPool",
    "MaxPool",
    "MaxUnpool",
]

# Since this version none of the operators has changed in what it computes.
NEWEST = 22
# Since which version an operator exists, and since which it has what it did not have at first.
SINCE: dict[str, dict[str, int]] = {
    "AveragePool": {"": 1, "count_include_pad": 7, "ceil_mode": 10, "dilations": 19},
    "GlobalAveragePool": {"": 1},
    "GlobalLpPool": {"": 1},
    "GlobalMaxPool": {"": 1},
    "LpPool": {"": 1, "ceil_mode": 18, "dilations": 18},
    "MaxPool": {"": 1, "Indices": 8, "storage_order": 8, "ceil_mode": 10, "dilations": 10},
    "MaxUnpool": {"": 9},
}
AUTO_PAD = {"NOTSET": None, "SAME_UPPER": "same", "SAME_LOWER": "same_lower", "VALID": "valid"}


def AveragePool(  # noqa: N802
    X: Any,  # noqa: N803
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    n_outputs: int = 1,
    opset: int = NEWEST,
) -> Any:
    """Mean over sliding windows: ONNX's AveragePool.

    Parameters
    ----------
    X : array, shape (N, C, D1, ..., Dn)
        Any registered array type.
    auto_pad : 'NOTSET', 'SAME_UPPER', 'SAME_LOWER' or 'VALID'
        Padding by name, instead of `pads`.
    ceil_mode : 0 or 1
        Whether a last window that overhangs the end is kept, if it starts inside the input or the padding before it.
    count_include_pad : 0 or 1
        Whether divisors count elements in the padding.
    dilations, kernel_shape, strides : n ints
        Steps between the elements of a window (1 by default), its sizes, and steps between windows (1 by default).
    pads : 2 n ints
        Elements before each axis, then those behind each.
    n_outputs : 1
        Outputs of the node.
    opset : int
        Version of the operator set.

    Returns
    -------
    Y : same type and dtype as `X`, shape (N, C, O1, ..., On)

    Raises
    ------
    ValueError
        An attribute out of its range, or one that the operator does not have in this operator set.
    TypeError
        An attribute of the wrong type, or a dtype that cannot be averaged.

    Examples
    --------
    >>> import numpy as np
    >>> from numbapool.onnx import AveragePool
    >>> AveragePool(np.arange(4.0).reshape(1, 1, 4), kernel_shape=[2])
    array([[[0.5, 1.5, 2.5]]])
    """
    window = _window(X, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides)
    counts = _flag("count_include_pad", count_include_pad)
    _check("AveragePool", opset, n_outputs, **_optional(window), count_include_pad=counts)
    with _as_called("AveragePool", X=X, kernel_shape=kernel_shape, strides=strides, pads=pads, dilations=dilations):
        return pool(X, Mean(counts, rounding="truncate"), **window)


def MaxPool(  # noqa: N802
    X: Any,  # noqa: N803
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
    n_outputs: int = 1,
    opset: int = NEWEST,
) -> Any:
    """Maximum over sliding windows: ONNX's MaxPool.

    Parameters
    ----------
    X : array, shape (N, C, D1, ..., Dn)
        Any registered array type.
    auto_pad, ceil_mode, dilations, kernel_shape, pads, strides, opset
        See `AveragePool`.
    storage_order : 0 or 1
        Whether `Indices` count the elements of a plane in row-major (0) or in column-major order (1).
    n_outputs : 1 or 2
        With 2, `Indices` are returned too.

    Returns
    -------
    Y : same type and dtype as `X`, shape (N, C, O1, ..., On)
    Indices : int64, shape of `Y`, only with `n_outputs=2`
        Positions in the whole of `X`, for up to three axes; -1 where a window holds no input.

    Raises
    ------
    ValueError
        An attribute out of its range, or one that the operator does not have in this operator set.
    TypeError
        An attribute of the wrong type, or a dtype that cannot be ordered.

    Examples
    --------
    >>> import numpy as np
    >>> from numbapool.onnx import MaxPool
    >>> MaxPool(np.array([[[1.0, 3.0, 2.0], [4.0, 0.0, 5.0]]]), kernel_shape=[2], n_outputs=2)
    (array([[[3., 3.],
            [4., 5.]]]), array([[[1, 1],
            [3, 5]]]))
    """
    window = _window(X, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides)
    is_column_major, has_indices = _flag("storage_order", storage_order), as_int("n_outputs", n_outputs) == 2
    given = _optional(window) | {"storage_order": is_column_major, "Indices": has_indices}
    _check("MaxPool", opset, 1 if has_indices else n_outputs, **given)
    with _as_called("MaxPool", X=X, kernel_shape=kernel_shape, strides=strides, pads=pads, dilations=dilations):
        if not has_indices:
            return pool(X, "max", **window)
        if not is_column_major:
            return pool(X, "max", **window, return_indices=True, index_kind="global")
        values, indices = pool(X, "max", **window, return_indices=True)
        backend = backend_of("X", X)
        return values, to_global(backend, indices, backend.describe("X", X)[0], window["axes"], is_column_major=True)


def LpPool(  # noqa: N802
    X: Any,  # noqa: N803
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    kernel_shape: Sequence[int],
    p: float = 2,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    n_outputs: int = 1,
    opset: int = NEWEST,
) -> Any:
    """Norm over sliding windows, `(sum |x|^p)^(1/p)`: ONNX's LpPool.

    Parameters
    ----------
    X : array, shape (N, C, D1, ..., Dn)
        Any registered array type, floating.
    auto_pad, ceil_mode, dilations, kernel_shape, pads, strides, n_outputs, opset
        See `AveragePool`.
    p : number
        The power; greater than 0.

    Returns
    -------
    Y : same type and dtype as `X`, shape (N, C, O1, ..., On)

    Raises
    ------
    ValueError
        An attribute out of its range, or one that the operator does not have in this operator set.
    TypeError
        An attribute of the wrong type, or a dtype that is not floating.

    Examples
    --------
    >>> import numpy as np
    >>> from numbapool.onnx import LpPool
    >>> LpPool(np.array([[[3.0, -4.0, 0.0]]]), kernel_shape=[2])
    array([[[5., 4.]]])
    """
    window = _window(X, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides)
    _check("LpPool", opset, n_outputs, **_optional(window))
    with _as_called("LpPool", X=X, kernel_shape=kernel_shape, strides=strides, pads=pads, dilations=dilations, p=p):
        return pool(X, Norm(p, true_norm=True), **window)


def GlobalAveragePool(X: Any, *, n_outputs: int = 1, opset: int = NEWEST) -> Any:  # noqa: N802, N803
    """Mean of each plane: ONNX's GlobalAveragePool.

    Parameters
    ----------
    X : array, shape (N, C, D1, ..., Dn)
        Any registered array type.
    n_outputs, opset
        See `AveragePool`.

    Returns
    -------
    Y : same type and dtype as `X`, shape (N, C, 1, ..., 1)

    Raises
    ------
    ValueError, TypeError
        See `numbapool.global_avg_pool`.

    Examples
    --------
    >>> import numpy as np
    >>> from numbapool.onnx import GlobalAveragePool
    >>> GlobalAveragePool(np.array([[[1.0, 2.0, 6.0]]]))
    array([[[3.]]])
    """
    _check("GlobalAveragePool", opset, n_outputs)
    with _as_called("GlobalAveragePool", X=X):
        return global_avg_pool(X)


def GlobalMaxPool(X: Any, *, n_outputs: int = 1, opset: int = NEWEST) -> Any:  # noqa: N802, N803
    """Maximum of each plane: ONNX's GlobalMaxPool.

    Parameters
    ----------
    X : array, shape (N, C, D1, ..., Dn)
        Any registered array type.
    n_outputs, opset
        See `AveragePool`.

    Returns
    -------
    Y : same type and dtype as `X`, shape (N, C, 1, ..., 1)

    Raises
    ------
    ValueError, TypeError
        See `numbapool.global_max_pool`.

    Examples
    --------
    >>> import numpy as np
    >>> from numbapool.onnx import GlobalMaxPool
    >>> GlobalMaxPool(np.array([[[1.0, 2.0, 6.0]]]))
    array([[[6.]]])
    """
    _check("GlobalMaxPool", opset, n_outputs)
    with _as_called("GlobalMaxPool", X=X):
        return global_max_pool(X)


def GlobalLpPool(X: Any, *, p: float = 2, n_outputs: int = 1, opset: int = NEWEST) -> Any:  # noqa: N802, N803
    """Norm of each plane: ONNX's GlobalLpPool.

    Parameters
    ----------
    X : array, shape (N, C, D1, ..., Dn)
        Any registered array type, floating.
    p : number
        The power; greater than 0.
    n_outputs, opset
        See `AveragePool`.

    Returns
    -------
    Y : same type and dtype as `X`, shape (N, C, 1, ..., 1)

    Raises
    ------
    ValueError, TypeError
        See `numbapool.global_lp_pool`.

    Examples
    --------
    >>> import numpy as np
    >>> from numbapool.onnx import GlobalLpPool
    >>> GlobalLpPool(np.array([[[3.0, -4.0]]]))
    array([[[5.]]])
    """
    _check("GlobalLpPool", opset, n_outputs)
    with _as_called("GlobalLpPool", X=X, p=p):
        return global_lp_pool(X, p)


def MaxUnpool(  # noqa: N802
    X: Any,  # noqa: N803
    I: Any,  # noqa: E741, N803
    output_shape: Any = None,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    n_outputs: int = 1,
    opset: int = NEWEST,
) -> Any:
    """Elements back to where MaxPool found them, and 0 elsewhere: ONNX's MaxUnpool.

    Parameters
    ----------
    X : array, shape (N, C, D1, ..., Dn)
        Any registered array type.
    I : int64 array, shape of `X`
        Positions in an array of the default shape, as `MaxPool` returns them.
    output_shape : n + 2 ints, or an array of them
        Shape of the result; by default (N, C, ...) with lengths `(D - 1) * stride + kernel - pads`. A larger one holds the
        default result in its first corner.
    kernel_shape, pads, strides, n_outputs, opset
        See `AveragePool`.

    Returns
    -------
    output : same type and dtype as `X`, shape `output_shape`

    Raises
    ------
    ValueError
        An attribute out of its range, an output shape smaller than the default, or an index outside it.
    TypeError
        An attribute of the wrong type.

    Examples
    --------
    >>> import numpy as np
    >>> from numbapool.onnx import MaxUnpool
    >>> MaxUnpool(np.array([[[5.0, 7.0]]]), np.array([[[1, 2]]]), [1, 1, 5], kernel_shape=[2], strides=[2])
    array([[[0., 5., 7., 0., 0.]]])
    """
    _check("MaxUnpool", opset, n_outputs)
    shape, _ = backend_of("X", X).describe("X", X)
    rank = _rank(shape)
    kernel = _ints("kernel_shape", kernel_shape, rank)
    steps = _ints("strides", strides, rank, 1)
    pairs = _pairs(pads, rank)
    wanted = None if output_shape is None else _ints("output_shape", output_shape, rank + 2)
    with _as_called(
        "MaxUnpool", X=X, I=I, output_shape=output_shape, kernel_shape=kernel_shape, strides=strides, pads=pads
    ):
        lengths = unpool_lengths((1, *shape[2:]), rank, kernel, steps, 0, None)
        sizes = tuple(length - sum(pair) for length, pair in zip(lengths, pairs, strict=True))
        if min(sizes) < 1:
            raise ValueError(f"pads must leave every axis an element of the default lengths {lengths}")
        if wanted is None:
            wanted = (*shape[:2], *sizes)
        if wanted[:2] != shape[:2] or any(have < size for have, size in zip(wanted[2:], sizes, strict=True)):
            default = (*shape[:2], *sizes)
            raise ValueError(f"output_shape must be at least the default {default}, and equal in N and C")
        return unpooled_to(X, I, sizes, wanted[2:])


@contextmanager
def _as_called(operator: str, **arguments: Any) -> Iterator[None]:
    """Errors about arguments of the functions within are given the words of ONNX: the call by its own names."""
    try:
        yield
    except (TypeError, ValueError) as error:
        given = ", ".join(
            name if hasattr(each, "shape") else f"{name}={shown(each)}" for name, each in arguments.items()
        )
        raise (TypeError if isinstance(error, TypeError) else ValueError)(
            f"{error}; the call is {operator}({given})"
        ) from error


def _optional(window: dict[str, Any]) -> dict[str, Any]:
    """What windows did not have from the beginning, by the names of ONNX."""
    return {"ceil_mode": window["ceil_mode"], "dilations": window["dilation"]}


def _check(operator: str, opset: Any, n_outputs: Any, **given: Any) -> None:
    """Refuse what the operator does not have in this operator set, unless it is the default."""
    since, version = SINCE[operator], as_int("opset", opset)
    if version < since[""]:
        raise ValueError(f"{operator} exists since opset {since['']}, got opset={shown(version)}")
    if as_int("n_outputs", n_outputs) != 1:
        raise ValueError(f"n_outputs must be {'1 or 2' if operator == 'MaxPool' else 1}, got {shown(n_outputs)}")
    for name, value in given.items():
        is_default = set(value) == {1} if name == "dilations" else not value
        if not is_default and version < since[name]:
            raise ValueError(f"{operator} has {name} since opset {since[name]}, got {name}={value} and opset={version}")


def _window(
    x: Any, auto_pad: Any, ceil_mode: Any, dilations: Any, kernel_shape: Any, pads: Any, strides: Any
) -> dict[str, Any]:
    """The arguments of `pool` for a window in terms of ONNX."""
    shape, _ = backend_of("X", x).describe("X", x)
    rank = _rank(shape)
    name = auto_pad.decode(errors="replace") if isinstance(auto_pad, bytes) else auto_pad
    if not isinstance(name, str) or name not in AUTO_PAD:
        raise ValueError(f"auto_pad must be one of {tuple(AUTO_PAD)}, got {shown(auto_pad)}")
    pairs = _pairs(pads, rank)
    if name != "NOTSET" and any(map(any, pairs)):
        raise ValueError(f"pads must not be given beside auto_pad={name!r}, got {shown(pads)}")
    return {
        "kernel_size": _ints("kernel_shape", kernel_shape, rank),
        "stride": _ints("strides", strides, rank, 1),
        "padding": AUTO_PAD[name] or pairs,
        "dilation": _ints("dilations", dilations, rank, 1),
        "ceil_mode": _flag("ceil_mode", ceil_mode),
        "axes": tuple(range(2, len(shape))),
    }


def _rank(shape: tuple[int, ...]) -> int:
    if len(shape) < 3:
        raise ValueError(f"X must have at least 3 axes (N, C, D1, ...), got shape {shape}")
    return len(shape) - 2


def _pairs(pads: Any, rank: int) -> tuple[tuple[int, int], ...]:
    """Elements before and behind each axis."""
    sides = _ints("pads", pads, 2 * rank, 0)
    return tuple(zip(sides[:rank], sides[rank:], strict=True))


def _ints(name: str, values: Any, number: int, default: int | None = None) -> tuple[int, ...]:
    if values is None and default is not None:
        return (default,) * number
    given = values
    if hasattr(values, "shape"):  # a tensor, of whatever library
        try:
            given = backend_of(name, values).to_numpy(values).tolist()
        except Exception as error:  # by a library, of one without values
            raise TypeError(f"{name} must be {number} ints, got {shown(values)}") from error
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes)):
        raise TypeError(f"{name} must be a sequence of {number} ints, got {shown(values)}")
    if len(given) != number:
        raise ValueError(f"{name} must have {number} ints, got {shown(values)}")
    return tuple(as_int(name, each) for each in given)


def _flag(name: str, value: Any) -> bool:
    number = int(value) if isinstance(value, (bool, np.bool_)) else as_int(name, value)
    if number not in (0, 1):
        raise ValueError(f"{name} must be 0 or 1, got {shown(value)}")
    return bool(number)
