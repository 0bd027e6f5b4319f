"""What the pages know of fine-tuning runs: read from the database in one go, so that a page shows one moment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import duckdb
import pandas as pd

from sts_core.errors import UserError
from sts_core.figures.run_words import Overlap, Standing
from sts_core.jobs.disk import last_checkpoint
from sts_core.jobs.folder import ACTIVE, Job, load, locate, marked
from sts_core.jobs.watch import read as read_job
from sts_core.store import queries, reading
from sts_core.store.attempts import Again, Together, again, attempts, together

KIND = "sft"
CURVES = ("loss", "learning_rate", "grad_norm", "tokens_per_second")
"""What a step tells, in the order it is shown."""
POINTS = 250
"""Rows of a curve at most: one for every two pixels or so of its figure."""
MOST_EVENTS = 1_000
SEVERAL = 10
"""Points of the loss that are averaged where a sentence says how large it is."""
K = 100
"""The overlap@k that stands in headlines and tables."""
MOST_KEPT = 12
"""Runs that are kept as they were read: those that several people look at or compare."""
_CHANGES = ["domain", "value", "se", "n"]


class Counts(NamedTuple):
    """How many runs are kept, how many of them run or wait, and how many of those wait."""

    runs: int
    active: int
    waiting: int


class _Line(NamedTuple):
    """A run's sparkline, and how far it had been read in then."""

    place: tuple[Any, ...]
    told: tuple[int, float, list[float]] | None
    """`step, last, sparkline`; None where no loss was told yet."""


class _Kept(NamedTuple):
    """A run as it was read, and how far it had been read in then."""

    place: tuple[Any, ...] | None
    run: Run


_lines: dict[str, _Line] = {}
"""What the last listing found. Replaced whole, so that sessions that list at once need no lock."""
_kept: dict[str, _Kept] = {}
"""Runs as they were read last."""


