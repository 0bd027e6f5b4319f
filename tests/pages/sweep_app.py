"""A page with nothing but a sweep on it: the job that the URL names, or the section that offers the finished ones."""

from __future__ import annotations

import streamlit as st

from pages.parts.style import apply_style
from pages.parts.sweep_view import sweep_section, sweep_view
from sts_core.jobs.watch import read

st.set_page_config(page_title="A sweep", layout="wide")
apply_style()
if job := st.query_params.get("job", ""):
    sweep_view(read(job))
else:
    sweep_section(st.query_params.get("target", ""))
