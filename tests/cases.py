"""Geometries of pooling calls: `CASES`, small ones for the tests, and `NETWORK_CASES`, networks' pools in full size.

The first of `CASES` are `WITNESSES`, with which every kind of array and every dtype is tried, see tests/selection.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """The shape (N, C, pooled axes) of an input, and the arguments of a pooling call on it."""

    name: str
    shape: tuple[int, ...]
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] | None = None
    padding: int | str | tuple[int, ...] | tuple[tuple[int, int], ...] = 0
    dilation: int | tuple[int, ...] = 1
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None

    @property
    def rank(self) -> int:
        """Number of pooled axes."""
        return len(self.shape) - 2

    @property
    def max_arguments(self) -> dict[str, Any]:
        """Keyword arguments of max pooling and its backward."""
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        return {name: getattr(self, name) for name in names}

    @property
    def avg_arguments(self) -> dict[str, Any]:
        """Keyword arguments of average pooling and its backward."""
        names = ("count_include_pad", "divisor_override")
        return self.max_arguments | {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        return f"{self.rank}d-{self.name}"


# One geometry for each algorithm of the CPU (`kernels.cpu.schedule`), in one, two and three dimensions.
WITNESSES = (
    Case("flat", (3, 6, 7, 9), 3, 1, 1),
    Case("resnet-odd", (1, 3, 11, 13), 3, 2, 1, count_include_pad=False),
    Case("spp-5", (1, 2, 10, 10), 5, 1, 2),
    Case("asymmetric-1d", (2, 2, 17), 4, 3, ((3, 1),)),
    Case("dilation-beyond-input-ceil", (1, 2, 4, 5), 3, 3, ((1, 0), (6, 5)), (3, 7), ceil_mode=True),
    Case("whole", (2, 3, 17, 19), (17, 19)),
    Case("i3d", (1, 2, 5, 8, 8), (1, 3, 3), (1, 2, 2), (0, 1, 1)),
    Case("windows", (1, 2, 3, 9), (90, 2), 1, (45, 1)),
)

CASES = (
    *WITNESSES,
    # Pools of networks, scaled down.
    Case("vgg", (2, 3, 8, 8), 2),
    Case("vgg-odd", (2, 3, 7, 9), 2),
    Case("vgg-stride-1", (1, 2, 6, 7), 2, 1),
    Case("resnet", (2, 3, 12, 12), 3, 2, 1),
    Case("googlenet", (2, 2, 12, 14), 3, 2, ceil_mode=True),
    Case("googlenet-overhang", (2, 2, 14, 16), 3, 2, ceil_mode=True, count_include_pad=False),
    Case("alexnet", (1, 3, 13, 13), 3, 2),
    Case("inception", (2, 2, 7, 7), 3, 1, 1),
    Case("inception-no-pad", (2, 2, 7, 7), 3, 1, 1, count_include_pad=False),
    Case("spp-9", (1, 2, 10, 10), 9, 1, 4, count_include_pad=False),
    Case("spp-13", (1, 2, 10, 10), 13, 1, 6),
    Case("global", (2, 5, 7, 7), 7),
    Case("text", (2, 3, 21), 3),
    Case("audio", (1, 4, 64), 4),
    Case("audio-overlap", (2, 2, 37), 3, 2, 1),
    Case("c3d", (1, 3, 4, 8, 8), 2),
    Case("c3d-first", (1, 2, 4, 9, 8), (1, 2, 2)),
    Case("i3d-branch", (2, 1, 4, 5, 6), 3, 1, 1),
    # Window and stride.
    Case("kernel-1", (2, 2, 5, 6), 1),
    Case("kernel-1-stride-2", (1, 2, 5, 6), 1, 2),
    Case("stride-beyond-kernel", (1, 2, 11, 13), (2, 3), (3, 5)),
    Case("stride-beyond-kernel-ceil", (1, 2, 11, 13), 2, (4, 7), 0, ceil_mode=True),
    Case("stride-beyond-input", (1, 2, 5, 4), 2, 9),
    Case("stride-of-none", (1, 2, 9), 3, ()),
    Case("row-window", (1, 2, 4, 30), (1, 5), (1, 1)),
    Case("column-window", (1, 2, 30, 4), (5, 1), (1, 1)),
    Case("rows-in-padding-only", (4, 8, 1, 3), (1, 3), (7, 2), (1, 0)),
    Case("narrow-row-window", (1, 1, 9, 3), (1, 4), 1, (0, 1)),
    Case("narrow-window", (1, 1, 12, 2), 5, 1, 2),
    Case("mixed-strides", (1, 2, 9, 20), (3, 4), (1, 3), (1, 2), ceil_mode=True),
    Case("large-31x5", (1, 1, 34, 12), (31, 5), 1),
    Case("large-5x31-padded", (1, 1, 9, 40), (5, 31), 1, (2, 15)),
    Case("large-13-stride-2", (1, 1, 24, 25), 13, 2, 6),
    Case("large-13-stride-4-ceil", (1, 1, 27, 30), 13, 4, 6, ceil_mode=True, count_include_pad=False),
    Case("large-8-stride-5", (1, 2, 24, 40), 8, 5, 3),
    Case("large-16-stride-1", (1, 1, 17, 33), 16, 1, (4, 7)),
    Case("large-1d", (2, 2, 150), 64, 1, 32),
    Case("large-1d-stride-3", (2, 2, 151), 65, 3, 20, ceil_mode=True),
    Case("large-3d", (1, 1, 6, 7, 8), (4, 5, 6), 1, (2, 2, 3)),
    Case("global-row", (2, 3, 1, 33), (1, 33)),
    Case("global-1d", (2, 3, 50), 50),
    Case("global-3d", (1, 3, 3, 4, 5), (3, 4, 5)),
    Case("global-padded", (1, 2, 4, 5), (6, 7), 1, 1, count_include_pad=False),
    Case("one-window-ceil", (1, 2, 3, 3), 5, 3, ceil_mode=True),
    # Rows longer than any block of columns, and planes of one element.
    Case("wide", (1, 1, 3, 2100), 2),
    Case("wide-overlap", (1, 1, 3, 2100), 3, 2, 1),
    Case("wide-stride-1", (1, 1, 2, 2077), (2, 3), 1, (1, 1)),
    Case("wide-1d", (1, 2, 4500), 3, 1, 1),
    Case("wide-1d-gaps", (1, 1, 6007), 2, 3, dilation=2),
    Case("tall", (1, 1, 2100, 2), 2),
    Case("single", (3, 2, 1, 1), 1),
    Case("single-padded", (3, 2, 1, 1), 3, 1, 1),
    Case("single-1d", (3, 2, 1), 2, 2, 1, ceil_mode=True),
    Case("single-3d", (2, 2, 1, 1, 1), 3, 1, 1, count_include_pad=False),
    Case("one-column", (2, 2, 9, 1), (3, 1), 2, (1, 0)),
    Case("many-planes", (6, 11, 3, 3), 3, 2, 1),
    # Padding.
    Case("ragged", (1, 2, 10, 11), 4, 3),
    Case("ragged-ceil", (1, 2, 10, 12), 4, 3, ceil_mode=True),
    Case("ragged-ceil-padded", (1, 2, 10, 11), 4, 3, (2, 1), ceil_mode=True),
    Case("ragged-ceil-3d", (1, 1, 5, 6, 7), 2, (2, 3, 3), 1, ceil_mode=True, count_include_pad=False),
    Case("ceil-drops-last", (1, 2, 4, 4), 1, 2, ceil_mode=True),
    Case("ceil-drops-last-padded", (1, 2, 6), 2, 3, 1, ceil_mode=True),
    Case("asymmetric", (1, 2, 8, 9), 3, 2, ((0, 1), (2, 1))),
    Case("asymmetric-before", (1, 2, 8, 9), 3, 1, ((2, 0), (1, 0)), count_include_pad=False),
    Case("asymmetric-ceil", (1, 2, 9, 8), 3, 2, ((0, 2), (1, 0)), ceil_mode=True),
    Case("asymmetric-tiles", (2, 3, 8), 2, 2, ((1, 0),)),
    Case("asymmetric-3d", (1, 2, 4, 5, 6), 3, 2, ((1, 0), (0, 2), (1, 1)), count_include_pad=False),
    Case("depth-only", (1, 2, 4, 5, 6), 2, 2, (1, 0, 0), count_include_pad=False),
    Case("same", (1, 2, 9, 10), (3, 4), 1, "same"),
    Case("same-stride-2", (1, 2, 9, 10), (3, 4), 2, "same", count_include_pad=False),
    Case("same-lower", (1, 2, 9, 10), (2, 4), (1, 3), "same_lower"),
    Case("same-lower-dilated", (2, 2, 15), 2, 1, "same_lower", 3, count_include_pad=False),
    Case("same-3d", (1, 1, 4, 5, 6), 2, (1, 2, 3), "same"),
    Case("same-needs-none", (1, 2, 9, 10), 1, 2, "same", ceil_mode=True),
    Case("valid", (1, 2, 9, 10), 3, 2, "valid"),
    Case("padding-of-kernel", (1, 2, 4, 5), 2, 1, 2),
    Case("padding-of-kernel-no-pad", (1, 2, 4, 5), 2, 1, 2, count_include_pad=False),
    Case("padding-beyond-kernel", (1, 2, 3, 4), 2, 2, (5, 3)),
    Case("padding-beyond-kernel-ceil", (1, 2, 3, 4), 3, 2, ((4, 0), (0, 7)), ceil_mode=True),
    Case("padding-beyond-kernel-1d", (2, 1, 5), 3, 4, 9, count_include_pad=False),
    Case("padding-beyond-input", (1, 1, 2, 3, 2), 2, 2, (4, 0, 3)),
    # Dilation.
    Case("dilated", (1, 2, 9, 10), 3, 1, 0, 2),
    Case("dilated-stride-2", (1, 2, 11, 12), 3, 2, 1, 2, count_include_pad=False),
    Case("dilated-mixed", (1, 2, 11, 20), (2, 3), (1, 3), (1, 0), (4, 3), ceil_mode=True),
    Case("dilated-1d", (2, 2, 40), 5, 1, 2, 7),
    Case("dilated-3d", (1, 2, 5, 6, 7), 2, (1, 2, 1), 1, (3, 1, 2)),
    Case("dilated-large", (1, 1, 28, 30), 8, 1, 4, 3),
    Case("dilated-asymmetric-ceil", (1, 2, 9, 10), 3, 2, ((0, 3), (2, 1)), 2, ceil_mode=True, count_include_pad=False),
    Case("dilation-without-taps", (1, 6, 1, 1), 2, 1, 1, 2),
    Case("dilation-without-taps-1d", (2, 2, 3), 2, 1, 4, 5, count_include_pad=False),
    Case("dilation-beyond-input", (1, 2, 4, 5), 2, 1, 6, 9),
    # Divisor.
    Case("sum", (1, 2, 6, 7), 3, 2, 1, divisor_override=1),
    Case("divisor", (1, 2, 6, 7), 3, 1, 1, ceil_mode=True, divisor_override=7, count_include_pad=False),
    Case("divisor-negative", (1, 2, 13), 4, 3, 2, divisor_override=-3),
    Case("divisor-large-window", (1, 1, 12, 13), 9, 1, 4, divisor_override=5),
    Case("divisor-3d", (1, 1, 4, 5, 6), 2, 2, 1, ceil_mode=True, divisor_override=2),
)


def _network(name: str, batch: int, channels: int, extent: int | tuple[int, ...], *args: Any, **kwargs: Any) -> Case:
    plane = (channels, extent, extent) if isinstance(extent, int) else (channels, *extent)
    return Case(f"{name}-{'x'.join(map(str, plane))}", (batch, *plane), *args, **kwargs)


NETWORK_CASES = (
    *(_network("vgg", 8, c, n, 2) for c, n in ((64, 224), (128, 112), (256, 56), (512, 28), (512, 14))),
    _network("resnet", 8, 64, 112, 3, 2, 1),
    *(_network("alexnet", 8, c, n, 3, 2) for c, n in ((64, 55), (192, 27), (256, 13))),
    *(_network("squeezenet", 8, c, n, 3, 2, ceil_mode=True) for c, n in ((64, 111), (128, 55), (256, 27))),
    *(_network("googlenet", 8, c, n, 3, 2, ceil_mode=True) for c, n in ((64, 112), (192, 56), (480, 28))),
    _network("googlenet-last", 8, 832, 14, 2, 2, ceil_mode=True),
    *(_network("inception-branch", 8, c, n, 3, 1, 1) for c, n in ((192, 28), (512, 14), (832, 7))),
    *(_network("densenet-transition", 8, c, n, 2, 2) for c, n in ((256, 56), (512, 28), (1024, 14))),
    *(_network(f"spp-{k}", 8, 256, 20, k, 1, k // 2) for k in (5, 9, 13)),
    *(_network("global", 8, c, n, n) for c, n in ((512, 7), (2048, 7), (1280, 8))),
    _network("unet", 1, 64, 572, 2),
    _network("c3d-first", 1, 64, (16, 112, 112), (1, 2, 2)),
    _network("c3d", 1, 128, (16, 56, 56), 2),
    _network("i3d-stem", 1, 64, (32, 112, 112), (1, 3, 3), (1, 2, 2), (0, 1, 1)),
    _network("i3d-branch", 1, 192, (16, 28, 28), 3, 1, 1),
    _network("m5-audio", 16, 128, (1997,), 4),
    _network("text-cnn", 64, 100, (128,), 128),
)
