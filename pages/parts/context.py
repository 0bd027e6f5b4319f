"""The one line on top of every page: what is chosen, which result is looked at, and the job that runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from pages.parts.choices import DEFAULTS, FIELDS, FILE_TYPES, FULL, QUICK, short
from pages.parts.escape import plain
from pages.parts.progress import job_line
from pages.parts.selection import Selection, select, settle, show_next
from pages.parts.uploads import keep_domain_files, keep_target_file
from sts_core.figures.numbers import count, day
from sts_core.folders import DEMO
from sts_core.spec import MMLU_DOMAINS, POOLS
from sts_core.store.results import Stored

MOST_TOKENS = 100_000_000
_LABELS = {"question": "Question", "answer": "Answer", "options": "Options", "cot": "Reasoning"}


def context_bar() -> Selection:
    """Draw the line and return what is selected."""
    stored, shown = settle()
    with st.container(key="context", horizontal=True, vertical_alignment="center", gap="small"):
        with st.container(key="chips", horizontal=True, wrap=False, gap="xsmall", vertical_alignment="center"):
            chosen = {**_model(stored), **_sae(stored, shown), **_target(stored), **_domains(), **_settings()}
            _result(stored, shown)
        job_line()
    return select(chosen, shown)


def _chip(name: str, value: str, key: str) -> Any:
    return st.popover(f":gray[{name}] {plain(value)}", key=f"chip_{key}", type="tertiary", wrap=False)


def _model(stored: Sequence[Stored]) -> dict[str, Any]:
    with _chip("Model", short(_now("model")), "model"):
        model = _pick("Model", "model", [DEFAULTS["model"], *(s.model for s in stored)])
        st.caption("An embedded name, a folder, or a hub id such as `org/name`. A hub id is fetched when you measure.")
    return {"model": model}


def _sae(stored: Sequence[Stored], shown: Stored | None) -> dict[str, Any]:
    shipped = [f"demo/{place.parent.name}" for place in sorted(DEMO.glob("*/cfg.json"))]
    known_layer = shown.layer if shown and shown.sae == _now("sae") else None
    layer = f" · layer {known_layer}" if known_layer is not None else ""
    with _chip("SAE", short(_now("sae")) + layer, "sae"):
        sae = _pick("Sparse autoencoder", "sae", [DEFAULTS["sae"], *shipped, *(s.sae for s in stored)])
        st.caption("An embedded name, a folder SAELens can load, or `release:id` of its registry. It brings its layer.")
    return {"sae": sae}


def _target(stored: Sequence[Stored]) -> dict[str, Any]:
    with _chip("Target", short(_now("target")), "target"):
        target = _pick("Target set: what you would train on", "target", [DEFAULTS["target"], *(s.target for s in stored)])
        st.caption("An embedded name, a hub id, or a file: .jsonl, .json, .csv or .parquet.")
        st.file_uploader("Or bring a file", type=list(FILE_TYPES), key="target_file", on_change=keep_target_file)
        columns = {}
        if target != DEFAULTS["target"]:
            columns = _columns("target")
    return {"target": target, **_unused("target"), **columns}


def _domains() -> dict[str, Any]:
    folder = _now("domain_folder")
    names = _now("domains")
    value = short(folder) if folder else f"all {len(MMLU_DOMAINS)}" if len(names) == len(MMLU_DOMAINS) else count(len(names))
    with _chip("Domains", value, "domains"):
        picked = st.multiselect(
            "Domains to score", MMLU_DOMAINS, default=list(MMLU_DOMAINS), key="domains", bind="query-params",
            disabled=bool(folder),
        )  # fmt: skip
        own = _words("Or a folder of your own", "domain_folder", "one file of questions a domain")
        st.file_uploader(
            "Or bring files, one a domain", type=list(FILE_TYPES), accept_multiple_files=True, key="domain_files",
            on_change=keep_domain_files,
        )  # fmt: skip
        columns = _columns("domain") if own else {}
    return {"domains": picked, "domain_folder": own, **_unused("domain"), **columns}


def _settings() -> dict[str, Any]:
    tokens = _now("target_tokens"), _now("domain_tokens")
    named = {tuple(QUICK.values()): "quick look", tuple(FULL.values()): "full budget"}
    with _chip("Settings", named.get(tokens, f"{count(tokens[0])} / {count(tokens[1])} tokens"), "settings"):
        with st.container(horizontal=True):
            st.button("Quick look", key="quick", on_click=_budget, args=(QUICK,), help="A small budget: a first impression.")
            st.button("Full budget", key="full", on_click=_budget, args=(FULL,), help="The paper's budget (METHOD 2).")
        left, right = st.columns(2)
        with left:
            target_tokens = _whole("Target tokens", "target_tokens", 1, MOST_TOKENS)
            target_demos = _whole("Target examples", "target_demos", 1, 64, "Worked examples before a question.")
            seed = _whole("Seed", "seed", 0, 2**31 - 1)
        with right:
            domain_tokens = _whole("Tokens a domain", "domain_tokens", 1, MOST_TOKENS)
            domain_demos = _whole("Examples a domain", "domain_demos", 1, 64, "Worked examples before a question.")
            pool = st.selectbox(
                "Tokens that count", POOLS, key="pool", bind="query-params",
                help="Which tokens of a prompt are averaged over: the question's, the answer's, or both (METHOD 2).",
            )  # fmt: skip
    return {
        "target_tokens": target_tokens, "target_demos": target_demos, "seed": seed,
        "domain_tokens": domain_tokens, "domain_demos": domain_demos, "pool": pool,
    }  # fmt: skip


def _result(stored: Sequence[Stored], shown: Stored | None) -> None:
    with _chip("Result", _name(shown) if shown else "none yet", "result"):
        if not stored:
            st.caption("Nothing is measured yet.")
            return
        by_key = {s.key: s for s in stored}
        if shown:
            st.session_state["result_choice"] = shown.key
        st.selectbox(
            "Look at", list(by_key), key="result_choice", on_change=_choose_result,
            format_func=lambda key: f"{by_key[key].title} · {_name(by_key[key])}",
        )  # fmt: skip
        st.caption("The choices beside it become those it was measured with.")


def _name(stored: Stored) -> str:
    return f"{day(stored.finished.isoformat())}{' (shipped demo)' if stored.demo else ''}"


def _choose_result() -> None:
    show_next(st.session_state["result_choice"])


def _budget(tokens: dict[str, int]) -> None:
    st.session_state.update(tokens)


def _pick(label: str, key: str, options: Sequence[str]) -> str:
    value = st.selectbox(label, list(dict.fromkeys(options)), key=key, accept_new_options=True, bind="query-params")
    return value or DEFAULTS[key]


def _words(label: str, key: str, placeholder: str) -> str:
    return st.text_input(label, key=key, placeholder=placeholder, bind="query-params", max_chars=1000) or ""


def _whole(label: str, key: str, least: int, most: int, tip: str | None = None) -> int:
    return st.number_input(label, least, most, DEFAULTS[key], key=key, step=1, help=tip, bind="query-params")


def _columns(side: str) -> dict[str, str]:
    st.caption("Columns, where yours are named otherwise:")
    halves = st.columns(2)
    return {
        f"{side}_{field}": _at(halves[i % 2], _LABELS[field], f"{side}_{field}", field) for i, field in enumerate(FIELDS)
    }


def _at(place: Any, label: str, key: str, placeholder: str) -> str:
    with place:
        return _words(label, key, placeholder)


def _unused(side: str) -> dict[str, str]:
    return {f"{side}_{field}": "" for field in FIELDS}


def _now(key: str) -> Any:
    """A choice as it stands before its widget is drawn, for the button that opens it carries its value.

    On the very first run the widget has no state yet: then it is what the widget will take from the URL.
    """
    default = DEFAULTS[key]
    if key in st.session_state:
        return st.session_state[key] or default
    if isinstance(default, list):
        return [name for name in st.query_params.get_all(key) if name in default] or default
    text = st.query_params.get(key, "")
    if isinstance(default, int):
        return int(text) if text.isascii() and text.isdigit() else default
    return text or default
