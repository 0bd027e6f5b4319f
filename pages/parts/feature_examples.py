"""Where a feature fires: its examples as token strips, by band, arm and source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from pages.parts.escape import plain
from pages.parts.strip import Line, Strip, as_text, strips
from sts_core.figures.feature_words import BAND_HELP, BAND_WORDS, BANDS, arm_name
from sts_core.figures.numbers import count, number
from sts_core.results.gallery import Example

FIRST, MOST = 10, 60
"""Strips drawn at once, and when all are asked for."""
VIEWS = {"compact": "Line", "full": "Full"}
SCALES = {"common": "Shared", "own": "Own"}


def show_examples(found: Sequence[Example], feature: int) -> None:
    """Draw the choices and the strips."""
    arms = {arm: arm_name(arm) for arm in dict.fromkeys(example.arm for example in found)}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="example_choices"):
        _one("Examples", BANDS, "band", BAND_HELP)
        arm = _one("Arm", arms, "arm", "Without demonstrations, behind them, or in a fine-tuned model.")
        _source([example.source for example in found if example.arm == arm])
        view: Any = _one(
            "Context", VIEWS, "view", "A line about the strongest token, or all the text that was kept around it."
        )
        scale: Any = _one("Colours", SCALES, "scale", "One colour scale for all examples shown, or one for each.")
        beside = st.toggle(
            "Other arms", key="beside", bind="query-params", disabled=len(arms) < 2,
            help="The same tokens once more, as each other arm has them.",
        )  # fmt: skip
    chosen, what = chosen_examples(found)
    everything = len(chosen) > FIRST and st.session_state.get("more", False)
    shown = chosen[: MOST if everything else FIRST]
    if shown:
        name = f"Examples of feature {feature}"
        key = f"strips-{feature}"
        strips([strip(example, beside) for example in shown], key=key, name=name, view=view, scale=scale)
    _foot(len(shown), len(chosen), what)


def chosen_examples(found: Sequence[Example]) -> tuple[list[Example], str]:
    """The examples of the band, the arm and the set that are looked at, in order, and what they are."""
    arms = list(dict.fromkeys(example.arm for example in found))
    band, arm, source = (str(st.session_state.get(name) or "") for name in ("band", "arm", "source"))
    band, arm = band if band in BANDS else next(iter(BANDS)), arm if arm in arms else next(iter(arms), "")
    kept = [e for e in found if (e.band, e.arm) == (band, arm) and source in ("", e.source)]
    return ordered(kept, band), f"{BAND_WORDS[band]} in {arm_name(arm)}{f', {source}' if source else ''}"


def ordered(found: Sequence[Example], band: str) -> list[Example]:
    """The strongest first; those of other bands in turns from each source."""
    if band == "top":
        return sorted(found, key=lambda example: (-example.value, example.source, example.rank))
    return sorted(found, key=lambda example: example.rank)


def strip(example: Example, beside: bool) -> Strip:
    """An example as it is drawn, alone or with the other arms below."""
    own = Line(arm_name(example.arm), example.values)
    others = [Line(arm_name(arm), values) for arm, values in example.others.items()] if beside else []
    return Strip(example.texts, [own, *others], example.peak, _place(example), example.trouble)


def text_of(example: Example) -> str:
    """An example as a line of text, its peak marked, with value and place."""
    text = example.trouble or as_text(example.texts, example.peak)
    return f"{text.strip()}   [{number(example.value)}; {_place(example)}]"


def _place(example: Example) -> str:
    return f"{example.source} · row {count(example.row)}"


def _one(label: str, options: Mapping[str, str], key: str, help: str | None = None) -> str:
    """One of several, the first of them where nobody chose."""
    first = next(iter(options))
    chosen = st.segmented_control(
        label, list(options), format_func=lambda name: options.get(name, name), default=first, required=True, key=key,
        bind="query-params", help=help,
    )  # fmt: skip
    return chosen if chosen in options else first


def _source(sources: Sequence[str]) -> None:
    """Choose one of the sets, or all of them: then empty."""
    options = ["", *dict.fromkeys(sources)]
    st.selectbox(
        "Set", options, key="source", bind="query-params", format_func=lambda name: name or "all sets", width=150
    )


def _foot(shown: int, there: int, what: str) -> None:
    """How many there are, and the way to the rest."""
    if not there:
        st.caption(f"No example: {plain(what)}.")
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(f"{count(shown)} of {count(there)} examples, {plain(what)}.", width="content")
        if there > FIRST:
            st.toggle(f"Up to {MOST}", key="more", bind="query-params", help="More examples at once.")
