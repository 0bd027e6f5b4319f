"""Small bars around zero for the cells of a table: to the left what falls, to the right what rises."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from sts_core.figures.numbers import known
from sts_core.figures.theme import TOKENS, Mode

WIDTH, HEIGHT = 100, 20
"""Pixels of a bar's whole cell; zero is at the middle."""


def signed_bars(values: Iterable[float], mode: Mode = "light") -> list[str | None]:
    """Each value as the address of a picture that holds itself; all on one scale, None for what is no number."""
    numbers = [float(value) for value in values]
    reach = max((abs(value) for value in numbers if known(value)), default=0.0) or 1.0
    return [_picture(value / reach, mode) if known(value) else None for value in numbers]


def _picture(share: float, mode: Mode) -> str:
    tokens = TOKENS[mode]
    middle = WIDTH // 2
    # A bar that is not nothing is seen, however short.
    length = max(1, round(abs(share) * (middle - 2))) if share else 0
    start = middle if share > 0 else middle - length
    color = tokens.rise if share > 0 else tokens.fall
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}">'
        f'<path fill="{color}" d="M{start} 5h{length}v10h-{length}z"/>'
        f'<path fill="{tokens.muted}" d="M{middle} 1h1v18h-1z"/></svg>'
    )
    return f"data:image/svg+xml,{quote(svg, safe=' ')}"
