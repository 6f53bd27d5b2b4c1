"""A plot as SVG: lines over a logarithmic scale, for figures that lie orders of magnitude apart."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_WIDTH, _HEIGHT = 760, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 230, 20, 50
_COLOURS = ("#0072b2", "#56b4e9", "#d55e00", "#009e73", "#cc79a7")  # distinct for colour-blind people too


@dataclass(frozen=True)
class Line:
    """One line: its points in the order of x, the y of each above 0."""

    name: str
    points: Sequence[tuple[float, float]]


def draw_plot(path: Path, lines: Sequence[Line], *, x: str, y: str) -> None:
    """Write the plot.

    :param x: what the horizontal axis says; its scale is linear
    :param y: what the vertical axis says; its scale is logarithmic
    """
    numbers_x = sorted({point[0] for line in lines for point in line.points})
    numbers_y = [point[1] for line in lines for point in line.points]
    decades = range(math.floor(math.log10(min(numbers_y))), math.ceil(math.log10(max(numbers_y))) + 1)
    scale = _Scale(max(numbers_x) or 1, decades[0], decades[-1])
    marks = [
        *(_horizontal(10**decade, scale) for decade in decades),
        *(_vertical(number, scale) for number in numbers_x),
        *(_line(line, colour, scale) for line, colour in zip(lines, _COLOURS, strict=False)),
        _text(x, f'x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 10}" text-anchor="middle"'),
        _text(y, f'transform="translate(16 {_HEIGHT / 2}) rotate(-90)" text-anchor="middle"'),
    ]
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}"'
        f' height="{_HEIGHT}" font-family="sans-serif" font-size="13">\n'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>\n' + "\n".join(marks) + "\n</svg>\n"
    )


def _text(text: str, attributes: str) -> str:
    return f"<text {attributes}>{html.escape(text)}</text>"


@dataclass(frozen=True)
class _Scale:
    max_x: float
    first_decade: int
    last_decade: int

    def x(self, number: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * number / self.max_x, 1)

    def y(self, number: float) -> float:
        share = (math.log10(number) - self.first_decade) / max(1, self.last_decade - self.first_decade)
        return round(_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share, 1)


def _horizontal(number: float, scale: _Scale) -> str:
    y = scale.y(number)
    return (
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="#ddd"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{number:,g}</text>'
    )


def _vertical(number: float, scale: _Scale) -> str:
    x, foot = scale.x(number), _HEIGHT - _BOTTOM
    return (
        f'<line x1="{x}" x2="{x}" y1="{_TOP}" y2="{foot}" stroke="#eee"/>'
        f'<text x="{x}" y="{foot + 18}" text-anchor="middle">{number:,g}</text>'
    )


def _line(line: Line, colour: str, scale: _Scale) -> str:
    """Draw a line, its points, and its name behind its end."""
    points = [(scale.x(x), scale.y(y)) for x, y in line.points]
    path = " ".join(f"{x},{y}" for x, y in points)
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in points)
    end_x, end_y = points[-1]
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}' + _text(
        line.name, f'x="{end_x + 8}" y="{end_y + 4}" fill="{colour}"'
    )
