"""Mixtures made here: how far a job is; then the rows it wrote, their file and manifest, and what comes next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from pages.parts.escape import plain
from pages.parts.jobs_actions import actions
from pages.parts.messages import show_error, told
from pages.parts.mixture_data import Text
from pages.parts.mixture_launch import train_on
from pages.parts.mixture_order import MADE, cost_words
from pages.parts.mixture_rows import show_rows
from pages.parts.progress import job_panel
from sts_core.errors import UserError
from sts_core.figures.mixture_words import mixture_name
from sts_core.figures.numbers import DASH, count, day, size
from sts_core.figures.words import target_name
from sts_core.jobs.folder import RESULT, Job
from sts_core.jobs.watch import active
from sts_core.jobs.watch import read as read_job
from sts_core.store import queries, reading
from sts_core.train.mixture.manifest import FILE, MANIFEST, TARGET, read_manifest

KIND = "mix"
MOST = 50
"""So many of the newest are offered."""
LOG_LINES = 20
_FIELD = "made_field"


def made_here() -> None:
    """The mixture of the URL, or the newest; nothing where none was ordered yet."""
    with reading.read() as view:
        listed = queries.jobs(view.connection, limit=MOST, kinds=[KIND])
    jobs = {str(job): str(title or job) for job, title in zip(listed["id"], listed["title"], strict=True)}
    asked = st.query_params.get(MADE, "")
    going = next((job for job in active() if job.kind == KIND), None)
    job = _found(asked) or going or next((found for one in jobs if (found := _found(one))), None)
    if job is None:
        return
    st.header("Mixtures made here", anchor=False)
    _choose({job.id: job.title or job.id} | jobs, job.id)
    if job.active:
        job_panel(job)
    elif job.state != "done":
        show_error(UserError(job.error or f"It was {job.state}", job.hint or "Make it again."), job.log_tail(LOG_LINES))
        actions(job)
    else:
        _finished(job)


def _found(job: str) -> Job | None:
    """The job, where it is one of a mixture."""
    try:
        found = read_job(job) if job else None
    except UserError:
        return None
    return found if found is not None and found.kind == KIND else None


def _choose(jobs: dict[str, str], now: str) -> None:
    if len(jobs) < 2:
        return

    def tell_link() -> None:
        st.query_params[MADE] = st.session_state[_FIELD]

    st.session_state[_FIELD] = now
    st.selectbox(
        "Mixture", list(jobs), key=_FIELD, on_change=tell_link, width=420,
        format_func=lambda job: f"{jobs.get(job, job)} ({job})",
    )  # fmt: skip


def _finished(job: Job) -> None:
    folder = job.folder / RESULT
    manifest = read_manifest(folder)
    counts = {name: len(rows) for name, rows in manifest["rows"].items()}
    own, mixed = counts.get(TARGET, 0), sum(rows for name, rows in counts.items() if name != TARGET)
    target = target_name(str(manifest["sources"][TARGET]["data"]))
    st.markdown(
        f"**{plain(mixture_name(manifest))}**: {count(own + mixed)} rows are written, {count(own)} of {plain(target)} "
        f"and {count(mixed)} of other domains."
    )
    st.markdown(f":gray[{plain(_facts(manifest))}]")
    for warning in manifest.get("warnings", []):
        st.markdown(f":orange[:material/warning:] {plain(warning)}")
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if st.button(
            "Train with this mixture", key="mix_train", type="primary", icon=":material/model_training:",
            help="Opens the form of a fine-tune, filled in with this mixture.",
        ):  # fmt: skip
            with told():
                train_on(job.id, manifest)
        _downloads(folder, manifest, job.id)
    with st.expander("Rows by domain", icon=":material/table_rows:", key="mix_counts"):
        st.dataframe(_by_domain(manifest, counts), hide_index=True, placeholder=DASH, alt="Rows by domain")
    box = st.expander("Read its rows", icon=":material/article:", key="mix_read", on_change="rerun")
    if box.open:
        with box, told():
            starts = _first_lines(counts)

            def read(name: str, first: int, last: int) -> list[Text]:
                return _lines(folder / FILE, str(manifest["file"]["sha256"]), starts[name] + first, starts[name] + last)

            show_rows(counts, read, "made_rows", target)
    with st.expander("Manifest", icon=":material/receipt_long:", key="mix_manifest"):
        st.caption(plain(f"In {folder}. It makes the file again, byte for byte, from sources that did not change."))
        st.json({name: value for name, value in manifest.items() if name != "rows"}, expanded=False)


def _facts(manifest: Mapping[str, Any]) -> str:
    said = manifest["answers"]
    parts = [cost_words(manifest["cost"])] if isinstance(manifest.get("cost"), dict) else []
    if said.get("from") == "model":
        parts.append(f"{count(said.get('asked'))} answers of the model itself, {count(said.get('cut'))} cut short.")
    parts.append(f"Made {day(manifest.get('finished'), clock=True)}; SHA-256 {manifest['file']['sha256'][:16]}.")
    return " ".join(parts)


def _downloads(folder: Path, manifest: Mapping[str, Any], job: str) -> None:
    room = manifest["file"].get("bytes")
    st.download_button(
        f"{FILE} ({size(room)})" if isinstance(room, int) else FILE, (folder / FILE).read_bytes, f"mixture-{job}.jsonl",
        "application/jsonl", key="mix_file", icon=":material/download:", on_click="ignore",
        help="The rows, one a line.",
    )  # fmt: skip
    st.download_button(
        MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False), f"mixture-{job}.json", "application/json",
        key="mix_manifest_file", icon=":material/download:", on_click="ignore", help="Sources, rows by number, hashes.",
    )  # fmt: skip


def _by_domain(manifest: Mapping[str, Any], counts: Mapping[str, int]) -> pd.DataFrame:
    told_of = manifest.get("domains")
    told_of = told_of if isinstance(told_of, dict) else {}
    return pd.DataFrame(
        [
            {
                "Set": name,
                "Rows": rows,
                **{
                    word: (told_of.get(name) or {}).get(key)
                    for word, key in (("May train", "available"), ("Tokens", "tokens"), ("Score", "score"))
                },
            }
            for name, rows in counts.items()
        ]
    )


def _first_lines(counts: Mapping[str, int]) -> dict[str, int]:
    """The line at which each set begins: the file has them in the manifest's order."""
    starts, at = {}, 0
    for name, rows in counts.items():
        starts[name] = at
        at += rows
    return starts


def _lines(path: Path, sha256: str, first: int, last: int) -> list[Text]:
    """These lines of the file as rows; nothing else of it is read."""
    ends = _ends(str(path), sha256)
    found = []
    with path.open("rb") as file:
        file.seek(int(ends[first - 1]) if first else 0)
        for _ in range(first, min(last, len(ends))):
            row = json.loads(file.readline())
            found.append(Text(int(row["row"]), str(row["question"]), str(row["answer"])))
    return found


@st.cache_resource(max_entries=8, show_spinner=False)
def _ends(path: str, sha256: str) -> NDArray[np.int64]:
    """Where each line of the file ends. The file's hash is part of the cache's key."""
    with Path(path).open("rb") as file:
        return np.cumsum([len(line) for line in file], dtype=np.int64)
