"""All features of a result: where the leading ones live, a picture of all to draw in, and a table to choose from."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts.charts import picture
from pages.parts.escape import plain
from pages.parts.feature import choose_feature
from pages.parts.feature_choice import ORDERS, conditions, draw_line
from pages.parts.provenance import line
from pages.parts.style import mode
from sts_core.figures import words
from sts_core.figures.bars import signed_bars
from sts_core.figures.feature_words import list_headline, matching_words
from sts_core.figures.numbers import DASH, count
from sts_core.figures.scatter import shift_scatter
from sts_core.store.browse import SILENT, Features, Found, Question
from sts_core.store.results import Stored

LEADING = 100
"""Features that the sentence on top is about."""
_CLOUD = "cloud"


def say(features: Features, found: Found, question: Question) -> None:
    """Where the leading features of this ranking live, beside where all live."""
    told = conditions(question)
    if told:
        st.title(plain(matching_words(found.matching, features.count, told)), anchor=False)
        return
    first = found.rows.head(LEADING)
    places = first[first["strongest"] != SILENT]["strongest"].value_counts()
    leading = [(str(name), int(n)) for name, n in places.head(2).items()]
    share = features.share_in(leading[0][0]) if leading else None
    st.title(plain(list_headline(question.order, len(first), leading, share)), anchor=False)


def show_list(stored: Stored, features: Features, found: Found, question: Question) -> None:
    """The picture and the table, side by side; what is drawn around in the one narrows the other."""
    left, right = st.columns([0.36, 0.64], gap="medium")
    with left:
        _picture(stored, found, question)
    with right:
        if found.matching:
            _table(stored, found, question)
        else:
            st.caption("No feature answers all of this: take a choice back.")


def _picture(stored: Stored, found: Found, question: Question) -> None:
    title = "How often does a feature fire, and how far does it shift?"
    caption = [
        "Grey: all features that match, the darker the more of them. Triangles: those of the table; up where "
        "demonstrations raise it, down where they lower it. Draw around some to see only them.",
        line(stored),
    ]
    figure = shift_scatter(found.cells, found.rows, title, caption, mode(), question.drawn)
    st.plotly_chart(
        figure, theme=None, key=_CLOUD, alt=title, config=picture("features", figure.layout.height),
        on_select=_drawn, selection_mode=["lasso", "box"],
    )  # fmt: skip
    if question.drawn:
        st.button("Take the line away", key="undraw", type="tertiary", icon=":material/ink_eraser:", on_click=draw_line,
                  args=((),))  # fmt: skip


def _drawn() -> None:
    """The line or the box that was drawn, in logarithms, goes into the link."""
    chosen: Any = st.session_state[_CLOUD]["selection"]
    for shape in chosen.get("lasso", []):
        draw_line(
            [(math.log10(x), math.log10(y)) for x, y in zip(shape["x"], shape["y"], strict=True) if x > 0 and y > 0]
        )
        return
    for shape in chosen.get("box", []):
        (x0, x1), (y0, y1) = ([math.log10(value) for value in shape[way] if value > 0] for way in ("x", "y"))
        draw_line([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        return


def _table(stored: Stored, found: Found, question: Question) -> None:
    rows = found.rows
    ids = [int(feature) for feature in rows["feature"]]
    shown = (
        f"The first {count(len(rows))} of {count(found.matching)}" if found.matching > len(rows) else count(len(rows))
    )
    many = "feature" if shown == "1" else "features"
    st.caption(plain(f"{shown} {many} by {ORDERS[question.order].lower()}. Pick a row to open its page."))
    key = f"list-{stored.key[:12]}-{hash(question) & 0xFFFFFFFF:x}"
    columns = _columns(rows)
    st.dataframe(
        _shown(rows),
        hide_index=True,
        height=458,
        column_order=list(columns),
        column_config=columns,
        placeholder=DASH,
        key=key,
        on_select=partial(_open, stored, key, ids),
        selection_mode=["single-row", "single-cell"],
        alt="Features with label, shift, density and activation by domain",
    )


def _open(stored: Stored, key: str, ids: list[int]) -> None:
    """The picked row's feature; a cell that is clicked picks its row."""
    picked = st.session_state[key]["selection"]
    row = next((row for row, _ in picked["cells"]), next(iter(picked["rows"]), None))
    if row is not None and row < len(ids):
        choose_feature(stored, ids[row])


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows as the table shows them."""
    star = rows["starred"].map(lambda starred: "★" if starred is True else "")
    return rows.assign(way=signed_bars(rows["signed_icl"], mode()), density=100 * rows["density"], star=star)


def _columns(rows: pd.DataFrame) -> dict[str, Any]:
    most = float(rows["shift_icl"].max()) or 1.0
    column = st.column_config
    named = rows["label"].notna().any()
    found: dict[str, Any] = {
        "rank": column.NumberColumn("Rank", format="%d", help="By shift, among all features.", pinned=True, width=54),
        "feature": column.NumberColumn("Feature", format="%d", help=words.TERMS["feature"], pinned=True, width=68),
    }
    if rows["starred"].fillna(False).any():
        found["star"] = column.TextColumn("★", width=36, help="Starred by you.")
    if named:
        longest = int(rows["label"].dropna().astype(str).str.len().max())
        found["label"] = column.TextColumn("Label", width=min(170, 24 + 8 * max(longest, 5)))
    found |= {
        "shift_icl": column.ProgressColumn(
            "Shift", format="%.3f", min_value=0, max_value=most, help=words.TERMS["shift"], width=100
        ),
        "way": column.ImageColumn("Lower | higher", width=116, help="The signed shift as a bar around zero."),
        "density": column.NumberColumn(
            "Density", format="%.3g %%", help="Share of all tokens looked at, without demonstrations.", width=80
        ),
        "strongest": column.TextColumn("Strongest in", help="The domain with the highest mean activation.", width=112),
        "by_domain": column.BarChartColumn("By domain", y_min=0, help="Mean activation in each domain.", width=116),
    }
    if named:
        found["detection"] = column.NumberColumn(
            "Detection", format="%.2f", help="How well the label tells held-out examples apart; half is chance."
        )
    return found
