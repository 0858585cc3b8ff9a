"""Every bad argument of every public name is a ValueError or TypeError that names it: the calls are made from signatures.

In a call that works one argument at a time is replaced by each value of a list. The call may work as well; else it says what
is wrong before a kernel is asked for anything.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import pytest

import numbapool
import numbapool.onnx
from numbapool import functional
from numbapool.arguments import shown
from numbapool.backends import numpy as numpy_backend
from numbapool.explanation import parameters_of
from numbapool.kinds import NAMES, Mean, Norm

try:
    import torch

    import numbapool.nn
except ImportError:
    torch = None  # type: ignore[assignment]


class Hostile:
    """Neither its index nor its text can be had."""

    def __index__(self) -> int:
        raise RuntimeError("no index")

    def __float__(self) -> float:
        raise RuntimeError("no number")

    def __repr__(self) -> str:
        raise RuntimeError("no text")


CYCLE: list[Any] = []
CYCLE.append(CYCLE)

# What no argument takes, or some do.
VALUES: list[Any] = [
    *(None, True, False, np.True_, 1.5, -1.5, float("nan"), float("inf"), 2j, np.float32(2)),
    *(-1, 0, 3, 2**60, 2**62, 2**63, 2**64, -(2**63), 10**5000, -(10**5000)),
    *("", "x", "0", "same", "plane", b"\xff", b"same", "\N{MULTIPLICATION SIGN}" * 5000),
    *((), [], (1,), [2], (1, 2), (1, 2, 3, 4, 5), (1,) * 5000, (0, 0), (-1, -1), (2**62, 2**62), (10**5000, 1)),
    *([[1], [1]], ((1, 2), (3, 4)), ((10**5000, 1), (1, 1)), (None, None), (True, True), ("x", "x")),
    *(CYCLE, [1, [CYCLE]], {}, {1: 2}, {2}, frozenset(), range(2), slice(2), iter([2, 2])),
    *(object(), Hostile(), int, dict, len, ..., np.ndarray, np.float32, np.random),
    *(np.array(1), np.array(True), np.array([2, 2]), np.array([]), np.array([[1], [1]]), np.array("plane")),
    *(np.array(["plane", "window"]), np.array([None, 1], object), np.zeros((1, 2, 4, 4)), np.zeros(10**4)),
    *(np.ma.zeros((1, 2, 4, 4), np.float32), np.zeros((1, 2, 4, 4), "M8[s]"), np.zeros((0,), "U1")),
]
if torch is not None:
    flags, positions = torch.tensor([True, False]), torch.zeros(1, 2, 4, 4, dtype=torch.int64)
    VALUES += [
        *(torch.tensor(1), torch.tensor(True), torch.tensor(1.5), torch.tensor([1, 2]), flags, torch.zeros(0)),
        *(torch.zeros(1, 2, 4, 4), positions, torch.zeros(2).to_sparse(), torch.float32, torch.nn.ReLU()),
        *(torch.empty((), device="meta"), torch.empty((1, 2, 4, 4), device="meta")),
    ]

# None of these is an int.
FLAGS = [True, np.True_, np.array(True)] + ([] if torch is None else [torch.tensor(True)])

# Of each library, how its arrays are made.
LIBRARIES: dict[str, Callable[[Any], Any]] = {"numpy": np.asarray}
if torch is not None:
    LIBRARIES |= {"torch": torch.from_numpy, "meta": lambda array: torch.from_numpy(array).to("meta")}

# Arguments that are arrays: an error about one of them may as well speak of another, which it does not fit.
ARRAYS = {"x", "grad_output", "indices", "out", "_random_samples", "X", "I", "input"}


class AKernelIsAskedFor(Exception):
    """All arguments have been accepted."""


@pytest.fixture(autouse=True)
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask() -> None:
        raise AKernelIsAskedFor

    monkeypatch.setattr(numpy_backend, "_target", ask)


def outcome(call: Callable[..., Any], arguments: dict[str, Any]) -> Exception | None:
    """What a call raises, warnings included, unless it works or all that is left to do are kernels."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            call(**arguments)
        except AKernelIsAskedFor:
            return None
        except Exception as error:
            return error
    return None


