"""Do fine-tunes hurt the same domains? `python -m benchmarks.harms_alike RUN RUN …`, from their own evaluations.

Pair by pair how alike they order the domains; and of runs with one prediction, such as two seeds, how the STS act that
was written down before them ranks the mean of their harms.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.same_order import alike
from sts_core.jobs.folder import meant, result_folder
from sts_core.results.folder import TARGET
from sts_core.results.outcomes.rows import changes, read_rows
from sts_core.stats.correlation import Correlation, correlate


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line a pair, then one a prediction that several runs have."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.harms_alike", description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", help="ids of fine-tunes that were evaluated before and after")
    asked = parser.parse_args(arguments)
    folders = {run: result_folder(meant(run)) for run in asked.runs}
    harms = {run: harm(folder) for run, folder in folders.items()}
    for one, other in combinations(harms, 2):
        print(f"{one} and {other}: Spearman of harms {alike(harms[one], harms[other]):.2f}")
    by_prediction = defaultdict(list)
    for run, folder in folders.items():
        by_prediction[prediction(folder)["key"]].append(run)
    for runs in (runs for runs in by_prediction.values() if len(runs) > 1):
        found = against_mean(folders[runs[0]], [harms[run] for run in runs])
        print(
            f"{' and '.join(runs)}, mean harm: Spearman {found.spearman:.2f} (p {found.p_spearman:.3f}), "
            f"r {found.r:.2f}, leave one out {min(found.loo.values()):.2f} to {max(found.loo.values()):.2f}"
        )
    return 0


def harm(folder: Path) -> pd.Series[float]:
    """Domain -> rise of the gold answer's negative log-likelihood."""
    rows = [c for c in changes(read_rows(folder)) if c.metric == "nll" and c.set != TARGET]
    return pd.Series({c.set: c.change for c in rows})


def prediction(folder: Path) -> dict[str, Any]:
    """As it was written down before the run's first step."""
    told: dict[str, Any] = json.loads((folder / "prediction.json").read_text(encoding="utf-8"))
    return told


def against_mean(folder: Path, harms: Sequence[pd.Series[float]]) -> Correlation:
    """The written STS act against the mean of these harms."""
    told = prediction(folder)["scores"]
    scores = {one["domain"]: float(one["value"]) for one in told if one["metric"] == "sts_act"}
    mean = pd.concat(harms, axis=1).mean(axis=1)
    return correlate(list(scores), list(scores.values()), [float(mean[name]) for name in scores])


if __name__ == "__main__":
    raise SystemExit(main())
