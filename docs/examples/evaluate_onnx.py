"""A network in ONNX, evaluated by NumPy and numbapool alone, and compared with onnxruntime where that is installed.

The network is the one of train_digits.py, trained in torch and exported (digits.onnx, 40 kB). Run it by

    pip install 'numbapool[examples]' onnx onnxruntime
    python docs/examples/evaluate_onnx.py

`--export` trains it anew and writes digits.onnx, for which torch is needed.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from onnx import numpy_helper
from rich.console import Console

import numbapool.onnx

MODEL = Path(__file__).with_name("digits.onnx")
TRAINING = str(Path(__file__).with_name("train_digits.py"))


def conv(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, *, pads: Any, strides: Any = (1, 1), **_: Any
) -> np.ndarray:
    """2-d convolution."""
    top, left, bottom, right = pads
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    patches = sliding_window_view(padded, weight.shape[2:], axis=(2, 3))[:, :, :: strides[0], :: strides[1]]
    return np.tensordot(patches, weight, ([1, 4, 5], [1, 2, 3])).transpose(0, 3, 1, 2) + bias[:, None, None]


def gemm(a: np.ndarray, b: np.ndarray, c: np.ndarray, *, transB: int = 0, **_: Any) -> np.ndarray:  # noqa: N803
    """Matrix product."""
    return a @ (b.T if transB else b) + c


OPERATORS = {
    "Conv": conv,
    "Flatten": lambda x, *, axis=1: x.reshape(*x.shape[:axis], -1),
    "Gemm": gemm,
    "Relu": lambda x: np.maximum(x, 0),
    **{name: getattr(numbapool.onnx, name) for name in numbapool.onnx.__all__},
}


def evaluate(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """The output of a model for its input."""
    values = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    values[model.graph.input[0].name] = x
    (opset,) = (each.version for each in model.opset_import if each.domain == "")
    for node in model.graph.node:
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type in numbapool.onnx.__all__:
            attributes |= {"opset": opset, "n_outputs": len(node.output)}
        results = OPERATORS[node.op_type](*(values[name] for name in node.input), **attributes)
        values |= zip(node.output, results if isinstance(results, tuple) else (results,), strict=True)
    return values[model.graph.output[0].name]


def export(path: Path) -> None:
    """Train the network of train_digits.py in torch, and write it as ONNX."""
    import torch

    training = runpy.run_path(TRAINING)
    model = training["network_in_torch"](training["initial_weights"](), torch.nn)
    for epoch in training["train_in_torch"](training["digits"](), model, 12):
        print(f"loss {epoch.loss:.3f}, accuracy {epoch.accuracy:.1%}")
    options = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}, "dynamo": False}
    torch.onnx.export(model, (torch.zeros(2, 1, 8, 8),), path, **options)


@click.command()
@click.option("--export", "exports", is_flag=True, help="Train the network and write digits.onnx first; needs torch.")
def main(exports: bool) -> None:
    """Classify the test images by a network in ONNX."""
    console = Console()
    if exports:
        export(MODEL)
    data = runpy.run_path(TRAINING)["digits"]()
    model = onnx.load(MODEL)
    logits = evaluate(model, data.test_x)
    found = (logits.argmax(1) == data.test_y).mean()
    console.print(f"{' '.join(node.op_type for node in model.graph.node)}: {found:.1%} of {len(logits)} images right")
    try:
        import onnxruntime
    except ImportError:
        console.print("onnxruntime is not installed: nothing to compare with")
        return
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"x": data.test_x})
    console.print(f"largest difference from onnxruntime: {np.abs(logits - theirs).max():.1e}")


if __name__ == "__main__":
    main()
