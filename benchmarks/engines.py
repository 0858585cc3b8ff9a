"""The libraries that are timed, one class each, with a method for every pass that the library can do.

A method prepares a case and returns its `Work`. All engines get the same numbers and the same number of threads, by the
setting that each `__init__` shows (SciPy and scikit-image have one thread and no such setting), are otherwise left as
their users find them, and read an array that is where they compute: the caller's, or JAX's own copy of it, made before
the clock starts. "into" is each library's way of not allocating its output at every call.
"""

# ruff: noqa: D102 - the passes are described where they are listed, in `cases.PASSES`

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from math import prod
from typing import Any, NamedTuple

import numpy as np

from benchmarks.cases import Benchmark, Timed


class Work(NamedTuple):
    """A call without arguments, and the arrays that it reads."""

    call: Callable[[], Any]
    inputs: tuple[Any, ...]


class UnsupportedError(Exception):
    """The engine cannot do this pass of this case."""


class Numbapool:
    """Public calls, each returning new arrays."""

    package = "numbapool"

    def __init__(self, threads: int) -> None:
        import numba

        import numbapool

        numba.set_num_threads(threads)
        self.library = numbapool

    def function(self, case: Timed, backward: bool = False) -> Callable[..., Any]:
        """The public function of the case."""
        name = f"{case.function}_backward" if backward else case.function
        if not hasattr(self.library, name):
            raise UnsupportedError(f"this numbapool has no {name}")
        function: Callable[..., Any] = getattr(self.library, name)
        return function

    def forward(self, case: Timed) -> Work:
        x = case.array()
        call = partial(self.function(case), x, **case.arguments, **case.operands)
        return Work(call, (x, *case.operands.values()))

    def into(self, case: Timed) -> Work:
        x = case.array()
        function = partial(self.function(case), x, **case.arguments)
        return Work(partial(function, out=function()), (x,))

    def indices(self, case: Timed) -> Work:
        x = case.array()
        call = partial(self.function(case), x, **case.arguments, **case.operands, return_indices=True)
        return Work(call, (x, *case.operands.values()))

    def backward(self, case: Timed) -> Work:
        if "indices" not in case.passes:
            return self.recomputing(case)
        x = case.array()
        out, indices = self.indices(case).call()
        gradient = case.array(out.shape)
        call = partial(self.function(case, backward=True), gradient, x, **case.arguments, indices=indices)
        return Work(call, (gradient, indices))

    def recomputing(self, case: Timed) -> Work:
        x = case.array()
        gradient = case.array(self.forward(case).call().shape)
        call = partial(self.function(case, backward=True), gradient, x, **case.arguments, **case.operands)
        return Work(call, (gradient, *case.operands.values(), *(() if case.is_linear else (x,))))

    def training(self, case: Timed) -> Work:
        forward, backward = self.forward(case), self.recomputing(case)

        def step() -> tuple[np.ndarray, np.ndarray]:
            return forward.call(), backward.call()

        return Work(step, forward.inputs + backward.inputs)


class Torch:
    """torch.nn.functional on tensors of the same memory; gradients through autograd."""

    package = "torch"

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.library = torch

    def tensor(self, array: np.ndarray) -> Any:
        """The same memory as a tensor; NumPy's bfloat16 is none of NumPy's own dtypes, which torch would know."""
        if array.dtype.name == "bfloat16":
            return self.library.from_numpy(array.view(np.int16)).view(self.library.bfloat16)
        return self.library.from_numpy(array)

    def function(self, case: Timed) -> Callable[..., Any]:
        """What torch has, or what its users write where it has nothing."""
        functional = self.library.nn.functional
        if case.operation == "min_pool":
            return partial(negated, getattr(functional, f"max_pool{case.rank}d"))
        if case.operation == "sum_pool":
            return partial(getattr(functional, f"avg_pool{case.rank}d"), divisor_override=1)
        if case.operation == "global_lp_pool":
            return partial(self.library.linalg.vector_norm, dim=tuple(range(2, 2 + case.rank)), keepdim=True)
        if case.operation.startswith("global_"):
            name = case.operation.replace("global", "adaptive")
            return partial(getattr(functional, f"{name}{case.rank}d"), output_size=1)
        function: Callable[..., Any] = getattr(functional, case.function)
        return function

    def pool(self, case: Timed, gradient: bool, **others: Any) -> tuple[Any, Callable[[], Any]]:
        """The input, and the call of the forward on it."""
        x = self.tensor(case.array()).requires_grad_(gradient)
        operands = {name: self.tensor(array) for name, array in case.operands.items()}
        return x, partial(self.function(case), x, **case.arguments, **operands, **others)

    def forward(self, case: Timed) -> Work:
        x, call = self.pool(case, gradient=False)
        return Work(call, (x,))

    def indices(self, case: Timed) -> Work:
        x, call = self.pool(case, gradient=False, return_indices=True)
        return Work(call, (x,))

    def backward(self, case: Timed) -> Work:
        x, forward = self.pool(case, gradient=True)
        out = forward()
        gradient = self.tensor(case.array(tuple(out.shape)))
        return Work(partial(self.library.autograd.grad, out, x, gradient, retain_graph=True), (gradient,))

    def training(self, case: Timed) -> Work:
        x, forward = self.pool(case, gradient=True)
        gradient = self.tensor(case.array(tuple(forward().shape)))

        def step() -> tuple[Any, Any]:
            out = forward()
            return out.detach(), *self.library.autograd.grad(out, x, gradient)

        return Work(step, (x, gradient))


