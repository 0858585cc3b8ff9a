"""One small network on handwritten digits, trained with numbapool twice: in torch, and in NumPy alone.

The digits are those that scikit-learn ships: 1,797 images of 8x8 pixels. Both runs start from the same weights and see the
same batches; the torch run is repeated with torch's own pooling. Run it by

    pip install 'numbapool[examples]'
    python docs/examples/train_digits.py

It prints loss and accuracy of every epoch and draws them into train-digits.png. With `--engine numpy` torch is not imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import click
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sklearn.datasets import load_digits

import numbapool

BATCH, LEARNING_RATE, MOMENTUM = 32, 0.05, 0.9
Weights = dict[str, np.ndarray]


class Digits(NamedTuple):
    """Images (n, 1, 8, 8) from 0 to 1, and their digits."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


class Epoch(NamedTuple):
    """Mean loss over the training images, and the share of test images whose digit was found."""

    loss: float
    accuracy: float


def digits() -> Digits:
    """Every fifth image, in random order, is for testing."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    x, y = (data.images[order, None] / 16).astype(np.float32), data.target[order].astype(np.int64)
    fifth = np.arange(len(y)) % 5 == 0
    return Digits(x[~fifth], y[~fifth], x[fifth], y[fifth])


def initial_weights() -> Weights:
    """Two convolutions of 3x3 and a linear layer."""
    random = np.random.default_rng(1)
    shapes = {"conv1": (16, 1, 3, 3), "conv2": (32, 16, 3, 3), "linear": (10, 32 * 2 * 2)}
    weights: Weights = {}
    for name, shape in shapes.items():
        scale = np.sqrt(2 / np.prod(shape[1:]))
        weights[f"{name}.weight"] = (scale * random.standard_normal(shape)).astype(np.float32)
        weights[f"{name}.bias"] = np.zeros(shape[0], np.float32)
    return weights


def batches(epoch: int, count: int) -> Iterator[np.ndarray]:
    """The images of each step of an epoch, the same for every engine."""
    order = np.random.default_rng(100 + epoch).permutation(count)
    return (order[start : start + BATCH] for start in range(0, count, BATCH))


# NumPy: every layer returns its result and the function from the gradient of that to the gradients of its arguments.


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, Callable[..., Any]]:
    """3x3 convolution with a border of zeros."""

    def windows(images: np.ndarray) -> np.ndarray:
        return sliding_window_view(np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), axis=(2, 3))

    patches = windows(x)
    out = np.tensordot(patches, weight, ([1, 4, 5], [1, 2, 3])) + bias

    def pullback(grad: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        grad_weight = np.tensordot(grad, patches, ([0, 2, 3], [0, 2, 3]))
        turned = weight[:, :, ::-1, ::-1]
        grad_x = np.tensordot(windows(grad), turned, ([1, 4, 5], [0, 2, 3])).transpose(0, 3, 1, 2)
        return grad_x, grad_weight, grad.sum((0, 2, 3))

    return out.transpose(0, 3, 1, 2), pullback


def rectify(x: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Negative numbers become zero."""
    return np.maximum(x, 0), lambda grad: grad * (x > 0)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean loss of a batch, and its gradient."""
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    rows = np.arange(len(labels))
    grad = np.exp(log_p)
    grad[rows, labels] -= 1
    return float(-log_p[rows, labels].mean()), grad / np.float32(len(labels))


def network(x: np.ndarray, w: Weights) -> tuple[np.ndarray, Callable[[np.ndarray], Weights]]:
    """Logits, and the function from their gradient to those of all weights."""
    x, back_conv1 = convolve(x, w["conv1.weight"], w["conv1.bias"])
    x, back_rectify1 = rectify(x)
    x, back_max = numbapool.MaxPool2d(2).vjp(x)
    x, back_conv2 = convolve(x, w["conv2.weight"], w["conv2.bias"])
    x, back_rectify2 = rectify(x)
    x, back_avg = numbapool.AvgPool2d(2).vjp(x)
    features = x.reshape(len(x), -1)
    logits = features @ w["linear.weight"].T + w["linear.bias"]

    def pullback(grad: np.ndarray) -> Weights:
        g: Weights = {"linear.weight": grad.T @ features, "linear.bias": grad.sum(0)}
        grad = back_rectify2(back_avg((grad @ w["linear.weight"]).reshape(x.shape)))
        grad, g["conv2.weight"], g["conv2.bias"] = back_conv2(grad)
        grad = back_rectify1(back_max(grad))
        _, g["conv1.weight"], g["conv1.bias"] = back_conv1(grad)
        return g

    return logits, pullback


def train_in_numpy(data: Digits, weights: Weights, epochs: int) -> Iterator[Epoch]:
    """Stochastic gradient descent with momentum, with numbapool's layers."""
    w = {name: value.copy() for name, value in weights.items()}
    velocity = {name: np.zeros_like(value) for name, value in weights.items()}
    for epoch in range(epochs):
        losses = []
        for batch in batches(epoch, len(data.train_y)):
            logits, pullback = network(data.train_x[batch], w)
            loss, grad = cross_entropy(logits, data.train_y[batch])
            losses.append(loss * len(batch))
            for name, gradient in pullback(grad).items():
                velocity[name] = MOMENTUM * velocity[name] + gradient
                w[name] -= LEARNING_RATE * velocity[name]
        found = network(data.test_x, w)[0].argmax(1) == data.test_y
        yield Epoch(sum(losses) / len(data.train_y), float(found.mean()))


