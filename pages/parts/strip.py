"""Token strips: where a feature fires, token by token, as one component for a whole list of examples.

All text in them is untrusted. Every letter that cannot be seen, or that would act on its neighbours, becomes a mark
one can see; in the browser it is set as text only, each token in an isolation of its own, and never as HTML.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import streamlit as st

from sts_core.figures.numbers import number

LONGEST_TOKEN = 80
"""Letters of a token that are shown."""
MOST_TOKENS = 400
"""Tokens of a strip that are shown: those around its peak."""
View = Literal["compact", "full"]
Scale = Literal["common", "own"]

_MARKS = {"\n": "↵", "\t": "⇥"}
_JOINERS = "\u200c\u200d"
"""Invisible, but part of how scripts and emoji are written, and harmless."""
_HERE = Path(__file__)
_MOUNT = st.components.v2.component(
    "sts_explorer.strips",
    html='<div class="strips"></div>',
    css=_HERE.with_name("strip.css").read_text(encoding="utf-8"),
    js=_HERE.with_name("strip.js").read_text(encoding="utf-8"),
)


class Line(NamedTuple):
    """The values of a strip's tokens in one arm."""

    arm: str
    values: Sequence[float]


class Strip(NamedTuple):
    """One example."""

    texts: Sequence[str]
    """Its tokens as text; joined they are the text."""
    lines: Sequence[Line]
    """Its own arm first, then others on the same tokens."""
    peak: int
    """The strongest token."""
    place: str
    """Where it is from: source and row."""
    trouble: str = ""
    """Why its text cannot be shown; empty where it can."""


def strips(shown: Sequence[Strip], key: str, name: str, *, view: View = "compact", scale: Scale = "common") -> None:
    """Draw them; `name` is what the list is called for who cannot see it."""
    data = {"name": name, "view": view, "scale": scale, "strips": [as_data(strip) for strip in shown]}
    _MOUNT(key=key, data=data)


def as_data(strip: Strip) -> dict[str, Any]:
    """A strip as the browser gets it: bounded, every value a number, every letter one that can be seen."""
    length = len(strip.texts)
    peak = min(max(strip.peak, 0), max(length - 1, 0))
    first = max(0, min(peak - MOST_TOKENS // 2, length - MOST_TOKENS))
    last = first + MOST_TOKENS
    lines = [(_on_line(line.arm), _numbers(line.values, length)) for line in strip.lines]
    return {
        "tokens": [runs(text) for text in strip.texts[first:last]],
        "lines": [{"arm": arm, "values": values[first:last]} for arm, values in lines],
        "peak": peak - first,
        "place": _on_line(strip.place),
        "trouble": _on_line(strip.trouble, 400),
        "value": number(lines[0][1][peak]) if lines and length else "",
    }


def runs(text: str, longest: int = LONGEST_TOKEN) -> list[str]:
    """A token in runs, the plain ones and the marks in turn, a plain one first (it may be empty).

    A single space stays a gap; spaces that nobody would see, several or with nothing behind them, become dots.
    """
    shown, cut = text[:longest], len(text) - longest
    found = [""]
    for place, letter in enumerate(shown):
        mark = _mark(letter)
        if letter == " " and (shown[place - 1 : place] == " " or shown[place + 1 : place + 2] in ("", " ")):
            mark = "·"
        is_mark = len(found) % 2 == 0
        if bool(mark) != is_mark:
            found.append("")
        found[-1] += mark or letter
    if cut > 0:
        found += ["", f"…+{cut}"] if len(found) % 2 == 0 else [f"…+{cut}"]
    return found


def as_text(texts: Sequence[str], peak: int) -> str:
    """The same as one line of text, the peak token between ⟪ and ⟫."""
    joined = ["".join(runs(text)) for text in texts]
    if 0 <= peak < len(joined):
        joined[peak] = f"⟪{joined[peak]}⟫"
    return "".join(joined)


def _mark(letter: str) -> str:
    """What stands for a letter that cannot be seen; empty for one that can."""
    if letter == " " or letter in _JOINERS:
        return ""
    if letter in _MARKS:
        return _MARKS[letter]
    kind = unicodedata.category(letter)
    if kind in ("Cc", "Cf", "Cs", "Zl", "Zp", "Cn", "Co"):
        return f"⟨{ord(letter):02X}⟩"
    return "·" if kind == "Zs" else ""


def _numbers(values: Sequence[float], length: int) -> list[float | None]:
    """A finite number, or None, for each token: NaN cannot be sent to a browser."""
    found = [float(value) if value is not None and math.isfinite(value) else None for value in values[:length]]
    return found + [None] * (length - len(found))


def _on_line(text: str, longest: int = LONGEST_TOKEN) -> str:
    """Words on one line, short and with marks for what cannot be seen."""
    return "".join(runs(" ".join(text[: 4 * longest].split()), longest))
