"""What is supported, asked of the code: every function with every dtype, memory layout and array library.

`python docs/support.py` prints the tables of README.md, `python docs/support.py --write` puts them there, between the marks.
A test compares them, so that a README that says otherwise than the code does not pass. Needs the `test` extra and torch.

Nothing is listed here that the code could tell. Functions are those of `numbapool.functional`; whether they take a dtype is
seen from calls on arrays with an empty batch, for which everything is checked and no kernel runs; and what becomes of a
memory layout from calls on small arrays of it, whose results must be those of C-contiguous ones.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import groupby, product
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

import numbapool
from numbapool import functional

README = Path(__file__).parents[1] / "README.md"
MARKS = "<!-- support -->", "<!-- end of support -->"

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DTYPES = ("bool", *INTEGERS, "float16", "bfloat16", "float32", "float64", "complex64", "complex128")


@dataclass(frozen=True)
class Library:
    """An array library, and how its arrays are made from NumPy's without a copy, where it can."""

    title: str
    package: str
    from_numpy: str  # name of the function in `package`
    options: tuple[tuple[str, bool], ...] = ()  # of jax.config

    @cached_property
    def module(self) -> Any:
        """The library itself."""
        for name, value in self.options:
            importlib.import_module("jax").config.update(name, value)
        return importlib.import_module(self.package)

    def array(self, array: np.ndarray) -> Any:
        """The same memory as an array of this library; None if it has no arrays of such strides."""
        try:
            made = getattr(self.module, self.from_numpy)(array)
        except ValueError:
            return None
        return made if self.numpy(made).strides == array.strides else None

    def numpy(self, array: Any) -> np.ndarray:
        """The memory of an array."""
        return array.numpy() if self.package == "torch" else np.asarray(array)


LIBRARIES = (
    Library("NumPy", "numpy", "asarray"),
    Library("torch, CPU", "torch", "from_numpy"),
    Library("JAX, CPU", "jax.numpy", "asarray", (("jax_enable_x64", True),)),
    Library("array-api-strict", "array_api_strict", "from_dlpack"),
)


@cache
def empty_batch(library: Library, shape: tuple[int, ...], dtype: str) -> Any:
    """An array of `shape` with an empty first axis; None if the library has no such dtype."""
    source = library.module
    if library.package == "numpy" and dtype == "bfloat16":  # NumPy's own dtypes end at float16
        source = importlib.import_module("ml_dtypes")
    kind = getattr(source, dtype, None)
    return None if kind is None else library.module.zeros((0, *shape[1:]), dtype=kind)


# Functions ------------------------------------------------------------------------------------------------------------

FORWARD, BACKWARD, NO = "forward", "backward", "no"
# What is passed for a parameter that has no default.
ARGUMENTS = {"kernel_size": 2, "norm_type": 2, "output_size": 2}