def names(text: str, name: str) -> bool:
    """Whether a message speaks of an argument."""
    return re.search(rf"(?<!\w){name}(?!\w)", text) is not None


def complaint(call: Callable[..., Any], arguments: dict[str, Any], name: str) -> str | None:
    """What is wrong with what a call says of an argument, if anything."""
    error = outcome(call, arguments)
    if error is None:
        return None
    text = f"{error}"
    is_named = any(names(text, each) for each in ({name} | ARRAYS if name in ARRAYS else {name}))
    if type(error) in (TypeError, ValueError) and is_named and len(text) < 1000:
        return None
    if type(error) is NotImplementedError and "index_kind='global' cannot be recorded" in text:
        return None  # whatever a tensor without values is
    label = getattr(call, "__name__", call)
    return f"{label}({name}={shown(arguments.get(name))}) raises {type(error).__name__}: {text[:200]}"


def complaints(call: Callable[..., Any], good: dict[str, Any], parameters: Iterable[str], step: int = 1) -> list[str]:
    """The same of each argument with each value in turn, or with one of `step` values, others for each argument."""
    assert outcome(call, good) is None, (call, outcome(call, good))
    found = []
    for i, name in enumerate(parameters):
        for value in VALUES[i % step :: step]:
            arguments = good | {name: value}
            text = complaint(call, arguments, name)
            if text is not None and not is_of_the_gradient(text, call, arguments):
                found.append(text)
    return found


def is_of_the_gradient(text: str, call: Callable[..., Any], arguments: dict[str, Any]) -> bool:
    """Whether arguments of a backward are right as those of the forward, and only the gradient does not fit."""
    name = getattr(call, "__name__", "")
    if "ValueError: grad_output must have" not in text or not name.endswith("_backward"):
        return False
    forward = getattr(functional, name.removesuffix("_backward"))
    known = inspect.signature(forward).parameters
    return outcome(forward, {key: each for key, each in arguments.items() if key in known}) is None


def rank_of(name: str) -> int:
    return int(found[1]) if (found := re.search(r"(\d)d", name)) else 2


def arguments_of(name: str) -> dict[str, Any]:
    """Arguments with which a function works."""
    rank, is_backward = rank_of(name), name.endswith("_backward")
    whole, pooled = (1, 2, *(4,) * rank), (1, 2, *(1 if name.startswith("global") else 2,) * rank)
    arguments: dict[str, Any] = {"x": np.zeros(pooled if "unpool" in name else whole, np.float32)}
    if is_backward:
        arguments["grad_output"] = np.zeros(whole if "unpool" in name else pooled, np.float32)
    if "unpool" in name or (is_backward and name.startswith("fractional")):
        arguments["indices"] = np.zeros(pooled, np.int64)
    if name.startswith("pool"):
        arguments |= {"kind": "max", "axes": (2, 3)}
    if name.startswith("lp"):
        arguments["norm_type"] = 2
    if name.startswith(("adaptive", "fractional")):
        arguments["output_size"] = 2
    if not name.startswith(("adaptive", "global")):
        arguments["kernel_size"] = 2
    return arguments


def of_library(library: str, arguments: dict[str, Any]) -> dict[str, Any]:
    convert = LIBRARIES[library]
    return {name: convert(each) if isinstance(each, np.ndarray) else each for name, each in arguments.items()}


def wrapped(name: str) -> dict[str, Any]:
    """Other arguments with which it works: channels last and indices into the whole array, without planes, so that nothing is
    left to kernels; for `pool` more than three axes.
    """
    good = arguments_of(name)
    parameters = inspect.signature(getattr(functional, name)).parameters
    if name.startswith("pool"):
        good |= {"kind": "avg", "axes": (0, 1, 2, 3), "x": np.zeros((2, 2, 2, 2), np.float32)}
        return good | ({"grad_output": np.zeros((1, 1, 1, 1), np.float32)} if "grad_output" in good else {})
    if "return_indices" in parameters:
        good |= {"return_indices": True, "index_kind": "global"}
    elif "index_kind" in parameters:
        shape = good["x" if "unpool" in name else "grad_output"].shape
        good |= {"indices": np.zeros(shape, np.int64), "index_kind": "global"}
    good = {key: np.moveaxis(each[:0], 1, -1) if isinstance(each, np.ndarray) else each for key, each in good.items()}
    return good | {"data_format": "channels_last"}


