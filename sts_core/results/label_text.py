"""Words from outside (an answer, a file, a person) made fit to be kept and shown: short, no control signs."""

from __future__ import annotations

import unicodedata

MOST_LABEL, MOST_EXPLANATION, MOST_NOTE = 120, 400, 4_000
"""Characters."""
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Controls, marks that turn the direction of text, broken and unassigned signs, other ends of lines."""


def plain(text: str, most: int, lines: bool = False) -> str:
    """At most so many characters, none of them a control; white space becomes single blanks unless `lines` are kept.

    Only what can still be in the result is looked at, so a text of any length costs the same.
    """
    kept = []
    for sign in text[: 4 * most]:
        if lines and sign == "\n":
            kept.append(sign)
        elif sign.isspace():
            kept.append(" ")
        elif unicodedata.category(sign) not in _UNSEEN:
            kept.append(sign)
    words = "".join(kept)
    words = words.strip() if lines else " ".join(words.split())
    return words if len(words) <= most else words[: most - 1].rstrip() + "…"
