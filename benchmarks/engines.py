"""The libraries that are timed, one class each, with a method for every pass that the library can do.

A method prepares a case and returns its `Work`. All engines get the same numbers and as many threads as there are
cores, are otherwise left as their users find them, and read the caller's array without a copy. "into" is each library's
way of not allocating its output at every call.
"""

# ruff: noqa: D102 - the passes are described where they are listed, in `cases.PASSES`

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from benchmarks.cases import Benchmark
from benchmarks.machine import cores


class Work(NamedTuple):
    """A call without arguments, and the arrays that it reads."""

    call: Callable[[], Any]
    inputs: tuple[np.ndarray, ...]


class UnsupportedError(Exception):
    """The engine cannot do this pass of this case."""


class Numbapool:
    """Public calls, each returning new arrays."""

    package = "numbapool"

    def __init__(self) -> None:
        import numbapool

        self.library = numbapool

    def function(self, case: Benchmark, backward: bool = False) -> Callable[..., Any]:
        """The public function of the case's kind and rank."""
        name = f"{case.kind}_pool{case.geometry.rank}d{'_backward' if backward else ''}"
        if not hasattr(self.library, name):
            raise UnsupportedError(f"this numbapool has no {name}")
        function: Callable[..., Any] = getattr(self.library, name)
        return function

    def forward(self, case: Benchmark) -> Work:
        x = case.array()
        return Work(partial(self.function(case), x, **case.arguments), (x,))

    def into(self, case: Benchmark) -> Work:
        x = case.array()
        function = partial(self.function(case), x, **case.arguments)
        return Work(partial(function, out=function()), (x,))

    def indices(self, case: Benchmark) -> Work:
        x = case.array()
        return Work(partial(self.function(case), x, **case.arguments, return_indices=True), (x,))

    def backward(self, case: Benchmark) -> Work:
        if case.kind == "avg":
            return self.recomputing(case)
        x = case.array()
        out, indices = self.indices(case).call()
        gradient = case.array(out.shape)
        call = partial(self.function(case, backward=True), gradient, x, **case.arguments, indices=indices)
        return Work(call, (gradient, indices))

    def recomputing(self, case: Benchmark) -> Work:
        x = case.array()
        gradient = case.array(self.forward(case).call().shape)
        call = partial(self.function(case, backward=True), gradient, x, **case.arguments)
        return Work(call, (gradient, x) if case.kind == "max" else (gradient,))

    def training(self, case: Benchmark) -> Work:
        forward, backward = self.forward(case), self.recomputing(case)

        def step() -> tuple[np.ndarray, np.ndarray]:
            return forward.call(), backward.call()

        return Work(step, forward.inputs + backward.inputs)


class Torch:
    """torch.nn.functional on contiguous tensors; gradients through autograd."""

    package = "torch"

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(cores())
        self.library = torch

    def pool(self, case: Benchmark, gradient: bool, **others: Any) -> tuple[Any, Callable[[], Any]]:
        """The input, and the call of the forward on it."""
        x = self.library.from_numpy(case.array()).requires_grad_(gradient)
        function = getattr(self.library.nn.functional, f"{case.kind}_pool{case.geometry.rank}d")
        return x, partial(function, x, **case.arguments, **others)

    def forward(self, case: Benchmark) -> Work:
        x, call = self.pool(case, gradient=False)
        return Work(call, (x.numpy(),))

    def indices(self, case: Benchmark) -> Work:
        x, call = self.pool(case, gradient=False, return_indices=True)
        return Work(call, (x.numpy(),))

    def backward(self, case: Benchmark) -> Work:
        x, forward = self.pool(case, gradient=True)
        out = forward()
        gradient = self.library.from_numpy(case.array(tuple(out.shape)))
        return Work(partial(self.library.autograd.grad, out, x, gradient, retain_graph=True), (gradient.numpy(),))

    def training(self, case: Benchmark) -> Work:
        x, forward = self.pool(case, gradient=True)
        gradient = self.library.from_numpy(case.array(tuple(forward().shape)))

        def step() -> tuple[Any, Any]:
            out = forward()
            return out.detach(), *self.library.autograd.grad(out, x, gradient)

        return Work(step, (x.detach().numpy(), gradient.numpy()))


