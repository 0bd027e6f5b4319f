"""What is measured of a feature: how often it fires, where, and what moves it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from pages.parts.charts import picture
from pages.parts.escape import plain
from pages.parts.feature_data import Moved, moved_by_run, tested_runs
from pages.parts.measured import in_domains, on_target, one_row
from pages.parts.provenance import line
from pages.parts.style import mode
from sts_core.figures import words
from sts_core.figures.bars import signed_bars
from sts_core.figures.domains import domain_bars
from sts_core.figures.feature_words import arm_name, density_words, histogram_title
from sts_core.figures.histograms import Arm, activation_histogram
from sts_core.figures.numbers import DASH, count, known, number, percent, with_error
from sts_core.results.gallery import Gallery
from sts_core.store.results import Stored


def sentence(stored: Stored, feature: int, features: int) -> str:
    """Its rank by shift, its way, and where it is most active."""
    row = one_row(str(stored.folder), stored.key, feature)
    signed = on_target(str(stored.folder), stored.key, feature)["signed"]
    domains = in_domains(str(stored.folder), stored.key, feature)
    return words.feature_sentence(int(row["rank"]), features, row["signed_icl"], signed.se, domains)


def show_histogram(gallery: Gallery, stored: Stored, feature: int) -> None:
    """How strongly it fires in every arm, over all sets of the gallery or the one chosen above."""
    table, edges = gallery.histograms(feature)
    chosen = st.session_state.get("source") or ""
    table = table[table["source"] == chosen] if chosen else table
    arms = [_arm(table, gallery, arm, chosen, len(edges)) for arm in gallery.arms]
    arms = [arm for arm in arms if arm.seen]
    where = chosen or (gallery.sources[0] if len(gallery.sources) == 1 else f"{count(len(gallery.sources))} sets")
    if not any(sum(arm.counts) for arm in arms):
        st.caption(f"It fires on no token of {plain(where)}, so there is no histogram.")
        return
    title = histogram_title(feature)
    told = [density_words(arm.name, sum(arm.counts), arm.seen, where) for arm in arms]
    drawn = "Filled: base; lines: the other arms. " if len(arms) > 1 else ""
    shown = [arm._replace(name=arm_name(arm.name)) for arm in arms]
    figure = activation_histogram([float(edge) for edge in edges], shown, title, [*told, drawn + line(stored)], mode())
    config = picture(f"feature-{feature}-histogram", figure.layout.height)
    st.plotly_chart(figure, theme=None, key="histogram", alt=title, config=config)


def _arm(table: pd.DataFrame, gallery: Gallery, arm: str, chosen: str, bins: int) -> Arm:
    """An arm's counts over the sets."""
    rows = table[table["arm"] == arm]
    counts = np.sum(np.stack(rows["counts"].tolist()), axis=0).tolist() if len(rows) else [0] * bins
    return Arm(arm, counts, _seen(gallery, arm, chosen, rows))


def _seen(gallery: Gallery, arm: str, chosen: str, rows: pd.DataFrame) -> int:
    """Tokens looked at in this arm. A set in which it never fires has no row of its own; the manifest has its size."""
    by_set = {str(name): int(seen) for name, seen in zip(rows["source"], rows["seen"], strict=True)}
    told = 0
    for source in gallery.manifest["sources"]:
        if arm in source.get("arms", gallery.arms) and chosen in ("", source["name"]):
            told += by_set.get(source["name"], int(source.get("tokens", 0)))
    return told


def show_domains(stored: Stored, feature: int) -> None:
    """Its mean activation in each domain, with errors."""
    domains = in_domains(str(stored.folder), stored.key, feature)
    title = f"How active is feature {count(feature)} in each domain?"
    caption = [words.error_caption(domains), line(stored)]
    figure = domain_bars(domains, title, "mean activation a token, without demonstrations", caption, mode())
    config = picture(f"feature-{feature}", figure.layout.height)
    st.plotly_chart(figure, theme=None, key="feature_bars", alt=title, config=config)


def moved(stored: Stored, feature: int, features: int) -> list[Moved]:
    """What demonstrations and every fine-tune that was held against this result did to it."""
    row = one_row(str(stored.folder), stored.key, feature)
    found = [Moved("demonstrations (ICL)", row["shift_icl"], row["signed_icl"], int(row["rank"]), features)]
    runs = tested_runs(stored.key)
    titles = list(runs.values())
    named = {job: f"{title} ({job[-6:]})" if titles.count(title) > 1 else title for job, title in runs.items()}
    return found + [m for job, title in named.items() if (m := moved_by_run(job, title, feature)) is not None]


def briefly(what: str) -> str:
    """A run on a mixture as a narrow column has it: `+ 220 rows by STS, LoRA (49d664)`; of any other its whole name."""
    head, _, rest = what.partition(", ")
    mixed = head.partition(" + ")[2]
    method = rest.partition(", ")[0]
    return f"+ {mixed}, {method}{what[-9:] if what.endswith(')') else ''}" if mixed else what


def show_moved(stored: Stored, feature: int, features: int) -> None:
    """The same as a table, and its numbers on the target set."""
    found = moved(stored, feature, features)
    st.subheader("What moves it?", anchor=False)
    table = pd.DataFrame(found).assign(way=signed_bars([one.signed for one in found], mode()))
    table["what"] = [briefly(one.what) for one in found]
    table["place"] = [f"{count(one.rank)} of {count(one.features)}" for one in found]
    column = st.column_config
    st.dataframe(
        table,
        hide_index=True,
        column_order=["what", "shift", "signed", "way", "place"],
        column_config={
            "what": column.TextColumn("By", width="medium"),
            "shift": column.NumberColumn("Shift", format="%.4f", help=words.TERMS["shift"]),
            "signed": column.NumberColumn("Signed", format="%+.4f"),
            "way": column.ImageColumn("Lower | higher", width=116),
            "place": column.TextColumn("Rank", help="By shift, among all features."),
        },
        alt="How far demonstrations and fine-tunes move this feature",
    )
    if len(found) == 1:
        st.caption("No fine-tune was held against this result yet: `sts sft` with it as `prediction` measures one.")
    st.caption("On the target set, without and with demonstrations:")
    st.table(facts(stored, feature), border="horizontal", width="stretch")


def facts(stored: Stored, feature: int) -> dict[str, str]:
    """Its numbers on the target set, without and with demonstrations, made safe for a table."""
    folder, key = str(stored.folder), stored.key
    row, target = one_row(folder, key, feature), on_target(folder, key, feature)
    noise: Any = row.get("shift_noise")
    told = {
        "Shift": with_error(*target["shift"]),
        "Signed shift": f"{'+' if target['signed'].value > 0 else ''}{with_error(*target['signed'])}",
        "Mean, without": with_error(*target["without"]),
        "Mean, with": with_error(*target["with"]),
        "Fires, without": f"{percent(row['rate_base'])} of tokens",
        "Fires, with": f"{percent(row['rate_icl'])} of tokens",
        "Moved by rounding": number(noise) if known(noise) else f"{DASH} (not measured)",
    }
    return {name: plain(value) for name, value in told.items()}
