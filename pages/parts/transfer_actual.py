"""What really happened: the runs and evaluations of this machine, a file that is brought, the paper's tables.

The choice stands in the URL as `actual`: `run:ID`, `file:DIGEST`, `imported:NAME`, `paper:MODEL`, or `figure:MODEL`
for the paper's changes beside its own scores.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import streamlit as st

from pages.parts.escape import plain
from pages.parts.feature_data import tested_runs
from pages.parts.messages import show_error
from pages.parts.uploads import MOST_MB, uploads
from sts_core.errors import UserError
from sts_core.figures.frame import short
from sts_core.figures.numbers import count
from sts_core.folders import atomic_write, ensure
from sts_core.jobs.folder import marked, result_folder
from sts_core.results import imported, paper
from sts_core.results.actual import EVALUATION, PAPER, Actual, Given, read_actual, same_name
from sts_core.results.outcomes.reading import read_outcomes
from sts_core.results.outcomes.rows import FILE
from sts_core.store import queries, reading
from sts_core.store.results import Stored

RUN, BROUGHT, IMPORTED, FIGURE, NOTHING = "run:", "file:", "imported:", "figure:", "none"
_QUERY, _FIELD, _REFUSED, _FRESH = "actual", "actual_field", "actual_refused", "actual_fresh"
KINDS = ("csv", "json", "txt")
_HALF = "A file from after training alone tells no change"
_DIGEST = re.compile(r"[0-9a-f]{16}")


class Source(NamedTuple):
    """A place that tells what happened."""

    label: str
    notes: tuple[str, ...] = ()
    """What does not fit to the result looked at."""
    tested: bool = False
    """Whether it was held against this very result."""


def sources(stored: Stored) -> dict[str, Source]:
    """Token -> what it is; first what was held against this very result, last the paper."""
    tested = tested_runs(stored.key)
    with reading.read() as view:
        listed = queries.jobs(view.connection, limit=200, states=["done"], kinds=["sft", "eval"])
    found: dict[str, Source] = {}
    for job, title, kind, spec in zip(listed["id"], listed["title"], listed["kind"], listed["spec"], strict=True):
        folder = result_folder(str(job))
        if (folder / FILE).is_file() or (folder / EVALUATION).is_file():
            what = "Run" if kind == "sft" else "Evaluation"
            settings = json.loads(spec or "{}")
            notes = _other_model(settings, stored)
            label = f"{what}: {marked(title or job, str(job))} ({job})"
            found[f"{RUN}{job}"] = Source(label, notes, str(job) in tested)
    first = {token: found[token] for job in tested if (token := f"{RUN}{job}") in found}
    for one in imported.listing():
        found[f"{IMPORTED}{one.name}"] = Source(f"Imported: {one.name}")
    brought = st.query_params.get(_QUERY, "")
    if brought.startswith(BROUGHT) and (files := _brought(brought)):
        found[brought] = Source(f"File: {' → '.join(_shown(file) for file in files)}")
    for model in paper.models():
        found[f"{PAPER}{model}"] = Source(
            f"Paper: {model} on LIMO", ("These changes are of another model than this result's.",)
        )
        found[f"{FIGURE}{model}"] = Source(f"Paper: {model}, scores of Figure 3 too")
    return {**first, **found}


def choose_actual(found: Mapping[str, Source]) -> str:
    """Draw the choice; its token, or nothing where nothing happened yet."""
    usual = next((token for token, one in found.items() if one.tested), NOTHING)
    asked = st.query_params.get(_QUERY, usual)
    if asked not in (NOTHING, *found):
        # The link stays, for taking it away makes "back" a loop; so it is told for as long as it is there.
        words = f"What this link tells of, {plain(short(asked, 40))}, is not here; something else is shown."
        st.markdown(f":orange[:material/link_off: {words}]", width=330)
        asked = usual
    st.session_state[_FIELD] = asked
    picked: Any = st.selectbox(
        "What happened", [NOTHING, *found], key=_FIELD, on_change=_tell_link, width=330,
        format_func=lambda token: found[token].label if token in found else "nothing yet: the prediction alone",
        help="A fine-tune's or an evaluation's own numbers, a file of yours, or the paper's tables.",
    )  # fmt: skip
    return picked if picked in found else ""


def is_fresh() -> bool:
    """Whether a file has just been brought, so that the choices are to be gathered anew."""
    return bool(st.session_state.pop(_FRESH, False))


def bring_file(scored: Sequence[str], brought: Actual | None) -> None:
    """Draw the fields for files of one's own; of those `brought`, the names that only one side has."""
    with st.popover("Bring a file", icon=":material/upload_file:", type="tertiary"):
        st.caption(
            "One CSV with the columns domain and change (or before and after); or two files of lm-eval or MMLU-Pro, "
            "before training and after."
        )
        common: dict[str, Any] = {"type": list(KINDS), "on_change": _keep, "max_upload_size": MOST_MB}
        st.file_uploader("The CSV, or before training", key="actual_before", **common)
        st.file_uploader("After training, for two files", key="actual_after", **common)
        if (error := st.session_state.get(_REFUSED)) is not None:
            show_error(error)
        elif brought is not None:
            st.caption(plain(_fits(scored, brought)))


