"""The ledger line by line: what was written down when, what came of it, and the ways to the run and to Transfer."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from pages.parts.escape import plain
from pages.parts.ledger_data import Ledger, run_query, transfer_query
from sts_core.figures import ledger_words
from sts_core.figures.correlation_words import interval_words
from sts_core.figures.numbers import DASH, count, day, p_value
from sts_core.figures.words import METRICS, target_name
from sts_core.jobs.folder import marked
from sts_core.results.ledger import CANNOT, POWER, SCORED, WAITS_EVALUATION, WAITS_RUN, Entry, to_csv

MOST_LINES = 200
SIGNS = {SCORED: "✓", WAITS_RUN: "▷", WAITS_EVALUATION: "○", CANNOT: "✕"}
"""A sign beside the word, so that a state is found at a glance."""
HEAD, ROW, HIGHEST = 38, 33, 520
"""Pixels of a table's head with its borders, of a row, and of a table at most."""


def ledger_table(now: Ledger) -> None:
    """Draw the lines and their CSV; below it the line that is picked."""
    shown = now.entries[:MOST_LINES]
    picked: Any = st.dataframe(
        table(shown, now.kept),
        hide_index=True,
        height=min(HEAD + ROW * len(shown), HIGHEST),
        column_config=_columns(all(entry.state == SCORED for entry in shown)),
        placeholder=DASH,
        key="ledger",
        on_select="rerun",
        selection_mode="single-row",
        alt="Predictions, the newest first",
    )
    if len(shown) < len(now.entries):
        st.caption(f"The newest {count(len(shown))} of {count(len(now.entries))} predictions; the CSV has all.")
    st.download_button(
        "CSV", to_csv(now.entries), "ledger.csv", "text/csv", key="csv_ledger", type="tertiary",
        icon=":material/download:", on_click="ignore", help="Every line with all its numbers.",
    )  # fmt: skip
    rows: list[int] = picked["selection"]["rows"]
    if rows and rows[0] < len(shown):
        _line(shown[rows[0]], now)
    else:
        st.caption("Pick a line to see its domains, what limits it, and the ways to its run and to Transfer.")


def table(entries: list[Entry], kept: frozenset[str]) -> pd.DataFrame:
    """The lines as the table shows them. A result that is gone has no way to Transfer."""
    return pd.DataFrame([_shown(entry, kept) for entry in entries])


def _shown(entry: Entry, kept: frozenset[str]) -> dict[str, Any]:
    one, found, judged = entry.foretold, entry.found, entry.judged
    hits = found.hits if found else None
    accuracy = entry.accuracy.correlation.spearman if entry.accuracy else None
    told = f"{METRICS[judged.score]}, N = {count(entry.n_features)}, power {POWER}" if judged else one.measure
    return {
        "state": f"{SIGNS[entry.state]} {entry.state}",
        "written": one.written,
        "title": marked(one.title, one.run),
        "run": f"/runs?{urlencode(run_query(entry))}",
        "transfer": f"/transfer?{urlencode(transfer_query(entry))}" if one.key in kept else None,
        "data": target_name(one.data),
        "rho": found.spearman if found else None,
        "p": p_value(found.p_spearman) if found else DASH,
        "interval": interval_words(found.ci_spearman) if found else DASH,
        "hits": hits.shared if hits else None,
        "chance": hits.chance * hits.k if hits else None,
        "r": found.r if found else None,
        "r_interval": interval_words(found.ci) if found else DASH,
        "least": found.loo_range[0] if found and found.loo_range else None,
        "n": found.n if found else None,
        "accuracy": accuracy,
        "reliability": entry.reliability[0],
        "measure": told,
        "why": entry.why,
        "result": one.key,
    }


def _line(entry: Entry, now: Ledger) -> None:
    """One prediction: its sentence, what stands beside it, its domains as they were written and as they came."""
    one = entry.foretold
    with st.container(border=True, key="ledger_line"):
        st.markdown(f"**{plain(ledger_words.entry_words(entry))}**")
        written = day(one.written.isoformat(), clock=True) if one.written else DASH
        st.caption(plain(f"{one.title}. Written {written}: {one.measure or DASH}; result {one.key}"))
        st.markdown(plain(" ".join(ledger_words.entry_limits(entry))))
        with st.container(horizontal=True, gap="medium"):
            st.page_link(
                "pages/views/runs.py", label="Open the run", icon=":material/model_training:",
                query_params=run_query(entry),
            )  # fmt: skip
            if one.key in now.kept:
                st.page_link(
                    "pages/views/transfer.py", label="See it on Transfer", icon=":material/moving:",
                    query_params=transfer_query(entry),
                )  # fmt: skip
            else:
                st.caption("The result it was told from is not on this machine; what was written down stands.")
        if entry.primary is not None and entry.primary.points:
            _domains(entry)


def _domains(entry: Entry) -> None:
    points = entry.primary.points if entry.primary else ()
    rows = pd.DataFrame(points, columns=["domain", "score", "score_se", "harm", "harm_se"])
    column = st.column_config
    st.dataframe(
        rows.sort_values("score", ascending=False),
        hide_index=True,
        height=min(HEAD + ROW * len(rows), HIGHEST),
        placeholder=DASH,
        column_config={
            "domain": column.TextColumn("Domain", pinned=True),
            "score": column.NumberColumn("Score, as written", format="%.4f"),
            "score_se": column.NumberColumn("± 1 s.e.", format="%.4f"),
            "harm": column.NumberColumn("Harm, as it came", format="%+.4f"),
            "harm_se": column.NumberColumn("± 1 s.e. ", format="%.4f"),
        },
        alt="Each domain's written score and its harm",
    )


def _columns(scored: bool) -> dict[str, Any]:
    """`scored`: no line waits or cannot be scored, which takes more words."""
    column = st.column_config
    permuted = "Two-sided permutation p: every order up to nine domains, beyond that 100,000 drawn."
    return {
        "state": column.TextColumn("State", pinned=True, width=100 if scored else 175),
        "written": column.DatetimeColumn("Written", format="D MMM YYYY, HH:mm", help="In UTC."),
        "title": column.TextColumn("Run", width=215),
        "data": column.TextColumn("Trained on", width=130),
        "measure": column.TextColumn("Judged by", width="medium", help="The primary measure, as it was written down."),
        "rho": column.NumberColumn("Spearman", format="%.2f", width=80),
        "p": column.TextColumn("p", width=75, help=permuted),
        "interval": column.TextColumn("95 %", width=120, help="Bootstrap interval of Spearman."),
        "r": column.NumberColumn("Pearson r", format="%.2f"),
        "r_interval": column.TextColumn("95 % of r", width=120, help="Bootstrap interval of Pearson."),
        "least": column.NumberColumn("Least r", format="%.2f", help="The lowest r when one domain is left out."),
        "n": column.NumberColumn("n", format="%d", help="Domains on both sides."),
        "hits": column.NumberColumn(
            "Top 3 hit", format="%.2g", width=80, help="Of the three hit hardest, how many it named."
        ),
        "chance": column.NumberColumn("By chance", format="%.2f", help="How many guessing names on average."),
        "accuracy": column.NumberColumn("Accuracy", format="%.2f", help="Spearman against the fall of accuracy."),
        "reliability": column.NumberColumn("Reliability", format="%.2f", help="Of the outcome itself."),
        "why": column.TextColumn("Why there is no score", width="medium"),
        "run": column.LinkColumn("Run's page", display_text="open", width=80),
        "transfer": column.LinkColumn("Transfer", display_text="open", width=70),
        "result": column.TextColumn("Result", width="small"),
    }
