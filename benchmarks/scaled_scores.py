"""Does the score rank harm better once each feature is taken by its own scale? `python -m benchmarks.scaled_scores`.

From stored vectors and a run's own evaluation, so nothing is measured. Exploratory: the primary comparison is the
first column at N = 100; all others were thought of after it had failed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sts_core.jobs.folder import meant, result_folder
from sts_core.results.outcomes.rows import changes, read_rows
from sts_core.results.vectors import Vectors
from sts_core.stats.correlation import correlate

Numbers = NDArray[np.float64]
SIZES = (20, 50, 100, 200, 500, 1000)
_SILENT = 1e-5
"""Mean activation below which a feature has no scale to be divided by."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row for each N, a column for each way to average."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaled_scores", description=__doc__.split("\n")[0])
    parser.add_argument("result", type=Path, help="a finished result")
    parser.add_argument("run", help="id of a fine-tune that was evaluated before and after")
    asked = parser.parse_args(arguments)
    of = Vectors(asked.result)
    harm = {c.set: c.change for c in changes(read_rows(result_folder(meant(asked.run)))) if c.metric == "nll"}
    domains = [name for name in of.domains if name in harm]
    features = np.arange(len(of.ranking))
    active = of.means("sts_act", features).loc[domains].to_numpy()
    shift = of.shift[of.ranked_by].to_numpy()
    y = [harm[name] for name in domains]
    print(f"Spearman against harm, n = {len(domains)} domains; p by permutation in brackets\n")
    print(
        "| N | STS act | relative | relative, weighted by shift | share of all activity |\n|---:|---:|---:|---:|---:|"
    )
    for n in SIZES:
        told = [_told(domains, x, y) for x in ways(active, shift, of.ranking[:n])]
        print(f"| {n} | {' | '.join(told)} |")
    return 0


def ways(active: Numbers, shift: Numbers, chosen: NDArray[np.int64]) -> list[Numbers]:
    """The score of each domain, averaged in each of the ways; `active` has a row a domain, a column a feature."""
    scale = active.mean(axis=0)
    alive = chosen[scale[chosen] > _SILENT]
    relative = active[:, alive] / scale[alive]
    plain = active[:, chosen].sum(axis=1)
    return [plain, relative.sum(axis=1), relative @ shift[alive], plain / active.sum(axis=1)]


def _told(names: Sequence[str], x: NDArray[np.float64], y: Sequence[float]) -> str:
    found = correlate(names, list(x), list(y), resamples=1)
    return f"{found.spearman:+.2f} ({found.p_spearman:.3f})"


if __name__ == "__main__":
    raise SystemExit(main())
