"""The ledger as the database has it: every prediction beside the newest evaluation of its run, scored when it is read.

Predictions and evaluations come from the job folders by themselves (`store.ingest`), so nothing has to be done for a
line to appear or to be scored. Of several predictions of one run the first counts, and only if it came before the first
step. Of several evaluations the newest counts: what a resumed run told last, or a later evaluation of its final model.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from sts_core.errors import UserError
from sts_core.folders import shipped
from sts_core.jobs.folder import ACTIVE, ID, RESULT, read_table, result_folder
from sts_core.results.actual import HALVES, MIXED, PRIMARY_METRIC, read_actual, same_name
from sts_core.results.folder import TARGET
from sts_core.results.ledger import (
    ACCURACY,
    CANNOT,
    LATE,
    WAITS_EVALUATION,
    WAITS_RUN,
    Entry,
    Evaluated,
    Foretold,
    judged_by,
    score,
    unscored,
)
from sts_core.results.outcomes.outcome import SHARE, Level, Outcome, is_lower_better, pair
from sts_core.results.outcomes.reading import OWN
from sts_core.results.outcomes.rows import AFTER, BEFORE, FILE, read_rows, split_half

MODEL = "model"
"""The folder of a run's final model, in its result."""
METRICS = (PRIMARY_METRIC, ACCURACY)
_CHANGE = "change"
_WITH_OTHERS = ", mixed"
"""Behind a training set's name where other domains' rows were mixed in."""
_PREDICTIONS = """
    with first_steps as (select job, min(seq) as first_step from metrics group by job),
    resumed as (select job, count(*) as resumed from events where kind = 'resumed' group by job)
    select p.job, p.key, p.written, p.dims, p.scores, p.measure, j.title, j.state, j.error, j.finished, j.spec,
        p.seq > coalesce(first_step, p.seq) as late, coalesce(resumed, 0) as resumed,
        count(*) over (partition by p.job) as told
    from predictions p left join jobs j on j.id = p.job left join first_steps using (job) left join resumed using (job)
    qualify row_number() over (partition by p.job order by p.seq) = 1
    order by p.written desc nulls last, p.job desc
"""
_EVALUATIONS = """
    select job, phase, domain, metric, value, se, n from evaluations
    where list_contains($jobs, job) and list_contains($metrics, metric) and (source = $own or source = '')
    qualify row_number() over (partition by job, phase, domain, metric order by seq desc) = 1
    order by seq
"""
_LATER = "select id, spec, finished from jobs where kind = 'eval' and state = 'done' order by finished, id"
_WITHOUT = """
    select count(distinct job) from evaluations
    where phase = 'change' and job not in (select job from predictions)
"""


class _Run(NamedTuple):
    """A run with a prediction, as the database has it."""

    job: str
    key: str
    written: datetime | None
    dims: Any
    scores: Any
    measure: str
    title: str
    state: str
    error: str
    finished: datetime | None
    spec: dict[str, Any]
    late: bool
    """The prediction came after the first step."""
    resumed: int
    told: int
    """How many predictions it has."""


class _Told(NamedTuple):
    """What a job has told of an evaluation."""

    outcomes: dict[str, list[Outcome]]
    """Metric -> domains, without the target set."""
    missing: int
    """Domains that were scored before and not after."""

    @property
    def domains(self) -> int:
        """How many there are of the metric with most."""
        return max(map(len, self.outcomes.values()), default=0)


def entries(connection: duckdb.DuckDBPyConnection) -> list[Entry]:
    """A line a run that was launched with a prediction, the newest first."""
    runs = [_run(row) for row in connection.execute(_PREDICTIONS).fetchall()]
    later = _later(connection, {run.job for run in runs})
    told = _told(connection, [*(run.job for run in runs), *(job for found in later.values() for job, _ in found)])
    sets = _training_sets(runs)
    return [_entry(run, sets[run.job], told, later.get(run.job, [])) for run in runs]


def without_prediction(connection: duckdb.DuckDBPyConnection) -> int:
    """How many runs were evaluated before and after without one: they appear in no line."""
    row = connection.execute(_WITHOUT).fetchone()
    return int(row[0]) if row else 0


