"""The figures of fine-tuning runs, from what the database holds of them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages.parts.charts import picture
from pages.parts.mixture_launch import data_name
from pages.parts.run_data import K, Run
from pages.parts.style import mode
from sts_core.figures import run_words
from sts_core.figures.changes import domain_changes
from sts_core.figures.lines import Series, step_lines
from sts_core.figures.numbers import count
from sts_core.figures.theme import HUES, TOKENS

AXES = {
    "loss": "loss, nats a token",
    "learning_rate": "learning rate",
    "grad_norm": "norm of the gradient",
    "tokens_per_second": "tokens a second",
}
TITLES = {
    "loss": "Does it learn?",
    "learning_rate": "How large are its steps?",
    "grad_norm": "How hard does it pull?",
    "tokens_per_second": "How fast is it?",
}


def curves(runs: Sequence[Run], name: str, names: Sequence[str] = ()) -> go.Figure:
    """A metric of one run, or of several laid over each other, each with its name at its end."""
    tokens = TOKENS[mode()]
    colors = [tokens.accent] if len(runs) == 1 else [pair[mode() == "dark"] for pair in HUES]
    series = []
    for run, title, color in zip(runs, names or [run.title for run in runs], colors, strict=False):
        table = run.curves[name]
        wide = bool(len(table)) and bool((table["low"] < table["high"]).any())
        band = (list(table["low"]), list(table["high"])) if wide and len(runs) == 1 else ((), ())
        series.append(Series(title, list(table["step"]), list(table["value"]), color, *band))
    steps = max((run.steps or 0 for run in runs), default=0) or None
    return step_lines(series, TITLES[name], AXES[name], [origin(runs)], mode(), steps=steps)


def trajectory(run: Run) -> go.Figure:
    """Overlap@k with the prediction at every checkpoint, between its interval, beside every null."""
    tokens = TOKENS[mode()]
    shares = run.trajectory[f"overlap_{K}"]
    steps = sorted(shares)

    def at(name: str) -> list[float]:
        return [run.trajectory.get(name, {}).get(step, float("nan")) for step in steps]

    low, high = at(f"overlap_{K}_low"), at(f"overlap_{K}_high")
    whole = all(value == value for value in (*low, *high))
    ours = Series(
        "this run", steps, at(f"overlap_{K}"), tokens.accent, low if whole else (), high if whole else (), points=True
    )
    nulls = [
        Series(label, steps, at(f"null_{name}_{K}"), tokens.muted, dash="dash" if name == "noise" else "dot")
        for name, label in run_words.NULL_NAMES.items()
        if run.trajectory.get(f"null_{name}_{K}")
    ]
    caption = [
        f"Share of the {count(K)} predicted features among the {count(K)} that shifted most; 95 % from drawing groups "
        "of questions again. Grey: what other reasons give. Claimed only above all of them.",
        origin([run]),
    ]
    return step_lines(
        [ours, *nulls], run_words.trajectory_title(K), f"overlap@{K}", caption, mode(),
        span=(0.0, 1.0), steps=run.steps, percent=True,
    )  # fmt: skip


def changes(run: Run, table: pd.DataFrame, metric: str) -> go.Figure:
    """What changed in each domain, question by question."""
    caption = [run_words.changes_caption(table), origin([run])]
    return domain_changes(table, run_words.CHANGES_TITLE, run_words.changes_axis(metric), caption, mode())


def draw(figure: go.Figure, key: str, title: str, name: str) -> None:
    """A figure on the page, with its title for who cannot see it."""
    st.plotly_chart(figure, theme=None, key=key, alt=title, config=picture(name, figure.layout.height))


def origin(runs: Sequence[Run]) -> str:
    """What was trained on what, for the foot of a figure."""
    if len(runs) != 1:
        return f"{count(len(runs))} runs: {', '.join(run.job.id for run in runs)}"
    run = runs[0]
    target = run.spec.get("target")
    data = str(target.get("data", "")) if isinstance(target, dict) else ""
    data = data_name(data) or data
    return f"{run.spec.get('model', '')} on {data}, {run.spec.get('method', '')}; run {run.job.id}"
