"""Grade-school maths from reasoning-gym's generators: `python -m sts_core.bundle.symbolic WHEEL FILE`.

The generators need the standard library alone, but their package imports much that is not installed here. So they
are read straight from the wheel, under empty stand-ins for the packages around them; hence a process of its own.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from sts_core.bundle.rows import first_of_each, write_rows

ROWS = 4_000
DRAWS = 4_500
"""Some questions come out twice; so many draws leave enough different ones. The draws before are the same for any
number of draws, so it does not shape the first rows."""
SEED = 0


def training_rows(wheel: Path) -> list[dict[str, Any]]:
    """`ROWS` different questions in the order drawn: `question, answer` (the worked one), `final` (its number)."""
    dataset = _dataset(wheel)
    drawn = [dataset[number] for number in range(DRAWS)]
    rows = [
        {"question": item["question"], "answer": item["metadata"]["answer_cot"], "final": str(item["answer"])}
        for item in drawn
    ]
    return first_of_each(rows, "question")[:ROWS]


def _dataset(wheel: Path) -> Any:
    folder = "reasoning_gym/arithmetic/gsm_symbolic"
    parents = folder.split("/")
    for depth in range(len(parents)):
        stand_in = ModuleType(".".join(parents[: depth + 1]))
        stand_in.__path__ = ["/".join([str(wheel), *parents[: depth + 1]])]
        sys.modules[stand_in.__name__] = stand_in
    factory: Any = ModuleType("reasoning_gym.factory")
    factory.ProceduralDataset = import_module("reasoning_gym.dataset").ProceduralDataset
    factory.register_dataset = lambda *_: None
    sys.modules[factory.__name__] = factory
    module = import_module("reasoning_gym.arithmetic.gsm_symbolic.gsm_symbolic")
    return module.GSMSymbolicDataset(module.GSMSymbolicDatasetConfig(difficulty=1.0, seed=SEED, size=DRAWS))


if __name__ == "__main__":
    write_rows(Path(sys.argv[2]), training_rows(Path(sys.argv[1])))
