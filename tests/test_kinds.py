"""Reducers, what `pool` makes of them and of names, and that functions named like torch's take what they took."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import pickle
import re
from typing import Any

import numpy as np
import pytest

import numbapool
from numbapool import functional, kinds, reference
from numbapool.kinds import Kind, Max, Mean, Min, Norm, Sum
from numbapool.operations import OPERATIONS
from tests.checks import assert_same

# Reducers, each another one, and how they are written.
REDUCERS: dict[str, Kind] = {
    "Max()": Max(),
    "Min()": Min(),
    "Sum()": Sum(),
    "Mean(count_padding=None, divisor=None, rounding='nearest')": Mean(),
    "Mean(count_padding=True, divisor=None, rounding='nearest')": Mean(True),
    "Mean(count_padding=False, divisor=None, rounding='nearest')": Mean(False),
    "Mean(count_padding=None, divisor=-3, rounding='nearest')": Mean(divisor=-3),
    "Mean(count_padding=None, divisor=None, rounding='truncate')": Mean(rounding="truncate"),
    "Norm(p=2, true_norm=False)": Norm(),
    "Norm(p=inf, true_norm=False)": Norm(math.inf),
    "Norm(p=3, true_norm=True)": Norm(3, True),
}
NAMES = {"max": Max(), "min": Min(), "mean": Mean(), "avg": Mean(), "sum": Sum(), "lp": Norm()}
X = np.arange(48.0).reshape(1, 2, 4, 6) % 7


def test_there_are_no_others() -> None:
    found = [each for each in vars(kinds).values() if isinstance(each, type) and issubclass(each, Kind)]
    assert set(found) - {Kind} == {type(each) for each in REDUCERS.values()}
    assert kinds.NAMES == NAMES


@pytest.mark.parametrize("text", REDUCERS)
def test_values(text: str) -> None:
    reducer = REDUCERS[text]
    options = {each.name: getattr(reducer, each.name) for each in dataclasses.fields(reducer)}
    assert repr(reducer) == text
    assert eval(text, {**vars(kinds), "inf": math.inf}) == reducer
    for same in (
        type(reducer)(**options),
        type(reducer)(*options.values()),
        pickle.loads(pickle.dumps(reducer)),
        copy.deepcopy(reducer),
        dataclasses.replace(reducer),
    ):
        assert same == reducer
        assert hash(same) == hash(reducer)
        assert type(same) is type(reducer)
    assert [each for each in REDUCERS.values() if each == reducer] == [reducer]
    assert reducer != text


@pytest.mark.parametrize("text", REDUCERS)
def test_nothing_changes_one(text: str) -> None:
    reducer = REDUCERS[text]
    for name in [each.name for each in dataclasses.fields(reducer)] + ["axes"]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(reducer, name, 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        del reducer.p  # type: ignore[attr-defined]
    assert repr(reducer) == text


def test_options_are_those_of_operations() -> None:
    """As many as its row in the table has, and in its order."""
    for reducer in REDUCERS.values():
        operation = reducer.operation
        assert operation in OPERATIONS.values()
        assert len(reducer.options) == len(operation.options)
        for option, value in zip(operation.options, reducer.options, strict=True):
            option.check(option.name, value)


@pytest.mark.parametrize(
    ("error", "message", "reducer", "options"),
    [
        (TypeError, "count_padding must be a bool, got 1 of type int", Mean, {"count_padding": 1}),
        (ValueError, "divisor must be not zero, got divisor=0", Mean, {"divisor": 0}),
        (ValueError, f"divisor must fit into 64 bits, got {2**63}", Mean, {"divisor": 2**63}),
        (TypeError, "divisor must be an int, got 2.0 of type float", Mean, {"divisor": 2.0}),
        (TypeError, "divisor must be an int, got True of type bool", Mean, {"divisor": True}),
        (ValueError, "rounding must be one of ('truncate', 'nearest'), got 'up'", Mean, {"rounding": "up"}),
        (TypeError, "rounding must be a str, got None of type NoneType", Mean, {"rounding": None}),
        (ValueError, "p must be greater than 0, got -1", Norm, {"p": -1}),
        (ValueError, "p must be greater than 0, got nan", Norm, {"p": math.nan}),
        (TypeError, "p must be a number, got '2' of type str", Norm, {"p": "2"}),
        (TypeError, "true_norm must be a bool, got 0 of type int", Norm, {"true_norm": 0}),
    ],
)
def test_bad_options(error: type[Exception], message: str, reducer: type[Kind], options: dict[str, Any]) -> None:
    """Are refused when a reducer is made, not only when it is used."""
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        reducer(**options)
    name, value = next(iter(options.items()))
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        dataclasses.replace(reducer(), **{name: value})


@pytest.mark.parametrize("reducer", dict.fromkeys(map(type, kinds.NAMES.values())))
def test_options_of_other_functions(reducer: type[Kind]) -> None:
    for name in ("norm_type", "count_include_pad", "divisor_override"):
        with pytest.raises(TypeError, match=name):
            reducer(**{name: 2})


@pytest.mark.parametrize("name", NAMES)
def test_names_are_reducers_with_defaults(name: str) -> None:
    for dtype in ("float32", "int16") if name != "lp" else ("float32",):
        x = X.astype(dtype)
        by_name, by_reducer = (numbapool.pool(x, each, 2, axes=(2, 3)) for each in (name, NAMES[name]))
        assert_same(by_name, by_reducer)
    x = X.astype("float32")
    gradients = [numbapool.pool_backward(x[:, :, :2, :3], x, each, 2, axes=(2, 3)) for each in (name, NAMES[name])]
    assert_same(*gradients)


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_means_of_integers_are_rounded_to_the_nearest(dtype: str) -> None:
    """By `pool`, halves to the even one, unless its reducer says otherwise; by functions named like torch's they are not."""
    limits = np.iinfo(dtype)
    x = np.random.default_rng(0).integers(max(limits.min, -9), 10, (1, 2, 6, 6)).astype(dtype)
    planes = x.reshape(2, 6, 6)
    nearest = reference.avg_pool(planes, 2, rounding="nearest", rank=2).reshape(1, 2, 3, 3)
    truncated = reference.avg_pool(planes, 2, rounding="truncate", rank=2).reshape(1, 2, 3, 3)
    sums = planes.astype(int).reshape(2, 3, 2, 3, 2).sum((2, 4)).reshape(nearest.shape)
    assert (sums % 4 == 2).any()
    assert_same(nearest, np.rint(sums / 4).astype(dtype))
    assert not np.array_equal(nearest, truncated)
    for kind in ("mean", "avg", Mean(), Mean(True), Mean(rounding="nearest")):
        assert_same(numbapool.pool(x, kind, 2, axes=(2, 3)), nearest)
    assert_same(numbapool.pool(x, Mean(rounding="truncate"), 2, axes=(2, 3)), truncated)
    assert_same(numbapool.avg_pool2d(x, 2), truncated)
    assert_same(numbapool.avg_pool2d(x, 2, rounding="nearest"), nearest)


