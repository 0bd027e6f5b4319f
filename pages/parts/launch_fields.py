"""The settings of a fine-tune as fields of the page, grouped, the rare ones folded.

A field left empty leaves its key out of the spec, and shows what the spec then takes: the defaults live in one place,
`SftSpec`, the paper's preset included. What is typed is not judged here but by the spec.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import streamlit as st

from pages.parts.fields import whole_number
from sts_core.train.evaluation.spec import DEFAULT_METRICS, METRICS
from sts_core.train.sft.spec import ALL_LINEAR, REPORTS, SCHEDULES, TRAINING_DTYPES, SftSpec

METHODS = {"lora": "LoRA", "full": "Full"}
PRESETS = {"default": "Small machine", "paper": "The paper's"}
LENGTHS = {"steps": "Steps", "epochs": "Passes over the rows"}
STEPS, DOMAIN_ROWS = 60, 60
"""What a first try on a small machine takes: minutes."""
_ANSWERS = {"answer": "The answer", "cot": "The worked answer"}
_REPORTS = {"wandb": "W&B (sends the numbers to its server)", "tensorboard": "TensorBoard"}
_SCHEDULES = {"cosine": "Cosine", "linear": "Linear", "constant": "Constant"}
LABELS = {
    "learning_rate": "Learning rate", "batch": "Rows a step", "steps": "Steps", "epochs": "Passes",
    "evaluate.rows": "Questions a domain", "evaluate.target_rows": "Rows of the training set kept back",
    "target: answer": "What is learned", "micro_batch": "Rows at once", "max_tokens": "Longest row, tokens",
    "dtype": "Number format", "device": "Device", "processes": "Processes", "lora.rank": "Rank",
    "lora.alpha": "Alpha", "lora.dropout": "Dropout", "lora.targets": "Over which modules",
    "schedule": "Schedule of the rate", "warm_up": "Warm-up, share of the steps", "weight_decay": "Weight decay",
    "clip": "Clip the gradient at", "betas": "AdamW beta 1 and 2", "seed": "Seed",
    "checkpoint_every": "Steps between checkpoints", "keep_checkpoints": "Checkpoints that stay",
    "report": "Report also to", "evaluate.metrics": "Measured before and after",
}  # fmt: skip
"""A spec's key -> what the form calls it."""


def fields() -> dict[str, Any]:
    """Draw them; the keys a person gave, as a spec's tables. `learning_rate` is missing while none is given."""
    first, second, third = st.columns(3)
    with first:
        method = _one_of("Method", "sft_method", METHODS, "LoRA trains a small adapter; full changes every weight.")
        rate = _amount("Learning rate", "sft_rate", "about 2e-4 for LoRA, 1e-5 for full", "The paper gives none.")
    with second:
        preset = _one_of(
            "Settings", "sft_preset", PRESETS,
            "The paper's: 10 passes, batch 256, 8,192 tokens, AdamW .9/.95, decay .01, clip 1, cosine. What you give "
            "here wins over either.", on_change=_usual_length,
        )  # fmt: skip
        usual = usual_values(method, preset)
        batch = whole_number("Rows a step", "sft_batch", usual["batch"])
    with third:
        length = _one_of(
            "How long", "sft_length", LENGTHS, default="epochs" if preset == "paper" else "steps"
        )  # fmt: skip
        given = {"steps": whole_number("Steps", "sft_steps", value=STEPS)} if length == "steps" else {
            "epochs": _amount("Passes", "sft_epochs", usual.get("epochs", 1))
        }  # fmt: skip
    spec = {"learning_rate": rate, "method": method, "preset": preset if preset == "paper" else None, **given,
            "batch": batch, **_evaluated(usual)}  # fmt: skip
    with st.expander("Memory and speed", key="sft_memory_box"):
        spec |= _memory(usual)
    if method == "lora":
        with st.expander("The adapter (LoRA)", key="sft_lora_box"):
            spec["lora"] = _adapter(usual["lora"])
    with st.expander("Optimiser", key="sft_optimiser_box"):
        spec |= _optimiser(usual)
    with st.expander("Seed, measures, checkpoints and reports", key="sft_more_box"):
        spec |= _more(usual)
        spec["evaluate"]["metrics"] = _measured()
    return _given(spec)


def usual_values(method: str, preset: str) -> dict[str, Any]:
    """What a spec takes for all that is left out."""
    return SftSpec.from_dict({"model": "any", "learning_rate": 1e-4, "method": method, "preset": preset}).to_dict()


def _evaluated(usual: Mapping[str, Any]) -> dict[str, Any]:
    left, middle, right = st.columns(3)
    with left:
        rows = whole_number("Questions a domain", "sft_rows", value=DOMAIN_ROWS,
                      tip="Scored before and after, on rows that neither training nor scoring used.")  # fmt: skip
    with middle:
        target = whole_number("Rows of the training set kept back", "sft_target_rows", usual["evaluate"]["target_rows"],
                        tip="Never trained on: the set itself is scored on them.")  # fmt: skip
    with right:
        answer = _choice("What is learned", "sft_answer", _ANSWERS, "answer",
                         "The worked answer needs a column of reasoning (cot).")  # fmt: skip
    return {"target": {"answer": answer}, "evaluate": {"rows": rows, "target_rows": target}}


