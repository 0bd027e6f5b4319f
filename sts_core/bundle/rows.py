"""Rows of the bundle's files: one JSON object a line, each kept once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
"""Characters that some readers take for the end of a line; JSON may say them in letters."""


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write JSON lines in UTF-8, the same bytes on every system."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False).translate(_LINE_ENDS) + "\n" for row in rows)


def first_of_each(
    rows: Iterable[dict[str, Any]], *keys: str, beside: Iterable[dict[str, Any]] = ()
) -> list[dict[str, Any]]:
    """The rows in their order, without those whose `keys` all equal an earlier row's or one's of `beside`.

    White space does not tell two texts apart.
    """
    seen = {_identity(row, keys) for row in beside}
    kept = []
    for row in rows:
        identity = _identity(row, keys)
        if identity not in seen:
            seen.add(identity)
            kept.append(row)
    return kept


def _identity(row: dict[str, Any], keys: tuple[str, ...]) -> str:
    texts = [text for key in keys for text in (row[key] if isinstance(row[key], list) else [row[key]])]
    return json.dumps([" ".join(text.split()) for text in texts])
