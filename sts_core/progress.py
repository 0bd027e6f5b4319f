"""How long work tells that it moves: one small record, handed to whoever watches."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Progress(NamedTuple):
    """One step of a longer work."""

    stage: str
    """What is being done, in a person's words: `measuring physics`."""
    done: float
    """How much of the whole work is done, in `unit`."""
    total: float
    """How much the whole work is, in `unit`; 0 while it is not known."""
    unit: str = "tokens"
    expected: float = 0.0
    """Seconds this whole stage is expected to take, until its own pace is seen; 0 where nobody knows."""
    later: float = 0.0
    """Seconds that the stages after this one are expected to take."""


Watcher = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """The watcher that looks away."""
