"""What the paper publishes of its own three models, as facts to compare with (*SAE as a Crystal Ball*, ICLR 2026).

Fine-tuning on LIMO, MMLU-Pro by domain: the change of accuracy of all fourteen domains (Appendix A), and the two
scores of eight of them, read off Figure 3 to about one pixel. Of the other six domains it publishes no score.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from sts_core.errors import UserError, nearest
from sts_core.results.outcomes.outcome import Outcome

SOURCE, METRIC = "paper", "accuracy"
NOT_PUBLISHED = "not published"
_CHANGES = {
    "Llama3-8B-Instruct": (
        "engineering −11.97, physics −5.7, chemistry −5.39, law −3.72, philosophy −2.61, other −2.49, health −1.1, "
        "computer science −0.97, economics −0.95, math −0.89, psychology −0.63, biology −0.42, history −0.26, "
        "business −0.12"
    ),
    "Qwen2.5-7B-Instruct": (
        "engineering −9.8, chemistry −6.36, physics −5.24, computer science −4.88, business −4.43, health −2.93, "
        "math −2.89, economics −2.61, philosophy −2.4, biology 1.53, other −1.3, psychology −0.37, history 0.26, "
        "law −0.19"
    ),
    "Gemma2-9B-Instruct": (
        "engineering −9.29, computer science −3.66, other −2.05, law −1.73, health −1.47, math 1.41, business −1.27, "
        "history −0.79, economics −0.71, chemistry −0.62, biology −0.56, physics −0.54, psychology −0.05, philosophy 0"
    ),
}
"""Accuracy after − before, percentage points."""
_SCORES = {
    "Llama3-8B-Instruct": (
        "engineering 1.116 0.89778, physics 1.0785 0.89954, chemistry 1.0251 0.88749, law 0.9685 0.87933, "
        "psychology 1.0245 0.87502, biology 0.9535 0.87058, history 0.8911 0.85069, business 1.0438 0.87239"
    ),
    "Qwen2.5-7B-Instruct": (
        "engineering 5.11 9.436, chemistry 5.201 10.609, physics 4.502 9.123, computer science 4.279 8.779, "
        "other 3.694 7.679, psychology 3.276 8.024, history 4.103 7.321, law 3.205 5.479"
    ),
    "Gemma2-9B-Instruct": (
        "engineering 776.14 246.31, computer science 723.25 230.1, other 759.84 230.73, law 729.85 226.45, "
        "biology 729.71 222.87, physics 755.19 236.79, psychology 737.41 231.1, philosophy 735.91 226.71"
    ),
}
"""STS_act and STS_icl as Figure 3 shows them."""


class Printed(NamedTuple):
    """What the paper prints above a panel of Figure 3."""

    r: float
    r2: float


PRINTED = {
    ("Llama3-8B-Instruct", "sts_act"): Printed(0.71, 0.50),
    ("Qwen2.5-7B-Instruct", "sts_act"): Printed(0.90, 0.80),
    ("Gemma2-9B-Instruct", "sts_act"): Printed(0.60, 0.36),
    ("Llama3-8B-Instruct", "sts_icl"): Printed(0.81, 0.66),
    ("Qwen2.5-7B-Instruct", "sts_icl"): Printed(0.78, 0.61),
    ("Gemma2-9B-Instruct", "sts_icl"): Printed(0.77, 0.60),
}
HALF_PIXEL = {
    ("Llama3-8B-Instruct", "sts_act"): 0.0011,
    ("Qwen2.5-7B-Instruct", "sts_act"): 0.00979,
    ("Gemma2-9B-Instruct", "sts_act"): 0.25901,
    ("Llama3-8B-Instruct", "sts_icl"): 0.00023,
    ("Qwen2.5-7B-Instruct", "sts_icl"): 0.02466,
    ("Gemma2-9B-Instruct", "sts_icl"): 0.1148,
}
"""How far a score read off the figure may be from the true one: one pixel each way."""


def models() -> list[str]:
    """The three models, in the paper's order."""
    return list(_CHANGES)


def find(name: str) -> str:
    """The model that a person means: its name, or its beginning, as in `qwen`."""
    wanted = name.strip().casefold()
    found = [model for model in models() if wanted and model.casefold().startswith(wanted)]
    if len(found) != 1:
        raise UserError(
            f"The paper has no model {name!r}{nearest(name, models())}", f"Choose from: {', '.join(models())}."
        )
    return found[0]


def outcomes(model: str) -> list[Outcome]:
    """The change of accuracy of the fourteen domains, percentage points; no error and no count is published."""
    return [
        Outcome(domain, None, None, values[0], None, None, METRIC, SOURCE)
        for domain, values in _read(_CHANGES[find(model)]).items()
    ]


def scores(model: str) -> pd.DataFrame:
    """`domain, metric, value, se` of the eight domains shown; `se` is unknown throughout."""
    table = _read(_SCORES[find(model)])
    metrics = enumerate(("sts_act", "sts_icl"))
    rows = [(domain, metric, values[i], None) for i, metric in metrics for domain, values in table.items()]
    return pd.DataFrame(rows, columns=["domain", "metric", "value", "se"]).astype({"se": "float64"})


def _read(table: str) -> dict[str, tuple[float, ...]]:
    found = {}
    for entry in table.split(", "):
        words = entry.replace("−", "-").split()
        name = " ".join(word for word in words if word[0].isalpha())
        found[name] = tuple(float(word) for word in words if not word[0].isalpha())
    return found
