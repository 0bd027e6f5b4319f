"""The fields a choice is made in: each bound to the URL by its name, its default what the result was made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import streamlit as st

from pages.parts.choices import FIELDS

_LABELS = {"question": "Question", "answer": "Answer", "options": "Options", "cot": "Reasoning"}


class Fields:
    """Draws fields; `usual` holds the value each has when nobody chose."""

    def __init__(self, usual: Mapping[str, Any]) -> None:
        self.usual = usual

    def now(self, key: str) -> Any:
        """A choice as it stands before its field is drawn, for the button that opens it carries its value.

        On the very first run the field has no state yet: then it is what the field will take from the URL.
        """
        default = self.usual[key]
        if key in st.session_state:
            return st.session_state[key] or default
        if isinstance(default, list):
            return [name for name in st.query_params.get_all(key) if name in default] or default
        text = st.query_params.get(key, "")
        if isinstance(default, int):
            return int(text) if text.isascii() and text.isdigit() else default
        return text or default

    def pick(self, label: str, key: str, others: Sequence[str]) -> str:
        """One of several, or whatever a person types."""
        options = list(dict.fromkeys([self.usual[key], *others, self.now(key)]))
        chosen = st.selectbox(label, options, key=key, accept_new_options=True, bind="query-params")
        return chosen or str(self.usual[key])

    def one_of(self, label: str, key: str, options: Sequence[str], tip: str) -> str:
        """One of several and nothing else."""
        first = options.index(self.usual[key])
        return st.selectbox(label, options, first, key=key, bind="query-params", help=tip) or str(self.usual[key])

    def words(self, label: str, key: str, placeholder: str) -> str:
        """A line of text; empty where nothing is needed."""
        return st.text_input(
            label, self.usual[key], key=key, placeholder=placeholder, bind="query-params", max_chars=1000
        )

    def whole(self, label: str, key: str, tip: str | None = None) -> int:
        """A whole number, judged by the spec."""
        given = whole_number(label, key, value=self.usual[key], tip=tip)
        return self.usual[key] if given is None else given

    def columns(self, side: str) -> dict[str, str]:
        """Which of a file's columns is which of our fields."""
        st.caption("Columns, where yours are named otherwise:")
        halves = st.columns(2)
        chosen = {}
        for i, field in enumerate(FIELDS):
            with halves[i % 2]:
                chosen[f"{side}_{field}"] = self.words(_LABELS[field], f"{side}_{field}", field)
        return chosen


def whole_number(
    label: str, key: str, usual: Any = None, value: int | None = None, tip: str | None = None,
    width: int | Literal["stretch"] = "stretch", idle: bool = False,
) -> int | None:  # fmt: skip
    """A whole number, or none: then `usual` stands in the empty field.

    It has no bounds, for a number out of them the browser would drop without a word; the spec judges.
    """
    given = st.number_input(
        label, value=value, step=1, key=key, placeholder=None if usual is None else str(usual), bind="query-params",
        help=tip, width=width, disabled=idle,
    )  # fmt: skip
    return None if given is None else int(given)
