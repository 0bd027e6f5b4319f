"""Shifted features: which features demonstrations move, how few hold most of it, and what rounding alone would do."""

from __future__ import annotations

import io

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts.against_run import against_run
from pages.parts.charts import choose_n, picture
from pages.parts.context import context_bar
from pages.parts.early import send_first
from pages.parts.escape import plain
from pages.parts.feature import chosen_feature
from pages.parts.feature_data import tested_runs
from pages.parts.feature_panel import feature_panel
from pages.parts.measured import held_with_error, sizes, spread, target_size, whole_ranking
from pages.parts.messages import nothing_measured, show_empty, told
from pages.parts.provenance import line, origin, provenance
from pages.parts.ranking import ranking
from pages.parts.selection import Selection
from pages.parts.style import mode
from sts_core.figures import words
from sts_core.figures.concentration import Curve, concentration_curves
from sts_core.figures.numbers import DASH, count, number, percent, questions
from sts_core.results import Result
from sts_core.results.spread import Spread
from sts_core.stats.jackknife import Estimate
from sts_core.store.results import Stored


def page() -> None:
    selection = context_bar()
    stored = selection.stored
    if selection.result is None or stored is None:
        nothing_measured("the ranking of features appears here then")
        return
    # Looked up here: what is drawn below from within a part must have been drawn there from the beginning.
    tested = tested_runs(stored.key)
    above, ranked, below = st.container(), st.container(), st.container()
    with above:
        st.fragment(_of_n)(selection, stored, selection.result, tested, below)
    with ranked:
        st.fragment(_of_order)(stored)
    with below:
        exports(stored)
        provenance(selection.result, stored)


def _of_n(selection: Selection, stored: Stored, result: Result, tested: dict[str, str], below: DeltaGenerator) -> None:
    """All that depends on N: the answer, its curve and numbers, and, further below, the runs it is held against."""
    with told():
        folder, key = str(stored.folder), stored.key
        found = spread(folder, key)
        answer = st.container(key="answer", gap="small")
        main, side = st.columns([0.66, 0.34], gap="medium")
        with main:
            n = choose_n(sizes(folder, key))
        with answer:  # before the curve, which takes a browser longest
            say(selection, found, n)
        send_first()
        held = held_with_error(folder, key, n)
        with main:
            draw_curve(found, held, n, stored)
        with side:
            facts(found, held, n, result.manifest.get("warnings", []))
        with below:
            against_run(stored, n, tested)


def _of_order(stored: Stored) -> None:
    """The table of features, and the feature that is picked in it: another order or pick redraws these alone."""
    with told():
        found = spread(str(stored.folder), stored.key)
        st.header("The ranking", anchor=False)
        chosen = chosen_feature(stored, len(found.order))
        ranking(stored, len(found.order), chosen)
        if chosen is not None:
            feature_panel(stored, found, chosen)


def say(selection: Selection, found: Spread, n: int) -> None:
    if selection.stored is None:
        return
    held, features = found.held(n), len(found.order)
    needed = found.raw_needed(held)
    raw = None if needed is None else (needed, len(found.raw))
    st.title(plain(words.spread_headline(held, n, features, raw, found.directions(n))), anchor=False)
    target = words.target_name(selection.stored.target).replace("-", "\u2011")
    st.markdown(f":gray[{plain(words.spread_explanation(target))}]")
    origin(selection)


def draw_curve(found: Spread, held: Estimate, n: int, stored: Stored) -> None:
    if not found.moved:
        show_empty("There is no curve to draw", "Demonstrations moved no feature of this SAE on the target set.")
        return
    raw = Curve("raw dimensions", found.raw, found.raw_needed(found.held(n))) if len(found.raw) else None
    title = words.curve_title(n)
    tokens, items = target_size(str(stored.folder), stored.key)
    error = f"± {percent(held.se)} (1 s.e., these {count(n)} fixed)" if held.se is not None else f"± {DASH}"
    caption = [
        f"{percent(held.value)} {error}; {questions(items)}, {count(tokens)} tokens",
        noise_words(found, n),
        line(stored),
    ]
    figure = concentration_curves(Curve("SAE features", found.sae, n), raw, title, caption, mode())
    st.plotly_chart(
        figure, theme=None, key="curve", alt=title, config=picture(f"concentration-top{n}", figure.layout.height)
    )


def facts(found: Spread, held: Estimate, n: int, warnings: list[str]) -> None:
    """What the curve shows in numbers, and what rounding does, beside it."""
    rise, fall = found.directions(n)
    features = len(found.order)
    needed = found.raw_needed(found.held(n))
    rows = {
        f"Held by the first {count(n)}": percent(held.value),
        "Raw dimensions for as much": DASH if needed is None else f"{count(needed)} of {count(len(found.raw))}",
        f"Of the first {count(n)}": f"{count(rise)} rise, {count(fall)} fall",
        "Features that fire": f"{count(found.firing)} of {count(features)}",
        "Features that moved": f"{count(found.moved)} of {count(features)}",
        "Shift from rounding alone": DASH if found.noise is None else percent(found.noise.share),
    }
    shared = found.shared_with_noise(n)
    rows[f"Shared with rounding's first {count(n)}"] = (
        DASH if shared is None else f"{count(shared)} (by chance {number(found.shared_by_chance(n), 2)})"
    )
    with st.container(border=True, key="facts", gap="small"):
        st.header("In numbers", anchor=False)
        st.table({name: plain(value) for name, value in rows.items()}, border="horizontal", width="stretch")
        if found.noise is None:
            reasons = [warning for warning in warnings if "noise of rounding" in warning]
            st.caption(plain(reasons[0] if reasons else "This result was measured in one number format only."))


def noise_words(found: Spread, n: int) -> str:
    share = None if found.noise is None else found.noise.share
    return words.noise_words(share, found.shared_with_noise(n), n, found.shared_by_chance(n))


def exports(stored: Stored) -> None:
    """The whole ranking, made when it is asked for: it may have a hundred thousand rows."""
    name = f"shifted-{stored.key[:12]}"

    def csv() -> str:
        return f"# {line(stored)}\n{all_rows().to_csv(index=False)}"

    def parquet() -> bytes:
        out = io.BytesIO()
        all_rows().to_parquet(out, index=False)
        return out.getvalue()

    def all_rows() -> pd.DataFrame:
        return whole_ranking(stored.folder)

    with st.container(horizontal=True):
        for label, make, ending, kind in (
            ("Whole ranking (CSV)", csv, "csv", "text/csv"),
            ("Whole ranking (Parquet)", parquet, "parquet", "application/vnd.apache.parquet"),
        ):
            st.download_button(
                label,
                make,
                f"{name}.{ending}",
                kind,
                type="tertiary",
                icon=":material/download:",
                on_click="ignore",
                help="Every feature, most shifted first, with the share of the shift held up to it.",
            )


with told():
    page()
