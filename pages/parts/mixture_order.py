"""Ordering a mixture: the same in a terminal, the plan a child process makes, and the button that starts the job."""

from __future__ import annotations

import sys
from typing import Any

import streamlit as st

from pages.parts.escape import plain
from pages.parts.messages import told
from pages.parts.planning import Planning, planned
from sts_core.figures.mixture_words import SHARED
from sts_core.figures.numbers import count, number
from sts_core.figures.words import target_name
from sts_core.jobs.launch import start
from sts_core.spec_file import to_toml
from sts_core.train.mixture.spec import MODEL, MixtureSpec

COMMAND: tuple[str, ...] = (sys.executable, "-m", "sts_core", "mix", "--plan")
FILE, FOLDER = "mix.toml", "my-mixture"
MADE = "made"
"""The URL's name for the mixture that is looked at."""


def order(values: dict[str, Any], target: str) -> None:
    """Draw it; `values` are the spec as a file has it, `target` the training set's name."""
    spec = MixtureSpec.from_dict(values)
    # Above the code, which grows with the settings: a button must not move under a hand that presses it.
    help_ = "The plan draws the rows, counts their tokens and writes nothing."
    how = Planning("mix", "Plan this mixture", "Drawing the rows and counting their tokens …", COMMAND, help_)
    if (plan := planned(values, how)) is not None:
        _draw_plan(spec, plan, target)
    with st.expander("The same in a terminal", icon=":material/terminal:", key="mix_terminal"):
        toml = to_toml(values)
        st.caption(f"These lines as {FILE}, and the command below them.")
        st.code(toml, language=None, wrap_lines=True)
        st.code(f"sts mix {FILE} --out {FOLDER}", language=None)
        st.download_button(
            FILE, toml, FILE, "application/toml", type="tertiary", icon=":material/download:", on_click="ignore",
            key="mix_toml", help="These lines as a file.",
        )  # fmt: skip


def order_title(spec: MixtureSpec, target: str) -> str:
    """What the job is called: `math + 220 rows by STS`."""
    how = SHARED.get(spec.allocation, "") if isinstance(spec.allocation, str) else "by hand"
    rows = f"{count(spec.rows_shared_out)} rows {how}"
    return f"{target_name(target)} + {rows}" if spec.target.rows != 0 else rows


def _draw_plan(spec: MixtureSpec, plan: dict[str, Any], target: str) -> None:
    own, mixed = plan["target"]["rows"], plan["rows"] - plan["target"]["rows"]
    giving = sum(bool(one["rows"]) for one in plan["domains"])
    from_domains = f"{count(mixed)} of {'one domain' if giving == 1 else f'{count(giving)} domains'}"
    st.markdown(
        f"**{count(plan['rows'])} rows**: {plain(f'{count(own)} of {target_name(target)} and {from_domains}')}."
    )
    st.markdown(plain(cost_words(plan["cost"])))
    if spec.answers == MODEL:
        asked = plan["answers"]
        st.markdown(
            plain(f"The model answers {count(asked['to_generate'])} questions first, in at most "
                  f"{count(asked['tokens_at_most'])} tokens.")
        )  # fmt: skip
    for warning in plan.get("warnings", []):
        st.markdown(f":orange[:material/warning:] {plain(warning)}")
    if st.button("Make this mixture", key="mix_make", type="primary", icon=":material/play_arrow:"):
        with told():
            st.query_params[MADE] = start("mix", spec.to_dict(), title=order_title(spec, target))
            st.rerun()


def cost_words(cost: dict[str, Any]) -> str:
    """What a pass over the rows costs, in tokens of the training set."""
    own, domains = cost["target_tokens"], cost["domain_tokens"]
    share = cost.get("domain_tokens_a_target_token")
    parts = f"{count(own)} of the training set, {count(domains)} mixed in"
    told = f"A pass over them is {count(own + domains)} tokens: {parts}"
    if share is not None:
        told += f", {number(share, 2)} for each of the training set's"
    at_most = cost.get("at_most") or 0
    return f"{told}{f'; at most {count(at_most)} with the model’s answers' if at_most > own + domains else ''}."
