"""How fast work goes, and how long it will still take, from what it did in the last few seconds."""

from __future__ import annotations

from collections import deque

from sts_core.progress import Progress

WINDOW = 15.0
"""Seconds looked back: long enough to smooth batches of unequal length, short enough to follow a change."""
_FEWEST = 5
"""Steps looked back at least, however long they take: one slow step is no new pace."""
_SHORTEST = 1.0
"""Seconds that must be seen before anything is said: the first steps are no measure of those that follow."""


class Pace:
    """A sliding window over (time, amount done)."""

    def __init__(self, window: float = WINDOW) -> None:
        self._window = window
        self._seen: deque[tuple[float, float]] = deque()
        self._unit = ""

    def see(self, step: Progress, at: float) -> tuple[float | None, float | None]:
        """Units a second and seconds left after this step at time `at`; None for what cannot be known yet."""
        if step.unit != self._unit or (self._seen and step.done < self._seen[-1][1]):
            self._seen.clear()  # another work has begun: the old one's pace says nothing of it
            self._unit = step.unit
        self._seen.append((at, step.done))
        # The newest step at or beyond the window's edge stays, so the window is always spanned.
        while len(self._seen) > _FEWEST + 1 and self._seen[1][0] <= at - self._window:
            self._seen.popleft()
        first_at, first_done = self._seen[0]
        if at - first_at < _SHORTEST or step.done <= first_done:
            return None, self._unseen(step)
        rate = (step.done - first_done) / (at - first_at)
        left = (step.total - step.done) / rate if step.total > 0 else None
        return rate, None if left is None else max(0.0, left) + step.later

    def _unseen(self, step: Progress) -> float | None:
        """What is left where this stage's pace is not known yet: as much as was expected of it."""
        if not step.expected and not step.later:
            return None
        share = min(1.0, step.done / step.total) if step.total > 0 else 0.0
        return step.expected * (1 - share) + step.later
