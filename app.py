"""The one door of the dashboard: page set-up, password, navigation. `make app` opens it."""

from __future__ import annotations

import streamlit as st

from pages.parts.door import may_enter
from pages.parts.early import fetch_early
from pages.parts.feature import note_page
from pages.parts.owner import owner_line
from pages.parts.style import apply_style, icon, wordmark

st.set_page_config(page_title="STS Explorer", page_icon=icon(), layout="wide", initial_sidebar_state=220)
apply_style()

if not may_enter():
    st.stop()


def by_its_name() -> None:
    """The page of "/" has no other address; who types its name, as every other page's, comes there too."""
    st.switch_page(workbench, query_params={name: st.query_params.get_all(name) for name in st.query_params})


st.logo(wordmark(), size="medium")
workbench = st.Page(
    "pages/views/workbench.py",
    title="Workbench",
    icon=":material/align_horizontal_left:",
    url_path="home",
    default=True,
)
named = st.Page(by_its_name, title="Workbench", url_path="workbench")
shifted = st.Page(
    "pages/views/shifted.py",
    title="Shifted features",
    icon=":material/stacked_line_chart:",
    url_path="shifted",
)
features = st.Page(
    "pages/views/features.py",
    title="Feature browser",
    icon=":material/token:",
    url_path="features",
)
transfer = st.Page(
    "pages/views/transfer.py",
    title="Transfer",
    icon=":material/moving:",
    url_path="transfer",
)
mixture = st.Page(
    "pages/views/mixture.py",
    title="Mixture",
    icon=":material/blender:",
    url_path="mixture",
)
runs = st.Page(
    "pages/views/runs.py",
    title="Fine-tuning runs",
    icon=":material/model_training:",
    url_path="runs",
)
ledger = st.Page(
    "pages/views/ledger.py",
    title="Ledger",
    icon=":material/fact_check:",
    url_path="ledger",
)
jobs = st.Page(
    "pages/views/jobs.py",
    title="Jobs & cache",
    icon=":material/inventory_2:",
    url_path="jobs",
)
page = st.navigation([workbench, named, shifted, features, transfer, mixture, runs, ledger, jobs], position="hidden")
with st.sidebar:
    for group, members in {
        "Explore": [workbench, shifted, features],
        "Predict": [transfer, mixture],
        "Train": [runs, ledger],
        "Machine": [jobs],
    }.items():
        st.caption(group)
        for member in members:
            st.page_link(member)
    last = st.container(gap=None)
with st.container(key="owner", gap=None):  # always there, so that a line in it moves nothing below
    owner_line()
note_page(page.url_path)
page.run()
with last:  # told behind the page: nothing of it waits for this
    fetch_early()
