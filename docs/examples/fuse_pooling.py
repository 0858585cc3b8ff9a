"""Pooling fused into a loop of one's own: the roughness of many images, and what it saves not to keep what comes between.

The roughness of a channel is the mean, over its pixels, of the highest less the lowest value in a window around each. By
calls of numbapool from Python, the highest and the lowest values are arrays as large as the images. Inside one compiled
loop they are those of one channel, and never leave the cache. Run it by

    pip install 'numbapool[demo]'
    python docs/examples/fuse_pooling.py

It prints a table and draws fuse-pooling.png.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import click
import numpy as np
from numba import njit, prange
from rich.console import Console
from rich.progress import track
from rich.table import Table

from numbapool.jit import max_pool2d, min_pool2d

CHANNELS, LENGTH, WINDOW = 16, 112, 5
MEBIBYTES = (4, 16, 64, 256)


class Times(NamedTuple):
    """Median times in seconds, for so many bytes of images."""

    size: int
    called: float
    fused: float


def by_calls(images: np.ndarray) -> np.ndarray:
    """Roughness, shape (N, C), of images of shape (N, C, H, W)."""
    highest = max_pool2d(images, WINDOW, 1, WINDOW // 2)
    lowest = min_pool2d(images, WINDOW, 1, WINDOW // 2)
    np.subtract(highest, lowest, out=highest)
    return highest.mean((2, 3))


@njit(parallel=True, nogil=True)
def by_one_loop(images):
    """The same, one channel at a time."""
    count, channels, height, width = images.shape
    planes = images.reshape(count * channels, 1, height, width)
    roughness = np.empty(count * channels, images.dtype)
    for i in prange(count * channels):
        highest = max_pool2d(planes[i], WINDOW, 1, WINDOW // 2)
        lowest = min_pool2d(planes[i], WINDOW, 1, WINDOW // 2)
        roughness[i] = (highest - lowest).mean()
    return roughness.reshape(count, channels)


def median_time(function: Callable[[np.ndarray], np.ndarray], images: np.ndarray, rounds: int) -> float:
    """Seconds of a call, the median of several."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function(images)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(mebibytes: int, rounds: int) -> Times:
    """Both ways on so many bytes of random images, after a look at whether they agree."""
    count = (mebibytes << 20) // (4 * CHANNELS * LENGTH**2)
    images = np.random.default_rng(0).random((max(count, 1), CHANNELS, LENGTH, LENGTH), np.float32)
    np.testing.assert_allclose(by_one_loop(images), by_calls(images), rtol=1e-4)
    called, fused = (median_time(function, images, rounds) for function in (by_calls, by_one_loop))
    return Times(images.nbytes, called, fused)


def draw(results: list[Times], path: str) -> None:
    """Time for each byte of the images, both ways."""
    import matplotlib.pyplot as plt

    sizes = [each.size / 2**20 for each in results]
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    axes.plot(sizes, [each.called / each.size * 1e9 for each in results], "o-", label="calls from Python")
    axes.plot(sizes, [each.fused / each.size * 1e9 for each in results], "o-", label="fused into one loop")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:.0f}" for size in sizes])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("images (MiB)")
    axes.set_ylabel("ns per byte")
    axes.set_title(f"Roughness of {LENGTH}x{LENGTH} images, windows of {WINDOW}x{WINDOW}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


@click.command()
@click.option("--rounds", default=7, show_default=True, help="Calls of which the median is taken.")
@click.option("--largest", default=MEBIBYTES[-1], show_default=True, help="MiB of images, at most.")
def main(rounds: int, largest: int) -> None:
    """Compare calls from Python with one fused loop."""
    console = Console()
    sizes = [size for size in MEBIBYTES if size <= largest] or [largest]
    results = [measure(size, rounds) for size in track(sizes, "Measuring", console=console, transient=True)]
    table = Table("images", "kept between", "calls", "one loop", "saves")
    for size, called, fused in results:
        between = f"{2 * size / 2**20:.0f} MiB"
        table.add_row(
            f"{size / 2**20:.0f} MiB",
            between,
            f"{called * 1e3:.1f} ms",
            f"{fused * 1e3:.1f} ms",
            f"{called / fused:.2f}x",
        )
    console.print(table)
    draw(results, "fuse-pooling.png")
    console.print("Drew fuse-pooling.png")


if __name__ == "__main__":
    main()
