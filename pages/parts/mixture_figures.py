"""How the budget falls: the allocation beside the others, and the table in which domains are left out or taken in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts.charts import picture
from pages.parts.mixture_choices import Choice, leave_out
from pages.parts.mixture_data import Allocated, Rows
from pages.parts.provenance import line
from pages.parts.selection import KEY_HEAD
from pages.parts.style import mode
from sts_core.figures import words
from sts_core.figures.mixture import allocation_bars
from sts_core.figures.numbers import DASH, column_decimals, count, with_error
from sts_core.store.results import Stored

TITLE = "How many rows does each domain give?"
HEAD, ROW = 38, 33
"""Pixels of a table's head with its borders, and of a row of it."""
TALLEST = 14
CHECKBOX = 62
"""Pixels the column of checkboxes is wide."""
_MAY = "Rows of the half that is not evaluated."
_GIVES = {"sts": "By STS", "uniform": "Evenly", "inverse": "Inverse"}


def draw_allocation(found: Allocated, choice: Choice, stored: Stored) -> None:
    """The chosen allocation as bars, the others as marks in the same rows."""
    steer = "Shared out evenly" if choice.how == "uniform" else _steer(choice)
    limits = f"floor {count(choice.floor)}" + (f", cap {count(choice.cap)}" if choice.cap is not None else "")
    caption = [f"Rows of each domain, of those that may train. {steer}, {limits}.", line(stored)]
    figure = allocation_bars(found.table, choice.how, TITLE, caption, mode())
    st.plotly_chart(
        figure, theme=None, key="mix_bars", alt=TITLE, config=picture("mixture", figure.layout.height)
    )  # fmt: skip
    text = "".join(f"# {part}\n" for part in [TITLE, *caption]) + found.table.to_csv(index=False)
    st.download_button(
        "CSV", text, f"mixture-{stored.key[:KEY_HEAD]}.csv", "text/csv", key="csv_mixture", type="tertiary",
        icon=":material/download:", on_click="ignore", help="The numbers of this figure.",
    )  # fmt: skip


def choose_domains(
    names: list[str], left_out: list[str], rows: Mapping[str, Rows], scored: Mapping[str, tuple[float, float | None]],
    found: Allocated | None, stored: Stored,
) -> None:  # fmt: skip
    """A line a domain with its checkbox: score, rows that may train, and what each allocation gives it."""
    decimals = column_decimals(*zip(*(scored[name] for name in names), strict=True))
    given = {} if found is None else found.table.set_index("domain").to_dict("index")
    table = pd.DataFrame(
        {
            "use": [name not in left_out for name in names],
            "domain": names,
            "score": [with_error(*scored[name], decimals) for name in names],
            "available": [len(rows[name].numbers) for name in names],
            **{how: [given.get(name, {}).get(how, math.nan) for name in names] for how in _GIVES},
        }
    ).astype(dict.fromkeys(_GIVES, float))
    key = f"mix_domains_{stored.key[:KEY_HEAD]}"

    def keep() -> None:
        edited: dict[int, dict[str, Any]] = st.session_state[key]["edited_rows"]
        used = {i: bool(change["use"]) for i, change in edited.items() if "use" in change}
        leave_out([name for i, name in enumerate(names) if not used.get(i, name not in left_out)])

    column = st.column_config
    st.data_editor(
        table,
        key=key,
        hide_index=True,
        num_rows="fixed",
        on_change=keep,
        height=HEAD + ROW * min(len(names), TALLEST),
        placeholder=DASH,
        disabled=["domain", "score", "available", *_GIVES],
        column_config={
            "use": column.CheckboxColumn("Use", width=CHECKBOX, pinned=True, help="Mix this domain in."),
            "domain": column.TextColumn("Domain", width=120),
            "score": column.TextColumn("Score", width=104, help="± 1 s.e."),
            "available": column.NumberColumn("May train", format="%d", width=78, help=_MAY),
            **{how: column.NumberColumn(name, format="%d", width=62) for how, name in _GIVES.items()},
        },
    )


def _steer(choice: Choice) -> str:
    """The score that steers, with spaces that do not break."""
    return f"{words.METRICS[choice.metric]}, N\u00a0=\u00a0{count(choice.n)}, τ\u00a0=\u00a0{choice.tau:g}"
