"""A page with nothing but token strips: plain ones, and one for each kind of text that means harm."""

from __future__ import annotations

import streamlit as st

from pages.parts.strip import Line, Strip, strips

HOSTILE = {
    "script": "<script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)>",
    "style": "</style><style>*{display:none}</style>",
    "markdown": "[click](javascript:alert(4)) ![x](https://example.org/x.png) :red[x] $x$",
    "override": "abc\u202edesrever\u2066isolated\u2069 tail",
    "null": "a\x00b\x07c\x08\x7f\u200b\ufeff",
    "ansi": "\x1b[31mred\x1b[0m \x1b]0;title\x07",
    "megabyte": "x" * 1_000_000,
    "newlines": "one\n\n\n  two\r\n\tthree   ",
    "marks": "Z" + "\u0301\u0323" * 60,
    "surrogate": "a\ud800b",
    "arabic": "مرحبا بالعالم",
    "many": "nul" * 3,
}
WORDS = "Tom has  3 apples and buys 12 more .\n\nHow many apples does he have now ? He has 3 + 12 = 15 apples in all"


def plain(at: int) -> Strip:
    """A sentence whose strongest token is elsewhere each time."""
    texts = [f" {word}" if place else word for place, word in enumerate(WORDS.split(" "))]
    peak = (5 + 4 * at) % len(texts)
    own = [max(0.0, (6 - at) * (1 - abs(place - peak) / 4)) for place in range(len(texts))]
    other = [0.6 * value if place % 2 else value * 1.2 for place, value in enumerate(own)]
    return Strip(texts, [Line("base", own), Line("ICL", other)], peak, f"gsm-symbolic · row {1200 + 7 * at}")


def hostile(name: str, text: str) -> Strip:
    """A strip whose peak is the text, between two plain words; its place is the text too."""
    return Strip(
        ["before", text, " after"], [Line("base", [0.0, float("nan") if name == "null" else 2.0, 0.5])], 1, text
    )


st.title("Strips")
compact = [plain(at) for at in range(5)]
st.header("Compact")
strips([strip._replace(lines=strip.lines[:1]) for strip in compact], key="compact", name="Compact")
st.header("Full, two arms")
strips(compact[:2], key="full", name="Full", view="full", scale="own")
st.header("Compact, two arms")
strips(compact[:2], key="arms", name="Arms")
st.header("Hostile")
harm = [hostile(name, text) for name, text in HOSTILE.items()]
strips(harm, key="hostile", name="Hostile")
strips(harm, key="hostile_full", name="Hostile, full", view="full")
st.markdown("The end of the page.")
