"""Does the score say anything of the training set, or of the domains alone? `python -m benchmarks.same_order A B …`.

From stored vectors of results that were measured on one SAE for several training sets: how alike their scores order
the domains, pair by pair, and how alike the activity of all features, which knows of no training set, orders them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from sts_core.results.folder import Result
from sts_core.results.vectors import Vectors

TOP = 100
METRICS = ("sts_act", "sts_icl")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row a pair, then a row a result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.same_order", description=__doc__.split("\n")[0])
    parser.add_argument("results", type=Path, nargs="+", help="finished results on one SAE")
    asked = parser.parse_args(arguments)
    of = {named(folder): Vectors(folder) for folder in asked.results}
    print(f"Spearman over domains; the {TOP} features that each one's demonstrations shift most\n")
    print("| | | STS act | STS icl | features shared |\n|---|---|---:|---:|---:|")
    for one, other in combinations(of, 2):
        shared = len({*of[one].ranking[:TOP].tolist()} & {*of[other].ranking[:TOP].tolist()})
        told = [f"{alike(scores(of[one], m), scores(of[other], m)):.2f}" for m in METRICS]
        print(f"| {one} | {other} | {' | '.join(told)} | {shared} |")
    for name, vectors in of.items():
        told = [f"{alike(scores(vectors, m), scores(vectors, m, whole=True)):.2f}" for m in METRICS]
        print(f"| {name} | all features | {' | '.join(told)} | |")
    return 0


def named(folder: Path) -> str:
    """The training set of a result."""
    return Path(str(Result(folder).manifest["spec"]["target"]["data"])).stem


def scores(of: Vectors, metric: str, whole: bool = False) -> pd.Series[float]:
    """Domain -> score over the leading features, or over all there are."""
    chosen = np.arange(len(of.ranking)) if whole else of.ranking[:TOP]
    return of.means(metric, chosen).mean(axis=1)


def alike(one: pd.Series[float], other: pd.Series[float]) -> float:
    """Spearman over the domains that both have."""
    both = pd.concat([one, other], axis=1, join="inner").to_numpy()
    return float(spearmanr(both[:, 0], both[:, 1]).statistic)


if __name__ == "__main__":
    raise SystemExit(main())