@dataclass(frozen=True)
class Operation:
    """A public function and its backward."""

    name: str

    @property
    def stem(self) -> str:
        """The name without the number of pooled axes: 'max_pool' of 'max_pool2d'."""
        return re.sub(r"\dd$", "", self.name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the inputs that are tried."""
        rank = re.search(r"(\d)d$", self.name)
        return (2, 3, *(4,) * (int(rank[1]) if rank else 2))

    @cached_property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the output for them, by a call on float32, which everything takes."""
        out = self.call(FORWARD, np.zeros((0, *self.shape[1:]), np.float32), None, np.asarray)
        return self.shape[0], *out.shape[1:]

    @property
    def layer(self) -> str:
        """The name of its layer: 'MaxPool2d' of 'max_pool2d'."""
        return next(name for name in numbapool.__all__ if name.lower() == self.name.replace("_", "") != name)

    def function(self, direction: str) -> Callable[..., Any]:
        """The public function."""
        found: Callable[..., Any] = getattr(numbapool, self.name if direction == FORWARD else f"{self.name}_backward")
        return found

    def call(
        self,
        direction: str,
        x: Any,
        grad_output: Any,
        put: Callable[[np.ndarray], Any],
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> Any:
        """The result for `x`; other arrays that a call needs are made of NumPy's by `put`."""
        function = self.function(direction)
        parameters = inspect.signature(function).parameters
        values = ARGUMENTS | {"x": x, "grad_output": grad_output}
        needed = {name for name, each in parameters.items() if each.default is each.empty}
        if "indices" in needed:
            values["indices"] = put(self._indices(tuple(x.shape), options))
        if "_random_samples" in parameters:
            needed |= {"_random_samples", "output_size"}
            channels = x.shape[-1 if options else 1]
            values["_random_samples"] = put(np.zeros((x.shape[0], channels, len(x.shape) - 2), np.float32))
        return function(**{name: values[name] for name in needed}, **options)

    def _indices(self, shape: tuple[int, ...], options: Mapping[str, Any]) -> np.ndarray:
        """Places for the elements of an array that is unpooled, each its own."""
        pooled = shape[1:-1] if options else shape[2:]
        places = np.arange(np.prod(pooled)).reshape(pooled)
        return np.broadcast_to(places[..., None] if options else places, shape).copy()


def operations() -> list[Operation]:
    """Every public function that has a backward, but for `pool`, which is all of them that have windows."""
    names = [name for name in functional.__all__ if f"{name}_backward" in functional.__all__]
    return [Operation(name) for name in names if name != "pool"]


# Dtypes ---------------------------------------------------------------------------------------------------------------


def accepts(library: Library, operation: Operation, direction: str, dtype: str) -> bool:
    """Whether a function takes arrays of a dtype."""
    x = empty_batch(library, operation.shape, dtype)
    if x is None:
        return False
    grad_output = empty_batch(library, operation.out_shape, dtype)
    try:
        operation.call(direction, x, grad_output, getattr(library.module, library.from_numpy))
    except TypeError:
        if dtype == "float32":  # which everything takes: the call itself is wrong
            raise
        return False
    return True


Accepted = dict[tuple[Operation, str, str], set[str]]  # titles of libraries by operation, direction and dtype


def accepted() -> Accepted:
    """The libraries whose arrays of each dtype each function takes."""
    return {
        (operation, direction, dtype): {
            library.title for library in LIBRARIES if accepts(library, operation, direction, dtype)
        }
        for operation in operations()
        for direction in (FORWARD, BACKWARD)
        for dtype in DTYPES
    }


def dtype_table(found: Accepted) -> str:
    """Operations by dtypes, dtypes with the same answers in one column and ranks with the same answers in one row."""

    def answer(operation: Operation, dtype: str) -> str:
        directions = [each for each in (FORWARD, BACKWARD) if found[operation, each, dtype]]
        return ", ".join(directions) or NO

    columns = [
        list(group)
        for _, group in groupby(DTYPES, key=lambda dtype: [answer(operation, dtype) for operation in operations()])
    ]
    rows = [["function, each with its `_backward`", "layer (callable, `vjp`)", *map(names_of_dtypes, columns)]]
    for (_, cells), group in groupby(
        operations(), key=lambda operation: (operation.stem, [answer(operation, column[0]) for column in columns])
    ):
        ranks = list(group)
        rows.append([joined(each.name for each in ranks), joined(each.layer for each in ranks), *cells])
    return markdown(rows)


def joined(names: Iterable[str]) -> str:
    """Names that differ in their rank as one: `max_pool1d/2d/3d`."""
    first, *others = names
    return f"`{'/'.join([first, *(each[-2:] for each in others)])}`"


def names_of_dtypes(dtypes: list[str]) -> str:
    """Names for a heading."""
    rest = [each for each in dtypes if each not in INTEGERS]
    return ", ".join(["all integers", *rest] if set(INTEGERS) <= set(dtypes) else dtypes)


def exceptions(library: Library, found: Accepted) -> str:
    """The dtypes that arrays of a library cannot have, or not for all functions that take them from another."""
    missing = [
        dtype
        for dtype in DTYPES
        if any(titles and library.title not in titles for (_, _, each), titles in found.items() if each == dtype)
    ]
    return f"all but {names_of_dtypes(missing)}" if missing else "all"


# Memory layouts -------------------------------------------------------------------------------------------------------


def _channels_last(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(_data_format(array), -1, 1)


def _gaps(array: np.ndarray) -> np.ndarray:
    return np.repeat(array, 2, -1)[..., ::2]


def _reversed(array: np.ndarray) -> np.ndarray:
    return array[..., ::-1].copy()[..., ::-1]


def _data_format(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, 1, -1).copy()


DATA_FORMAT = '`data_format="channels_last"`'
# Each as copies of a C-contiguous array.
LAYOUTS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], ...]] = {
    "C-contiguous": (np.copy,),
    "channels-last by strides": (_channels_last,),
    "any other strides": (partial(np.copy, order="F"), _gaps, _reversed),
    DATA_FORMAT: (_data_format,),
}


