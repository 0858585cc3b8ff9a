"""Faults that someone might make in a change, each with the tests that must notice it: what the tests are worth.

`python -m tests.planted` plants one after the other in a copy of the tree and runs the one test file that must fail for it, of the
default run; the exit status is 1 if a fault survives. A test that fails must pass again without the fault. `NAME ...` are some
of the faults, `--quick` those that tests/test_planted.py plants too, `--write` writes the page docs/planted-faults.md.

A fault joins with an entry in `FAULTS`: text that occurs once in a file, short, so that it stays as the code around it changes.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "planted-faults.md"
# What tests need of the tree.
TREE = (
    ".github",
    "numbapool",
    "tests",
    "benchmarks",
    "docs",
    "conftest.py",
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
)
# Exit status of pytest if tests have failed; others say that there were none, or that they could not be collected.
TESTS_FAILED = 1
# A run that takes longer has hung.
HUNG_SECONDS = 900


@dataclass(frozen=True)
class Fault:
    """A change of one place in one file of numbapool/, and the test file that must fail for it."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    only: str  # of these tests, for `pytest -k`: begins with the name of one
    harm: str

    @property
    def is_in_kernels(self) -> bool:
        """Whether kernels are compiled anew for it."""
        return self.file.startswith("kernels/")


FAULTS = (
    # Rules that all kernels share.
    Fault(
        "a-tie-goes-to-the-last-in-scalar-code",
        "windows.py",
        "(value > best) | (not (value == value))",
        "(value >= best) | (not (value == value))",
        "test_data_format.py",
        "test_indices",
        "Indices of maxima are torch's in most windows, and the last of equals in some: gradients go elsewhere.",
    ),
    Fault(
        "NaN-is-lost-in-the-tail-of-a-vector-only",
        "windows.py",
        "(value > best) | (not (value == value))",
        "value > best",
        "test_data_format.py",
        "test_indices",
        "A NaN in the last columns or channels vanishes, others do not.",
    ),
    Fault(
        "the-last-windows-that-hold-an-element-are-passed-over",
        "windows.py",
        "o1 = min(out, (last + before) // stride + 1)",
        "o1 = min(out, (last + before) // stride)",
        "test_max_pool.py",
        "test_gradients_of_large_planes",
        "In large planes gradients are missing where the work of two threads meets.",
    ),
    Fault(
        "a-bin-ends-one-element-early",
        "windows.py",
        "return 1 + ((number + 1) * length - 1) // out",
        "return (number + 1) * length // out",
        "test_family.py",
        "test_extrema",
        "Adaptive pooling leaves out elements wherever the lengths do not divide.",
    ),
    Fault(
        "bfloat16-is-rounded-half-up",
        "kernels/cpu/vectors.py",
        "builder.add(odd, _all(words, 0x7FFF))",
        "_all(words, 0x8000)",
        "test_vectors.py",
        "test_bfloat16",
        "Means in bfloat16 are a bit too large on average.",
    ),
    # The CPU's kernels.
    Fault(
        "a-tie-goes-to-the-last-in-vectors",
        "kernels/cpu/vectors.py",
        'builder.fcmp_ordered(">", value_lanes, best_lanes),',
        'builder.fcmp_ordered(">=", value_lanes, best_lanes),',
        "test_max_pool.py",
        "test_constant_input_gives_the_first_element",
        "On flat areas the gradient goes to the last of equals, where torch has the first.",
    ),
    Fault(
        "NaN-is-lost-in-the-body-of-a-vector-only",
        "kernels/cpu/vectors.py",
        '                builder.fcmp_unordered("uno", value_lanes, value_lanes)',
        '                builder.fcmp_unordered("uno", best_lanes, best_lanes)',
        "test_max_pool.py",
        "test_every_width_and_place_of_nan",
        "A diverged network looks healthy wherever a NaN is not in the last columns.",
    ),
    Fault(
        "a-tie-goes-to-the-last-in-bins",
        "kernels/cpu/vectors.py",
        'builder.and_(builder.fcmp_ordered("==", value_lanes, best_lanes), is_first)',
        'builder.fcmp_ordered("==", value_lanes, best_lanes)',
        "test_family.py",
        "test_extrema",
        "Indices of adaptive maxima are other ones than torch's.",
    ),
    Fault(
        "halves-are-rounded-up",
        "kernels/cpu/vectors.py",
        'builder.and_(builder.icmp_unsigned("==", rest, missing), is_odd)',
        'builder.icmp_unsigned("==", rest, missing)',
        "test_rounding.py",
        "test_it_is_what_numpy_rounds_to",
        "Images that are reduced again and again get brighter.",
    ),
    Fault(
        "vectors-keep-one-element-too-many",
        "kernels/cpu/vectors.py",
        'builder.icmp_unsigned("<", numbers, end)',
        'builder.icmp_unsigned("<=", numbers, end)',
        "test_max_pool.py",
        "test_every_width_of_long_windows",
        "Windows reach one element past the end of their row.",
    ),
    Fault(
        "the-divisor-counts-the-overhang",
        "kernels/cpu/taps.py",
        "np.minimum(axis.kernel, (end - 1 - start) // axis.dilation + 1)",
        "np.full(len(start), axis.kernel)",
        "test_avg_pool.py",
        "test_forward and ragged-ceil",
        "Means at the right and lower edge are too small in ceil_mode.",
    ),
    Fault(
        "a-large-mean-is-summed-in-float32",
        "kernels/cpu/avg.py",
        "at, total, start = plane_at(layout, plane), wide_sum(x), ZERO",
        "at, total, start = plane_at(layout, plane), no_sum(x), ZERO",
        "test_avg_pool.py",
        "test_a_large_mean_is_exact_enough",
        "The mean of an image of millions of pixels is off in the third digit.",
    ),
    Fault(
        "padding-in-front-of-slabs-is-not-counted-in-backward",
        "kernels/cpu/avg.py",
        "(holds_all_windows(d) and holds_all_windows(h) and holds_all_windows(w))",
        "(holds_all_windows(h) and holds_all_windows(w))",
        "test_avg_pool.py",
        "test_backward and depth-only",
        "Gradients of volumes that are padded along the depth only are wrong.",
    ),
    Fault(
        "the-gradient-of-a-norm-loses-its-sign",
        "kernels/cpu/lp.py",
        "else line[i] * np.sign(value)",
        "else line[i]",
        "test_family.py",
        "test_global",
        "Negative elements are pushed the wrong way.",
    ),
    Fault(
        "indices-of-no-place-are-taken-back",
        "kernels/cpu/indexed.py",
        "return _gather(plan, x, indices, out, 0)",
        "return _gather(plan, x, indices, out, -1)",
        "test_family.py",
        "test_errors",
        "The gradient of unpooling by a bad index is silently 0.",
    ),
    Fault(
        "gradients-start-from-what-was-there",
        "kernels/cpu/indexed.py",
        "            sums[to + i] = no_sum(grad_input)",
        "            sums[to + i] += no_sum(grad_input)",
        "test_max_pool.py",
        "test_out_is_reused",
        "Gradients grow from call to call where memory is used again.",
    ),
    Fault(
        "a-gradient-is-added-twice",
        "kernels/cpu/bins.py",
        "range(np.int64(second) + n, receivers.size, n)",
        "range(np.int64(second), receivers.size, n)",
        "test_family.py",
        "test_sums_backward",
        "Where three bins meet in an element, the second counts twice.",
    ),
    Fault(
        "the-index-of-another-tap-in-the-last-channels",
        "kernels/cpu/channels.py",
        "work[i], marks[i] = value, c",
        "work[i], marks[i] = value, d",
        "test_data_format.py",
        "test_indices",
        "With channels last the indices of some channels name a neighbour.",
    ),
    Fault(
        "an-index-one-past-the-row",
        "kernels/cpu/marks.py",
        "start + tap * g[G.DILATION_W] < g[G.IN_W] and tap < g[G.KERNEL_W]",
        "start + tap * g[G.DILATION_W] <= g[G.IN_W] and tap < g[G.KERNEL_W]",
        "test_max_pool.py",
        "test_forward and padding-of-kernel",
        "Windows in the padding send their gradient to the next row.",
    ),
    Fault(
        "windows-of-odd-length-miss-their-last-element",
        "kernels/cpu/rows.py",
        "third = line + 2 * done * step",
        "third = line + done * step",
        "test_max_pool.py",
        "test_every_width_of_long_windows",
        "Maxima over windows of 5, 7, 11 or 13 elements are too small now and then.",
    ),
    Fault(
        "zeros-behind-the-last-column-are-taken-for-granted",
        "kernels/cpu/spread.py",
        "h1 < rows + g[T.EXTRA_H] or w1 < cols + g[T.EXTRA_W]",
        "h1 < rows + g[T.EXTRA_H]",
        "test_avg_pool.py",
        "test_backward and wide-1d",
        "At the right edge of wide inputs gradients of means have shares of columns that lie far before.",
    ),
    Fault(
        "padded-windows-are-joined-to-long-rows",
        "kernels/cpu/schedule.py",
        "w.out * w.stride == w.length and w.before == w.after == 0",
        "w.out * w.stride == w.length",
        "test_max_pool.py",
        "test_forward and asymmetric-tiles",
        "Rows that are padded on one side read the row before.",
    ),
    Fault(
        "taps-are-counted-with-the-length-of-another-axis",
        "kernels/cpu/codes.py",
        "tap = (i_d * table[h + g[G.OUT_H]] + i_h)",
        "tap = (i_d * table[d + g[G.OUT_D]] + i_h)",
        "test_index_kinds.py",
        "test_sliding_windows",
        "Indices of kind 'window' are wrong in volumes, unless windows are cubes.",
    ),
    Fault(
        "dilation-is-forgotten-where-gradients-are-pulled",
        "kernels/cpu/pull.py",
        "across[count] = g[G.BEFORE_W] - k * g[G.DILATION_W]",
        "across[count] = g[G.BEFORE_W] - k",
        "test_index_kinds.py",
        "test_sliding_windows",
        "Gradients of dilated windows go to neighbours of the maxima.",
    ),
    Fault(
        "the-last-units-are-left-out",
        "kernels/cpu/threads.py",
        "chunk * units // chunks, (chunk + 1) * units // chunks",
        "chunk * (units // chunks), (chunk + 1) * (units // chunks)",
        "test_concurrency.py",
        "test_bits_do_not_depend_on_threads",
        "On machines of some numbers of threads the end of a large result is garbage.",
    ),
    Fault(
        "a-missing-lock",
        "kernels/cpu/threads.py",
        'if numba.threading_layer() != "workqueue":',
        'if numba.threading_layer() == "workqueue":',
        "test_concurrency.py",
        "test_16_threads",
        "A server that pools in several threads dies without a message, where Numba has no other threading layer.",
    ),
    Fault(
        "a-bad-index-goes-unnoticed-in-compiled-code",
        "kernels/cpu/embedded.py",
        "return bad[0] == 0",
        "return bad[0] >= 0",
        "test_jit.py",
        "test_bad_values_of_backward",
        "Gradients vanish without an error.",
    ),
    # The cache.
    Fault(
        "a-stale-cache-key",
        "kernels/cache.py",
        '+ path.read_bytes() + b"\\0")',
        '+ b"\\0")',
        "test_cache.py",
        "test_a_changed_source_never_runs_stale_code",
        "After an update the old kernels run on.",
    ),
    Fault(
        "damaged-files-end-the-program",
        "kernels/cpu/compile.py",
        "except Exception:  # noqa: S112",
        "except OSError:  # noqa: S112",
        "test_cache.py",
        "test_damaged_files_are_compiled_again",
        "After a full disk every call raises, until somebody finds and deletes the files.",
    ),
    # The CUDA target, emulated.
    Fault(
        "the-divisor-counts-the-overhang-on-GPUs",
        "kernels/cuda/taps.py",
        "index(min(index(kernel), index(end - start)))",
        "index(kernel)",
        "test_cuda_target.py",
        "test_windows_along_an_axis",
        "Means at the edge differ between CPU and GPU in ceil_mode.",
    ),
    Fault(
        "an-element-asks-a-window-that-does-not-hold-it",
        "kernels/cuda/taps.py",
        "o0 = quotient(index(first + stride - 1), stride, stride_magic)",
        "o0 = quotient(first, stride, stride_magic)",
        "test_cuda_target.py",
        "test_windows_along_an_axis",
        "On GPUs gradients of means are too large.",
    ),
    Fault(
        "the-padding-of-the-other-side",
        "kernels/cuda/avg.py",
        "axis.length + (axis.after if count_include_pad else 0)",
        "axis.length + (axis.before if count_include_pad else 0)",
        "test_cuda_target.py",
        "test_windows_along_an_axis",
        "On GPUs means are wrong with padding='same' and windows of even length.",
    ),
    Fault(
        "lanes-are-stored-with-the-wrong-step",
        "kernels/cuda/vectors.py",
        "    one(out, i + HALF * step, step, best[1])",
        "    one(out, i + step, step, best[1])",
        "test_cuda_target.py",
        "test_fast_paths",
        "On GPUs channels overwrite each other.",
    ),
    Fault(
        "a-tie-goes-to-the-last-in-teams",
        "kernels/cuda/max.py",
        "(theirs == ours and not is_later)",
        "(theirs == ours and is_later)",
        "test_cuda_target.py",
        "test_large_planes_in_parts",
        "Global maxima have other indices on GPUs.",
    ),
    Fault(
        "a-segment-is-skipped-that-ends-with-the-wanted-element",
        "kernels/cuda/indexed.py",
        "lows[number] < end and highs[number] >= first",
        "lows[number] < end and highs[number] > first",
        "test_cuda_target.py",
        "test_scans_skip_segments_of_other_rows",
        "Some gradients of adaptive maxima are lost on GPUs.",
    ),
    Fault(
        "a-number-to-divide-by-is-one-too-small",
        "kernels/cuda/elements.py",
        "(1 << shift) // max(1, divisor) + 1",
        "(1 << shift) // max(1, divisor)",
        "test_cuda_target.py",
        "test_quotients_of_32_bits",
        "On GPUs the last thread of a row computes an element of the row before.",
    ),
    Fault(
        "bfloat16-is-rounded-half-up-on-GPUs",
        "kernels/cuda/elements.py",
        "U64(0x7FFF) + U64(U32(bits >> U32(16)) & U32(1))",
        "U64(0x8000)",
        "test_cuda_target.py",
        "test_rounding_to_bfloat",
        "The same network has other results on a GPU.",
    ),
    # Geometry, and the definition by which everything is judged.
    Fault(
        "a-last-window-may-start-in-the-padding-behind",
        "geometry.py",
        "greatest(floor_length, -(-(length + before) // stride))",
        "greatest(floor_length, -(-(length + before + after) // stride))",
        "test_max_pool.py",
        "test_forward and ceil",
        "Results have one element more than torch's in ceil_mode.",
    ),
    Fault(
        "bins-that-are-no-windows-are-taken-for-windows",
        "geometry.py",
        "0 < count <= length and length % count <= 1",
        "0 < count <= length and length % count <= 2",
        "test_family.py",
        "test_extrema",
        "Adaptive pooling from 8 to 3 reads past its bins.",
    ),
    Fault(
        "samples-of-the-other-axis",
        "geometry.py",
        "flat if rank == 3 else flat[:, ::-1]",
        "flat",
        "test_family.py",
        "test_fractional",
        "Fractional pooling of images has other windows than torch's for the same samples.",
    ),
    Fault(
        "an-index-of-the-wrong-dtype",
        "dtypes.py",
        "if largest <= np.iinfo(dtype).max:",
        "if largest <= np.iinfo(dtype).max + 1:",
        "test_index_kinds.py",
        "test_smallest_dtypes",
        "Of windows of 256 elements the last one means none.",
    ),
    Fault(
        "True-is-taken-for-1",
        "arguments.py",
        'if not isinstance(value, (bool, np.bool_)) and "bool" not in str(',
        'if "bool" not in str(',
        "test_errors.py",
        "test_not_an_int",
        "A flag in the place of a size pools with windows of one element.",
    ),
    Fault(
        "a-tie-goes-to-the-last-in-the-definition",
        "reference.py",
        "if value > best or value != value:",
        "if value >= best or value != value:",
        "test_family.py",
        "test_extrema",
        "`trace` says that right results are wrong.",
    ),
    Fault(
        "a-window-more-in-the-definition",
        "reference.py",
        "fitting * stride < before + length",
        "fitting * stride <= before + length",
        "test_reference.py",
        "test_every_small_axis_against_torch",
        "Tests that ask the definition would ask for a wrong shape.",
    ),
    # Array libraries.
    Fault(
        "a-view-of-every-other-column-is-read-as-a-run",
        "backends/numpy.py",
        "*pooled, pooled[-1] == 1]",
        "*pooled, abs(pooled[-1]) <= 2]",
        "test_max_pool.py",
        "test_forward and numpy_strided",
        "Slices with steps are pooled as if they had none.",
    ),
    Fault(
        "a-result-over-its-input",
        "backends/numpy.py",
        "return not any(may_share_memory(each, x) for each in out) and (",
        "return all(each is not x for each in out) and (",
        "test_max_pool.py",
        "test_out_that_overlaps_the_input",
        "`out` over the input is read after it was written.",
    ),
    Fault(
        "an-index-out-of-range-goes-unnoticed",
        "backends/numpy.py",
        "target, *parameters) is False:",
        "target, *parameters) is None:",
        "test_data_format.py",
        "test_index_out_of_range",
        "Gradients vanish without an error.",
    ),
    Fault(
        "a-tangent-is-taken-by-the-adjoint",
        "operations.py",
        '"max_pool_with_indices", accepts=ORDERED, makes_indices=True, tangent="gather"',
        '"max_pool_with_indices", accepts=ORDERED, makes_indices=True, tangent="scatter_add"',
        "test_torch.py",
        "test_transforms",
        "Forward-mode derivatives raise, or are wrong.",
    ),
    Fault(
        "tangents-do-not-know-the-maxima",
        "backends/torch_autograd.py",
        "ctx.save_for_forward(indices)",
        "ctx.save_for_forward()",
        "test_torch.py",
        "test_transforms",
        "Forward-mode derivatives of maxima raise.",
    ),
    Fault(
        "the-slope-of-a-norm-loses-its-sign",
        "operations.py",
        "slope = x.sign() * x.abs().pow(power - 1) if is_norm",
        "slope = x.abs().pow(power - 1) if is_norm",
        "test_torch.py",
        "test_backward_functions_of_the_family_are_differentiable",
        "Second derivatives of norms are wrong for negative elements.",
    ),
    Fault(
        "a-result-on-the-default-device",
        "backends/torch_jobs.py",
        'dtype=TORCH_DTYPES[dtype], device="cpu", memory_format=memory_format',
        "dtype=TORCH_DTYPES[dtype], memory_format=memory_format",
        "test_torch.py",
        "test_default_device_is_not_asked",
        "Within `torch.device('cuda')` pooling on the CPU raises.",
    ),
    Fault(
        "recorded-means-forget-how-they-are-rounded",
        "backends/torch_operators.py",
        "parameters = pooling.parameters",
        "parameters = pooling.gradient_parameters",
        "test_rounding.py",
        "test_tensors",
        "Compiled code truncates where the same code rounds if it is not compiled.",
    ),
    Fault(
        "a-batched-call-with-the-shape-of-one",
        "backends/torch_operators.py",
        "shape = (info.batch_size * first, *(arguments.shape",
        "shape = (first, *(arguments.shape",
        "test_torch.py",
        "test_vmap_of_compiled_code",
        "vmap over compiled code raises.",
    ),
    Fault(
        "results-on-another-device-than-the-input",
        "backends/dlpack.py",
        "return imported if is_there else imported.to_device(device)",
        "return imported",
        "test_dlpack.py",
        "test_results_are_on_the_device_of_the_input",
        "What follows a pooling in JAX or another library raises, or copies.",
    ),
    Fault(
        "read-only-memory-is-written",
        "backends/dlpack.py",
        "if not isinstance(view, np.ndarray) and _is_read_only(out):",
        "if isinstance(view, np.ndarray) and _is_read_only(out):",
        "test_cuda_arrays.py",
        "test_dlpack_of_read_only_memory_is_not_written",
        "Weights that are shared read-only between processes change.",
    ),
    Fault(
        "what-is-remembered-for-aligned-memory-serves-any",
        "backends/cupy.py",
        "array.device.id, array.data.ptr % WIDE",
        "array.device.id",
        "test_cuda_arrays.py",
        "test_kernels_that_load_16_bytes_at_once_are_for_aligned_memory_only",
        "A slice of an array that was pooled whole before ends the GPU's context with a misaligned address.",
    ),
    Fault(
        "the-stream-of-another-device",
        "backends/cupy.py",
        "return int(self.xp.cuda.get_current_stream(device).ptr)",
        "return int(self.xp.cuda.get_current_stream().ptr)",
        "test_cuda_arrays.py",
        "test_what_is_remembered_serves_equal_layouts_only",
        "With two GPUs kernels are launched on a stream of the wrong one.",
    ),
    Fault(
        "a-kernel-of-another-device",
        "backends/launcher.py",
        "key = kernel.label, kernel.scalars, device",
        "key = kernel.label, kernel.scalars",
        "test_launcher.py",
        "test_kernels_are_loaded_once_for_a_device_and_contexts_kept",
        "The first call on a second GPU fails with an invalid handle.",
    ),
    Fault(
        "the-wrong-stream-waits",
        "backends/device_arrays.py",
        "launcher().wait(device, first, other)",
        "launcher().wait(device, other, first)",
        "test_device_arrays.py",
        "test_other_streams_are_waited_for_by_it",
        "Now and then a gradient is computed from what is not there yet.",
    ),
    Fault(
        "devices-are-not-compared-with-the-first",
        "backends/cuda.py",
        "        if other != device:",
        "        if other == first:",
        "test_cuda_arrays.py",
        "test_devices_must_be_one",
        "Arrays of two GPUs end in an illegal address instead of an error that names them.",
    ),
    Fault(
        "subclasses-of-arrays-are-not-served",
        "dispatch.py",
        "for base in array_type.__mro__:",
        "for base in (array_type,):",
        "test_torch.py",
        "test_transforms_of_calls_that_are_recorded",
        "Parameters of torch's modules, and what libraries derive from tensors, are refused.",
    ),
    # Public functions.
    Fault(
        "axes-are-put-back-in-the-wrong-order",
        "functional/arrangement.py",
        "self.order.index(axis) for axis in range(len(self.order))",
        "self.order[axis] for axis in range(len(self.order))",
        "test_axes.py",
        "test_values",
        "`pool` over some axes returns a transposed result, of the right shape if lengths are equal.",
    ),
    Fault(
        "norms-in-half-precision-are-rounded-in-every-pass",
        "functional/passes.py",
        "is_among(dtype, HALVES) and not pooling.operation.forward.is_ordering",
        'dtype in HALVES and pooling.operation.kind in ("mean", "sum")',
        "test_axes.py",
        "test_halves_are_rounded_once",
        "Norms over four axes lose digits, or become infinite.",
    ),
    Fault(
        "passes-in-the-order-of-the-axes",
        "functional/passes.py",
        "for end in range(rank, 0, -MOST_AXES):",
        "for end in sorted(range(rank, 0, -MOST_AXES)):",
        "test_axes.py",
        "test_gradients",
        "Gradients of equal maxima over four axes go elsewhere.",
    ),
    Fault(
        "global-indices-of-channels-last-arrays-count-the-channels-as-pooled",
        "functional/global_indices.py",
        'end = ndim if data_format == "channels_first" else ndim - 1',
        "end = ndim",
        "test_index_kinds.py",
        "test_channels_last",
        "x.ravel()[indices] takes other elements.",
    ),
    Fault(
        "a-flag-that-equals-True",
        "functional/engine.py",
        "@lru_cache(maxsize=1024, typed=True)  # True is no 1",
        "@lru_cache(maxsize=1024)",
        "test_errors.py",
        "test_what_equals_a_flag_is_none_whatever_was_called_before",
        "Whether 1 is refused as a flag depends on what was called before.",
    ),
    # What says what a call will do.
    Fault(
        "a-window-that-ends-with-the-input-touches-padding",
        "explanation.py",
        "_below(self._starts, self.length - self._span) -",
        "_below(self._starts, self.length - self._span - 1) -",
        "test_explain.py",
        "test_windows_are_counted_right",
        "`explain` counts windows in the padding where there is no padding.",
    ),
    Fault(
        "advice-of-one-element-too-little-padding",
        "advice.py",
        "yield _mapped(value, lambda each: each + short + 1)",
        "yield _mapped(value, lambda each: each + short)",
        "test_explain.py",
        "test_mistakes_are_explained_and_mended",
        "`explain` knows no padding that would help.",
    ),
    Fault(
        "the-exit-status-is-always-0",
        "cli.py",
        "return 0 if report.passed else 1",
        "return 0",
        "test_cli.py",
        "test_fails_when_an_operation_is_wrong",
        "A pipeline that runs `trace` goes on with wrong results.",
    ),
    Fault(
        "the-best-gradient-is-judged-instead-of-the-worst",
        "trace.py",
        "np.abs(analytic - numeric).max() /",
        "np.abs(analytic - numeric).min() /",
        "test_cli.py",
        "test_fails_when_an_operation_is_wrong",
        "`trace` passes gradients of which a single one is right.",
    ),
    # Thin faces.
    Fault(
        "a-pullback-without-dilation",
        "layers.py",
        'OF_THE_RESULT = "return_indices", "rounding", "generator"',
        'OF_THE_RESULT = "return_indices", "rounding", "generator", "dilation"',
        "test_layers.py",
        "test_vjp_is_the_backward_function_of_every_parameter",
        "Gradients of dilated windows are those of others.",
    ),
    Fault(
        "modules-of-two-names-are-replaced-under-one",
        "nn.py",
        "model.named_modules(remove_duplicate=False)",
        "model.named_modules()",
        "test_torch.py",
        "test_replace_pooling",
        "`replace_pooling` does not tell of modules that a model uses twice.",
    ),
    Fault(
        "pads-of-ONNX-are-taken-in-pairs",
        "onnx.py",
        "zip(sides[:rank], sides[rank:], strict=True)",
        "zip(sides[::2], sides[1::2], strict=True)",
        "test_onnx.py",
        "test_onnxruntime_agrees",
        "Models with asymmetric padding have shifted results.",
    ),
    Fault(
        "divisors-of-gradients-always-count-the-padding-in-compiled-code",
        "jit.py",
        "avg_pool_backward(plain(gradient), plain(grad_output), planes, count_include_pad, divisor)",
        "avg_pool_backward(plain(gradient), plain(grad_output), planes, True, divisor)",
        "test_jit.py",
        "test_same_bits_as_from_python and avg",
        "The same function has another gradient inside `njit`.",
    ),
)

