"""What happened to the domains in the end, wherever it was written down: one metric, and how well it is known.

A file of a person's, a pair of others' evaluations, a run's own evaluation, or the paper's tables. Where rows were kept
the outcome's split-half reliability is told before any score is looked at (METHOD 6); else its errors tell it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sts_core.errors import UserError
from sts_core.results import imported, paper
from sts_core.results.folder import TARGET
from sts_core.results.outcomes.outcome import Outcome, domain_name, of_metric
from sts_core.results.outcomes.reading import OWN, one_sided, read_outcomes
from sts_core.results.outcomes.rows import FILE, read_rows, split_half
from sts_core.stats.correlation import differ
from sts_core.stats.ranking import top

PRIMARY_METRIC = "nll"
"""What a domain is judged by where our own scorer measured it: the gold answer's log-likelihood."""
EVALUATION, SHIFT, RESULT, MANIFEST = "evaluation.json", "shift.parquet", "result", "manifest.json"
HALVES, ERRORS = "split halves of the rows", "the outcomes' standard errors"
PAPER = "paper:"
MIXED = "Rows of other domains were mixed into this training: the scores foretell the training set alone."

Given = str | Path | Sequence[str] | Sequence[Path] | Sequence[Outcome] | Mapping[str, float]
"""A file, folder or imported name, a pair (before, after), outcomes, a change of accuracy a domain; `paper:MODEL`."""


class Trained(NamedTuple):
    """A training set: its rows' digest, and what it is called."""

    digest: str
    name: str


class Actual(NamedTuple):
    """The outcomes of one metric."""

    outcomes: list[Outcome]
    """Without the target set."""
    target: Outcome | None
    """The target set's own: what was gained for what was lost."""
    metric: str
    metrics: tuple[str, ...]
    """All that the source has."""
    source: str
    reliability: float | None
    """None where nothing tells it."""
    reliability_from: str
    folder: Path | None = None
    """The evaluation's folder, where it is one."""
    mixed: bool = False
    """Whether it is a fine-tune on a mixture."""
    trained: Trained | None = None
    """What a fine-tune was trained on, where it tells."""
    foreign: str = ""
    """What it was trained on, where that is not what the scores foretell: see `beside`."""

    def beside(self, manifest: Mapping[str, Any]) -> Actual:
        """The same, held against the result of this manifest: whether it is of another training set is known then."""
        trained, then = self.trained, (manifest.get("resolved") or {}).get("files", {}).get(TARGET, {})
        if trained is None or manifest["spec"]["target"]["data"] == trained.name or then.get("data") == trained.digest:
            return self
        name = trained.name
        return self._replace(foreign=name.rsplit("/", 1)[-1] if name.startswith(("/", "~", ".")) else name)

    @property
    def from_paper(self) -> bool:
        """Whether these are the paper's own changes."""
        return self.source.startswith(paper.SOURCE)


def read_actual(given: Given, metric: str | None = None) -> Actual:
    """The outcomes in what is given. Without a metric: the answer's log-likelihood where it was measured, else the
    only one there is.
    """
    if isinstance(given, str) and given.startswith(PAPER):
        model = paper.find(given.removeprefix(PAPER))
        return _actual(paper.outcomes(model), metric, f"{paper.SOURCE}, {model} trained on LIMO", None)
    if isinstance(given, str | Path):
        return _from_place(imported.place_of(given), metric)
    if isinstance(given, Mapping):
        changes = [
            Outcome(domain_name(str(name), "the changes"), None, None, float(change), None, None, "accuracy", "given")
            for name, change in given.items()
        ]
        return _actual(changes, metric, "given", None)
    entries = list(given)
    if entries and all(isinstance(entry, Outcome) for entry in entries):
        found = [entry for entry in entries if isinstance(entry, Outcome)]
        return _actual(found, metric, found[0].source, None)
    places = [Path(entry) for entry in entries if isinstance(entry, str | Path)]
    if len(places) != len(entries) or len(places) not in (1, 2):
        raise UserError("An actual change is one file or folder, or two of them", "Give before, then after.")
    if len(places) == 1:
        return _from_place(imported.place_of(places[0]), metric)
    if whole := next((place for place in places if (place / FILE).is_file()), None):
        name = whole.parent.name if whole.name == RESULT else whole.name
        raise UserError(f"{name} holds before and after by itself", "Name it alone; or two files, before and after.")
    return _actual(read_outcomes(*places), metric, f"{places[0].name} → {places[1].name}", None)


