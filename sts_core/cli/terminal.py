"""What a terminal is given: nothing that it would obey, or that turns or hides a line."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from typing import Any

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Kinds of signs that a terminal does not show but obeys, or shows as nothing."""
_SHOWN = {"\n": "↵", "\t": "⇥", "\r": "␍"}


def visible(text: str) -> str:
    """A text that a terminal shows and does not obey: what would be unseen, or turn the line, is written out."""
    return "".join(
        _SHOWN.get(sign) or (_written(sign) if unicodedata.category(sign) in _HIDDEN else sign) for sign in text
    )


def brief(text: str, longest: int) -> str:
    """A person's text as one visible line; of a longer one its beginning, and how long it is."""
    line = " ".join(text.split())
    if len(line) <= longest:
        return visible(line)
    return f"{visible(line[:longest])}… ({len(text):,} characters; all of it with --json)"


def as_json(value: Any) -> str:
    """JSON for programs and terminals alike: what is no number is null, what a terminal would obey is escaped."""
    text = json.dumps(_plain(value), ensure_ascii=False, indent=1, allow_nan=False)
    return re.sub(r"[^\n\x20-\x7e]", lambda found: _for_json(found[0]), text)


def _for_json(sign: str) -> str:
    return json.dumps(sign)[1:-1] if unicodedata.category(sign) in _HIDDEN else sign


def _written(sign: str) -> str:
    number = ord(sign)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if hasattr(value, "item"):  # a NumPy number
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