# Those that need no kernel, or such as have been compiled before.
QUICK = (
    "True-is-taken-for-1",
    "a-flag-that-equals-True",
    "a-kernel-of-another-device",
    "a-number-to-divide-by-is-one-too-small",
    "a-window-that-ends-with-the-input-touches-padding",
)


@dataclass(frozen=True)
class Outcome:
    """What came of a fault: the test that noticed it, or why none has."""

    fault: Fault
    test: str
    problem: str
    seconds: float


def copy_tree(target: Path) -> Path:
    """A copy of what tests need, to plant faults in."""
    for name in TREE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", "_build"))
        elif source.is_file():
            shutil.copy2(source, target / name)
    return target


def plant(fault: Fault, tree: Path, is_confirmed: bool = True) -> Outcome:
    """Run the tests of a fault in a copy of the tree; the one that fails once more without the fault, if it is to be confirmed."""
    begin = time.monotonic()
    path = tree / "numbapool" / fault.file
    before = path.read_bytes()  # as bytes, because compiled kernels are named after them
    old, new = fault.old.encode(), fault.new.encode()
    assert before.count(old) == 1, f"{fault.name}: the text to change occurs {before.count(old)} times"
    selected = f"tests/{fault.tests}", "-k", fault.only
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as own_cache:
        path.write_bytes(before.replace(old, new))
        try:
            status, output = _pytest(tree, selected, own_cache if fault.is_in_kernels else None)
        finally:
            path.write_bytes(before)
    failed = re.search(r"^(?:FAILED|ERROR) (tests/\S+::.*?)(?: - .*)?$", output, re.MULTILINE)
    problem = ""
    if status == 0:
        problem = f"survives {fault.tests}"
    elif status != TESTS_FAILED or failed is None:
        problem = f"no test fails, but pytest ends with {status}:\n{output[-2000:]}"
    elif is_confirmed and (again := _pytest(tree, (failed[1],), None))[0] != 0:
        problem = f"{failed[1]} fails without it, too:\n{again[1][-2000:]}"
    test = failed[1].partition("[")[0].rpartition("::")[2] if failed is not None and not problem else ""
    return Outcome(fault, test, problem, time.monotonic() - begin)


