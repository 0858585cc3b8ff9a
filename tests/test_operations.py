"""The table of operations: complete, consistent, and what it says of derivatives is true."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from numbapool import functional, kinds
from numbapool.backends.numpy import backend
from numbapool.geometry import placed_plan, window_plan
from numbapool.operations import AVG_POOL, AVG_POOL_BACKWARD, OPERATIONS, STEPS, Step
from numbapool.requests import WORDS
from tests.checks import Array

RANKS = {"sliding": ("1d", "2d", "3d"), "adaptive": ("1d", "2d", "3d"), "fractional": ("2d", "3d"), "whole": ("",)}
LINEAR = [step for step in STEPS.values() if step.tangent == step.name]


def test_every_public_function_is_of_a_row() -> None:
    prefixes = dict(WORDS.values())
    expected = {"pool", "pool_backward"}
    for operation in OPERATIONS.values():
        for word in operation.windows:
            for rank in RANKS.get(word, RANKS["sliding"]):
                name = f"{prefixes[word]}{operation.name}{rank}"
                expected |= {name, f"{name}_backward"}
    assert set(functional.__all__) == expected


def test_every_row_that_pools_is_a_kind() -> None:
    reducers = {kind.operation for kind in kinds.NAMES.values()}
    assert reducers == {operation for operation in OPERATIONS.values() if operation.windows != ("unpooled",)}
    for kind in kinds.NAMES.values():
        assert len(kind.options) == len(kind.operation.options)


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_every_step_is_a_function_of_the_targets(target: str) -> None:
    module = importlib.import_module(f"numbapool.kernels.{target}")
    assert {name for name in STEPS if not hasattr(module, name)} == set()
    assert set(module.__all__) == set(STEPS)


@pytest.mark.parametrize("step", STEPS.values(), ids=lambda step: step.name)
def test_derivatives_are_steps(step: Step) -> None:
    """And those of a nonlinear one are not asked for."""
    named = [each for each in (step.tangent, step.adjoint, step.derived, step.chosen_by) if each]
    assert set(named) <= set(STEPS)
    assert bool(step.tangent) == bool(step.adjoint)
    if step.adjoint:  # from the shape of the result back to that of the input, and of the same family
        assert STEPS[step.adjoint].result != step.result
        assert STEPS[STEPS[step.adjoint].adjoint].result == step.result
    ways = [bool(step.adjoint), bool(step.derived), bool(step.chosen_by), step.parts is not None, step.renumbers]
    assert sum(ways) == 1


def computed(step: Step, plan: Any, array: Array, indices: Array, parameters: tuple[Any, ...]) -> Array:
    shape = plan.out_shape if step.result == "output" else plan.shape
    if step.inputs == ("x",):
        result: Array = backend.bind(step, plan, [(shape, array.dtype)], *parameters)(array, None)
        return result
    arrays = (array, indices) if step.takes_indices else (array,)
    result = backend.run_backward(step, plan, arrays, (shape, array.dtype), None, *parameters)
    return result


@pytest.mark.parametrize("step", LINEAR, ids=lambda step: step.name)
def test_adjoints(step: Step) -> None:
    """<A x, y> = <x, A* y>, for ints, of which no sum is rounded."""
    rng = np.random.default_rng(0)
    plan: Any = window_plan((2, 3, 6, 8), 2, (2, 4), (2, 2), ((0, 0), (1, 1)), (1, 1), False)
    indices = rng.integers(0, plan.plane_size, plan.out_shape)
    if step.moves or step.takes_indices:
        plan = placed_plan(plan.out_shape, tuple(axis.length for axis in plan.pooled))
    parameters = (True, 8, False) if step in (AVG_POOL, AVG_POOL_BACKWARD) else ()
    if step.needs_places and step.result == "input":  # of two elements with one index, one is placed
        indices = np.arange(indices.size).reshape(indices.shape) % (indices.size // 6)
    shapes = (plan.shape, plan.out_shape) if step.result == "output" else (plan.out_shape, plan.shape)
    x, y = (rng.integers(-8, 9, shape).astype(np.float32) for shape in shapes)
    forth = computed(step, plan, x, indices, parameters)
    back = computed(STEPS[step.adjoint], plan, y, indices, parameters)
    assert np.vdot(forth, y) == np.vdot(x, back) != 0