def run_dims(actual: Actual, first: int, last: int) -> NDArray[np.int64]:
    """The features of these ranks by how far the run itself shifted them, where it is a run that measured that."""
    path = None if actual.folder is None else actual.folder / SHIFT
    try:
        table = pq.read_table(path, columns=["feature", "shift_sft"]).to_pandas() if path else None
    except (OSError, pa.ArrowException):
        table = None
    if table is None:
        raise UserError(
            "The actual change does not come from a run that measured its own shift",
            "Use --dims icl, or name a fine-tuning run with --actual.",
        )
    if not 0 <= first < last <= len(table):
        raise UserError(f"Ranks {first} to {last} do not fit {len(table)} features", "Choose fewer, first before last.")
    table = table.sort_values("feature")
    leading = top(table["shift_sft"].to_numpy(np.float64), last)[first:]
    return table["feature"].to_numpy(np.int64)[leading]


def same_name(name: str) -> str:
    """What two spellings of one domain have in common."""
    return " ".join(name.replace("_", " ").split()).casefold()


def _from_place(place: Path, metric: str | None) -> Actual:
    name = place.parent.name if place.name == RESULT else place.name  # a run's own folder is its id
    folder = next((f for f in (place, place / RESULT) if (f / FILE).is_file() or (f / EVALUATION).is_file()), None)
    if folder is None:
        return _actual(read_outcomes(place), metric, name, None)
    found = read_outcomes(folder) if (folder / FILE).is_file() else []
    found += _of_harness(folder)
    if not found:
        raise one_sided(folder)
    return _actual(found, metric, name, folder)


def _of_harness(folder: Path) -> list[Outcome]:
    """What a finished evaluation's lm-eval tasks changed; nothing where it has none."""
    try:
        value = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
        told = [entry for entry in value["outcomes"] if entry["source"] != OWN]
        found = [Outcome(**{name: entry[name] for name in Outcome._fields}) for entry in told]
        return [one._replace(domain=domain_name(one.domain, EVALUATION), change=float(one.change)) for one in found]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{EVALUATION} in {folder} cannot be read", "Evaluate again.") from None


def _actual(found: Sequence[Outcome], metric: str | None, source: str, folder: Path | None) -> Actual:
    metrics = tuple(dict.fromkeys(outcome.metric for outcome in found))
    if metric is None and PRIMARY_METRIC in metrics:
        metric = PRIMARY_METRIC
    chosen = of_metric(found, metric)
    name = chosen[0].metric if chosen else metric or ""
    target = next((outcome for outcome in chosen if same_name(outcome.domain) == TARGET), None)
    domains = [outcome for outcome in chosen if same_name(outcome.domain) != TARGET]
    reliability, told = _reliability(domains, name, folder)
    mixed, trained = _training(folder)
    return Actual(domains, target, name, metrics, source, reliability, told, folder, mixed, trained)


def _training(folder: Path | None) -> tuple[bool, Trained | None]:
    """What a run's manifest tells: whether rows were mixed into its training set, and which set that is."""
    try:
        told = json.loads((folder / MANIFEST).read_text(encoding="utf-8")) if folder is not None else {}
        mixed = "mixture" in told["rows"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False, None
    try:
        data = told["resolved"]["files"][TARGET]["data"] if mixed else told["data"]
        return mixed, Trained(str(data), str(told["spec"][TARGET]["data"]))
    except (KeyError, TypeError):
        return mixed, None


def _reliability(domains: Sequence[Outcome], metric: str, folder: Path | None) -> tuple[float | None, str]:
    if folder is not None and (folder / FILE).is_file() and any(one.source == OWN for one in domains):
        return split_half(read_rows(folder), metric).value, HALVES
    errors = [one.harm_se for one in domains]
    known = [error for error in errors if error is not None and math.isfinite(error)]
    if len(known) < 3 or len(known) < len(errors):
        return None, ""
    harms = np.array([one.harm for one in domains])
    if not differ(harms):
        return math.nan, ERRORS
    return 1 - float(np.mean(np.square(known))) / float(np.var(harms, ddof=1)), ERRORS