@pytest.mark.parametrize(
    ("reducer", "options"),
    [
        (Mean(), {}),
        (Mean(True), {"count_include_pad": True}),
        (Mean(False), {"count_include_pad": False}),
        (Mean(divisor=-5), {"divisor_override": -5}),
        (Mean(False, rounding="truncate"), {"count_include_pad": False, "rounding": "truncate"}),
    ],
)
def test_options_of_means(reducer: Mean, options: dict[str, Any]) -> None:
    x = np.random.default_rng(1).integers(-99, 99, (2, 5, 7)).astype(np.int16)
    window = {"kernel_size": (3, 2), "stride": 2, "padding": 1}
    expected = reference.avg_pool(x, **window, **{"rounding": "nearest"} | options, rank=2)
    assert_same(numbapool.pool(x, reducer, **window, axes=(1, 2)), expected)
    grad = expected.astype(np.float32)
    gradient_options = {name: value for name, value in options.items() if name != "rounding"}
    back = numbapool.pool_backward(grad, x.astype(np.float32), reducer, **window, axes=(1, 2))
    by_name = numbapool.avg_pool2d_backward(grad, x.astype(np.float32), **window, **gradient_options)
    assert_same(back, by_name)


@pytest.mark.parametrize(
    ("reducer", "options"), [(Norm(), {}), (Norm(3, True), {"norm_type": 3, "true_norm": True}), (Norm(math.inf), {})]
)
def test_options_of_norms(reducer: Norm, options: dict[str, Any]) -> None:
    x = np.random.default_rng(1).standard_normal((2, 5, 7)).astype(np.float32)
    options = {"norm_type": reducer.p} | options
    out = numbapool.pool(x, reducer, 2, axes=(1, 2))
    assert_same(out, numbapool.lp_pool2d(x, kernel_size=2, **options))
    back = numbapool.pool_backward(out, x, reducer, 2, axes=(1, 2))
    assert_same(back, numbapool.lp_pool2d_backward(out, x, kernel_size=2, **options))


