"""The examples of the documentation, in short versions."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
EXAMPLES = DOCS / "examples"


def module_of_docs(path: str) -> ModuleType:
    """A script below docs/, imported."""
    name = Path(path).name
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{path}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where its named tuples look for their annotations
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def digits() -> ModuleType:
    pytest.importorskip("sklearn")
    return module_of_docs("examples/train_digits")


def test_gradients_of_the_numpy_network(digits: ModuleType) -> None:
    data, weights = digits.digits(), digits.initial_weights()
    x, labels = data.train_x[:4].astype(np.float64), data.train_y[:4]
    random = np.random.default_rng(0)
    # Biases of 0 would leave what black pixels give at the kink of the rectifier.
    weights = {name: value + 0.01 * random.standard_normal(value.shape) for name, value in weights.items()}

    def loss() -> float:
        return digits.cross_entropy(digits.network(x, weights)[0], labels)[0]

    logits, pullback = digits.network(x, weights)
    gradients = pullback(digits.cross_entropy(logits, labels)[1])
    for name, value in weights.items():
        place = np.unravel_index(np.abs(gradients[name]).argmax(), value.shape)
        step, kept = 1e-6, value[place]
        value[place] = kept + step
        above = loss()
        value[place] = kept - step
        slope = (above - loss()) / (2 * step)
        value[place] = kept
        assert abs(slope - gradients[name][place]) < 1e-6 * max(1, abs(slope)), name


def test_training_runs_agree(digits: ModuleType) -> None:
    pytest.importorskip("torch")
    data, weights = digits.digits(), digits.initial_weights()
    in_numpy, in_torch, by_torch = (list(train(data, weights, 3)) for train in digits.ENGINES.values())
    losses = [[epoch.loss for epoch in run] for run in (in_numpy, in_torch, by_torch)]
    np.testing.assert_allclose(losses[1], losses[2], rtol=1e-5)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
    assert losses[0][2] < losses[0][0] / 3
    assert min(run[-1].accuracy for run in (in_numpy, in_torch, by_torch)) > 0.9


def test_the_numpy_run_imports_no_torch(digits: ModuleType, tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['train_digits.py', '--engine', 'numpy', '--epochs', '1']; import runpy\n"
        f"try: runpy.run_path({str(EXAMPLES / 'train_digits.py')!r}, run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True
    )
    assert "Drew train-digits.png" in done.stdout
    assert (tmp_path / "train-digits.png").read_bytes().startswith(b"\x89PNG")


def test_onnx_model_by_numpy() -> None:
    """The network of the training example, exported, on all its test images."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    example, training = module_of_docs("examples/evaluate_onnx"), module_of_docs("examples/train_digits")
    model, x = onnx.load(example.MODEL), training.digits().test_x
    assert {"MaxPool", "AveragePool", "Conv"} <= {node.op_type for node in model.graph.node}
    session = onnxruntime.InferenceSession(example.MODEL, providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"x": x})
    np.testing.assert_allclose(example.evaluate(model, x), wanted, rtol=1e-4, atol=1e-4)
    assert (wanted.argmax(1) == training.digits().test_y).mean() > 0.95


def test_fused_loop(tmp_path: Path) -> None:
    example = module_of_docs("examples/fuse_pooling")
    images = np.random.default_rng(0).random((2, 3, 12, 11), np.float32)
    spread = [
        [np.ptp(images[:, :, max(h - 2, 0) : h + 3, max(w - 2, 0) : w + 3], (2, 3)) for w in range(11)]
        for h in range(12)
    ]
    for roughness in (example.by_calls(images), example.by_one_loop(images)):
        np.testing.assert_allclose(roughness, np.mean(spread, (0, 1)), rtol=1e-5)
    example.draw([example.Times(1 << 20, 0.2, 0.1)], str(tmp_path / "picture.png"))
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
