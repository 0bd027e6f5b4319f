"""The optional password: one for everybody, from STS_PASSWORD; without it the door is open."""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections import deque

import streamlit as st

MOST_TRIES, WINDOW = 10, 60.0
"""How many wrong words are listened to, from everybody together, in how many seconds."""


def may_enter() -> bool:
    """Whether this session may see the pages; draws the question when it may not yet."""
    password = os.environ.get("STS_PASSWORD", "")
    if not password or st.session_state.get("entered") == _digest(password):
        return True
    with st.form("door", width=360, border=False):
        st.title("STS Explorer", anchor=False)
        word = st.text_input("Password", type="password", autocomplete="current-password")
        if st.form_submit_button("Enter", type="primary"):
            return _try(word, password)
    return False


def _try(word: str, password: str) -> bool:
    tries, now = _tries(), time.monotonic()
    while tries and now - tries[0] > WINDOW:
        tries.popleft()
    if len(tries) >= MOST_TRIES:
        st.error("Too many wrong passwords. Wait a minute and try again.")
        return False
    if not hmac.compare_digest(_digest(word), _digest(password)):
        tries.append(now)
        st.error("This is not the password.")
        return False
    st.session_state["entered"] = _digest(password)
    st.rerun()


def _digest(word: str) -> str:
    """Of equal length for every word, so that the time of a comparison tells nothing of it."""
    return hashlib.sha256(word.encode("utf-8", "surrogatepass")).hexdigest()


@st.cache_resource
def _tries() -> deque[float]:
    return deque()
