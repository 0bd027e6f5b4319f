"""Starting a fine-tune: its settings, the plan a child process makes of them, the command that does the same."""

from __future__ import annotations

import sys
from typing import Any

import streamlit as st

from pages.parts.choices import FIELDS, short
from pages.parts.escape import plain
from pages.parts.messages import show_error, told
from pages.parts.plan import Answer, Asked
from pages.parts.selection import KEY_HEAD, Selection
from sts_core.errors import UserError
from sts_core.figures.numbers import count, duration, number
from sts_core.jobs.launch import start
from sts_core.spec_file import to_toml

COMMAND: tuple[str, ...] = (sys.executable, "-m", "sts_core", "sft", "--plan")
EVERY = 0.5
METHODS = {"lora": "LoRA", "full": "Full"}
PRESETS = {"default": "Small machine", "paper": "The paper's"}
_ASKED, _PLANNED = "sft_asked", "sft_planned"
_NO_RATE = "Choose a learning rate: the paper gives none, and none suits every model."


def launch_form(selection: Selection) -> None:
    """Draw it, folded; the model, the data and the prediction are those of the line on top."""
    with st.expander("New run", icon=":material/add:", key="new_run"):
        st.markdown(f":gray[{plain(_what(selection))}]")
        spec = _fields(selection)
        if spec is None:
            st.caption(_NO_RATE)
            return
        st.caption("The same in a terminal: save this as run.toml, then `sts sft run.toml`.")
        st.code(to_toml(spec), language="toml", wrap_lines=True)
        asked = st.session_state.get(_PLANNED) == spec and st.session_state.get(_ASKED)
        if not asked:
            st.button("Plan this run", type="primary", icon=":material/checklist:", on_click=_ask, args=(spec,))
            return
        st.fragment(_plan, run_every=EVERY if asked.answer() is None else None)(spec, asked)


def _what(selection: Selection) -> str:
    model, target = short(selection.chosen["model"], 60), short(selection.chosen["target"], 60)
    text = f"Trains {model} on {target}, both chosen on top."
    if (stored := _prediction(selection)) is not None:
        return (
            f"{text} The result {stored[:KEY_HEAD]} is its prediction: written down before the first step, then tested."
        )
    return f"{text} There is no measured prediction of these settings: measure first to see one tested."


def _prediction(selection: Selection) -> str | None:
    """The result looked at, where it was measured for this model and target set."""
    stored, chosen = selection.stored, selection.chosen
    fits = stored is not None and (stored.model, stored.target) == (chosen["model"], chosen["target"])
    return stored.key if stored is not None and fits else None


def _fields(selection: Selection) -> dict[str, Any] | None:
    """The spec as a plain table; None without a learning rate."""
    first, second, third = st.columns(3)
    with first:
        method = st.segmented_control(
            "Method", list(METHODS), format_func=METHODS.__getitem__, default="lora", required=True, key="sft_method",
            bind="query-params", help="LoRA trains a small adapter over the model; full changes every weight.",
        )  # fmt: skip
        rate = st.text_input(
            "Learning rate", key="sft_rate", placeholder="about 2e-4 for LoRA, 1e-5 for full", bind="query-params",
            help="Required: the paper gives none.",
        )  # fmt: skip
        seed = st.number_input("Seed", 0, 2**31 - 1, 0, key="sft_seed", bind="query-params")
    with second:
        preset = st.segmented_control(
            "Settings", list(PRESETS), format_func=PRESETS.__getitem__, default="default", required=True,
            key="sft_preset", bind="query-params",
            help="The paper's: 10 epochs, batch 256, 8,192 tokens, AdamW .9/.95, decay .01, clip 1, cosine.",
        )  # fmt: skip
        steps = st.number_input(
            "Steps", 1, 1_000_000, 60, key="sft_steps", bind="query-params", disabled=preset == "paper"
        )
        batch = st.number_input(
            "Rows a step", 1, 4096, 8, key="sft_batch", bind="query-params", disabled=preset == "paper"
        )
    with third:
        rows = st.number_input(
            "Questions a domain", 1, 10_000, 60, key="sft_rows", bind="query-params",
            help="Scored before and after, on rows that neither training nor scoring used.",
        )  # fmt: skip
        every = st.number_input(
            "Steps between checkpoints", 1, 1_000_000, 20, key="sft_every", bind="query-params",
            help="At each the actual shift is measured, where there is a prediction.",
        )  # fmt: skip
        longest = st.number_input(
            "Longest row, tokens", 8, 131_072, 1024, key="sft_tokens", bind="query-params", disabled=preset == "paper"
        )
    try:
        learning_rate = float(rate or "")
    except ValueError:
        return None
    spec: dict[str, Any] = {"model": selection.chosen["model"], "learning_rate": learning_rate, "method": method}
    if preset == "paper":
        spec["preset"] = "paper"
    else:
        spec |= {"steps": int(steps), "batch": int(batch), "max_tokens": int(longest)}
    spec |= {"seed": int(seed), "checkpoint_every": int(every)}
    if (key := _prediction(selection)) is not None:
        spec["prediction"] = key
    columns = {field: text for field in FIELDS if (text := selection.chosen.get(f"target_{field}"))}
    spec["target"] = {"data": selection.chosen["target"], **({"columns": columns} if columns else {})}
    spec["evaluate"] = {"domains": "mmlu", "rows": int(rows)} | _own_domains(selection)
    return spec


def _own_domains(selection: Selection) -> dict[str, Any]:
    """The domains chosen on top, where they are not simply all fourteen."""
    domains = (selection.spec or {}).get("domains", [])
    named = [
        {"name": d["name"], "data": d["data"], **({"columns": d["columns"]} if d.get("columns") else {})}
        for d in domains
    ]
    return {"domains": named} if named else {}


def _ask(spec: dict[str, Any]) -> None:
    before = st.session_state.get(_ASKED)
    if before is not None:
        before.drop()
    st.session_state[_PLANNED], st.session_state[_ASKED] = spec, Asked(spec, command=COMMAND)


def _plan(spec: dict[str, Any], asked: Asked) -> None:
    with told():
        answer = asked.answer()
        if answer is None:
            st.caption("Looking at the model and the rows …")
            st.skeleton(height=90)
            return
        _draw_plan(spec, answer)


def _draw_plan(spec: dict[str, Any], answer: Answer) -> None:
    if answer.error or answer.plan is None:
        show_error(answer.error or UserError("The plan gave no answer", "Try again."))
        st.button("Plan again", key="sft_again", icon=":material/refresh:", on_click=_ask, args=(spec,))
        return
    plan = answer.plan
    work, rows, kept = plan["work"], plan["rows"], plan["checkpoints"]
    parts = [
        f"{count(rows['train'])} rows to train on, {count(plan['steps'])} steps, {count(plan['tokens'])} tokens",
        f"about {duration(work['seconds'])}",
        f"{number(work['memory_gb'], 2)} GB of memory",
        f"{count(kept['kept'])} checkpoints, {number(work['disk_gb'], 2)} GB on the disk",
    ]
    st.markdown(plain(" · ".join(parts)))
    for warning in plan.get("warnings", []):
        st.markdown(f":orange[:material/warning:] {plain(warning)}")
    if st.button("Start", key="sft_start", type="primary", icon=":material/play_arrow:"):
        with told():
            job = start("sft", spec, title=_title(spec))
            st.query_params["run"] = job
            st.rerun()


def _title(spec: dict[str, Any]) -> str:
    length = f"{spec['steps']} steps" if "steps" in spec else "the paper's settings"
    return f"{short(spec['target']['data'], 40)}, {METHODS[spec['method']]}, {length}"