def _run(row: Sequence[Any]) -> _Run:
    values = dict(zip(_Run._fields, row, strict=True))
    values |= {name: _json(values[name]) for name in ("dims", "scores", "spec")}
    values |= {name: values[name] or "" for name in ("title", "state", "error", "measure")}
    spec = values["spec"] if isinstance(values["spec"], dict) else {}
    return _Run(**(values | {"spec": spec, "late": bool(values["late"])}))


def _entry(run: _Run, training_set: str, told: Mapping[str, _Told], later: list[tuple[str, datetime | None]]) -> Entry:
    foretold = Foretold(
        run.job, run.title or run.job, run.written, run.key, run.measure, run.dims, run.scores,
        str(run.spec.get("model") or ""), _trained_on(run.spec), training_set,
    )  # fmt: skip
    notes = ["A second prediction was written later; the first counts."] if run.told > 1 else []
    notes += [MIXED] if foretold.data.endswith(_WITH_OTHERS) else []
    if run.late:
        return unscored(foretold, CANNOT, LATE, notes)
    own = told.get(run.job, _Told({}, 0))
    finished = [(job, when) for job, when in later if told.get(job, own).domains]
    if own.domains and not own.missing:
        finished.insert(0, (run.job, run.finished))
    if not finished:
        return unscored(foretold, *_waiting(run, own), notes)
    metric = _metric(run.measure)
    newest = next((one for one in reversed(finished) if told[one[0]].outcomes.get(metric)), finished[-1])
    if run.resumed:
        notes.append(f"The run was resumed ({run.resumed}×); what it told last counts.")
    if len(finished) > 1:
        notes.append(f"Evaluated {len(finished)} times; the newest counts ({newest[0]}).")
    outcomes = told[newest[0]].outcomes
    known = {metric: _reliability(newest[0], metric, outcomes.get(metric, ()))}
    return score(foretold, Evaluated(*newest, outcomes, known), notes)


def _metric(measure: str) -> str:
    """What a prediction is judged by; of one that does not tell, the usual."""
    try:
        return judged_by(measure).metric
    except UserError:
        return PRIMARY_METRIC


def _waiting(run: _Run, own: _Told) -> tuple[str, str]:
    """The state of a run without a whole evaluation, and why."""
    if run.state in ACTIVE and own.domains:
        return WAITS_EVALUATION, "The run is telling what changed."
    if run.state in ACTIVE:
        return WAITS_RUN, "The run waits for its turn." if run.state == "waiting" else "The run is under way."
    if run.state == "done":
        return WAITS_EVALUATION, "The run evaluated no domain: evaluate its final model against the one it began with."
    verb = {"failed": "failed", "cancelled": "was cancelled", "dead": "vanished"}.get(run.state, "is gone")
    reason = f": {run.error.rstrip('.')}" if run.error else ""
    if own.domains:
        of = f"{own.domains} of {own.domains + own.missing}"
        return CANNOT, f"The run {verb} when {of} domains had been evaluated{reason}. Resume it."
    return CANNOT, f"The run {verb} before it was evaluated{reason}. Resume it, or start it anew."


def _later(connection: duckdb.DuckDBPyConnection, runs: set[str]) -> dict[str, list[tuple[str, datetime | None]]]:
    """Run -> the finished evaluations of its final model, oldest first."""
    found: dict[str, list[tuple[str, datetime | None]]] = defaultdict(list)
    for job, text, finished in connection.execute(_LATER).fetchall():
        spec = _json(text)
        tuned = spec.get("tuned") if isinstance(spec, dict) else None
        parts = Path(tuned).parts if isinstance(tuned, str) else ()
        if len(parts) >= 3 and parts[-2:] == (RESULT, MODEL) and ID.fullmatch(parts[-3]) and parts[-3] in runs:
            found[parts[-3]].append((job, finished))
    return found