def network_in_torch(weights: Weights, pools: Any) -> Any:
    """The same network in torch, with the pooling modules of `pools`."""
    import torch

    model = torch.nn.Sequential()
    model.add_module("conv1", torch.nn.Conv2d(1, 16, 3, padding=1))
    model.add_module("rectify1", torch.nn.ReLU())
    model.add_module("max", pools.MaxPool2d(2))
    model.add_module("conv2", torch.nn.Conv2d(16, 32, 3, padding=1))
    model.add_module("rectify2", torch.nn.ReLU())
    model.add_module("avg", pools.AvgPool2d(2))
    model.add_module("flatten", torch.nn.Flatten())
    model.add_module("linear", torch.nn.Linear(32 * 2 * 2, 10))
    model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    return model


def train_in_torch(data: Digits, model: Any, epochs: int) -> Iterator[Epoch]:
    """The same training."""
    import torch

    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, MOMENTUM)
    train_x, train_y, test_x, test_y = map(torch.from_numpy, data)
    for epoch in range(epochs):
        losses = []
        for batch in batches(epoch, len(train_y)):
            loss = torch.nn.functional.cross_entropy(model(train_x[batch]), train_y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item() * len(batch))
        with torch.no_grad():
            accuracy = (model(test_x).argmax(1) == test_y).double().mean().item()
        yield Epoch(sum(losses) / len(train_y), accuracy)


def with_numbapool(data: Digits, weights: Weights, epochs: int) -> Iterator[Epoch]:
    """In torch, with the modules of `numbapool.nn`."""
    from numbapool import nn

    return train_in_torch(data, network_in_torch(weights, nn), epochs)


def with_torch(data: Digits, weights: Weights, epochs: int) -> Iterator[Epoch]:
    """In torch, with its own."""
    from torch import nn

    return train_in_torch(data, network_in_torch(weights, nn), epochs)


ENGINES: dict[str, Callable[[Digits, Weights, int], Iterator[Epoch]]] = {
    "NumPy, numbapool": train_in_numpy,
    "torch, numbapool.nn": with_numbapool,
    "torch, torch.nn": with_torch,
}


def plot(curves: dict[str, list[Epoch]], path: str) -> None:
    """Loss and error of every epoch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    # Equal curves lie on each other: the first is broad, the next are narrower.
    styles = (
        {"linewidth": 6, "color": "#c6dbef"},
        {"linewidth": 3, "color": "#d95f02"},
        {"color": "black", "ls": "--"},
    )
    for (name, epochs), style in zip(curves.items(), styles, strict=False):
        numbers = range(1, len(epochs) + 1)
        left.plot(numbers, [each.loss for each in epochs], label=name, **style)
        right.plot(numbers, [100 * each.accuracy for each in epochs], label=name, **style)
    left.set(xlabel="epoch", ylabel="training loss", yscale="log", title="Loss")
    right.set(xlabel="epoch", ylabel="% of test images", title="Accuracy")
    right.axhline(96, color="grey", linewidth=0.8, linestyle=":")
    left.legend(frameon=False)
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


@click.command(help=__doc__.splitlines()[0] if __doc__ else None)
@click.option("--engine", "engines", type=click.Choice(["numpy", "torch", "all"]), default="all", show_default=True)
@click.option("--epochs", type=click.IntRange(1), default=20, show_default=True)
@click.option("--plot", "path", default="train-digits.png", show_default=True, help="Where to draw the curves.")
def main(engines: str, epochs: int, path: str) -> None:
    """Train, print, draw."""
    console, data, weights = Console(), digits(), initial_weights()
    chosen = {name: train for name, train in ENGINES.items() if engines in ("all", name.split(",")[0].lower())}
    curves: dict[str, list[Epoch]] = {}
    with Progress(console=console, transient=True) as progress:
        for name, train in chosen.items():
            task = progress.add_task(name, total=epochs)
            curves[name] = []
            for epoch in train(data, weights, epochs):
                curves[name].append(epoch)
                description = f"{name}: loss {epoch.loss:.4f}, accuracy {100 * epoch.accuracy:.1f} %"
                progress.update(task, advance=1, description=description)
    table = Table("epoch", *curves, title="Training loss, and test images whose digit was found")
    for number in range(epochs):
        results = [each[number] for each in curves.values()]
        table.add_row(str(number + 1), *(f"{each.loss:.6f}  {100 * each.accuracy:.1f} %" for each in results))
    console.print(table)
    plot(curves, path)
    console.print(f"Drew {path}")


if __name__ == "__main__":
    main()