class OnnxRuntime:
    """A session of one node."""

    package = "onnxruntime"

    def __init__(self) -> None:
        import onnxruntime

        self.library = onnxruntime

    def session(self, case: Benchmark) -> Any:
        """The case, ready to run."""
        options = self.library.SessionOptions()
        options.intra_op_num_threads = cores()
        return self.library.InferenceSession(
            onnx_model(case).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def forward(self, case: Benchmark) -> Work:
        x = case.array()
        return Work(partial(self.session(case).run, None, {"x": x}), (x,))

    def into(self, case: Benchmark) -> Work:
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

    def __init__(self) -> None:
        import openvino

        self.core = openvino.Core()

    def infer(self, case: Benchmark, reuse_output: bool) -> Work:
        """The case's inference, returning new arrays or views of the request's own."""
        model = self.core.read_model(onnx_model(case).SerializeToString())
        settings = {
            "INFERENCE_NUM_THREADS": cores(),
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        request = self.core.compile_model(model, "CPU", settings).create_infer_request()
        x = case.array()
        call = partial(request.infer, {"x": x}, share_inputs=True, share_outputs=reuse_output)
        return Work(lambda: call().to_tuple(), (x,))

    def forward(self, case: Benchmark) -> Work:
        return self.infer(case, reuse_output=False)

    def into(self, case: Benchmark) -> Work:
        return self.infer(case, reuse_output=True)


class SciPy:
    """scipy.ndimage's filters, which do stride 1 with as much padding as keeps the shape."""

    package = "scipy"

    def __init__(self) -> None:
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


class OpenCv:
    """OpenCV's filters of one image: dilation by a rectangle is its maximum, blur its mean."""

    package = "cv2"

    def __init__(self) -> None:
        import cv2

        cv2.setNumThreads(cores())
        self.library = cv2

    def forward(self, case: Benchmark) -> Work:
        kernel, _ = same_window(case)
        x = case.array()
        if x.ndim != 4 or x.shape[:2] != (1, 1):
            raise UnsupportedError("OpenCV takes one image at a time")
        window = (kernel, kernel)
        if case.kind == "max":
            call = partial(self.library.dilate, x[0, 0], np.ones(window, np.uint8))
        else:
            call = partial(self.library.blur, x[0, 0], window, borderType=self.library.BORDER_CONSTANT)
        return Work(lambda: call()[None, None], (x,))


def same_window(case: Benchmark) -> tuple[int, int]:
    """Kernel and padding of a case that filters do: the same along each axis, stride 1, the shape kept."""
    arguments = {"stride": None, "padding": 0, "dilation": 1} | case.arguments
    kernel, stride, padding = arguments["kernel_size"], arguments["stride"], arguments["padding"]
    is_same = isinstance(kernel, int) and stride == 1 and padding == kernel // 2 and kernel % 2 == 1
    if not is_same or arguments["dilation"] != 1:
        raise UnsupportedError("filters have stride 1 and keep the shape")
    return kernel, padding


# In the order of the tables' columns.
ENGINES = {engine.package: engine for engine in (Numbapool, OnnxRuntime, OpenVino, Torch, SciPy, OpenCv)}


def present() -> list[str]:
    """Names of the engines that are installed; numbapool always."""
    return [name for name in ENGINES if name == "numbapool" or find_spec(name)]


def results_of(work: Work) -> list[np.ndarray]:
    """What the call returns, as NumPy arrays of its own."""
    returned = work.call()
    return [np.array(each) for each in (returned if isinstance(returned, (tuple, list)) else (returned,))]


def onnx_model(case: Benchmark) -> Any:
    """The case as an ONNX model with one node."""
    from onnx import checker, helper

    def per_axis(name: str, default: Any) -> list[int]:
        value = case.arguments.get(name, default)
        return [value] * case.geometry.rank if isinstance(value, int) else list(value)

    if "divisor_override" in case.arguments:
        raise UnsupportedError("ONNX has no divisor_override")
    kernel = per_axis("kernel_size", None)
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": per_axis("stride", kernel),
        "pads": per_axis("padding", 0) * 2,
        "dilations": per_axis("dilation", 1),
        "ceil_mode": int(case.arguments.get("ceil_mode", False)),
    }
    if case.kind == "avg":
        attributes["count_include_pad"] = int(case.arguments.get("count_include_pad", True))
    element = helper.np_dtype_to_tensor_dtype(np.dtype(case.dtype))
    node = helper.make_node("MaxPool" if case.kind == "max" else "AveragePool", ["x"], ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "pool",
        [helper.make_tensor_value_info("x", element, case.geometry.shape)],
        [helper.make_tensor_value_info("y", element, [None] * len(case.geometry.shape))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    checker.check_model(model)
    return model
