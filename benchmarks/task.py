"""What a side is asked to do and what it answers; plain values that travel between processes as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

from benchmarks.meter import Cost

TINY = "tiny"
"""The name of the random model that costs next to nothing."""


@dataclass(frozen=True)
class Task:
    """What a side has to do."""

    side: Literal["ours", "rival"]
    model: str
    """A name that `sts run` takes, or `tiny`."""
    sae: str
    """The same, or empty for random weights of `features` features after block `layer`."""
    layer: int
    features: int
    dtype: str
    prefix: int
    items: int = 0
    tokens: int = 0
    """Queries are drawn until there are so many of them and they pool so many tokens."""
    data: str = ""
    seed: int = 0
    repeats: int = 1
    seconds: float = 60.0
    """No further repeat is begun after so long."""
    batches: tuple[int, ...] = (1,)
    """Batch sizes that the rival may choose from."""
    keep: str = ""
    """Where the shift vector is left, to be compared with the other side's."""

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Task:
        """The way back."""
        value = json.loads(line)
        return cls(**{**value, "batches": tuple(value["batches"])})


class Report(NamedTuple):
    """What it cost."""

    items: int
    pooled: int
    prompt_tokens: int
    """Tokens of all prompts of both arms."""
    cost: Cost
    batch: int
    """The rival's better batch size; 0 for ours."""
    ideal: float
    """Seconds that our counted arithmetic takes at the measured matmul rate; 0 for the rival."""
    rate: float
    """That rate for the model's own products, FLOP/s."""
    marks: list[tuple[int, float]]
    """Tokens run and seconds since the start, batch by batch, of our last repeat."""

    @property
    def share(self) -> float:
        """How much of the machine's matmul rate the counted arithmetic reached."""
        return self.ideal / self.cost.wall

    def to_json(self) -> str:
        """One line."""
        return json.dumps({**self._asdict(), "cost": self.cost._asdict()})

    @classmethod
    def from_json(cls, line: str) -> Report:
        """The way back."""
        value = json.loads(line)
        marks = [(int(tokens), float(seconds)) for tokens, seconds in value["marks"]]
        return cls(**{**value, "cost": Cost(**value["cost"]), "marks": marks})
