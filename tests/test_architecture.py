"""What imports what, what importing costs, and that public signatures are in plain sight."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import numbapool
from numbapool import functional

PACKAGE = Path(numbapool.__file__).parent

# From the top; a file imports only from lines below its own, or from its own.
LINES = (
    ("__main__",),
    ("cli",),
    ("plots",),
    ("trace",),
    ("__init__",),
    ("nn", "onnx", "jit", "explanation"),
    ("layers", "advice", "diagrams"),
    ("functional",),
    ("reference",),
    ("dispatch",),
    ("backends",),
    ("kernels.cpu", "kernels.cuda"),
    ("kinds", "requests"),
    ("operations", "geometry"),
    ("arguments", "dtypes"),
    ("windows", "elements", "kernels.cache", "kernels.__init__"),
    ("compilable",),
)
# Parameters by place of functions that nobody but the package calls; more are easily confused.
MOST_BY_PLACE = 8
MODULES = sorted(".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py"))
OPERATIONS = [f"{kind}_pool{rank}d" for kind in ("max", "avg") for rank in (1, 2, 3)]


def line_of(module: str) -> int:
    lines = [i for i, names in enumerate(LINES) if any(module == n or module.startswith(f"{n}.") for n in names)]
    assert lines, f"{module} is not in the list of lines"
    return lines[0]


def is_module(name: str) -> bool:
    return name in MODULES or f"{name}.__init__" in MODULES


def imports_of(tree: ast.Module) -> Iterator[str]:
    """Full names of everything imported, but for annotations only: below `if TYPE_CHECKING`."""
    for_types = [
        node for node in tree.body if isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING"
    ]
    skipped = {inner for node in for_types for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def tree_of(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))


def targets_of(module: str) -> set[str]:
    """The modules of the package that a module imports, at its top or inside its functions."""
    found = set()
    for name in imports_of(tree_of(module)):
        package, _, rest = name.partition(".")
        if package == "numbapool":
            target = rest if is_module(rest) else rest.rpartition(".")[0] or "__init__"
            found.add(f"{target}.__init__" if f"{target}.__init__" in MODULES else target)
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_from_lines_below(module: str) -> None:
    for target in targets_of(module):
        assert line_of(target) >= line_of(module), f"{module} imports {target}, which is above it"


def test_no_circles() -> None:
    """Of modules that import each other, whichever way round; imports inside functions count."""
    graph = {module: targets_of(module) for module in MODULES}
    assert sum(map(len, graph.values())) > 200  # imports are found
    done: set[str] = set()
    while ready := {module for module in graph if module not in done and graph[module] <= done}:
        done |= ready
    assert not {module: sorted(graph[module] - done) for module in graph if module not in done}


def functions_of(module: str) -> Iterator[ast.FunctionDef | ast.Lambda]:
    for node in ast.walk(tree_of(module)):
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            yield node


# Numba has no other way to call than by place.
FLAT = ("kernels.", "jit")


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith(FLAT)])
def test_signatures_are_short(module: str) -> None:
    for function in functions_of(module):
        name = getattr(function, "name", "lambda")
        by_place = len(function.args.posonlyargs) + len(function.args.args)
        assert name in functional.__all__ or by_place <= MOST_BY_PLACE, f"{name} takes {by_place} arguments by place"


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_called_again_by_its_own_arguments(module: str) -> None:
    names = {
        node.func.id
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert "locals" not in names


# What a caller of torch imports, by name or by passing a tensor.
TORCH_ONLY = {name for name in MODULES if name == "nn" or name.startswith("backends.torch")}


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith(("kernels.cpu", "jit"))])
def test_only_kernels_import_numba_at_the_top(module: str) -> None:
    tree = tree_of(module)
    top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {name.partition(".")[0] for name in imports_of(ast.Module(top, []))}
    assert not names & {"numba", "llvmlite", "cupy"}
    assert ("torch" in names) == (module in TORCH_ONLY)


def test_importing_is_light() -> None:
    heavy = ["numba", "llvmlite", "torch", "cupy", "matplotlib", "click", "rich", "PIL", "scipy", "hypothesis"]
    code = f"import sys, numbapool; loaded = [m for m in {heavy} if m in sys.modules]; assert not loaded, loaded"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_a_call_imports_numba_and_no_other_library() -> None:
    code = (
        "import sys, numpy, numbapool; numbapool.max_pool1d(numpy.zeros((1, 1, 4)), 2); assert 'numba' in sys.modules; "
        "loaded = [m for m in ('torch', 'cupy', 'matplotlib', 'click', 'rich', 'PIL') if m in sys.modules]; "
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def parameters(function: object) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", functional.__all__)
def test_functions_are_plain(name: str) -> None:
    function = getattr(functional, name)
    assert getattr(numbapool, name) is function
    assert inspect.isfunction(function)
    assert not hasattr(function, "__wrapped__")
    assert function.__module__.startswith("numbapool.functional.")
    assert function.__name__ == function.__qualname__ == name
    assert function.__code__.co_filename == sys.modules[function.__module__].__file__
    assert name in numbapool.__all__
    shown = parameters(function)
    if name in ("pool", "pool_backward"):  # which refuse what they do not know themselves
        unknown = shown.pop()
        assert (unknown.name, unknown.kind) == ("unknown", unknown.VAR_KEYWORD)
        assert "**unknown" in (function.__doc__ or "")
    for parameter in shown:
        assert parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        assert parameter.annotation is not parameter.empty
        assert parameter.name in function.__doc__


# torch.nn.functional's, written out because torch's builtins show no signature.
WINDOW = {"kernel_size": inspect.Parameter.empty, "stride": None, "padding": 0}
MAX = WINDOW | {"dilation": 1, "ceil_mode": False}
AVERAGE = WINDOW | {"ceil_mode": False, "count_include_pad": True}
DIVISOR = {"divisor_override": None}


@pytest.mark.parametrize("name", OPERATIONS)
def test_arguments_are_torchs(name: str) -> None:
    """avg_pool1d has a divisor_override beyond torch's, as the other ranks have."""
    expected = MAX | {"return_indices": False} if "max" in name else AVERAGE | DIVISOR
    first, *rest = parameters(getattr(numbapool, name))
    positional = {each.name: each.default for each in rest if each.kind is not each.KEYWORD_ONLY}
    assert list(positional.items()) == list(expected.items())
    assert (first.name, first.default) == ("x", first.empty)
    keywords = {each.name: each.default for each in rest if each.kind is each.KEYWORD_ONLY}
    beyond_torch = {"data_format": "channels_first", "out": None}
    more = {"index_kind": "plane"} if "max" in name else {"dilation": 1, "rounding": "truncate"}
    assert keywords == more | beyond_torch


