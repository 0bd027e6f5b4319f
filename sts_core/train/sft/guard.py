"""Told when a training has gone wrong: a loss or a gradient that is no number, or a loss that has exploded."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from sts_core.errors import UserError

TIMES = 10.0
"""A loss this many times the first one is too much, and so is …"""
WORSE = 1.0
"""… one this many nats a token above guessing blindly, and above the first; and that …"""
STEPS = 5
"""… for so many steps in a row."""
_LEAST = 2.0
"""Below so many nats nothing has exploded, however small the first loss was."""


@dataclass
class Guard:
    """Sees every step's loss and gradient norm; its state goes into checkpoints."""

    vocabulary: int
    """Tokens to guess from: blindly costs ln of it."""
    first: float | None = None
    above: int = 0
    """Steps in a row with too high a loss."""

    def see(self, step: int, loss: float, norm: float) -> None:
        """UserError when the training should stop here, before anything of it is saved."""
        if not math.isfinite(loss) or not math.isfinite(norm):
            what = "loss" if not math.isfinite(loss) else "gradient"
            raise UserError(f"The {what} is no longer a number at step {step:,}", self._hint())
        if self.first is None:
            self.first = loss
        self.above = self.above + 1 if loss > self.limit(self.first) else 0
        if self.above >= STEPS:
            raise UserError(
                f"The loss has exploded: {loss:.3g} at step {step:,}, {self.first:.3g} at the first", self._hint()
            )

    def limit(self, first: float) -> float:
        """What the loss may not stay above."""
        return max(_LEAST, min(TIMES * first, max(first, math.log(self.vocabulary)) + WORSE))

    def state(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @staticmethod
    def _hint() -> str:
        return "Start again with a lower learning_rate; the checkpoints before are kept."