@pytest.mark.parametrize("library", LIBRARIES)
def test_functions(library: str) -> None:
    found = []
    for name in functional.__all__:
        function = getattr(functional, name)
        parameters = inspect.signature(function).parameters
        # What ranks share is tried with fewer values for some.
        found += complaints(
            function, of_library(library, arguments_of(name)), parameters, 1 if rank_of(name) == 2 else 3
        )
        if rank_of(name) == 2 and library != "meta":  # index_kind="global" is computed with
            found += complaints(function, of_library(library, wrapped(name)), parameters, 3)
    assert not found, "\n".join(found)


def test_register() -> None:
    from numbapool import dispatch

    before = dict(dispatch._backend_modules)
    try:
        good = {"array_type": "nowhere.Array", "backend_module": "nowhere.backend"}
        found = complaints(numbapool.register, good, good)
    finally:
        dispatch._backend_modules.clear()
        dispatch._backend_modules.update(before)
    assert not found, "\n".join(found)


def pooled_by(reducer: Callable[..., Any], **arguments: Any) -> None:
    for axes in ((2, 3), (0, 1, 2, 3)):
        numbapool.pool(np.zeros((2, 2, 4, 4), np.float32), reducer(**arguments), 2, axes=axes)


def test_reducers() -> None:
    """When they are made; what they accept is accepted by `pool`, but for powers that passes over many axes do not take."""
    found = []
    for reducer in dict.fromkeys(map(type, NAMES.values())):
        parameters = inspect.signature(reducer).parameters
        found += complaints(reducer, {}, parameters)
        for name in parameters:
            for value in VALUES:
                if outcome(reducer, {name: value}) is None:
                    error = outcome(partial(pooled_by, reducer), {name: value})
                    if error is not None and "p must be even without true_norm" not in f"{error}":
                        found.append(f"pool takes no {reducer.__name__}({name}={shown(value)}): {error!r}")
    assert not found, "\n".join(found)


INTS = {"kernel_size", "stride", "padding", "dilation", "output_size", "divisor_override", "axes"}


def test_flags_are_no_ints() -> None:
    for name in functional.__all__:
        function, good = getattr(functional, name), arguments_of(name)
        for argument in INTS & inspect.signature(function).parameters.keys():
            for value in FLAGS:
                error = outcome(function, good | {argument: value})
                assert type(error) in (TypeError, ValueError), (name, argument, value, error)
                assert names(f"{error}", argument)
    for value in FLAGS:
        for option in ("divisor", "rounding"):
            error = outcome(Mean, {option: value})
            assert type(error) is TypeError
            assert names(f"{error}", option)
        assert type(outcome(Norm, {"p": value})) is TypeError


@pytest.mark.parametrize("library", LIBRARIES)
def test_operators_of_onnx(library: str) -> None:
    found = []
    for name in set(numbapool.onnx.__all__) - ({"MaxUnpool"} if library == "meta" else set()):
        operator, good = getattr(numbapool.onnx, name), {"X": np.zeros((1, 2, 4, 4), np.float32)}
        if "Global" not in name:
            good["kernel_shape"] = [2, 2]
        if name == "MaxUnpool":
            good["I"] = np.zeros((1, 2, 4, 4), np.int64)
        found += complaints(operator, of_library(library, good), inspect.signature(operator).parameters)
    assert not found, "\n".join(found)