@pytest.mark.parametrize("name", OPERATIONS)
def test_arguments_of_backward(name: str) -> None:
    """The gradient, then the forward pass's arguments in its order, but for those that say nothing about gradients."""
    gradient, *rest = parameters(getattr(numbapool, f"{name}_backward"))
    assert (gradient.name, gradient.default) == ("grad_output", gradient.empty)
    marks = ("indices", "check_indices") if "max" in name else ()
    without = {each.name: (each.default, each.kind) for each in rest if each.name not in marks}
    forward = {each.name: (each.default, each.kind) for each in parameters(getattr(numbapool, name))}
    for each in ("return_indices", "rounding"):
        forward.pop(each, None)
    assert list(without.items()) == list(forward.items())
    assert [each.kind for each in rest if each.name in marks] == [inspect.Parameter.KEYWORD_ONLY] * len(marks)


def signature_of_torch(name: str) -> list[tuple[str, object]] | None:
    """What torch shows: a Python signature, or the first line of a builtin's docstring."""
    torch = pytest.importorskip("torch")
    function = getattr(torch.nn.functional, name)
    if "max" in name:
        function = getattr(torch.nn.functional, f"{name}_with_indices")
        shown = parameters(function)
        return [(each.name, each.default) for each in shown]
    head = function.__doc__.strip().splitlines()[0].partition(" ->")[0]
    arguments = ast.parse(f"def {head}: pass").body[0].args  # type: ignore[attr-defined]
    defaults = [ast.literal_eval(each) for each in arguments.defaults]
    names = [each.arg for each in arguments.args]
    return list(zip(names, [inspect.Parameter.empty] * (len(names) - len(defaults)) + defaults, strict=True))


@pytest.mark.parametrize("name", OPERATIONS)
def test_torch_says_so_too(name: str) -> None:
    theirs = signature_of_torch(name)
    ours = [(each.name, each.default) for each in parameters(getattr(numbapool, name))]
    assert theirs is not None
    assert ours[1 : len(theirs)] == theirs[1:]
