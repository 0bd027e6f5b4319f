"""The one line on top of every page: what is chosen, which result is looked at, and the job that runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from pages.parts import catalogue
from pages.parts.choices import DEFAULTS, FIELDS, FILE_TYPES, FULL, QUICK, short
from pages.parts.escape import plain
from pages.parts.fields import Fields
from pages.parts.look import look_into
from pages.parts.progress import job_line, look_for_end
from pages.parts.selection import KEY_HEAD, LINK_TOLD, Selection, measured_with, select, settle, show_next
from pages.parts.uploads import MOST_MB, keep_domain_files, keep_target_file, show_refusal
from sts_core.bundle.embedded import TRAIN_NAMES
from sts_core.figures.numbers import count, day
from sts_core.folders import DEMO
from sts_core.spec import MMLU_DOMAINS, POOLS
from sts_core.store.results import Stored

_EXAMPLES = "Worked examples before a question."


def context_bar() -> Selection:
    """Draw the line and return what is selected."""
    look_for_end()
    stored, shown = settle()
    fields = Fields(measured_with(shown))
    with st.container(key="context", horizontal=True, vertical_alignment="center", gap="small"):
        with st.container(key="chips", horizontal=True, wrap=False, gap="xsmall", vertical_alignment="center"):
            model, models_box = _model(fields, stored)
            sae, saes_box = _sae(fields, stored, shown)
            chosen = {"model": model, "sae": sae} | _target(fields, stored) | _domains(fields) | _settings(fields)
            _result(stored, shown)
        job_line()
    if told := st.session_state.pop(LINK_TOLD, ""):
        st.warning(told, icon=":material/link_off:")
    catalogue.fill(catalogue.Boxes(models_box, saes_box), model, sae)
    return select(chosen, shown)


def _chip(name: str, value: str, key: str) -> Any:
    return st.popover(f":gray[{name}] {plain(value)}", key=f"chip_{key}", type="tertiary", wrap=False)


def _model(fields: Fields, stored: Sequence[Stored]) -> tuple[str, Any]:
    """The model, and the box in which the catalogue is searched."""
    with _chip("Model", short(fields.now("model")), "model"):
        model = fields.pick("Model", "model", [DEFAULTS["model"], *(s.model for s in stored)])
        st.caption("An embedded name, a folder, or a hub id such as org/name. A hub id is fetched when you measure.")
        box = catalogue.model_part(model)
    return model, box


def _sae(fields: Fields, stored: Sequence[Stored], shown: Stored | None) -> tuple[str, Any]:
    """The same of the SAE."""
    now = fields.now("sae")
    layer = f" · layer {shown.layer}" if shown and shown.sae == now and shown.layer is not None else ""
    shipped = [f"demo/{place.parent.name}" for place in sorted(DEMO.glob("*/cfg.json"))]
    with _chip("SAE", short(now) + layer, "sae"):
        sae = fields.pick("Sparse autoencoder", "sae", [DEFAULTS["sae"], *shipped, *(s.sae for s in stored)])
        st.caption("An embedded name, a folder SAELens can load, or release:id of its registry. It brings its layer.")
        box = catalogue.sae_part()
    return sae, box


def _target(fields: Fields, stored: Sequence[Stored]) -> dict[str, Any]:
    with _chip("Target", short(fields.now("target")), "target"):
        others = [*TRAIN_NAMES, *(s.target for s in stored)]
        target = fields.pick("Target set: what you would train on", "target", others)
        st.caption("An embedded name, a hub id, or a file: .jsonl, .json, .csv or .parquet.")
        st.file_uploader(
            "Or bring a file",
            type=list(FILE_TYPES),
            key="target_file",
            on_change=keep_target_file,
            max_upload_size=MOST_MB,
        )
        show_refusal("target")
        columns = fields.columns("target") if target not in TRAIN_NAMES else {}
        look_into("target", target, columns, fields.now("pool"))
    return {"target": target, **_unused("target"), **columns}


def _domains(fields: Fields) -> dict[str, Any]:
    folder, names = fields.now("domain_folder"), fields.now("domains")
    everything = len(names) == len(MMLU_DOMAINS)
    label = short(folder) if folder else f"all {len(names)}" if everything else count(len(names))
    with _chip("Domains", label, "domains"):
        picked = st.pills(
            "Domains to score",
            MMLU_DOMAINS,
            selection_mode="multi",
            default=fields.usual["domains"],
            key="domains",
            bind="query-params",
            disabled=bool(folder),
            wrap=True,
        )
        st.button("All fourteen", key="all_domains", type="tertiary", on_click=_all_domains)
        own = fields.words("Or a folder of your own", "domain_folder", "one file of questions a domain")
        st.file_uploader(
            "Or bring files, one a domain",
            type=list(FILE_TYPES),
            accept_multiple_files=True,
            key="domain_files",
            on_change=keep_domain_files,
            max_upload_size=MOST_MB,
        )
        show_refusal("domain")
        columns = fields.columns("domain") if own else {}
        look_into("domain", own, columns, fields.now("pool"))
    return {"domains": picked, "domain_folder": own, **_unused("domain"), **columns}


def _settings(fields: Fields) -> dict[str, Any]:
    tokens = fields.now("target_tokens"), fields.now("domain_tokens")
    named = {tuple(QUICK.values()): "quick look", tuple(FULL.values()): "full budget"}
    with _chip("Settings", named.get(tokens, f"{count(tokens[0])} / {count(tokens[1])} tokens"), "settings"):
        with st.container(horizontal=True):
            st.button("Quick look", key="quick", on_click=_budget, args=(QUICK,), help="A small budget, soon done.")
            st.button("Full budget", key="full", on_click=_budget, args=(FULL,), help="The paper's budget (METHOD 2).")
        left, right = st.columns(2)
        with left:
            chosen: dict[str, Any] = {
                "target_tokens": fields.whole("Target tokens", "target_tokens"),
                "target_demos": fields.whole("Target examples", "target_demos", _EXAMPLES),
                "seed": fields.whole("Seed", "seed"),
            }
        with right:
            chosen |= {
                "domain_tokens": fields.whole("Tokens a domain", "domain_tokens"),
                "domain_demos": fields.whole("Examples a domain", "domain_demos", _EXAMPLES),
                "pool": fields.one_of(
                    "Tokens that count", "pool", POOLS, "The question's tokens, the answer's, or both (METHOD 2)."
                ),
            }
    return chosen


def _result(stored: Sequence[Stored], shown: Stored | None) -> None:
    with _chip("Result", _name(shown) if shown else "none yet", "result"):
        if shown is None:
            st.caption("Nothing is measured yet.")
            return
        by_key = {s.key: s for s in stored}
        st.session_state["result_choice"] = shown.key
        st.selectbox(
            "Look at",
            list(by_key),
            key="result_choice",
            on_change=_choose_result,
            format_func=lambda key: _label(by_key[key]) if key in by_key else key,
        )
        st.caption("The choices beside it become those it was measured with.")


def _name(stored: Stored) -> str:
    return f"{day(stored.finished.isoformat())}{' · demo' if stored.demo else ''}"


def _label(stored: Stored) -> str:
    """Told apart by the key's head: two results of one title and day are two."""
    return f"{stored.title} · {_name(stored)} · {stored.key[:KEY_HEAD]}"


def _choose_result() -> None:
    show_next(st.session_state["result_choice"])


def _budget(tokens: dict[str, int]) -> None:
    st.session_state.update(tokens)


def _all_domains() -> None:
    st.session_state["domains"] = list(MMLU_DOMAINS)


def _unused(side: str) -> dict[str, str]:
    return {f"{side}_{field}": "" for field in FIELDS}