NEAREST = {"maximum": "max", "Max": "max", "average": "avg", "means": "mean", "summ": "sum", "mini": "min", "l2p": "lp"}


@pytest.mark.parametrize("given", NEAREST)
def test_unknown_kinds(given: str) -> None:
    message = (
        "kind must be one of ('max', 'min', 'mean', 'avg', 'sum', 'lp'), or a reducer of numbapool.kinds, "
        f"got {given!r}; the nearest is {NEAREST[given]!r}"
    )
    for call in (lambda: numbapool.pool(X, given, 2), lambda: numbapool.pool_backward(X, X, given, 1)):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()


@pytest.mark.parametrize("reducer", dict.fromkeys(map(type, kinds.NAMES.values())))
def test_the_class_instead_of_a_reducer(reducer: Any) -> None:
    name = reducer.__name__
    message = f"kind must be a name or a reducer, got the class {name}: write {name}()"
    for call in (lambda: numbapool.pool(X, reducer, 2), lambda: numbapool.pool_backward(X, X, reducer, 1)):
        with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
            call()


@pytest.mark.parametrize("given", [None, 2, b"max", np.max, ("max",), {"kind": "max"}, Kind()])
def test_what_is_no_kind(given: Any) -> None:
    with pytest.raises(TypeError, match=r"^kind must be a name or a reducer of numbapool.kinds, got .* of type "):
        numbapool.pool(X, given, 2)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("axis", "axes"), ("kernel", "kernel_size"), ("strides", "stride"), ("dilations", "dilation"), ("zzz", None)],
)
def test_unknown_keywords(name: str, meant: str | None) -> None:
    advice = "" if meant is None else f": {meant} is one"
    with pytest.raises(TypeError, match=f"^pool has no parameter {name}{advice}$"):
        numbapool.pool(X, "max", 2, **{name: 1})
    with pytest.raises(TypeError, match=f"^pool_backward has no parameter {name}{advice}$"):
        numbapool.pool_backward(X, X, "max", 1, **{name: 1})


@pytest.mark.parametrize("option", ["count_include_pad", "divisor_override", "rounding", "norm_type", "true_norm"])
def test_options_are_in_reducers_only(option: str) -> None:
    for kind in NAMES:
        with pytest.raises(TypeError, match=f"^pool has no parameter {option}"):
            numbapool.pool(X, kind, 2, **{option: True})


@pytest.mark.parametrize("kind", [Mean(False), Sum(), Norm(3), "avg"])
def test_indices_without_meaning(kind: Any) -> None:
    shown = re.escape(str(Mean() if kind == "avg" else kind))
    with pytest.raises(ValueError, match=f"^return_indices has no meaning for kind={shown}, got return_indices=True$"):
        numbapool.pool(X, kind, 2, return_indices=True)
    for index_kind in ("global", "window"):
        words = f"^index_kind has no meaning for kind={shown}, got index_kind='{index_kind}'$"
        with pytest.raises(ValueError, match=words):
            numbapool.pool(X, kind, 2, index_kind=index_kind)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=words):
            numbapool.pool_backward(X, X, kind, 1, index_kind=index_kind)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"^indices has no meaning for kind={shown}, got indices="):
        numbapool.pool_backward(X, X, kind, 1, indices=X.astype(int))


