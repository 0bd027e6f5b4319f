"""All comparisons and baselines of METHOD 6, folded: computed when they are opened, for they read every vector."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts.baselines_order import measure_missing
from pages.parts.charts import picture
from pages.parts.escape import plain
from pages.parts.messages import told
from pages.parts.style import mode
from pages.parts.transfer_data import Choice, paper_agreement, vectors, whole_agreement
from pages.parts.transfer_figures import HEAD, ROW
from sts_core.figures import correlation_words
from sts_core.figures.numbers import DASH, fixed, p_value
from sts_core.figures.transfer import Dot, transfer_scatter
from sts_core.results.actual import Actual
from sts_core.results.agreement import Agreement
from sts_core.results.baselines import Baseline
from sts_core.results.kept_baselines import stamp
from sts_core.stats.correlation import Correlation
from sts_core.store.results import Stored

TOOK = (
    "What it cost to know: of the scores, and of what is read from their result, the whole measurement; of the others "
    "their own pass or training, loading included."
)
_FIRST = ("comparison", "kind", "n", "rho", "p_rho", "took")
"""How good and what it cost stand side by side."""
COLUMNS = 3
"""Small figures beside each other."""


def show_baselines(stored: Stored, choice: Choice, token: str, actual: Actual) -> None:
    """What simpler numbers foretell, on the same axes; read when it is opened."""
    box = st.expander(
        "Do simpler numbers foretell it as well? Baselines and all comparisons", key="baselines_open",
        icon=":material/balance:", on_change="rerun",
    )  # fmt: skip
    if not box.open:
        return
    with box, told():
        place, measured = str(stored.folder), stamp(vectors(str(stored.folder), stored.key))
        whole = whole_agreement(place, stored.key, choice, token, actual.metric, measured, actual)
        if (best := whole.best_baseline) is not None:
            st.markdown(f"**{plain(correlation_words.baseline_words(best[0].name, best[1]))}**")
        _comparisons(whole)
        _baselines(whole)
        _multiples(whole)
        for note in whole.notes:
            st.caption(plain(note))
        measure_missing(stored, whole.missing, _trained(actual))


def _trained(actual: Actual) -> Path | None:
    """The fine-tune that is looked at, where its model is here."""
    folder = actual.folder
    return folder if folder is not None and (folder / "model").is_dir() else None


def show_paper(model: str) -> None:
    """The paper's own comparisons."""
    with st.expander("All comparisons of the paper's numbers", icon=":material/balance:"):
        whole = paper_agreement(model)
        _comparisons(whole)
        for note in whole.notes:
            st.caption(plain(note))


def _comparisons(whole: Agreement) -> None:
    rows = [
        {
            "comparison": correlation_words.comparison_title(one),
            "kind": "primary" if one.primary else "exploratory",
            **_row(one.correlation),
            **({"took": correlation_words.cost_words(*whole.cost)} if whole.baselines else {}),
        }
        for one in whole.comparisons
    ]
    _table(pd.DataFrame(rows), "comparisons", "Both scores against harm and against the size of the change")


def _baselines(whole: Agreement) -> None:
    rows = [
        {"comparison": one.name, "kind": correlation_words.baseline_kind(one), **_row(found),
         "took": correlation_words.baseline_cost(one, whole.cost), "what": one.words}
        for one, found in whole.baselines
    ]  # fmt: skip
    if rows:
        st.caption("Each baseline against signed harm, over all domains:")
        _table(pd.DataFrame(rows), "baselines", "Baselines against harm")


def _multiples(whole: Agreement) -> None:
    """A small scatter a baseline, on the axes of the large one."""
    columns = st.columns(COLUMNS)
    for i, (one, found) in enumerate(whole.baselines):
        with columns[i % COLUMNS]:
            _small(whole, one, found, i)


def _small(whole: Agreement, one: Baseline, found: Correlation, place: int) -> None:
    dots = [
        Dot(p.domain, one.values.get(p.domain, math.nan), one.se.get(p.domain), p.outcome.harm, p.outcome.harm_se)
        for p in whole.points
    ]
    title = f"{one.name}: ρ = {fixed(found.spearman, 2)}"
    axes = (one.name, correlation_words.harm_words(whole.actual))
    cost = (f"Took {correlation_words.baseline_cost(one, whole.cost)}.",)
    figure = transfer_scatter(dots, found.line, found.most_influential, title, axes, cost, mode(), small=True)
    st.plotly_chart(
        figure, theme=None, key=f"baseline_{place}", alt=title, config=picture("baseline", figure.layout.height)
    )


def _row(found: Correlation) -> dict[str, Any]:
    return {
        "n": found.n,
        "rho": found.spearman,
        "p_rho": p_value(found.p_spearman),
        "r": found.r,
        "p": p_value(found.p_perm),
        "interval": correlation_words.interval_words(found.ci),
        "r2": found.r2,
        "left": correlation_words.interval_words(found.loo_range),
        "most": found.most_influential or DASH,
        "without": found.r_without_it,
    }


def _table(table: pd.DataFrame, key: str, alt: str) -> None:
    column = st.column_config
    first = [name for name in _FIRST if name in table]
    st.dataframe(
        table,
        column_order=[*first, *(name for name in table if name not in first)],
        hide_index=True,
        height=HEAD + ROW * len(table),
        key=f"table_{key}",
        placeholder=DASH,
        column_config={
            "comparison": column.TextColumn("What", pinned=True, width=250),
            "kind": column.TextColumn("Kind", width=150),
            "n": column.NumberColumn("n", format="%d", width=50),
            "rho": column.NumberColumn("Spearman ρ", format="%.2f"),
            "p_rho": column.TextColumn("of ρ", help="Two-sided permutation p."),
            "r": column.NumberColumn("Pearson r", format="%.2f"),
            "p": column.TextColumn("of r", help="Two-sided permutation p."),
            "interval": column.TextColumn("95 % of r", help="Bootstrap interval."),
            "r2": column.NumberColumn("R²", format="%.2f"),
            "left": column.TextColumn("Leave one out", help="The lowest and the highest r without one domain."),
            "most": column.TextColumn("Most influential"),
            "without": column.NumberColumn("r without it", format="%.2f"),
            "took": column.TextColumn("Took", help=TOOK),
            "what": column.TextColumn("What it is", width="large"),
        },
        alt=alt,
    )
