"""The picture that `python -m numbapool trace` draws."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

    from numbapool.trace import Array, Trace

# Side of the part that is enlarged, in input elements: few enough to see each.
PART = 24

# A plane this many times longer than wide is stretched, or it would be drawn as a line.
LONGEST = 8


def draw(trace: Trace, source: str, path: Path) -> None:
    """Draw the first sample of input, maxima, averages and gradient, and enlarge the middle of input and gradient."""
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure  # without pyplot, which would look for a screen
    from matplotlib.patches import Rectangle

    in_colour = _is_colour_image(trace.x)
    x, maxima, averages = (_view(array, in_colour) for array in (trace.x, trace.maxima, trace.averages))
    gradient = _channels(trace.gradient).sum(axis=0) if in_colour else _channels(trace.gradient)[0]
    (top, bottom), (left, right) = (_middle(length) for length in gradient.shape)
    part = (left - 0.5, right - 0.5, bottom - 0.5, top - 0.5)
    # Most gradients are 0 and of the others most are small, which the square root tells apart. One norm is one scale.
    heat: dict[str, Any] = {"cmap": "magma", "norm": PowerNorm(0.5)}

    figure = Figure(figsize=(13, 9), layout="constrained")
    figure.suptitle(f"{source}: {'all channels' if in_colour else 'channel 0'} of the first sample")
    panels = figure.subplots(2, 3)
    _show(panels[0, 0], x, f"input {trace.x.shape}")
    _show(panels[0, 1], maxima, f"maxima {trace.maxima.shape}")
    _show(panels[0, 2], averages, f"averages of the maxima {trace.averages.shape}")
    _show(panels[1, 0], gradient, f"gradient {trace.gradient.shape}", **heat)
    _show(panels[1, 1], x, f"input, rows {top} to {bottom - 1}, columns {left} to {right - 1}", part)
    enlarged = _show(panels[1, 2], gradient, "gradient, the same part", part, **heat)
    over = ", over all channels" if in_colour else ""
    figure.colorbar(enlarged, ax=panels[1, 2], label=f"d(sum of averages) / d(input){over}")
    for axes, colour in ((panels[0, 0], "red"), (panels[1, 0], "cyan")):
        frame = Rectangle((part[0], part[3]), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.5)
        axes.add_patch(frame)
    figure.savefig(path, dpi=160)


def _show(
    axes: Axes, plane: Array, title: str, part: tuple[float, float, float, float] | None = None, **style: Any
) -> AxesImage:
    """Show a plane (H, W) or (H, W, 3), or only what is within these left, right, bottom and top edges."""
    from matplotlib.ticker import MaxNLocator

    shortest, longest = sorted(plane.shape[:2])
    aspect: Literal["auto", "equal"] = "auto" if part is None and longest > LONGEST * shortest else "equal"
    # Smoothing would fade the lone elements of a gradient away.
    image = axes.imshow(plane, aspect=aspect, interpolation="nearest", **({"cmap": "gray"} | style))
    axes.set_title(title, fontsize=10)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    if part is not None:
        axes.set_xlim(part[0], part[1])
        axes.set_ylim(part[2], part[3])
    return image


def _channels(array: Array) -> Array:
    """The first sample, (C, H, W)."""
    sample: Array = array[0] if array.ndim == 4 else array
    return sample


def _is_colour_image(x: Array) -> bool:
    if len(_channels(x)) != 3:
        return False
    return x.dtype == np.uint8 or (x.dtype.kind == "f" and bool(x.min() >= 0 and x.max() <= 1))


def _view(array: Array, in_colour: bool) -> Array:
    """What to show of an array: the colours (H, W, 3) or the first channel (H, W)."""
    channels = _channels(array)
    plane: Array = np.moveaxis(channels, 0, -1) if in_colour else channels[0]
    # The rounding of an average may leave 0 to 1, and imshow complains.
    return plane.clip(0, 1) if in_colour and plane.dtype.kind == "f" else plane


def _middle(length: int) -> tuple[int, int]:
    """Where the enlarged part of an axis of this length begins and ends."""
    begin = max((length - PART) // 2, 0)
    return begin, min(begin + PART, length)