# What functions named like torch's take: with code that calls them it may only grow. `*` is each number of axes that there is.
SIGNATURES = (
    'adaptive_avg_pool*d(x, output_size, *, rounding="truncate", data_format="channels_first", out=None)',
    'adaptive_avg_pool*d_backward(grad_output, x, output_size, *, data_format="channels_first", out=None)',
    (
        'adaptive_max_pool*d(x, output_size, return_indices=False, *, index_kind="plane", '
        'data_format="channels_first", out=None)'
    ),
    (
        'adaptive_max_pool*d_backward(grad_output, x, output_size, *, indices=None, index_kind="plane", '
        'check_indices=False, data_format="channels_first", out=None)'
    ),
    (
        "avg_pool*d(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, "
        'divisor_override=None, *, dilation=1, rounding="truncate", data_format="channels_first", out=None)'
    ),
    (
        "avg_pool*d_backward(grad_output, x, kernel_size, stride=None, padding=0, ceil_mode=False, "
        'count_include_pad=True, divisor_override=None, *, dilation=1, data_format="channels_first", out=None)'
    ),
    (
        "fractional_max_pool*d(x, kernel_size, output_size=None, output_ratio=None, return_indices=False, "
        '_random_samples=None, *, generator=None, index_kind="plane", data_format="channels_first", out=None)'
    ),
    (
        "fractional_max_pool*d_backward(grad_output, x, kernel_size, output_size=None, output_ratio=None, *, "
        'indices=None, _random_samples=None, index_kind="plane", check_indices=False, data_format="channels_first", '
        "out=None)"
    ),
    'global_avg_pool(x, *, rounding="truncate", data_format="channels_first", out=None)',
    'global_avg_pool_backward(grad_output, x, *, data_format="channels_first", out=None)',
    'global_lp_pool(x, norm_type=2, *, data_format="channels_first", out=None)',
    'global_lp_pool_backward(grad_output, x, norm_type=2, *, data_format="channels_first", out=None)',
    'global_max_pool(x, return_indices=False, *, index_kind="plane", data_format="channels_first", out=None)',
    (
        'global_max_pool_backward(grad_output, x, *, indices=None, index_kind="plane", check_indices=False, '
        'data_format="channels_first", out=None)'
    ),
    (
        "lp_pool*d(x, norm_type, kernel_size, stride=None, ceil_mode=False, *, padding=0, dilation=1, "
        'true_norm=False, data_format="channels_first", out=None)'
    ),
    (
        "lp_pool*d_backward(grad_output, x, norm_type, kernel_size, stride=None, ceil_mode=False, *, padding=0, "
        'dilation=1, true_norm=False, data_format="channels_first", out=None)'
    ),
    (
        "max_pool*d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False, *, "
        'index_kind="plane", data_format="channels_first", out=None)'
    ),
    (
        "max_pool*d_backward(grad_output, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *, "
        'indices=None, index_kind="plane", check_indices=False, data_format="channels_first", out=None)'
    ),
    (
        'max_unpool*d(x, indices, kernel_size, stride=None, padding=0, output_size=None, *, index_kind="plane", '
        'check_indices=True, data_format="channels_first", out=None)'
    ),
    (
        "max_unpool*d_backward(grad_output, x, indices, kernel_size, stride=None, padding=0, output_size=None, *, "
        'index_kind="plane", check_indices=True, data_format="channels_first", out=None)'
    ),
    (
        "min_pool*d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False, *, "
        'index_kind="plane", data_format="channels_first", out=None)'
    ),
    (
        "min_pool*d_backward(grad_output, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *, "
        'indices=None, index_kind="plane", check_indices=False, data_format="channels_first", out=None)'
    ),
    (
        "sum_pool*d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *, "
        'data_format="channels_first", out=None)'
    ),
    (
        "sum_pool*d_backward(grad_output, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *, "
        'data_format="channels_first", out=None)'
    ),
)


def test_signatures_of_functions_named_like_torchs() -> None:
    found = set()
    for name in functional.__all__:
        if not name.startswith("pool"):
            signature = inspect.signature(getattr(numbapool, name))
            plain = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
            shown = f"{signature.replace(parameters=plain, return_annotation=signature.empty)}".replace("'", '"')
            found.add(f"{name}{shown}")
    expected = {
        each.replace("*d", f"{rank}d", 1)
        for each in SIGNATURES
        for rank in (1, 2, 3)
        if not (rank == 1 and each.startswith("fractional"))
    }
    assert found == expected