def negated(maximum: Callable[..., Any], x: Any, **arguments: Any) -> Any:
    """Minima by maxima."""
    results = maximum(-x, **arguments)
    return (-results[0], results[1]) if isinstance(results, tuple) else -results


class OnnxRuntime:
    """A session of one node."""

    package = "onnxruntime"

    def __init__(self, threads: int) -> None:
        import onnxruntime

        self.library, self.threads = onnxruntime, threads

    def session(self, case: Timed) -> Any:
        """The case, ready to run."""
        options = self.library.SessionOptions()
        options.intra_op_num_threads = self.threads
        return self.library.InferenceSession(
            onnx_model(case).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def forward(self, case: Timed) -> Work:
        x = case.array()
        return Work(partial(self.session(case).run, None, {"x": x}), (x,))

    def into(self, case: Timed) -> Work:
        session, x = self.session(case), case.array()
        out = self.library.OrtValue.ortvalue_from_numpy(session.run(None, {"x": x})[0])
        binding = session.io_binding()
        binding.bind_cpu_input("x", x)
        binding.bind_ortvalue_output("y", out)

        def run() -> np.ndarray:
            session.run_with_iobinding(binding)
            view: np.ndarray = out.numpy()
            return view

        return Work(run, (x,))


class OpenVino:
    """A compiled model of one node."""

    package = "openvino"

    def __init__(self, threads: int) -> None:
        import openvino

        self.core, self.threads = openvino.Core(), threads

    def infer(self, case: Timed, reuse_output: bool) -> Work:
        """The case's inference, returning new arrays or views of the request's own."""
        model = self.core.read_model(onnx_model(case).SerializeToString())
        settings = {
            "INFERENCE_NUM_THREADS": self.threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        request = self.core.compile_model(model, "CPU", settings).create_infer_request()
        x = case.array()
        call = partial(request.infer, {"x": x}, share_inputs=True, share_outputs=reuse_output)
        return Work(lambda: call().to_tuple(), (x,))

    def forward(self, case: Timed) -> Work:
        return self.infer(case, reuse_output=False)

    def into(self, case: Timed) -> Work:
        return self.infer(case, reuse_output=True)


class Jax:
    """Windows reduced by XLA, compiled before the clock starts; a call ends when its result is there.

    Its gradient of a maximum finds the maxima again, so that it has no backward from saved indices.
    """

    package = "jax"

    def __init__(self, threads: int) -> None:
        # XLA's CPU client reads it when JAX is imported, which is why every engine has a process of its own.
        os.environ["NPROC"] = str(threads)
        import jax

        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_enable_x64", True)
        self.library = jax

    def pool(self, case: Timed) -> Callable[[Any], Any]:
        """The case as a function that JAX can compile and differentiate."""
        if case.operation not in ("max_pool", "avg_pool"):
            raise UnsupportedError(f"JAX has no {case.operation}")
        jax, numpy = self.library, self.library.numpy
        is_max, windows = case.operation == "max_pool", windows_of(case)
        if not is_max and (case.arguments.get("ceil_mode") or "divisor_override" in case.arguments):
            raise UnsupportedError("averages by JAX divide by whole windows")
        fold = partial(
            jax.lax.reduce_window,
            window_dimensions=(1, 1, *windows.kernel),
            window_strides=(1, 1, *windows.strides),
            padding=((0, 0), (0, 0), *end_padding(case, windows)),
            window_dilation=(1, 1, *windows.dilations),
        )
        if is_max:
            low = -np.inf if np.dtype(case.dtype).kind == "f" else np.iinfo(case.dtype).min
            return lambda x: fold(x, np.array(low, case.dtype), jax.lax.max)
        divisor: Any = prod(windows.kernel)
        if any(windows.padding) and not case.arguments.get("count_include_pad", True):
            divisor = fold(numpy.ones((1, 1, *case.shape[2:]), case.dtype), np.array(0, case.dtype), jax.lax.add)
        return lambda x: fold(x, np.array(0, case.dtype), jax.lax.add) / divisor

    def work(self, function: Callable[..., Any], *arrays: np.ndarray) -> Work:
        """A call of the compiled function on arrays that JAX holds."""
        compiled, held = self.library.jit(function), tuple(map(self.library.device_put, arrays))
        return Work(lambda: self.library.block_until_ready(compiled(*held)), held)

    def forward(self, case: Timed) -> Work:
        return self.work(self.pool(case), case.array())

    def backward(self, case: Timed) -> Work:
        if "indices" in case.passes:
            raise UnsupportedError("JAX saves no indices")
        return self.recomputing(case)

    def differentiable(self, case: Timed) -> tuple[Callable[[Any], Any], np.ndarray, np.ndarray]:
        """The case as a function, its input and a gradient of its output."""
        if case.operation == "max_pool" and set(windows_of(case).dilations) != {1}:
            raise UnsupportedError("JAX has no gradient of dilated maxima")
        pool, x = self.pool(case), case.array()
        return pool, x, case.array(self.library.eval_shape(pool, x).shape)

    def recomputing(self, case: Timed) -> Work:
        pool, x, gradient = self.differentiable(case)
        return self.work(lambda x, gradient: self.library.vjp(pool, x)[1](gradient), x, gradient)

    def training(self, case: Timed) -> Work:
        pool, x, gradient = self.differentiable(case)

        def step(x: Any, gradient: Any) -> tuple[Any, Any]:
            out, back = self.library.vjp(pool, x)
            return out, *back(gradient)

        return self.work(step, x, gradient)


class SciPy:
    """scipy.ndimage's filters, which do stride 1 with as much padding as keeps the shape."""

    package = "scipy"

    def __init__(self, threads: int) -> None:
        from scipy import ndimage

        self.library = ndimage

    def forward(self, case: Benchmark) -> Work:
        geometry, x = case.geometry, case.array()
        kernel, padding = same_window(case)
        size = (1, 1, *(kernel,) * geometry.rank)
        if case.kind == "max":
            return Work(partial(self.library.maximum_filter, x, size, mode="constant", cval=-np.inf), (x,))
        if padding and not geometry.count_include_pad:
            raise UnsupportedError("scipy.ndimage counts padding")
        return Work(partial(self.library.uniform_filter, x, size, mode="constant"), (x,))


class SciKitImage:
    """skimage.measure.block_reduce, which reduces windows that lie side by side and fill the array."""

    package = "skimage"

    def __init__(self, threads: int) -> None:
        from skimage import measure

        self.library = measure

    def forward(self, case: Benchmark) -> Work:
        x, block = case.array(), (1, 1, *disjoint_window(case))
        return Work(partial(self.library.block_reduce, x, block, np.max if case.kind == "max" else np.mean), (x,))


class OpenCv:
    """OpenCV's functions of an image: dilation by a rectangle is its maximum, blur its mean, and resizing by areas the
    mean of windows side by side. Channels are images, one after the other, because they are apart in memory.
    """

    package = "cv2"

    def __init__(self, threads: int) -> None:
        import cv2

        cv2.setNumThreads(threads)
        self.library = cv2

    def forward(self, case: Benchmark) -> Work:
        x = case.array()
        if case.rank != 2 or x.shape[0] > 1 or x.shape[1] > 4:
            raise UnsupportedError("OpenCV takes one image of up to four channels")
        function, shape = self.function(case)

        def call() -> np.ndarray:
            out = np.empty((*x.shape[:2], *shape), x.dtype)
            for plane, target in zip(x[0], out[0]):
                function(plane, dst=target)
            return out

        return Work(call, (x,))

    def function(self, case: Benchmark) -> tuple[Callable[..., Any], tuple[int, ...]]:
        """The function that does the case, and the shape of an image that it makes."""
        height, width = case.shape[2:]
        if case.kind == "avg" and windows_of(case).strides != [1, 1]:
            high, wide = disjoint_window(case)
            size = width // wide, height // high
            return partial(self.library.resize, dsize=size, interpolation=self.library.INTER_AREA), size[::-1]
        kernel, padding = same_window(case)
        if case.kind == "max":
            return partial(self.library.dilate, kernel=np.ones((kernel, kernel), np.uint8)), (height, width)
        if padding and not case.geometry.count_include_pad:
            raise UnsupportedError("OpenCV counts padding")
        border = self.library.BORDER_CONSTANT
        return partial(self.library.blur, ksize=(kernel, kernel), borderType=border), (height, width)


class Windows(NamedTuple):
    """Arguments of a case, one number for each pooled axis."""

    kernel: list[int]
    strides: list[int]
    padding: list[int]
    dilations: list[int]


def windows_of(case: Timed) -> Windows:
    """The case's arguments, written out."""

    def per_axis(name: str, default: Any) -> list[int]:
        value = case.arguments.get(name, default)
        return [value] * case.rank if isinstance(value, int) else list(value)

    kernel = per_axis("kernel_size", None)
    return Windows(kernel, per_axis("stride", kernel), per_axis("padding", 0), per_axis("dilation", 1))


def end_padding(case: Timed, windows: Windows) -> list[tuple[int, int]]:
    """Padding of each axis with what `ceil_mode` adds: room for one more window, if that begins within the input."""
    result = []
    for length, kernel, stride, before, dilation in zip(case.shape[2:], *windows):
        rest = (length + 2 * before - dilation * (kernel - 1) - 1) % stride
        more = stride - rest if rest and case.arguments.get("ceil_mode") else 0
        last = length + 2 * before + more - dilation * (kernel - 1) - 1  # where the last window begins
        result.append((before, before + (more if last < length + before else 0)))
    return result


def same_window(case: Benchmark) -> tuple[int, int]:
    """Kernel and padding of a case that filters do: the same along each axis, stride 1, the shape kept."""
    arguments = {"stride": None, "padding": 0, "dilation": 1} | case.arguments
    kernel, stride, padding = arguments["kernel_size"], arguments["stride"], arguments["padding"]
    is_same = isinstance(kernel, int) and stride == 1 and padding == kernel // 2 and kernel % 2 == 1
    if not is_same or arguments["dilation"] != 1:
        raise UnsupportedError("filters have stride 1 and keep the shape")
    return kernel, padding


def disjoint_window(case: Benchmark) -> list[int]:
    """The kernel of a case whose windows lie side by side and leave nothing over."""
    kernel, strides, padding, dilations = windows_of(case)
    fills = not any(length % size for length, size in zip(case.shape[2:], kernel))
    if strides != kernel or any(padding) or set(dilations) != {1} or not fills:
        raise UnsupportedError("blocks lie side by side and fill the array")
    return kernel


# In the order of the tables' columns.
ENGINES = {
    engine.package: engine for engine in (Numbapool, OnnxRuntime, OpenVino, Torch, Jax, SciPy, SciKitImage, OpenCv)
}


def present() -> list[str]:
    """Names of the engines that are installed; numbapool always."""
    return [name for name in ENGINES if name == "numbapool" or find_spec(name)]


def missing() -> str:
    """A sentence about the engines that are not installed, if there are any."""
    names = [name for name in ENGINES if name not in present()]
    return f"Left out, because not installed: {', '.join(names)}." if names else ""


def results_of(work: Work) -> list[np.ndarray]:
    """What the call returns, as NumPy arrays of its own."""
    returned = work.call()
    return [as_numpy(each) for each in (returned if isinstance(returned, (tuple, list)) else (returned,))]


def as_numpy(result: Any) -> np.ndarray:
    """A copy; of torch's bfloat16 in float32, because NumPy has no such dtype of its own."""
    return np.array(result.float() if str(result.dtype) == "torch.bfloat16" else result)


# Operators of ONNX that have the same results here, where windows hold no negative number and do not overhang.
ONNX_OPERATORS = {
    "max_pool": "MaxPool",
    "avg_pool": "AveragePool",
    "lp_pool": "LpPool",
    "global_max_pool": "GlobalMaxPool",
    "global_avg_pool": "GlobalAveragePool",
    "global_lp_pool": "GlobalLpPool",
}


def onnx_model(case: Timed) -> Any:
    """The case as an ONNX model with one node."""
    from onnx import checker, helper

    if case.operation not in ONNX_OPERATORS:
        raise UnsupportedError(f"ONNX has no {case.operation}")
    element = helper.np_dtype_to_tensor_dtype(np.dtype(case.dtype))
    node = helper.make_node(ONNX_OPERATORS[case.operation], ["x"], ["y"], **onnx_attributes(case))
    graph = helper.make_graph(
        [node],
        "pool",
        [helper.make_tensor_value_info("x", element, case.shape)],
        [helper.make_tensor_value_info("y", element, [None] * len(case.shape))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    checker.check_model(model)
    return model


def onnx_attributes(case: Timed) -> dict[str, Any]:
    """The case's arguments as ONNX has them."""
    if "divisor_override" in case.arguments:
        raise UnsupportedError("ONNX has no divisor_override")
    if case.operation.startswith("global_"):
        return {}
    windows = windows_of(case)
    attributes: dict[str, Any] = {
        "kernel_shape": windows.kernel,
        "strides": windows.strides,
        "pads": windows.padding * 2,
        "dilations": windows.dilations,
        "ceil_mode": int(case.arguments.get("ceil_mode", False)),
    }
    if case.operation == "avg_pool":
        attributes["count_include_pad"] = int(case.arguments.get("count_include_pad", True))
    if case.operation == "lp_pool":
        attributes["p"] = case.arguments["norm_type"]
        if not isinstance(attributes["p"], int):
            raise UnsupportedError("ONNX has norms of whole powers only")
    return attributes
