"""What became of a prediction here, in a sentence, and the way to the page that says more."""

from __future__ import annotations

import streamlit as st

from pages.parts.escape import plain
from pages.parts.feature_data import tested_runs
from pages.parts.selection import KEY_HEAD
from pages.parts.transfer_actual import RUN, read
from pages.parts.transfer_data import ACT, Choice, compared, correlation, hold, scores, vectors
from sts_core.errors import UserError
from sts_core.figures.correlation_words import verdict
from sts_core.results.actual import Actual
from sts_core.results.agreement import PRIMARY_N
from sts_core.results.outcomes.outcome import Outcome
from sts_core.store.results import Stored


def outcome_link(stored: Stored) -> None:
    """Where a fine-tune was held against this prediction: whether the score ranked what happened."""
    runs = list(tested_runs(stored.key))
    if not runs:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        # The comparison that was fixed beforehand, whatever is chosen above.
        told = plain(_told(stored, runs[0]))
        st.markdown(f":material/moving: What really happened, with N = {PRIMARY_N}: {told}.", width="content")
        st.page_link(
            "pages/views/transfer.py", label="See it on Transfer", query_params={"result": stored.key[:KEY_HEAD]},
            width="content",
        )  # fmt: skip


def _told(stored: Stored, run: str) -> str:
    try:
        actual = read(f"{RUN}{run}")
        return _verdict(str(stored.folder), stored.key, tuple(actual.outcomes), actual)
    except UserError:
        return "a fine-tune was held against it"


@st.cache_data(max_entries=16, show_spinner=False)
def _verdict(folder: str, key: str, outcomes: tuple[Outcome, ...], _actual: Actual) -> str:
    """The comparison that was fixed beforehand, of the run that Transfer shows first.

    Kept, for every choice on Mixture tells it again; `outcomes` is there so that another evaluation is judged anew.
    """
    choice = Choice(ACT)
    held = hold(scores(vectors(folder, key), choice, None), _actual, choice)
    if not held.dots:
        return "a fine-tune of other domains was held against it"
    return verdict(compared(correlation(held, _actual.reliability), choice, _actual)).removesuffix(".")