def _fits(scored: Sequence[str], brought: Actual) -> str:
    """How many domains of a file are scored, and which names stand on one side only."""
    here, there = ({same_name(name): name for name in names} for names in (
        scored, [one.domain for one in brought.outcomes]
    ))  # fmt: skip
    told = [f"{count(len(here.keys() & there.keys()))} of {count(len(here))} scored domains are in it."]
    for words, names in (
        ("Not scored here", [name for key, name in there.items() if key not in here]),
        ("Not in it", [name for key, name in here.items() if key not in there]),
    ):
        told += [f"{words}: {', '.join(names)}."] if names else []
    return " ".join(told)


def read(token: str, metric: str | None = None) -> Actual:
    """The outcomes of a token; of the first metric where none is asked for and none is primary."""
    given = given_of(token)
    return _read(token, _written(given), metric)


@st.cache_resource(max_entries=32, show_spinner=False)
def _read(token: str, written: tuple[int, ...], metric: str | None) -> Actual:
    """`written` is there so that what was written anew is read anew."""
    given = given_of(token)
    try:
        return read_actual(given, metric)
    except UserError:
        if metric is not None or isinstance(given, str):
            raise
        places = [Path(place) for place in given] if isinstance(given, list) else [Path(str(given))]
        if token.startswith(IMPORTED):
            metrics = imported.metrics(places[0])
        else:
            metrics = list(dict.fromkeys(one.metric for one in read_outcomes(*places)))
        if len(metrics) < 2:
            raise
        return read_actual(given, metrics[0])


def model_of(token: str) -> str:
    """The paper's model whose scores are shown; nothing where they are the result's own."""
    return token.removeprefix(FIGURE) if token.startswith(FIGURE) else ""


def given_of(token: str) -> Given:
    """What a token stands for, as `read_actual` takes it."""
    if token.startswith(RUN):
        return result_folder(token.removeprefix(RUN))
    if token.startswith(IMPORTED):
        folder = imported.find(token.removeprefix(IMPORTED))
        if folder is None:
            raise imported.unknown(token.removeprefix(IMPORTED))
        return folder
    if token.startswith(BROUGHT):
        files = _brought(token)
        if not files:
            raise UserError("The file that was brought is gone", "Bring it again.")
        return files[0] if len(files) == 1 else files
    return f"{PAPER}{token.removeprefix(FIGURE).removeprefix(PAPER)}"


def _written(given: Given) -> tuple[int, ...]:
    places = given if isinstance(given, list) else [given] if isinstance(given, Path) else []
    files = [file for place in places for file in ((place / FILE, place / EVALUATION) if place.is_dir() else (place,))]
    return tuple(file.stat().st_mtime_ns if file.is_file() else 0 for file in files if isinstance(file, Path))


def _other_model(spec: Mapping[str, Any], stored: Stored) -> tuple[str, ...]:
    model = spec.get("model")
    if not isinstance(model, str) or model == stored.model:
        return ()
    return (f"These changes are of {model}; the scores are of {stored.model}.",)


def _tell_link() -> None:
    """Keep the choice in the URL, the choice of nothing as well."""
    st.query_params[_QUERY] = st.session_state[_FIELD]


def _keep() -> None:
    """Keep the files brought, if they tell an outcome, and look at them."""
    files = [st.session_state.get(key) for key in ("actual_before", "actual_after")]
    given = [file for file in files if file is not None]
    st.session_state.pop(_REFUSED, None)
    if files[0] is None:
        if given:
            st.session_state[_REFUSED] = UserError(_HALF, "Give the file from before training in the first field.")
        return
    whole = hashlib.sha256(b"\0".join(file.name.encode() + b"\0" + file.getvalue() for file in given))
    token = f"{BROUGHT}{whole.hexdigest()[:16]}"
    folder = ensure(uploads() / token.removeprefix(BROUGHT))
    for i, file in enumerate(given):
        atomic_write(ensure(folder / str(i)) / _safe(file.name), file.getvalue())
    try:
        read(token)
    except UserError as error:
        shutil.rmtree(folder)
        st.session_state[_REFUSED] = error
        return
    st.query_params[_QUERY] = token
    st.session_state[_FRESH] = True


def _brought(token: str) -> list[Path]:
    """Before, then after: each under its own name in a folder of its place; earlier versions wrote `0-name`."""
    digest = token.removeprefix(BROUGHT)
    folder = uploads() / digest
    if not _DIGEST.fullmatch(digest) or not folder.is_dir():
        return []
    return sorted([*folder.glob("[01]/*"), *(path for path in folder.glob("[01]-*") if path.is_file())])


def _safe(name: str) -> str:
    """The last part of the name alone, of letters that mean nothing to a file system."""
    return re.sub(r"[^\w. &-]", "_", re.split(r"[\\/]", name)[-1]).lstrip(". ")[-80:] or "file.csv"


def _shown(file: Path) -> str:
    return file.name if file.parent.name in ("0", "1") else file.name.split("-", 1)[-1]