def _memory(usual: Mapping[str, Any]) -> dict[str, Any]:
    left, middle, right = st.columns(3)
    with left:
        at_once = whole_number("Rows at once", "sft_micro", "a divisor of the batch, up to 4",
                         tip="The rest of a step's rows is accumulated. Fewer take less memory.")  # fmt: skip
        longest = whole_number("Longest row, tokens", "sft_tokens", usual["max_tokens"],
                         tip="Longer rows lose the beginning of their question.")  # fmt: skip
    with middle:
        dtype = _choice("Number format", "sft_dtype", {name: name for name in TRAINING_DTYPES}, usual["dtype"])
        device = _words("Device", "sft_device", usual["device"], "auto, cpu, cuda, cuda:1 or mps.")
    with right:
        processes = whole_number("Processes", "sft_processes", usual["processes"],
                           tip="More than one train together, a GPU each.")  # fmt: skip
        again = st.checkbox("Gradient checkpointing", key="sft_again", bind="query-params",
                            help="Less memory for more time.")  # fmt: skip
    return {"micro_batch": at_once, "max_tokens": longest, "dtype": dtype, "device": device, "processes": processes,
            "gradient_checkpointing": True if again else None}  # fmt: skip


def _adapter(usual: Mapping[str, Any]) -> dict[str, Any]:
    left, middle, right = st.columns(3)
    with left:
        rank = whole_number("Rank", "sft_rank", usual["rank"])
    with middle:
        alpha = _amount("Alpha", "sft_alpha", usual["alpha"], "The adapter is scaled by alpha over rank.")
    with right:
        dropout = _amount("Dropout", "sft_dropout", usual["dropout"])
    targets = _words(
        "Over which modules", "sft_targets", usual["targets"], "Names, as in q_proj, v_proj; or all-linear."
    )
    named = [name.strip() for name in targets.split(",") if name.strip()] if targets else []
    return {"rank": rank, "alpha": alpha, "dropout": dropout,
            "targets": (ALL_LINEAR if named == [ALL_LINEAR] else named) or None}  # fmt: skip


def _optimiser(usual: Mapping[str, Any]) -> dict[str, Any]:
    left, middle, right = st.columns(3)
    with left:
        schedule = _choice("Schedule of the rate", "sft_schedule",
                           {name: _SCHEDULES[name] for name in SCHEDULES}, usual["schedule"])  # fmt: skip
        warm_up = _amount("Warm-up, share of the steps", "sft_warm_up", usual["warm_up"])
    with middle:
        decay = _amount("Weight decay", "sft_decay", usual["weight_decay"])
        clip = _amount("Clip the gradient at", "sft_clip", usual["clip"])
    with right:
        betas = [_amount(f"AdamW beta {i + 1}", f"sft_beta{i + 1}", usual["betas"][i]) for i in (0, 1)]
    both = [usual["betas"][i] if beta is None else beta for i, beta in enumerate(betas)]
    return {"schedule": schedule, "warm_up": warm_up, "weight_decay": decay, "clip": clip,
            "betas": both if betas != [None, None] else None}  # fmt: skip


def _more(usual: Mapping[str, Any]) -> dict[str, Any]:
    left, middle, right = st.columns(3)
    with left:
        seed = whole_number("Seed", "sft_seed", usual["seed"])
    with middle:
        every = whole_number("Steps between checkpoints", "sft_every", "a fifth of the run",
                       tip="At each the actual shift is measured, where there is a prediction.")  # fmt: skip
        keep = whole_number("Checkpoints that stay", "sft_keep", "all")
    with right:
        report = _choice("Report also to", "sft_report", {name: _REPORTS[name] for name in REPORTS}, "nowhere")
    return {"seed": seed, "checkpoint_every": every, "keep_checkpoints": keep, "report": report}


def _measured() -> list[str] | None:
    """What is scored before and after."""
    metrics = st.multiselect(
        "Measured before and after", METRICS, key="sft_metrics", placeholder=", ".join(DEFAULT_METRICS),
        bind="query-params",
        help="nll_choice: the gold letter among the letters alone, so whether the model knows which, not whether it "
        "answers with a letter. nll_text: the gold option in words. first_choice: what the model would write first.",
    )  # fmt: skip
    return metrics or None


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Only what was given: no empty key and no empty table."""
    inner = {key: _given(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    return {key: value for key, value in inner.items() if value is not None and value != {}}


def _usual_length() -> None:
    """The paper trains for passes over the rows, a first try for a number of steps."""
    st.session_state["sft_length"] = "epochs" if st.session_state["sft_preset"] == "paper" else "steps"


def _one_of(
    label: str, key: str, names: Mapping[str, str], tip: str | None = None, default: str | None = None,
    on_change: Callable[[], None] | None = None,
) -> str:  # fmt: skip
    usual = default or next(iter(names))
    chosen = st.segmented_control(
        label, list(names), format_func=partial(_name, names), default=usual, required=True, key=key,
        bind="query-params", help=tip, on_change=on_change,
    )  # fmt: skip
    return chosen if chosen in names else usual


def _choice(label: str, key: str, names: Mapping[str, str], usual: str, tip: str | None = None) -> str | None:
    shown = names.get(usual, usual)
    chosen = st.selectbox(
        label, list(names), index=None, format_func=partial(_name, names), key=key, placeholder=shown,
        bind="query-params", help=tip,
    )  # fmt: skip
    return chosen if chosen in names else None


def _name(names: Mapping[str, str], key: str) -> str:
    return names.get(key, key)


def _amount(label: str, key: str, usual: Any, tip: str | None = None) -> float | str | None:
    """A number as people write it, 2e-4 too. What is no number is handed on: the spec tells what is wrong with it."""
    text = _words(label, key, usual, tip)
    try:
        return float(text) if text else None
    except ValueError:
        return text


def _words(label: str, key: str, usual: Any, tip: str | None = None) -> str | None:
    text = st.text_input(label, key=key, placeholder=str(usual), bind="query-params", max_chars=1000, help=tip)
    return text.strip() or None if text else None
