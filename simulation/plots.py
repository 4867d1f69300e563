"""
Plots as SVG text, written by hand: lines, steps and bars are all that the reports need.

So the same run gives the same bytes, and nothing has to be installed to look at it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44", "#8d6a9f", "#c77b0a", "#4a4a4a")
POINTS_MAX = 400
_LEFT, _TOP, _BOTTOM = 58, 30, 44

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line with its name."""

    name: str
    points: Sequence[Point]
    steps: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """What a plot is of, and how far it goes."""

    title: str
    x: str
    y: str
    log_x: bool = False
    width: int = 460
    height: int = 270


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self._of(self.low), self._of(self.high)
        part = (self._of(value) - low) / (high - low) if high > low else 0.0
        return round(self.begin + min(1.0, max(0.0, part)) * (self.end - self.begin), 1)

    def _of(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.log else value


def line_plot(lines: Sequence[Line], axes: Axes) -> str:
    """Lines over one pair of axes, with a legend."""
    xs = [x for line in lines for x, _ in line.points if not axes.log_x or x > 0]
    ys = [y for line in lines for _, y in line.points]
    x = _Scale(
        low=min(xs, default=1.0) if axes.log_x else 0.0,
        high=max(xs, default=1.0),
        begin=_LEFT,
        end=axes.width - 12,
        log=axes.log_x,
    )
    y = _Scale(low=0.0, high=max(ys, default=1.0) or 1.0, begin=axes.height - _BOTTOM, end=_TOP)
    parts = _frame(axes, _ticks(x), _ticks(y), x, y)
    for number, line in enumerate(lines):
        path = _path(_thinned(line.points), x, y, steps=line.steps)
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
    parts += _legend([line.name for line in lines], axes)
    return _document(parts, axes)


def box_plot(groups: Sequence[tuple[str, Sequence[tuple[str, Sequence[float]]]]], axes: Axes) -> str:
    """For each group and each name in it the values as a box: least, quartiles, most; every name has one colour."""
    names = sorted({name for _, members in groups for name, _ in members})
    most = max((max(values) for _, members in groups for _, values in members if values), default=1.0)
    x = _Scale(low=0.0, high=float(len(groups)), begin=_LEFT, end=axes.width - 12)
    y = _Scale(low=0.0, high=most or 1.0, begin=axes.height - _BOTTOM, end=_TOP)
    parts = _frame(axes, [], _ticks(y), x, y)
    for place, (group, members) in enumerate(groups):
        parts.append(_text(x(place + 0.5), axes.height - _BOTTOM + 15, group, anchor="middle"))
        for member, (name, values) in enumerate(members):
            middle = x(place + (member + 1) / (len(members) + 1))
            if values:
                parts.append(_box(sorted(values), middle, y, COLOURS[names.index(name) % len(COLOURS)]))
    parts += _legend(names, axes)
    return _document(parts, axes)


def _box(values: Sequence[float], x: float, y: _Scale, colour: str) -> str:
    low, first, middle, third, high = (y(values[round(share * (len(values) - 1))]) for share in (0, 0.25, 0.5, 0.75, 1))
    return (
        f'<path d="M{x} {low}V{high}" stroke="{colour}"/>'
        f'<rect x="{x - 7}" y="{third}" width="14" height="{round(max(1.0, first - third), 1)}" '
        f'fill="{colour}" fill-opacity="0.35" stroke="{colour}"/>'
        f'<path d="M{x - 7} {middle}h14" stroke="{colour}" stroke-width="2"/>'
    )


def _frame(axes: Axes, xs: Sequence[float], ys: Sequence[float], x: _Scale, y: _Scale) -> list[str]:
    bottom, right = axes.height - _BOTTOM, axes.width - 12
    parts = [
        _text(axes.width / 2, 16, axes.title, anchor="middle", bold=True),
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="#555"/>',
    ]
    for value in ys:
        parts.append(f'<path d="M{_LEFT} {y(value)}H{right}" stroke="#ddd" stroke-width="0.6"/>')
        parts.append(_text(_LEFT - 5, y(value) + 4, _number(value), anchor="end"))
    for value in xs:
        parts.append(f'<path d="M{x(value)} {bottom}v4" stroke="#555"/>')
        parts.append(_text(x(value), bottom + 15, _number(value), anchor="middle"))
    parts.append(_text((_LEFT + right) / 2, axes.height - 14, axes.x, anchor="middle"))
    parts.append(
        f'<text x="13" y="{(_TOP + bottom) / 2}" text-anchor="middle" '
        f'transform="rotate(-90 13 {(_TOP + bottom) / 2})">{escape(axes.y)}</text>'
    )
    return parts


def _legend(names: Sequence[str], axes: Axes) -> list[str]:
    parts, at = [], _LEFT
    for number, name in enumerate(names):
        parts.append(
            f'<rect x="{at}" y="{axes.height - 9}" width="9" height="7" fill="{COLOURS[number % len(COLOURS)]}"/>'
        )
        parts.append(_text(at + 13, axes.height - 2, name))
        at += 22 + 7 * len(name)
    return parts


def _ticks(scale: _Scale) -> list[float]:
    """Round numbers across the scale."""
    if scale.log:
        powers = range(math.floor(math.log10(scale.low)), math.ceil(math.log10(max(scale.high, scale.low))) + 1)
        return [10.0**power for power in powers if scale.low <= 10.0**power <= scale.high]
    step = 10.0 ** math.floor(math.log10(max(scale.high - scale.low, 1e-9)))
    while (scale.high - scale.low) / step < 4:
        step /= 2
    count = int((scale.high - scale.low) / step + 1e-9)
    return [scale.low + step * number for number in range(count + 1)]


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    """At most so many points as anybody can see."""
    if len(points) <= POINTS_MAX:
        return points
    step = len(points) / POINTS_MAX
    return [*(points[int(number * step)] for number in range(POINTS_MAX)), points[-1]]


def _path(points: Sequence[Point], x: _Scale, y: _Scale, *, steps: bool) -> str:
    drawn: list[str] = []
    for number, (px, py) in enumerate(points):
        if number and steps:
            drawn.append(f"H{x(px)}V{y(py)}")
        else:
            drawn.append(f"{'L' if number else 'M'}{x(px)} {y(py)}")
    return "".join(drawn)


def _number(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.3g}"


def _text(x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{round(x, 1)}" y="{round(y, 1)}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'


def _document(parts: Sequence[str], axes: Axes) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {axes.width} {axes.height}" '
        f'width="{axes.width}" height="{axes.height}" font-family="sans-serif" font-size="10">'
        f'<rect width="{axes.width}" height="{axes.height}" fill="white"/>'
    )
    return "\n".join([head, *parts, "</svg>"]) + "\n"
