"""Signs in the words of others that are not seen themselves, but turn or rule what stands behind them."""

from __future__ import annotations

import re

_TURNS = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
BOX = "\ufffd"


def boxed(text: str) -> str:
    """The text with a box for each of them."""
    return _TURNS.sub(BOX, text)
