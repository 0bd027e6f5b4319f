"""Text from files, models and people, made safe to stand inside Markdown."""

from __future__ import annotations

import re

from sts_core.figures.unseen import boxed

_SPACE = re.compile(r"[^\S\u00a0\u202f]+")
"""All white space but that which holds a number and its unit together."""
_MEANS_SOMETHING = re.compile(r"([\\`*_{}\[\]()#+\-.!|~:$<>&])")

_SIGN = re.compile(r":(material/|streamlit:)")
"""What Streamlit draws as a sign although a backslash stands before its colon."""

_SIGNED = re.compile(r" ([=<>]) ")


_LINK = re.compile(r"(?i)(https?:)(?=//)|(www)(?=\.)|(@)(?=[-\w]+\.\w)")
"""Where Markdown as GitHub has it finds an address, and makes a link of it although every sign of it is escaped."""


def plain(text: object) -> str:
    """The text as it is: no letter of it is read as Markdown, a colour, a formula or HTML, or turns it; on one line."""
    text = _LINK.sub("\\g<0>\u2060", _SIGN.sub(":\u2060\\1", str(text)))
    return _MEANS_SOMETHING.sub(r"\\\1", boxed(_SPACE.sub(" ", text).strip()))


def unbroken(text: str) -> str:
    """The text with no name torn at its hyphen by the end of a line, and no `p = .03` at its sign."""
    return _SIGNED.sub("\u00a0\\1\u00a0", text.replace("-", "\u2011"))
