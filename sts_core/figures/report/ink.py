"""Pen and paper of the report's figures: an SVG sheet, a domain's mark, round numbers for an axis.

Colours are named by classes that the page's style fills in for light, dark and print, so a figure has none of its own.
All text is escaped here, at the one place where text becomes SVG.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from html import escape
from typing import Literal

from sts_core.figures.numbers import fixed
from sts_core.figures.theme import HUES, domain_mark

WIDE, HALF, NARROW = 860, 470, 352
"""Pixels a figure is drawn for: across the page, in half of it, and on a phone."""
LETTER = 6.5
"""Pixels a letter of a figure's text takes."""
Anchor = Literal["start", "middle", "end"]
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
Point = tuple[float, float]


def shown(text: object) -> str:
    """Text from anywhere, made safe to stand in HTML and SVG: no markup, no control signs, no turned lines."""
    return escape("".join(_sign(sign) for sign in str(text)))


class Sheet:
    """A figure of a fixed size; what is put on it first lies lowest."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self._parts: list[str] = []

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: Anchor = "start") -> None:
        """One line of text, y being its baseline."""
        self._parts.append(f'<text x="{_n(x)}" y="{_n(y)}" class="{kind}" text-anchor="{anchor}">{shown(text)}</text>')

    def tilted(self, x: float, y: float, text: str, kind: str = "") -> None:
        """A line that reads upwards, its middle at the place."""
        turned = f'transform="rotate(-90 {_n(x)} {_n(y)})"'
        place = f'x="{_n(x)}" y="{_n(y)}"'
        self._parts.append(f'<text {place} {turned} class="{kind}" text-anchor="middle">{shown(text)}</text>')

    def line(self, start: Point, end: Point, kind: str) -> None:
        """A straight line."""
        places = f'x1="{_n(start[0])}" y1="{_n(start[1])}" x2="{_n(end[0])}" y2="{_n(end[1])}"'
        self._parts.append(f'<line {places} class="{kind}"/>')

    def path(self, points: Sequence[Point], kind: str, closed: bool = False) -> None:
        """A line through points, or the area it encloses."""
        if points:
            steps = "L".join(f"{_n(x)} {_n(y)}" for x, y in points)
            self._parts.append(f'<path d="M{steps}{"Z" if closed else ""}" class="{kind}"/>')

    def box(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        """A rectangle."""
        sides = f'x="{_n(x)}" y="{_n(y)}" width="{_n(max(0.0, width))}" height="{_n(height)}"'
        self._parts.append(f'<rect {sides} class="{kind}"/>')

    def ring(self, x: float, y: float, radius: float, kind: str) -> None:
        """A circle."""
        self._parts.append(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" class="{kind}"/>')

    def domain(self, name: str, x: float, y: float, radius: float) -> None:
        """A domain's own mark, as on every page."""
        symbol = domain_mark(name).symbol
        kind = f"mark {hue(name)}"
        if symbol == "circle":
            self.ring(x, y, radius, kind)
        else:
            self.path([(x + radius * a, y + radius * b) for a, b in _SHAPES[symbol]], kind, closed=True)

    def svg(self, name: str) -> str:
        """The figure, named for those who do not see it."""
        size = f'viewBox="0 0 {_n(self.width)} {_n(self.height)}" width="{_n(self.width)}" height="{_n(self.height)}"'
        return f'<svg {size} role="img" aria-label="{shown(name)}">{"".join(self._parts)}</svg>'


def hue(domain: str) -> str:
    """The class of a domain's colour."""
    return f"hue{[light for light, _ in HUES].index(domain_mark(domain).light)}"


def figure(draw: Callable[[int], Sheet], title: str, caption: Sequence[str], wide: int = WIDE) -> str:
    """A figure drawn for a wide page and for a narrow one, with its title above and its caption below."""
    drawn = [
        f'<div class="{kind}">{draw(width).svg(title)}</div>' for kind, width in (("wide", wide), ("narrow", NARROW))
    ]
    told = "".join(f"<p>{shown(text)}</p>" for text in caption if text)
    return f"<figure><h3>{shown(title)}</h3>{''.join(drawn)}<figcaption>{told}</figcaption></figure>"


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers within a range, at most so many."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low] if math.isfinite(low) else []
    size = 10.0 ** math.floor(math.log10(span / max(1, most)))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10, 20) if span / (size * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round((first + i) * step, 12) for i in range(math.floor(high / step + 1e-9) - first + 1)]


def round_words(value: float) -> str:
    """A round number as it stands at an axis: `−0.5`, `1 000`."""
    decimals = next((places for places in range(9) if math.isclose(round(value, places), value, abs_tol=1e-12)), 9)
    return fixed(value, decimals)


def _sign(sign: str) -> str:
    """Itself; a blank for white space but that which holds a number and its unit together; a box for what is unseen."""
    if sign.isspace():
        return sign if sign in "\u00a0\u202f" else " "
    return "\ufffd" if unicodedata.category(sign) in _UNSEEN else sign


def _round(corners: int, turn: float = -90.0) -> list[Point]:
    angles = [math.radians(turn + 360 * i / corners) for i in range(corners)]
    return [(1.15 * math.cos(a), 1.15 * math.sin(a)) for a in angles]


def _star() -> list[Point]:
    angles = [math.radians(-90 + 36 * i) for i in range(10)]
    return [((1.35, 0.6)[i % 2] * math.cos(a), (1.35, 0.6)[i % 2] * math.sin(a)) for i, a in enumerate(angles)]


def _plus(turned: bool) -> list[Point]:
    arm, long = 0.4, 1.2
    corners = [
        (-arm, -long), (arm, -long), (arm, -arm), (long, -arm), (long, arm), (arm, arm), (arm, long), (-arm, long),
        (-arm, arm), (-long, arm), (-long, -arm), (-arm, -arm),
    ]  # fmt: skip
    half = math.sqrt(0.5)
    return [(half * (x - y), half * (x + y)) for x, y in corners] if turned else corners


_SHAPES: dict[str, list[Point]] = {
    "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "diamond": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
    "cross": _plus(turned=False),
    "x": _plus(turned=True),
    "triangle-up": [(0, -1.2), (1.15, 0.9), (-1.15, 0.9)],
    "triangle-down": [(0, 1.2), (1.15, -0.9), (-1.15, -0.9)],
    "triangle-left": [(-1.2, 0), (0.9, -1.15), (0.9, 1.15)],
    "triangle-right": [(1.2, 0), (-0.9, -1.15), (-0.9, 1.15)],
    "pentagon": _round(5),
    "hexagon": _round(6, 0.0),
    "star": _star(),
    "hourglass": [(-1, -1.1), (1, -1.1), (-1, 1.1), (1, 1.1)],
    "bowtie": [(-1.1, -1), (1.1, 1), (1.1, -1), (-1.1, 1)],
}
"""A mark's corners about its middle, in radii."""


def _n(value: float) -> str:
    """A coordinate to a hundredth of a pixel."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if math.isfinite(value) else "0"
