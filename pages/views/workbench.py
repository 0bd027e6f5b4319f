"""The Workbench: which domains would training on the target set touch? Answer first, then what it rests on."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from pages.parts.charts import choose_n, picture
from pages.parts.context import context_bar
from pages.parts.early import send_first
from pages.parts.escape import plain, unbroken
from pages.parts.feature_data import times_tested
from pages.parts.measured import held_by_top, most_shifted, scores, sizes
from pages.parts.messages import show_empty, told
from pages.parts.outcome import outcome_link
from pages.parts.preflight import preflight
from pages.parts.provenance import line, origin, provenance
from pages.parts.report_button import report_button
from pages.parts.selection import Selection
from pages.parts.style import mode
from sts_core.figures import words
from sts_core.figures.domains import domain_bars
from sts_core.figures.numbers import count
from sts_core.figures.shift import shift_strip
from sts_core.store.results import Stored

FEATURES = 40


def page() -> None:
    selection = context_bar()
    if selection.result is None or selection.stored is None:
        show_empty("Nothing is measured yet", "Measure the choices above: the figures appear here once they are there.")
        preflight(selection)
        return
    folder, key = str(selection.stored.folder), selection.stored.key
    answer = st.container(key="answer", gap="small")
    main, side = st.columns([0.66, 0.34], gap="medium")
    with main:
        metric, n = choose_score(sizes(folder, key))
        table = scores(folder, key, metric, n)
    with answer:
        say(selection, table, metric, n)
    send_first()
    with main:
        draw_bars(table, metric, n, selection.stored)
    with side:
        preflight(selection)
    draw_features(folder, key, n, selection.stored)
    provenance(selection.result, selection.stored)
    report_button(selection.stored)


def say(selection: Selection, table: pd.DataFrame, metric: str, n: int) -> None:
    stored = selection.stored
    if stored is None:
        return
    target = words.target_name(stored.target)
    said = words.headline(table, target, times_tested(stored.key))
    st.title(plain(unbroken(said)), anchor=False)
    st.markdown(f":gray[{plain(words.explanation(metric, n, target))}]")
    origin(selection)
    outcome_link(stored)


def choose_score(known: list[int]) -> tuple[str, int]:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="score"):
        metric = st.segmented_control(
            "Score",
            list(words.METRICS),
            format_func=words.METRICS.__getitem__,
            default="sts_act",
            required=True,
            key="metric",
            bind="query-params",
            help=f"{words.TERMS['sts_act']}\n\n{words.TERMS['sts_icl']}",
        )
        n = choose_n(known)
    metric = metric if metric in words.METRICS else "sts_act"
    return metric, n


def draw_bars(table: pd.DataFrame, metric: str, n: int, stored: Stored) -> None:
    title = words.bars_title(metric, n)
    caption = [words.error_caption(table), line(stored)]
    figure = domain_bars(table, title, words.bars_axis(metric), caption, mode())
    st.plotly_chart(figure, theme=None, key="bars", alt=title, config=picture(f"{metric}-top{n}", figure.layout.height))
    rows = table.sort_values("value", ascending=False)
    text = f"# {title}\n# {' '.join(caption)}\n{rows.to_csv(index=False)}"
    with st.container(horizontal=True):
        st.download_button(
            "CSV",
            text,
            f"{metric}-top{n}-{stored.key[:12]}.csv",
            "text/csv",
            type="tertiary",
            icon=":material/download:",
            on_click="ignore",
            help="The numbers of this figure.",
        )


def draw_features(folder: str, key: str, n: int, stored: Stored) -> None:
    st.header("Most shifted features", anchor=False)
    table = most_shifted(folder, key, FEATURES)
    held, features = held_by_top(folder, key, n)
    title = words.shift_title(held, n, features)
    caption = [
        f"The {count(len(table))} most shifted features in order. Above zero: demonstrations raise it. "
        "Faint: shift; solid: its signed mean.",
        line(stored),
    ]
    figure = shift_strip(table, title, caption, mode())
    st.plotly_chart(figure, theme=None, key="strip", alt=title, config=picture("shift", figure.layout.height))
    table = table.assign(rate_base=100 * table["rate_base"], rate_icl=100 * table["rate_icl"])
    st.dataframe(
        table,
        hide_index=True,
        height=388,
        column_order=list(_columns(table)),
        column_config=_columns(table),
        alt="The most shifted features with their shift, activation and firing rate",
    )


def _columns(table: pd.DataFrame) -> dict[str, Any]:
    most = float(table["shift_icl"].max())
    column = st.column_config
    return {
        "feature": column.NumberColumn("Feature", format="%d", help=words.TERMS["feature"], pinned=True),
        "shift_icl": column.ProgressColumn(
            "Shift", format="%.3f", min_value=0, max_value=most if most > 0 else 1, help=words.TERMS["shift"]
        ),
        "signed_icl": column.NumberColumn("Signed", format="%+.3f", help="Above zero: demonstrations raise it."),
        "mean_base": column.NumberColumn(
            "Mean, without", format="%.3f", help="Mean activation without demonstrations."
        ),
        "mean_icl": column.NumberColumn("Mean, with", format="%.3f", help="Mean activation with demonstrations."),
        "rate_base": column.NumberColumn(
            "Fires, without", format="%.1f %%", help="Share of tokens, without demonstrations."
        ),
        "rate_icl": column.NumberColumn("Fires, with", format="%.1f %%", help="Share of tokens, with demonstrations."),
        "most_active_in": column.TextColumn("Most active in", help="The domain with the highest mean activation."),
        "by_domain": column.BarChartColumn("By domain", y_min=0, help="Mean activation in each domain."),
    }


with told():
    page()
