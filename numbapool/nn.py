"""Pooling modules for torch: the classes of `torch.nn`, computed by numbapool.

A module here is a subclass of torch's of the same name: constructor, repr, state, hooks and pickles are torch's own.

Examples
--------
>>> import torch, numbapool.nn
>>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.MaxPool2d(2))
>>> numbapool.nn.replace_pooling(model)
{'1': MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)}
>>> model(torch.zeros(1, 1, 6, 6)).shape
torch.Size([1, 4, 2, 2])
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

try:
    import torch
except ModuleNotFoundError as error:
    raise ImportError("numbapool.nn needs torch: pip install 'numbapool[torch]'") from error

from torch import Tensor, nn
from torch.nn import functional as torch_functional
from torch.overrides import TorchFunctionMode

from numbapool import functional, layers
from numbapool.arguments import Extent, IndexKind, Padding, shown
from numbapool.backends.torch_tensors import DTYPES, is_on_gpu
from numbapool.functional import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    fractional_max_pool2d,
    fractional_max_pool3d,
    lp_pool1d,
    lp_pool2d,
    lp_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    max_unpool1d,
    max_unpool2d,
    max_unpool3d,
    pool,
)
from numbapool.kinds import Kind

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "FractionalMaxPool2d",
    "FractionalMaxPool3d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
    "Pool",
    "replace_pooling",
    "restore_pooling",
    "routed",
]

# Those that torch.nn.functional has, too.
FUNCTIONS = {name: globals()[name] for name in functional.__all__ if hasattr(torch_functional, name)}
# For torch.fx, to which modules outside of torch.nn are code to be traced: calls of these are nodes of its graphs.
for _name in (*FUNCTIONS, "pool"):
    torch.fx.wrap(_name)


def _max_arguments(module: Any) -> tuple[Any, ...]:
    window = module.kernel_size, module.stride, module.padding, module.dilation
    return *window, module.ceil_mode, module.return_indices


def _lp_arguments(module: Any) -> tuple[Any, ...]:
    return module.norm_type, module.kernel_size, module.stride, module.ceil_mode


def _fractional_arguments(module: Any) -> tuple[Any, ...]:
    sizes = module.kernel_size, module.output_size, module.output_ratio
    return *sizes, module.return_indices, module._random_samples


def _unpool_arguments(module: Any, output_size: Any) -> tuple[Any, ...]:
    return module.kernel_size, module.stride, module.padding, output_size


def _avg_arguments(module: Any) -> tuple[Any, ...]:
    window = module.kernel_size, module.stride, module.padding
    divisor_override = getattr(module, "divisor_override", None)  # which torch's AvgPool1d has not
    return *window, module.ceil_mode, module.count_include_pad, divisor_override


class Pool(nn.Module):
    """Pooling of any axes by any kind, by `numbapool.pool`.

    Parameters
    ----------
    kind : str or reducer of `numbapool.kinds`
        What is taken of a window: 'max', 'min', 'mean', 'sum', 'lp', or a reducer with options of its own.
    kernel_size, stride, padding, dilation, ceil_mode, axes, return_indices, index_kind
        See `numbapool.pool`.

    Examples
    --------
    >>> import torch, numbapool.nn
    >>> pool = numbapool.nn.Pool(numbapool.kinds.Norm(p=1), 2, axes=(-2, -1))
    >>> pool
    Pool(Norm(p=1, true_norm=False), kernel_size=2, axes=(-2, -1))
    >>> pool(torch.ones(1, 4, 4)).tolist()
    [[[4.0, 4.0], [4.0, 4.0]]]
    """

    def __init__(
        self,
        kind: Kind | str,
        kernel_size: Extent,
        stride: Extent | None = None,
        padding: Padding = 0,
        dilation: Extent = 1,
        ceil_mode: bool = False,
        *,
        axes: int | tuple[int, ...] | None = None,
        return_indices: bool = False,
        index_kind: IndexKind = "plane",
    ) -> None:
        super().__init__()
        self.layer = layers.Pool(
            kind,
            kernel_size,
            stride,
            padding,
            dilation,
            ceil_mode,
            axes=axes,
            return_indices=return_indices,
            index_kind=index_kind,
        )

    def extra_repr(self) -> str:
        """The kind, and the parameters that are not the defaults."""
        kind, *others = fields(self.layer)
        given = [(each, getattr(self.layer, each.name)) for each in others]
        texts = [f"{each.name}={value!r}" for each, value in given if value != each.default]
        return ", ".join([str(getattr(self.layer, kind.name)), *texts])

    def forward(self, input: Tensor) -> Any:  # noqa: A002
        """Pool `input`; a pair (values, indices) with `return_indices`."""
        return pool(input, **self.layer._arguments())


class MaxPool1d(nn.MaxPool1d):
    """`torch.nn.MaxPool1d`, by `numbapool.max_pool1d`: any dtype, any padding."""

    def forward(self, input: Tensor) -> Any:  # noqa: A002
        """Pool `input`; a pair (values, indices) with `return_indices`."""
        return max_pool1d(input, *_max_arguments(self))


class MaxPool2d(nn.MaxPool2d):
    """`torch.nn.MaxPool2d`, by `numbapool.max_pool2d`: any dtype, any padding."""

    def forward(self, input: Tensor) -> Any:  # noqa: A002
        """Pool `input`; a pair (values, indices) with `return_indices`."""
        return max_pool2d(input, *_max_arguments(self))


class MaxPool3d(nn.MaxPool3d):
    """`torch.nn.MaxPool3d`, by `numbapool.max_pool3d`: any dtype, any padding."""

    def forward(self, input: Tensor) -> Any:  # noqa: A002
        """Pool `input`; a pair (values, indices) with `return_indices`."""
        return max_pool3d(input, *_max_arguments(self))


class AvgPool1d(nn.AvgPool1d):
    """`torch.nn.AvgPool1d`, by `numbapool.avg_pool1d`: any dtype, any padding."""

    def forward(self, input: Tensor) -> Any:  # noqa: A002
        """Pool `input`."""
        return avg_pool1d(input, *_avg_arguments(self))


class AvgPool2d(nn.AvgPool2d):
    """`torch.nn.AvgPool2d`, by `numbapool.avg_pool2d`: any dtype, any padding."""

    def forward(self, input: Tensor) -> Any:  # noqa: A002
        """Pool `input`."""
        return avg_pool2d(input, *_avg_arguments(self))


class AvgPool3d(nn.AvgPool3d):
    """`torch.nn.AvgPool3d`, by `numbapool.avg_pool3d`: any dtype, any padding."""

    def forward(self, input: Tensor) -> Any:  # noqa: A002
        """Pool `input`."""
        return avg_pool3d(input, *_avg_arguments(self))


class AdaptiveMaxPool1d(nn.AdaptiveMaxPool1d):
    """`torch.nn.AdaptiveMaxPool1d`, by `numbapool.adaptive_max_pool1d`: any dtype."""

    def forward(self, input: Tensor) -> Any:  # noqa: A002
        """Pool `input`; a pair (values, indices) with `return_indices`."""
        return adaptive_max_pool1d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool2d(nn.AdaptiveMaxPool2d):
    """`torch.nn.AdaptiveMaxPool2d`, by `numbapool.adaptive_max_pool2d`: any dtype."""

    def forward(self, input: Tensor) -> Any:  # noqa: A002
        """Pool `input`; a pair (values, indices) with `return_indices`."""
        return adaptive_max_pool2d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool3d(nn.AdaptiveMaxPool3d):
    """`torch.nn.AdaptiveMaxPool3d`, by `numbapool.adaptive_max_pool3d`: any dtype."""

    def forward(self, input: Tensor) -> Any:  # noqa: A002
        """Pool `input`; a pair (values, indices) with `return_indices`."""
        return adaptive_max_pool3d(input, self.output_size, self.return_indices)


class AdaptiveAvgPool1d(nn.AdaptiveAvgPool1d):
    """`torch.nn.AdaptiveAvgPool1d`, by `numbapool.adaptive_avg_pool1d`: any dtype."""

    def forward(self, input: Tensor) -> Any:  # noqa: A002
        """Pool `input`."""
        return adaptive_avg_pool1d(input, self.output_size)


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """`torch.nn.AdaptiveAvgPool2d`, by `numbapool.adaptive_avg_pool2d`: any dtype."""

    def forward(self, input: Tensor) -> Any:  # noqa: A002
        """Pool `input`."""
        return adaptive_avg_pool2d(input, self.output_size)


class AdaptiveAvgPool3d(nn.AdaptiveAvgPool3d):
    """`torch.nn.AdaptiveAvgPool3d`, by `numbapool.adaptive_avg_pool3d`: any dtype."""

    def forward(self, input: Tensor) -> Any:  # noqa: A002
        """Pool `input`."""
        return adaptive_avg_pool3d(input, self.output_size)


class LPPool1d(nn.LPPool1d):
    """`torch.nn.LPPool1d`, by `numbapool.lp_pool1d`: any dtype."""

    def forward(self, input: Tensor) -> Any:  # noqa: A002
        """Pool `input`."""
        return lp_pool1d(input, *_lp_arguments(self))


class LPPool2d(nn.LPPool2d):
    """`torch.nn.LPPool2d`, by `numbapool.lp_pool2d`: any dtype."""

    def forward(self, input: Tensor) -> Any:  # noqa: A002
        """Pool `input`."""
        return lp_pool2d(input, *_lp_arguments(self))


class LPPool3d(nn.LPPool3d):
    """`torch.nn.LPPool3d`, by `numbapool.lp_pool3d`: any dtype."""

    def forward(self, input: Tensor) -> Any:  # noqa: A002
        """Pool `input`."""
        return lp_pool3d(input, *_lp_arguments(self))


class FractionalMaxPool2d(nn.FractionalMaxPool2d):
    """`torch.nn.FractionalMaxPool2d`, by `numbapool.fractional_max_pool2d`: any dtype."""

    def forward(self, input: Tensor) -> Any:  # noqa: A002
        """Pool `input`; a pair (values, indices) with `return_indices`."""
        return fractional_max_pool2d(input, *_fractional_arguments(self))


class FractionalMaxPool3d(nn.FractionalMaxPool3d):
    """`torch.nn.FractionalMaxPool3d`, by `numbapool.fractional_max_pool3d`: any dtype."""

    def forward(self, input: Tensor) -> Any:  # noqa: A002
        """Pool `input`; a pair (values, indices) with `return_indices`."""
        return fractional_max_pool3d(input, *_fractional_arguments(self))


class MaxUnpool1d(nn.MaxUnpool1d):
    """`torch.nn.MaxUnpool1d`, by `numbapool.max_unpool1d`: any dtype."""

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Any:  # noqa: A002
        """Unpool `input`."""
        return max_unpool1d(input, indices, *_unpool_arguments(self, output_size))


class MaxUnpool2d(nn.MaxUnpool2d):
    """`torch.nn.MaxUnpool2d`, by `numbapool.max_unpool2d`: any dtype."""

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Any:  # noqa: A002
        """Unpool `input`."""
        return max_unpool2d(input, indices, *_unpool_arguments(self, output_size))


class MaxUnpool3d(nn.MaxUnpool3d):
    """`torch.nn.MaxUnpool3d`, by `numbapool.max_unpool3d`: any dtype."""

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Any:  # noqa: A002
        """Unpool `input`."""
        return max_unpool3d(input, indices, *_unpool_arguments(self, output_size))


MODULES = {getattr(nn, name): globals()[name] for name in __all__ if hasattr(nn, name)}


def replace_pooling(model: nn.Module) -> dict[str, nn.Module]:
    """Make every pooling module of a model, itself included, one of this file, in place.

    The modules stay the objects they are, with their hooks and names. Instances of subclasses stay as they are.

    Parameters
    ----------
    model : torch.nn.Module
        Any model; calls of torch.nn.functional in its code stay torch's, see `routed`.

    Returns
    -------
    replaced : dict
        The modules that were replaced, by their qualified names in the model; a shared one by each of its names.

    Raises
    ------
    TypeError
        `model` is no module.

    Examples
    --------
    >>> import torch, numbapool.nn
    >>> model = torch.nn.Sequential(torch.nn.AvgPool1d(2), torch.nn.ReLU())
    >>> numbapool.nn.replace_pooling(model)
    {'0': AvgPool1d(kernel_size=(2,), stride=(2,), padding=(0,))}
    >>> numbapool.nn.replace_pooling(model)
    {}
    """
    return _exchanged(model, MODULES)


def restore_pooling(model: nn.Module) -> dict[str, nn.Module]:
    """Make every pooling module of a model that is one of this file, itself included, torch's own, in place.

    The way back from `replace_pooling`, for tools that know torch's modules and operators only, such as `torch.onnx.export`.

    Parameters
    ----------
    model : torch.nn.Module
        Any model; instances of subclasses stay as they are.

    Returns
    -------
    restored : dict
        The modules that were restored, by their qualified names in the model; a shared one by each of its names.

    Raises
    ------
    TypeError
        `model` is no module.

    Examples
    --------
    >>> import torch, numbapool.nn
    >>> model = torch.nn.Sequential(torch.nn.MaxPool2d(2))
    >>> replaced = numbapool.nn.replace_pooling(model)
    >>> numbapool.nn.restore_pooling(model) == replaced
    True
    >>> type(model[0]) is torch.nn.MaxPool2d
    True
    """
    return _exchanged(model, {ours: theirs for theirs, ours in MODULES.items()})


def _exchanged(model: nn.Module, classes: dict[type, type]) -> dict[str, nn.Module]:
    """The modules of some classes in a model, by name, which become of others."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {shown(model)} of type {type(model).__name__}")
    named = model.named_modules(remove_duplicate=False)
    found = {name: module for name, module in named if type(module) in classes}
    for module in set(found.values()):
        module.__class__ = classes[type(module)]
    return found