def _told(connection: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> dict[str, _Told]:
    """What each of these jobs has told: changes where it told them, else after − before."""
    asked = {"jobs": list(ids), "metrics": list(METRICS), "own": OWN}
    rows: dict[str, dict[str, list[tuple[Any, ...]]]] = defaultdict(lambda: defaultdict(list))
    for job, phase, *rest in connection.execute(_EVALUATIONS, asked).fetchall() if ids else ():
        rows[job][phase].append(tuple(rest))
    return {job: _of_job(phases) for job, phases in rows.items()}


def _of_job(phases: Mapping[str, list[tuple[Any, ...]]]) -> _Told:
    if changes := phases.get(_CHANGE, []):
        found = [_changed(*row) for row in changes]
        missing = {row[:2] for row in phases.get(BEFORE, [])} - {row[:2] for row in changes}
        missing = {pair for pair in missing if pair[1] == PRIMARY_METRIC and same_name(pair[0]) != TARGET}
    else:
        sides = [[_level(*row) for row in phases.get(phase, [])] for phase in (BEFORE, AFTER)]
        try:
            found = pair(*sides)
        except UserError:  # one side only, so far
            found = []
        missing = set()
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    for one in found:
        if same_name(one.domain) != TARGET:
            outcomes[one.metric].append(one)
    return _Told(dict(outcomes), len(missing))


def _changed(domain: str, metric: str, value: float | None, se: float | None, n: int | None) -> Outcome:
    change = float("nan") if value is None else value
    return Outcome(domain, None, None, change, se, n, metric, OWN, _unit(metric), is_lower_better(metric))


def _level(domain: str, metric: str, value: float | None, se: float | None, n: int | None) -> Level:
    level = float("nan") if value is None else value
    return Level(domain, metric, level, se, n, OWN, _unit(metric), is_lower_better(metric))


def _unit(metric: str) -> str:
    return "nats" if is_lower_better(metric) else SHARE


def _reliability(job: str, metric: str, outcomes: Sequence[Outcome]) -> tuple[float | None, str]:
    """From the job's rows where they are there, else from the outcomes' own errors (METHOD 6)."""
    folder = result_folder(job)
    try:
        written = (folder / FILE).stat()
        return _split_half(str(folder), metric, (written.st_mtime_ns, written.st_size)), HALVES
    except (OSError, UserError):  # gone, or damaged: what was told before still stands
        found = read_actual(list(outcomes), metric) if outcomes else None
        return (found.reliability, found.reliability_from) if found else (None, "")


@lru_cache(maxsize=4096)
def _split_half(folder: str, metric: str, written: tuple[int, int]) -> float:
    """`written` is there so that rows that were written anew are read anew."""
    return split_half(read_rows(Path(folder)), metric).value


def _training_sets(runs: Sequence[_Run]) -> dict[str, str]:
    """Run -> what tells its training set from others: the hash of its file, else its name, else nothing but itself."""
    hashes = {run.job: _hash(run.job) for run in runs}
    names = {run.job: str(_target(run.spec).get("data") or "") for run in runs}
    of_name = {names[job]: found for job, found in hashes.items() if found and names[job]}
    return {job: hashes[job] or of_name.get(name) or name or job for job, name in names.items()}


def _hash(job: str) -> str:
    table = read_table(result_folder(job) / "started_with.json") or {}
    return table["data"] if isinstance(table.get("data"), str) else ""


def _trained_on(spec: Mapping[str, Any]) -> str:
    """The training set's name; of a mixture, that of the set it was made for."""
    data = str(_target(spec).get("data") or "")
    place = shipped(data) or Path(data)
    manifest = place if place.name == "manifest.json" else place / "manifest.json"
    sources = (read_table(manifest) or {}).get("sources") if place.is_absolute() else None
    own = sources.get(TARGET) if isinstance(sources, dict) else None
    return f"{own['data']}{_WITH_OTHERS}" if isinstance(own, dict) and isinstance(own.get("data"), str) else data


def _target(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a run's spec says of its training set; the usual one where it names none, nothing where there is no spec."""
    target = spec.get("target", {"data": "gsm-symbolic"}) if spec else None
    return target if isinstance(target, dict) else {}


def _json(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