def _pytest(tree: Path, arguments: Sequence[str], kernel_cache: str | None) -> tuple[int, str]:
    """Run tests of a copy of the tree up to the first that fails; exit status and output.

    Kernels that no fault is in are those of this checkout, if they have been compiled: files of the cache are named after all
    that they are made of. Those with a fault get a directory that is deleted with them.
    """
    own = kernel_cache or os.environ.get("NUMBA_CACHE_DIR") or ROOT / "numbapool" / "kernels" / "__pycache__"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": str(tree), "NUMBA_CACHE_DIR": str(own)}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=tree,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=HUNG_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return -1, f"no result after {HUNG_SECONDS} s"
    return done.returncode, done.stdout


def run(faults: Sequence[Fault], jobs: int) -> list[Outcome]:
    """Plant faults, some at a time, each in a copy of the tree of its own."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    outcomes: dict[str, Outcome] = {}
    trees: SimpleQueue[Path] = SimpleQueue()

    def planted(fault: Fault) -> Outcome:
        tree = trees.get()
        try:
            return plant(fault, tree)
        finally:
            trees.put(tree)

    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory,
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
        ThreadPoolExecutor(jobs) as pool,
    ):
        for number in range(jobs):
            trees.put(copy_tree(Path(directory, str(number))))
        task = progress.add_task("planting", total=len(faults))
        try:
            for future in as_completed([pool.submit(planted, fault) for fault in faults]):
                outcome = future.result()
                outcomes[outcome.fault.name] = outcome
                progress.update(task, advance=1, description=outcome.fault.name)
                if outcome.problem:
                    console.print(f"{outcome.fault.name}: {outcome.problem}", markup=False, soft_wrap=True)
        finally:
            pool.shutdown(cancel_futures=True)
    return [outcomes[fault.name] for fault in faults]


def show(outcomes: Sequence[Outcome]) -> None:
    """A table of what noticed what."""
    from rich.console import Console
    from rich.table import Table

    table = Table("fault", "in", "noticed by", "s", box=None)
    for outcome in outcomes:
        verdict = f"{outcome.fault.tests}::{outcome.test}" if not outcome.problem else "NOBODY"
        table.add_row(outcome.fault.name, outcome.fault.file, verdict, f"{outcome.seconds:.0f}")
    console = Console()
    console = console if console.is_terminal else Console(width=200)
    console.print(table)
    survivors = [outcome.fault.name for outcome in outcomes if outcome.problem]
    console.print(f"{len(outcomes)} faults, {len(survivors)} survived: {', '.join(survivors) or 'none'}", markup=False)


def page(outcomes: Sequence[Outcome]) -> str:
    """The page of the documentation."""
    rows = [f"{row(outcome.fault)} | `{outcome.test}` |" for outcome in outcomes]
    return "\n".join([HEAD.format(number=len(outcomes)), *rows, ""])


def row(fault: Fault) -> str:
    """What the page says of a fault, but for the test that notices it."""
    return f"| {fault.name} | `{fault.file}` | {fault.harm} | `{fault.tests}`"


HEAD = """# Planted faults

What the tests are worth: {number} faults that someone might make in a change, each planted alone in a copy of the tree, and the
test of the default run that failed for it and passed without. `python -m tests.planted` plants them all, `--write` writes this
page; `tests/planted.py` has their text.

| fault | in `numbapool/` | what a user would suffer | tests | noticed by |
|---|---|---|---|---|"""


def main() -> int:
    """Plant faults as the command line says; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="faults to plant (all)")
    parser.add_argument("--quick", action="store_true", help="those that take seconds")
    parser.add_argument("--jobs", type=int, default=2, help="faults at a time (2)")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT).as_posix()}")
    options = parser.parse_args()
    by_name = {fault.name: fault for fault in FAULTS}
    names = options.names or (QUICK if options.quick else tuple(by_name))
    unknown = [name for name in names if name not in by_name]
    if unknown:
        parser.error(f"no faults of these names: {', '.join(unknown)}")
    if options.write and len(names) < len(FAULTS):
        parser.error("--write takes all faults")
    if options.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {options.jobs}")
    outcomes = run([by_name[name] for name in names], options.jobs)
    show(outcomes)
    if any(outcome.problem for outcome in outcomes):
        return 1
    if options.write:
        PAGE.write_text(page(outcomes), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
