"""The pictures of a check: loss curves in their bands, differences seed by seed, ratios of speed. They draw what `details` hold.

A picture is drawn twice, as wide as the page and as narrow as a phone. Widths are in inches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gitbench.formats import plural
from gitbench.gate.outcome import BEYOND
from gitbench.gate.ratios import ALLOWED
from gitbench.gate.run import Check
from gitbench.metric_info import display_name, quality_sign, unit
from gitbench.report.style import COLUMN, FAINT, INK, PAGE, PALETTE, RULE, embedded_svg, style

Details = Mapping[str, Any]
_BLUE, _RED = PALETTE[0], PALETTE[1]


def pictures(check: Check) -> dict[str, tuple[str, ...]]:
    """Return "curves", "seeds" and "ratios", those that tiers gave values for, each as SVG: wide, and for phones."""
    details: dict[str, Any] = {}
    for outcome in check.outcomes:
        details |= outcome.measured.details if outcome.measured is not None else {}
    return {name: _drawn(name, details[name]) for name in DRAWN if details.get(name)}


def _drawn(name: str, values: Details) -> tuple[str, ...]:
    draw, label = DRAWN[name]
    found: list[str] = []
    for width in (PAGE, COLUMN):
        with style(width):
            found.append(embedded_svg(draw(values, width), f"{name}-{len(found)}", label))
    return tuple(found)


def curves_figure(curves: Mapping[str, Details], width: float) -> Figure:
    """Draw each training: its loss over the reference's, and below that how far it is off, in units of its band."""
    columns = 2 if width > COLUMN and len(curves) > 1 else 1
    rows = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(width, 2.5 * rows), layout="constrained")
    panels = figure.subfigures(rows, columns, squeeze=False).ravel()
    for panel, (name, curve) in zip(panels, curves.items(), strict=False):
        upper, lower = panel.subplots(2, 1, height_ratios=(3, 2), sharex=True)
        arrays = [_numbers(curve.get(key, ())) for key in ("steps", "value", "reference", "low", "high")]
        steps, value, reference, low, high = (each[: min(map(len, arrays))] for each in arrays)
        upper.fill_between(steps, low, high, color=RULE, lw=0)
        upper.plot(steps, reference, color=FAINT, lw=2.4, label="reference")
        upper.plot(steps, value, color=_BLUE, lw=1.1, label="here")
        upper.set_title(name)
        upper.legend(loc="upper right")
        _draw_deviation(lower, steps, value, reference, low, high)
        lower.set_xlabel("step")
    return figure


def _draw_deviation(axes: Axes, steps: np.ndarray, *curve: np.ndarray) -> None:
    """Draw deviations in units of the band: within -1 to 1 is allowed. Beyond, the axis is logarithmic."""
    value, reference, low, high = curve
    room = np.where(value >= reference, high - reference, reference - low)
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.where(value == reference, 0.0, (value - reference) / room)
    off = np.clip(off, -BEYOND, BEYOND)
    axes.axhspan(-1, 1, color=RULE, lw=0)
    axes.axhline(0, color=FAINT, lw=0.8)
    axes.plot(steps, off, color=_BLUE, lw=0.9)
    out = np.abs(off) > 1
    axes.plot(steps[out], off[out], "x", color=_RED, ms=4)
    most = np.nanmax(np.abs(off), initial=1.0)
    if most > 3:
        axes.set_yscale("symlog", linthresh=1.0)
        top = 10.0 ** math.ceil(math.log10(most))
        label = f"{top:.0f}" if top < 1e4 else f"{top:.0e}"
        axes.set_yticks([-top, 0.0, top], [f"\N{MINUS SIGN}{label}", "0", label])
        axes.set_ylim(-1.5 * top, 1.5 * top)
    else:
        axes.set_ylim(-1.2 * max(most, 1.0), 1.2 * max(most, 1.0))
        axes.set_yticks([-1, 0, 1])
    axes.minorticks_off()
    axes.set_ylabel("off / allowed")


def seeds_figure(seeds: Mapping[str, Details], width: float) -> Figure:
    """Draw each metric: differences from the reference, seed by seed, that of the means, the margin; right is better.

    `bound`: so much worse it is at most, as `difference` and `margin` in the metric's own unit.
    """
    figure = Figure(figsize=(width, 1.05 * len(seeds) + 0.35), layout="constrained")
    for axes, (metric, found) in zip(figure.subplots(len(seeds), squeeze=False).ravel(), seeds.items(), strict=True):
        value, reference = _numbers(found.get("value", ())), _numbers(found.get("reference", ()))
        count = min(len(value), len(reference))
        differences = quality_sign(metric) * (value[:count] - reference[:count])
        axes.plot(differences, np.full(count, 1.0), "o", color=_BLUE, ms=4.5, mfc="none")
        margin, bound, mean = found.get("margin"), found.get("bound"), found.get("difference", math.nan)
        axes.axvline(0, color=INK, lw=0.8)
        if margin is not None:
            axes.axvline(-abs(margin), color=_RED, lw=1.2, ls=(0, (4, 2)))
        if bound is not None:
            axes.plot([-bound, mean], [0.4, 0.4], color=_BLUE, lw=1.4)
            axes.plot([-bound], [0.4], "|", color=_BLUE, ms=9, mew=1.4)
        axes.plot([mean], [0.4], "o", color=_BLUE, ms=6)
        axes.set_title(f"{display_name(metric)}: better by ({unit(metric)}), {plural(count, 'seed')}")
        axes.set_ylim(0, 1.4)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
    return figure


def ratios_figure(ratios: Mapping[str, Details], width: float) -> Figure:
    """Draw each quantity: the ratios of its pairs, their estimate with its interval, 1, and the ratio that is red."""
    figure = Figure(figsize=(width, 0.36 * len(ratios) + 0.75), layout="constrained")
    axes = figure.subplots()
    for place, found in enumerate(ratios.values()):
        pairs, middle = _numbers(found.get("pairs", ())), found.get("estimate")
        axes.plot(pairs, np.full(len(pairs), place - 0.2), ".", color=FAINT, ms=3, alpha=0.6)
        low, high = found.get("low"), found.get("high")
        if low is None or middle is None or high is None:
            continue
        colour = _RED if low > ALLOWED else _BLUE
        axes.plot([low, high], [place + 0.12] * 2, color=colour, lw=1.6)
        axes.plot([middle], [place + 0.12], "o", color=colour, ms=5)
    axes.axvline(1, color=INK, lw=0.8)
    axes.axvline(ALLOWED, color=_RED, lw=1.2, ls=(0, (4, 2)))
    shown = [found[key] for found in ratios.values() for key in ("low", "high") if found.get(key) is not None]
    axes.set_xlim(min([0.85, *(0.95 * each for each in shown)]), max([1.25, *(1.05 * each for each in shown)]))
    axes.set_yticks(range(len(ratios)), list(ratios))
    axes.set_ylim(len(ratios) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("this code / base")
    return figure


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    """Return numbers as an array; None, which stands for what JSON has no number for, becomes NaN."""
    return np.array([math.nan if value is None else value for value in values], dtype=float)


DRAWN: dict[str, tuple[Callable[[Any, float], Figure], str]] = {
    "curves": (curves_figure, "losses of short trainings beside those of the reference"),
    "seeds": (seeds_figure, "differences in score from the reference, seed by seed"),
    "ratios": (ratios_figure, "time and memory of this code over those of the base revision"),
}