def required(constructor: Callable[..., Any]) -> dict[str, Any]:
    """Arguments of the constructor of a layer."""
    parameters = inspect.signature(constructor).parameters
    needed = {name for name, each in parameters.items() if each.default is each.empty} | {
        "output_size"
    } & parameters.keys()
    return dict.fromkeys(needed, 2) | ({"kind": "max", "axes": (2, 3)} if "kind" in needed else {})


def inputs_of(name: str) -> dict[str, Any]:
    """Arrays that a layer takes: without planes, so that nothing is left to kernels."""
    return {key: each[:0] for key, each in arguments_of(name).items() if key in ("x", "indices")}


def forward_of(layer: Callable[..., Any], inputs: dict[str, Any], **arguments: Any) -> None:
    layer(**arguments)(**inputs)


def backward_of(layer: Callable[..., Any], inputs: dict[str, Any], **arguments: Any) -> None:
    out, pullback = layer(**arguments).vjp(**inputs)
    pullback(out[0] if isinstance(out, tuple) else out)


def test_layers() -> None:
    found, functions = [], {name.replace("_", ""): name for name in functional.__all__}
    for constructor in filter(inspect.isclass, (getattr(numbapool, name) for name in numbapool.__all__)):
        name, good = functions[constructor.__name__.lower()], required(constructor)
        inputs, step = inputs_of(name), 1 if rank_of(name) == 2 else 4

        for pooled in (forward_of, backward_of):
            call = partial(pooled, constructor, inputs)
            found += complaints(call, good, inspect.signature(constructor).parameters, step)
        layer, more = constructor(**good), {"output_size": None} if "unpool" in name else {}
        for method in (layer, layer.vjp):
            found += complaints(method, inputs | more, inputs | more, step)
        out, pullback = layer.vjp(**inputs)
        found += complaints(pullback, {"grad_output": out}, ["grad_output"], step)
    assert not found, "\n".join(found)


def forward_of_module(module: Callable[..., Any], inputs: dict[str, Any], **arguments: Any) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = module(**arguments)
    except Exception:
        return  # the constructors are torch's own
    made(**inputs)


@pytest.mark.skipif(torch is None, reason="torch is not installed")
@pytest.mark.parametrize("library", ["torch", "meta"])
def test_modules_of_torch(library: str) -> None:
    found = []
    functions = {name.replace("_", ""): name for name in numbapool.nn.FUNCTIONS}
    for module in numbapool.nn.MODULES.values():
        name, good = functions[module.__name__.lower()], required(module)
        inputs = of_library(library, inputs_of(name))
        inputs["input"] = inputs.pop("x")
        found += complaints(partial(forward_of_module, module, inputs), good, inspect.signature(module).parameters, 2)
        more = {"output_size": None} if "unpool" in name else {}
        found += complaints(module(**good), inputs | more, inputs | more, 2)
    found += complaints(numbapool.nn.replace_pooling, {"model": torch.nn.ReLU()}, ["model"])
    assert not found, "\n".join(found)


def explained(name: str, shape: tuple[int, ...], **arguments: Any) -> None:
    """Raise what is explained."""
    explanation = numbapool.explain(name, shape, **arguments)
    assert str(explanation)
    if explanation.error is not None:
        raise explanation.error


def test_explain() -> None:
    good = {"op": "max_pool2d", "shape": (1, 2, 4, 4), "kernel_size": 2}
    found = complaints(lambda **given: str(numbapool.explain(**given)), good, ["op", "shape", "dtype", "bandwidth"])
    found += complaints(numbapool.explain("max_pool2d", (1, 2, 4, 4), 2).plot, {}, ["figure"])
    for name in (name for name in functional.__all__ if rank_of(name) == 2):
        arrays = arguments_of(name)
        arguments = {key: each for key, each in arrays.items() if not isinstance(each, np.ndarray)}
        if "indices" in arrays and "unpool" not in name:
            arguments["indices"] = arrays["indices"].shape
        texts = complaints(partial(explained, name, arrays["x"].shape), arguments, parameters_of(name), 6)
        found += [each for each in texts if "ValueError: indices must have the shape" not in each]
    assert not found, "\n".join(found)