def results(library: Library, layout: str) -> Iterator[tuple[str, np.ndarray]]:
    """Name and result of every function of images for a layout; none where the library has no such arrays."""
    options = {"data_format": "channels_last"} if layout == DATA_FORMAT else {}
    for operation, direction in product(operations(), (FORWARD, BACKWARD)):
        function = operation.function(direction)
        if len(operation.shape) != 4 or not options.keys() <= inspect.signature(function).parameters.keys():
            continue
        inputs, expected = inputs_and_result(operation, direction)
        for lay_out in LAYOUTS[layout]:
            arrays = [library.array(lay_out(each)) for each in inputs]
            if all(each is not None for each in arrays):
                result = library.numpy(operation.call(direction, *arrays, library.array, options))
                result = np.moveaxis(result, -1, 1) if options else result
                np.testing.assert_allclose(result, expected, rtol=1e-6)
                yield function.__name__, result


@cache
def inputs_and_result(operation: Operation, direction: str) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Input and gradient, C-contiguous and without ties among the maxima, and what comes of them."""
    random = np.random.default_rng(0)
    shapes = operation.shape, operation.out_shape
    inputs = tuple(random.permutation(prod(each)).reshape(each).astype(np.float32) + 1 for each in shapes)
    return inputs, operation.call(direction, *inputs, np.asarray)


def layouts_of(array: np.ndarray) -> Iterator[str]:
    """The layouts that an array has: two, where one of the axes is short."""
    if array.flags.c_contiguous:
        yield "C-contiguous"
    if np.moveaxis(array, 1, -1).flags.c_contiguous:
        yield "channels-last"


def layout_of_results(library: Library, layout: str) -> str:
    """The layout that results have, with the names of the functions where it is another, or that do not take the input."""
    found = [(name, list(layouts_of(result)) or ["another"]) for name, result in results(library, layout)]
    if not found:
        return NO if layout == DATA_FORMAT else "no such arrays"
    usual, _ = Counter(each for _, possible in found for each in possible).most_common(1)[0]
    others = {name: possible[0] for name, possible in found if usual not in possible}
    taken = {name for name, _ in found}
    refusing = {name for name, _ in results(LIBRARIES[0], "C-contiguous")} - taken
    exceptions = [f"{other} from `{name}`" for name, other in others.items()]
    return "; ".join([usual, *exceptions, *(f"not `{name}`" for name in sorted(refusing))])


def layout_table(found: Accepted) -> str:
    """Array libraries: dtypes, and memory layouts of inputs with those of the results."""
    return markdown(
        [
            ["input", *(library.title for library in LIBRARIES)],
            ["dtypes of the table above", *(exceptions(library, found) for library in LIBRARIES)],
            *([name, *(layout_of_results(library, name) for library in LIBRARIES)] for name in LAYOUTS),
        ]
    )


# README ---------------------------------------------------------------------------------------------------------------


def markdown(rows: list[list[str]]) -> str:
    """Rows as a table, the first as its head."""
    head, *others = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([head, "|---" * len(rows[0]) + "|", *others])


def section() -> str:
    """What stands between the marks in README.md."""
    found = accepted()
    return f"""
{dtype_table(found)}

Each library's arrays, and the memory layout of the results for each layout of an input:

{layout_table(found)}
"""


def updated(text: str) -> str:
    """A text with the section as it should be."""
    start, end = MARKS
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    return f"{before}{start}{section()}{end}{after}"


def main() -> None:
    """Print the section, or write it."""
    parser = argparse.ArgumentParser(description="Print the tables of what is supported, made from the code.")
    parser.add_argument("--write", action="store_true", help="put them into README.md instead")
    if parser.parse_args().write:
        README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(section())


if __name__ == "__main__":
    main()