class Run(NamedTuple):
    """One run."""

    job: Job
    spec: Mapping[str, Any]
    note: str
    curves: dict[str, pd.DataFrame]
    """Name -> `step, value, low, high`."""
    trajectory: dict[str, dict[int, float]]
    """Name of a checkpoint's number -> step -> value."""
    evaluations: pd.DataFrame
    prediction: Mapping[str, Any] | None
    """What was foretold at launch: key, written, dims, scores, measure."""
    events: pd.DataFrame
    """Its checkpoints and stages."""
    skipped: int
    attempts: pd.DataFrame
    """`began, heard` of each."""
    again: Again

    @property
    def title(self) -> str:
        """What a person calls it."""
        return marked(self.job.title or self.job.id, self.job.id)

    @property
    def steps(self) -> int | None:
        """How many it will have, once that is known."""
        for payload in self.events[self.events["kind"] == "stage"]["payload"]:
            stage = json.loads(payload)
            if stage.get("unit") == "steps" and stage.get("total"):
                return int(stage["total"])
        return int(self.job.total) if self.job.unit == "steps" and self.job.total else None

    @property
    def standing(self) -> Standing:
        """How it stands, for a sentence."""
        loss, job = self.curves["loss"], self.job
        if not len(loss):
            return Standing(job.state, None, self.steps, None, None, job.seconds, job.time_left, job.error)
        # One step's loss is that of a few rows: what is said of it is a mean over several.
        several = min(SEVERAL, max(1, len(loss) // 2))
        first, last = (float(part.mean()) for part in (loss["value"].head(several), loss["value"].tail(several)))
        step, over = int(loss["step"].iloc[-1]), int(loss["step"].iloc[several - 1])
        so_far = Standing(job.state, step, self.steps, first, last, job.seconds, job.time_left, job.error, over)
        return so_far._replace(again_from=self._again_from(step), now_at=self._now_at)

    def _again_from(self, told: int) -> int | None:
        """The step from which a resumed run does over what it had told; None where it has nothing to do over."""
        if not self.job.active or self.job.attempt == 1 or self.again.stepped:
            return None
        begun = last_checkpoint(self.job.folder)
        return begun if begun < told else None

    @property
    def _now_at(self) -> int | None:
        """The step that the training of this attempt has come to."""
        return int(self.job.done) if self.again.trains and self.job.unit == "steps" else None

    @property
    def together(self) -> Together:
        """All its attempts as one."""
        return together(self.job, self.attempts)

    def changes(self, metric: str) -> pd.DataFrame:
        """`domain, value, se, n` between before and after, without the target set."""
        return self._changes(metric, lambda name: name != "target")

    def target_changes(self, metric: str) -> pd.DataFrame:
        """The same of the target set alone."""
        return self._changes(metric, lambda name: name == "target")

    def overlap(self) -> Overlap | None:
        """The newest overlap with the prediction; None while none is measured."""
        shares = self.trajectory.get(f"overlap_{K}", {})
        if not shares:
            return None
        step = max(shares)

        def at(name: str) -> float | None:
            return self.trajectory.get(name, {}).get(step)

        nulls = {name: at(f"null_{name}_{K}") for name in ("noise", "activation", "matched", "chance")}
        highest = max(
            (name for name, v in nulls.items() if v is not None), key=lambda n: nulls[n] or 0, default="chance"
        )
        upper = at(f"null_{K}")
        return Overlap(K, shares[step], highest, upper if upper is not None else nulls[highest] or 0.0,
                       bool(at(f"claimed_{K}")))  # fmt: skip

    def newest(self, name: str) -> float | None:
        """The last value of a checkpoint's number."""
        values = self.trajectory.get(name, {})
        return values[max(values)] if values else None

    def _changes(self, metric: str, chosen: Any) -> pd.DataFrame:
        rows = self.evaluations
        rows = rows[(rows["phase"] == "change") & (rows["metric"] == metric) & rows["domain"].map(chosen).astype(bool)]
        return rows[_CHANGES].reset_index(drop=True)


def counts() -> Counts:
    """How many runs there are."""
    with reading.read() as view:
        asked: tuple[list[str], ...] = ([], sorted(ACTIVE), ["waiting"])
        return Counts(*(queries.count(view.connection, states, [KIND]) for states in asked))


def titles() -> dict[str, str]:
    """What the newest runs are called, by their ids."""
    with reading.read() as view:
        return queries.titles(view.connection, KIND)


def listing(limit: int = 200) -> pd.DataFrame:
    """The newest runs with their last loss and its sparkline.

    A line is asked for again only when its run has told more: of five hundred ended runs none is.
    """
    global _lines
    with reading.read() as view:
        connection = view.connection
        listed = queries.jobs(connection, limit=limit, kinds=[KIND])
        now, before = queries.places(connection, list(listed["id"])), _lines
        known = {job: line for job, line in before.items() if now.get(job) == line.place}
        asked = queries.sparklines(connection, [job for job in now if job not in known])
    read = {row.id: (row.step, row.last, list(row.sparkline)) for row in asked.itertuples()}
    _lines = known | {job: _Line(place, read.get(job)) for job, place in now.items() if job not in known}
    lines = [(job, *line.told) for job, line in _lines.items() if line.told is not None]
    listed["share"] = [_share(*row) for row in zip(listed["id"], listed["state"], strict=True)]
    return queries.with_sparklines(listed, pd.DataFrame(lines, columns=["id", "step", "last", "sparkline"]))


def _share(job: str, state: str) -> float | None:
    """How much of a run is done, as its job tells it; only of one that goes on its folder is asked."""
    if state not in ACTIVE:
        return 1.0 if state == "done" else None
    try:
        return load(locate(job)).share
    except UserError:  # removed by someone while we look
        return None


def run(job: str) -> Run:
    """All of one run; UserError when there is none of this id. What it has told is read again only when that is more.

    Its state is that of its folder at this moment.
    """
    now = read_job(job)
    if now.kind != KIND:
        raise UserError(f"{now.title or job} is no fine-tuning run", "Choose one of the table.")
    with reading.read() as view:
        place = queries.places(view.connection, [job]).get(job)
        kept = _kept.get(job)
        if kept is None or kept.place != place:
            kept = _Kept(place, _read(view.connection, now))
    _kept.pop(job, None)
    _kept[job] = kept  # the one looked at last stays longest
    for oldest in list(_kept)[:-MOST_KEPT]:
        _kept.pop(oldest, None)
    return kept.run._replace(job=now, spec=now.spec)


def _read(connection: duckdb.DuckDBPyConnection, now: Job) -> Run:
    told = queries.predictions(connection, now.id)
    note, skipped = queries.remarks(connection, now.id)
    return Run(
        job=now,
        spec=now.spec,
        note=note,
        curves=queries.curves(connection, now.id, CURVES, POINTS),
        trajectory=_by_name(queries.at_steps(connection, now.id, but=(*CURVES, "epoch"))),
        evaluations=queries.evaluations(connection, now.id),
        prediction=_prediction(told),
        events=queries.events(connection, now.id, limit=MOST_EVENTS, kinds=["checkpoint", "stage"]),
        skipped=skipped,
        attempts=attempts(connection, now.id),
        again=again(connection, now.id),
    )


def _by_name(told: pd.DataFrame) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for name, step, value in zip(told["name"], told["step"], told["value"], strict=True):
        found.setdefault(str(name), {})[int(step)] = float(value)
    return found


def _prediction(told: pd.DataFrame) -> Mapping[str, Any] | None:
    if not len(told):
        return None
    row = told.iloc[0]
    tables = {name: json.loads(row[name] or "null") for name in ("dims", "scores")}
    return {"key": row["key"], "written": row["written"], "measure": row["measure"], **tables}
