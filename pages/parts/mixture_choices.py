"""The choices of a mixture: how many rows, shared out how, answered by whom. All in the URL; the spec judges them."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import streamlit as st

from pages.parts.fields import whole_number
from pages.parts.spec_words import in_fields
from pages.parts.transfer_choices import SLIDER, choose_score
from sts_core.errors import UserError
from sts_core.figures import words
from sts_core.figures.mixture_words import SHARED
from sts_core.train.mixture.spec import ALL, MODEL, SOURCE, WORKED, MixtureSpec

BUDGET, MOST_TAU, MOST_N = 220, 6.0, 2_000
"""The paper's budget; and what the fields reach to."""
USUAL_N = 100
_ANSWERS = {SOURCE: "their source", WORKED: "their source, worked out", MODEL: "the model itself"}
_LEARNED = {"answer": "the answer", "cot": "the worked answer"}
_FIELDS = {
    "budget": "Rows of other domains", "floor": "Floor", "cap": "Cap", "seed": "Seed",
    "target.rows": "Rows of the training set", "target.evaluate_rows": "Kept back for evaluation",
    "generate.max_tokens": "Longest answer, tokens", "generate.temperature": "Temperature",
}  # fmt: skip
"""A spec's key -> what the page calls it."""
WITHOUT = "without"
"""The URL's name for the domains that are left out."""


class Choice(NamedTuple):
    """What a person chose, but for the result and its domains."""

    budget: int
    how: str
    tau: float
    floor: int
    cap: int | None
    metric: str
    n: int
    answers: str
    seed: int
    target: dict[str, Any]
    """`rows`, `evaluate_rows`, `answer`, as the spec has them."""
    generate: dict[str, Any]
    """`max_tokens`, `temperature`."""


def choose_shares(features: int) -> dict[str, Any]:
    """Budget, the way it is shared out, floor and cap; which score steers it."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="mix_shares"):
        budget = whole_number(
            "Rows of other domains", "mix_budget", value=BUDGET, tip="The paper mixes in 220.", width=190
        )
        how = _one_of(
            "Shared out", "mix_how", SHARED, "Evenly and inversely are the contrasts: train on them too to see."
        )
        steered = how != "uniform"
        score = choose_score() if steered else "sts_act"
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="mix_limits"):
        tau = st.slider(
            "τ, how sharply", 0.0, MOST_TAU, 1.0, 0.1, key="mix_tau", bind="query-params", width=SLIDER,
            disabled=not steered,
            help="Shares go with the score to the power of τ: 0 is even, 1 in proportion, more favours the highest.",
        )  # fmt: skip
        n = _leading(features) if steered else min(USUAL_N, features)
        floor = whole_number("Floor", "mix_floor", value=0, tip="At least so many rows of every domain.", width=120)
        cap = whole_number(
            "Cap", "mix_cap", "none", tip="At most so many rows of one. Its own rows are always a cap.", width=120
        )
    return {
        "budget": BUDGET if budget is None else budget, "how": how, "tau": round(float(tau), 1),
        "floor": floor or 0, "cap": cap, "metric": score, "n": n,
    }  # fmt: skip


def choose_rows() -> dict[str, Any]:
    """Whose answers are learned, and what of the training set itself goes in."""
    answers = _one_of(
        "Answers come from", "mix_answers", _ANSWERS,
        "The model itself: what it says before it is fine-tuned, the paper's way; asked in a job. Worked out: needs a "
        "column cot in the domains' rows, which the embedded ones lack.",
    )  # fmt: skip
    with st.expander("The training set's own rows, answers and seed", key="mix_more"):
        left, middle, right = st.columns(3)
        with left:
            rows = whole_number("Rows of the training set", "mix_rows", ALL, tip="Left empty: all that may train.")
            kept = whole_number(
                "Kept back for evaluation", "mix_kept", value=100, tip="Never trained on, in any mixture."
            )
        with middle:
            learned = _one_of("Learned of them", "mix_learned", _LEARNED, "Worked answers need a column (cot).")
            seed = whole_number("Seed", "mix_seed", value=0, tip="Which rows of a domain are drawn.")
        with right:
            longest = whole_number(
                "Longest answer, tokens", "mix_tokens", value=256, tip="Of the model itself; cut there.",
                idle=answers != MODEL,
            )  # fmt: skip
            warmth = st.number_input(
                "Temperature", value=0.0, step=0.1, key="mix_warmth", bind="query-params", disabled=answers != MODEL,
                help="Of the model itself. 0 takes the likeliest token each time.",
            )  # fmt: skip
    target = {"rows": ALL if rows is None else rows, "evaluate_rows": _or(kept, 100), "answer": learned}
    generate = {"max_tokens": _or(longest, 256), "temperature": float(warmth or 0)}
    return {"answers": answers, "seed": _or(seed, 0), "target": target, "generate": generate}


def choose_left_out(known: list[str]) -> list[str]:
    """The domains that the URL leaves out; names of others are dropped."""
    asked = st.query_params.get_all(WITHOUT)
    return [name for name in known if name in asked]


def leave_out(names: list[str]) -> None:
    """Keep them in the URL."""
    if names:
        st.query_params[WITHOUT] = names
    elif WITHOUT in st.query_params:
        del st.query_params[WITHOUT]


def spec_values(choice: Choice, key: str, domains: list[str], every: bool) -> dict[str, Any]:
    """The spec as a file has it: what is the default is left to it."""
    usual = MixtureSpec(result=key, budget=BUDGET).to_dict()
    values: dict[str, Any] = {
        "result": key, "budget": choice.budget, "allocation": choice.how, "tau": choice.tau, "floor": choice.floor,
        "cap": choice.cap, "domains": ALL if every else domains, "answers": choice.answers, "seed": choice.seed,
    }  # fmt: skip
    if choice.how == "uniform":
        del values["tau"]
    tables: dict[str, Any] = {"target": choice.target}
    if choice.how != "uniform":
        tables["score"] = {"metric": choice.metric, "n": choice.n}
    if choice.answers == MODEL:
        tables["generate"] = choice.generate
    plain = {name: value for name, value in values.items() if value is not None and usual.get(name) != value}
    for name, table in tables.items():
        given = {inner: value for inner, value in table.items() if usual[name].get(inner) != value}
        plain |= {name: given} if given else {}
    return {"result": key, "budget": choice.budget, **plain}


def judge(choice: Choice, key: str) -> None:
    """Refuse, in the words of the fields, what the spec would."""
    try:
        MixtureSpec.from_dict(spec_values(choice, key, [], True))
    except UserError as error:
        raise in_fields(error, _FIELDS) from error


def _leading(features: int) -> int:
    most = min(MOST_N, features)
    if most <= 10:
        return most
    n = st.slider(
        "N, features averaged over", 10, most, min(USUAL_N, most), key="mix_n", bind="query-params", width=SLIDER,
        help=words.TERMS["n"],
    )  # fmt: skip
    return int(n)


def _or(given: int | None, usual: int) -> int:
    return usual if given is None else given


def _one_of(label: str, key: str, names: dict[str, str], tip: str) -> str:
    usual = next(iter(names))
    picked = st.segmented_control(
        label, list(names), format_func=partial(_name, names), default=usual, required=True, key=key,
        bind="query-params", help=tip,
    )  # fmt: skip
    return picked if picked in names else usual


def _name(names: dict[str, str], key: str) -> str:
    return names.get(key, key)
