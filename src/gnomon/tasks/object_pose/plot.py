"""Curves over frames as SVG inside a page: no scripts, no fonts of its own, light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#d1495b", "#2e8b57", "#3b6fd6", "#b8860b", "#8a4fbf", "#008b9a")
WIDTH, HEIGHT = 900, 220
LEFT, RIGHT, TOP, BOTTOM = 60, 10, 10, 24
MOST_POINTS = 1500


@dataclass(frozen=True)
class Series:
    """One curve; NaN in `values` leaves a gap."""

    name: str
    frames: Sequence[int]
    values: Sequence[float]


def line_plot(title: str, series: Sequence[Series], *, low: float | None = None, high: float | None = None) -> str:
    """A figure with one curve for each series over a common axis of frames."""
    known = [value for line in series for value in line.values if math.isfinite(value)]
    if not known:
        return ""
    bottom, top = _range(known, low, high)
    first = min(line.frames[0] for line in series)
    last = max(line.frames[-1] for line in series)

    def x(frame: float) -> float:
        return LEFT + (frame - first) / max(last - first, 1) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (top - value) / (top - bottom) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for tick in _ticks(bottom, top):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#8884"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for frame, anchor in ((first, "start"), (last, "end")):
        parts.append(f'<text x="{x(frame):.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">frame {frame}</text>')
    for number, line in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        for points in _stretches(line):
            if len(points) == 1:
                frame, value = points[0]
                parts.append(f'<circle cx="{x(frame):.1f}" cy="{y(value):.1f}" r="2" fill="{colour}"/>')
            else:
                path = " ".join(f"{x(frame):.1f},{y(value):.1f}" for frame, value in points)
                parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    legend = " ".join(
        f'<span style="color: {COLOURS[i % len(COLOURS)]}">&#9644; {escape(line.name)}</span>'
        for i, line in enumerate(series)
    )
    return (
        f"<p>{escape(title)} &nbsp; {legend}</p>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" role="img" aria-label="{escape(title)}" '
        f'style="font: 11px system-ui, sans-serif" fill="currentColor">{"".join(parts)}</svg>'
    )


def _range(known: list[float], low: float | None, high: float | None) -> tuple[float, float]:
    bottom = min(known) if low is None else low
    top = max(known) if high is None else high
    if top - bottom < 1e-9:
        return bottom - 1, top + 1
    margin = 0.05 * (top - bottom)
    return (bottom - margin if low is None else bottom, top + margin if high is None else top)


def _ticks(bottom: float, top: float) -> list[float]:
    """Round numbers, about five of them."""
    rough = (top - bottom) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    start = math.ceil(bottom / step - 1e-9)
    return [round(number * step, 10) for number in range(start, math.floor(top / step + 1e-9) + 1)]


def _stretches(line: Series) -> list[list[tuple[int, float]]]:
    """The curve in pieces between gaps; of long ones an even selection of points."""
    stride = max(1, math.ceil(len(line.frames) / MOST_POINTS))
    pieces: list[list[tuple[int, float]]] = [[]]
    for frame, value in list(zip(line.frames, line.values, strict=True))[::stride]:
        if math.isfinite(value):
            pieces[-1].append((frame, value))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]
