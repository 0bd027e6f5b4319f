"""One feature opened: its numbers on the target set and its mean activation in each domain, with errors."""

from __future__ import annotations

import streamlit as st

from pages.parts.charts import picture
from pages.parts.escape import plain
from pages.parts.feature import choose_feature
from pages.parts.measured import in_domains, on_target, one_row
from pages.parts.provenance import line
from pages.parts.style import mode
from sts_core.figures import words
from sts_core.figures.domains import domain_bars
from sts_core.figures.numbers import DASH, count, known, number, percent, with_error
from sts_core.results.spread import Spread
from sts_core.store.results import Stored


def feature_panel(stored: Stored, found: Spread, feature: int) -> None:
    """Draw it, in a card that can be closed."""
    folder, key = str(stored.folder), stored.key
    row = one_row(folder, key, feature)
    domains = in_domains(folder, key, feature)
    leading = domains.loc[domains["value"].fillna(0).idxmax()]
    most_active = str(leading["domain"]) if leading["value"] > 0 else ""
    with st.container(border=True, key="feature"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.header(f"Feature {count(feature)}", anchor=False)
            st.button(
                "Close", key="close_feature", type="tertiary", icon=":material/close:",
                on_click=choose_feature, args=(stored, None),
            )  # fmt: skip
        sentence = words.feature_sentence(int(row["rank"]), len(found.order), row["signed_icl"], most_active)
        st.markdown(f":gray[{plain(sentence)}]")
        left, right = st.columns([0.34, 0.66], gap="large")
        with left:
            st.table(_facts(folder, key, feature, row), border="horizontal", width="stretch")
        with right:
            title = f"How active is feature {count(feature)} in each domain?"
            caption = [words.error_caption(domains), line(stored)]
            figure = domain_bars(domains, title, "mean activation a token, without demonstrations", caption, mode())
            config = picture(f"feature-{feature}", figure.layout.height)
            st.plotly_chart(figure, theme=None, key="feature_bars", alt=title, config=config)


def _facts(folder: str, key: str, feature: int, row: dict[str, float]) -> dict[str, str]:
    target = on_target(folder, key, feature)
    noise = row.get("shift_noise")
    facts = {
        "Shift": with_error(*target["shift"]),
        "Signed shift": f"{'+' if target['signed'].value > 0 else ''}{with_error(*target['signed'])}",
        "Mean, without": with_error(*target["without"]),
        "Mean, with": with_error(*target["with"]),
        "Fires, without": f"{percent(row['rate_base'])} of tokens",
        "Fires, with": f"{percent(row['rate_icl'])} of tokens",
        "Moved by rounding": number(noise) if known(noise) else f"{DASH} (not measured)",
    }
    return {name: plain(value) for name, value in facts.items()}
