"""What every spec is checked with: each value by itself, refused in words a person can act on."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from sts_core.errors import UserError, nearest


def known_keys(values: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Refuse a key that is not known, naming the nearest one."""
    known = list(known)
    for key in values:
        if key not in known:
            close = nearest(str(key), known)
            raise UserError(f"{where} has an unknown key {key!r}{close}", f"Known keys: {', '.join(known)}.")


def table(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The table under a name; an empty one where there is none."""
    found = values.get(name, {})
    if not isinstance(found, Mapping):
        raise UserError(f"[{name}] must be a table", f"Write its keys under a line [{name}].")
    return found


MOST = 10**12
"""No number of a spec is larger: a tenth of it would already take a machine's lifetime."""


def whole(name: str, value: Any, least: int, most: int = MOST) -> None:
    """Refuse what is no whole number of at least so much and at most so much."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name} is {value!r}", f"Give a whole number of at least {least}.")
    if value > most:
        raise UserError(f"{name} is {value}", f"Give a whole number of at most {most:,}.")


def positive(name: str, value: Any) -> None:
    """Refuse what is no finite number above 0."""
    if not is_number(value) or value <= 0:
        raise UserError(f"{name} is {value!r}", "Give a finite number above 0.")


def one_of(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse what is none of the choices, naming the nearest one."""
    if value not in choices:
        raise UserError(f"{name} is {value!r}{nearest(str(value), choices)}", f"Choose one of: {', '.join(choices)}.")


def device(name: str, value: Any) -> None:
    """Refuse what names no device."""
    if not isinstance(value, str) or not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        raise UserError(f"{name} is {value!r}", 'Use "auto", "cpu", "cuda", "cuda:1" or "mps".')


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