class routed(TorchFunctionMode):  # noqa: N801 - used as a function, like torch.no_grad
    """Within this context, pooling calls of torch and torch.nn.functional are numbapool's.

    Tensors that numbapool has no kernels for (other devices, layouts and dtypes) still go to torch, and so do calls with `out`.
    `torch.utils.checkpoint` computes again in backward, which must then be in the context too.

    Examples
    --------
    >>> import torch, numbapool.nn
    >>> x = torch.tensor([[[1, 3, 2, 5]]], dtype=torch.uint16)  # torch has no pooling of such integers
    >>> with numbapool.nn.routed():
    ...     torch.nn.functional.max_pool1d(x, 2)
    tensor([[[3, 5]]], dtype=torch.uint16)
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call numbapool's function in place of torch's, if there is one and it can."""
        kwargs = kwargs or {}
        route = ROUTES.get(func)
        x = args[0] if args else kwargs.get("input")
        if route is None or not isinstance(x, Tensor) or not _is_served(x) or "out" in kwargs:
            return func(*args, **kwargs)
        if not args:
            args, kwargs = (x,), {name: value for name, value in kwargs.items() if name != "input"}
        return route(*args, **kwargs)


def _is_served(x: Tensor) -> bool:
    return (x.is_cpu or is_on_gpu(x)) and x.layout is torch.strided and not x.is_nested and x.dtype in DTYPES


def _with_indices(pool: Callable[..., Any]) -> Callable[..., Any]:
    def pool_with_indices(*args: Any, return_indices: bool = True, **kwargs: Any) -> Any:
        return pool(*args, **kwargs, return_indices=True)

    return pool_with_indices


def _routes() -> dict[Any, Callable[..., Any]]:
    """Numbapool's function for each of torch's, whatever the name it is called by."""
    routes: dict[Any, Callable[..., Any]] = {}
    for name, function in FUNCTIONS.items():
        for place in (torch, torch_functional, torch._C._nn):
            # Below torch.nn.functional some take other arguments, and adaptive maxima always come with indices.
            is_below = place is not torch_functional
            if hasattr(place, name) and not (is_below and name.startswith(("fractional", "max_unpool"))):
                always = is_below and name.startswith("adaptive_max")
                routes[getattr(place, name)] = _with_indices(function) if always else function
            if hasattr(place, f"{name}_with_indices"):
                routes[getattr(place, f"{name}_with_indices")] = _with_indices(function)
    return routes


ROUTES = _routes()
