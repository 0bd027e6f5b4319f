"""The card beside the answer: what a run of these choices would do, and the button that does it.

What is shown is, in this order: a choice that cannot be, a job that runs, else the plan of the choices, which a child
process makes while the page stays usable.
"""

from __future__ import annotations

import time
from typing import Any

import streamlit as st

from pages.parts.choices import as_toml, same_choice, short
from pages.parts.escape import plain
from pages.parts.messages import show_error, told
from pages.parts.plan import LONGEST, Answer, Question, ask
from pages.parts.progress import cancel_button, job_panel, watch_end
from pages.parts.selection import Selection, show_next
from sts_core.errors import UserError
from sts_core.figures.numbers import count, duration, number
from sts_core.jobs.folder import Job
from sts_core.jobs.launch import start
from sts_core.jobs.watch import active, newest, running
from sts_core.store.results import listing

EVERY = 0.5
PROMPTS = 2
FRESH = 60.0
"""Seconds for which a plan is believed by a page that is loaded anew."""
_ASKED, _SEEN = "plans_asked", "plan_seen"
_DEVICES = {"cpu": "this CPU", "cuda": "this GPU", "cuda:0": "this GPU", "mps": "this Mac's GPU"}


def preflight(selection: Selection) -> None:
    """Draw the card."""
    with st.container(border=True, key="preflight"):
        if selection.spec is None:
            st.header("These choices cannot be measured", anchor=False)
            if selection.error:
                show_error(selection.error)
        elif (job := _ordered(selection.spec)) is not None:
            job_panel(job)
        else:
            _other_run()
            asked = _ask(selection.spec)
            answered = asked.answer() is not None
            if answered:
                st.session_state[_SEEN] = id(asked)
            st.fragment(_card, run_every=None if answered else EVERY)(selection, asked)


def _ordered(spec: dict[str, Any]) -> Job | None:
    """The measurement of these very choices that runs or waits."""
    return next((job for job in active() if job.kind == "run" and _same(job, spec)), None)


def _other_run() -> None:
    """Say what a measurement ordered now would wait for; its result is looked at when it is there."""
    other = running("run")
    if other is not None:
        watch_end(other)
        with st.container(key="other_run", gap="xsmall"):
            st.caption(
                f":material/hourglass_empty: {plain(other.title)} comes first; what you measure now waits for it."
            )
            cancel_button(other)


def _card(selection: Selection, asked: Question) -> None:
    with told():
        _draw_card(selection, asked)


def _draw_card(selection: Selection, asked: Question) -> None:
    answer = asked.answer()
    st.header("Before you measure", anchor=False)
    if answer is None:
        st.caption("Looking at the model, the SAE and the rows …")
        st.skeleton(height=150)
        return
    if st.session_state.get(_SEEN) != id(asked):  # the asking again ends with a run of the whole page
        st.rerun()
    _failed_before(selection)
    if answer.error:
        show_error(answer.error)
        st.button("Check again", key="check_again", icon=":material/refresh:", on_click=_forget, args=(selection.spec,))
        return
    _checks(answer.plan or {})
    _buttons(selection, answer)
    _sets(answer.plan or {})


def _checks(plan: dict[str, Any]) -> None:
    lines = []
    for check in plan.get("checks", []):
        warned = check.get("level") == "warning"
        icon = ":orange[:material/warning:]" if warned else ":green[:material/check:]"
        lines.append(f"{icon} {'Note: ' if warned else ''}{plain(check.get('text', ''))}")
    work = plan.get("work", {})
    cost = f"About {duration(work.get('seconds'))} on {_DEVICES.get(plan.get('device', ''), 'this machine')}"
    lines.append(f":gray[:material/schedule:] {cost}, {number(work.get('memory_gb'), 2)} GB of memory")
    lines.append(f":gray[:material/notes:] {count(work.get('tokens'))} tokens to read")
    with st.container(gap="xxsmall", key="checks"):
        for line in lines:
            st.markdown(line)


def _buttons(selection: Selection, answer: Answer) -> None:
    plan = answer.plan or {}
    is_shown = selection.stored is not None and not selection.stale
    can_show = not is_shown and any(stored.key == plan.get("key") for stored in listing())
    with st.container(horizontal=True, key="measure_buttons", gap="xsmall"):
        if can_show:
            st.button(
                "Show the stored result", type="primary", key="show_stored", on_click=show_next, args=(plan["key"],)
            )
        again = is_shown or can_show
        label = "Measure again on this machine" if again else "Measure"
        if st.button(label, key="measure", type="secondary" if again else "primary", icon=":material/play_arrow:"):
            _start(selection, fresh=again)
        if st.button("Show prompts", key="prompts", type="tertiary"):
            _prompts(selection.spec or {})


def _start(selection: Selection, fresh: bool) -> None:
    spec = selection.spec or {}
    with told():
        start("run", spec, title=title(spec), options={"fresh": fresh})
        st.rerun()


def title(spec: dict[str, Any]) -> str:
    """A job's name in the list of jobs."""
    domains = spec.get("domains", [])
    scored = f"{len(domains)} domains" if len(domains) != 1 else domains[0]["name"]
    return f"{short(spec['target']['data'], 40)}, {scored}, {short(spec['model'], 40)}"


def _failed_before(selection: Selection) -> None:
    """When the last run of these very choices came to nothing, say why."""
    job = newest("run")
    if job is None or job.state not in ("failed", "dead", "cancelled") or not _same(job, selection.spec):
        return
    if job.state == "cancelled":
        st.caption(":material/block: The last run of these settings was cancelled.")
        return
    reason = "The run ended without a word" if job.state == "dead" else "The run failed"
    show_error(UserError(job.error or reason, job.hint or "Try again; the log tells more."), job.log_tail(12))


def _same(job: Job, spec: dict[str, Any] | None) -> bool:
    try:
        return spec is not None and same_choice(job.spec, spec)
    except (UserError, TypeError, AttributeError):  # the order in the job's folder is damaged
        return False


def _sets(plan: dict[str, Any]) -> None:
    rows = [
        {
            "Set": entry.get("set"),
            "Rows": entry.get("rows"),
            "Questions": entry.get("items"),
            "Tokens": entry.get("tokens"),
            "Asked": entry.get("asked"),
            "Left out": sum(entry.get("dropped", {}).values()),
        }
        for entry in plan.get("sets", [])
    ]
    if rows:
        with st.expander("Rows and tokens of each set"):
            st.dataframe(rows, hide_index=True, alt="Rows, questions and tokens a set would be measured on")


@st.dialog("The exact prompts", width="large")
def _prompts(spec: dict[str, Any]) -> None:
    """The first questions of every set as the model reads them, without and with demonstrations."""
    with st.skeleton(height=240):
        answer = ask(spec, PROMPTS).wait(LONGEST)
    if answer.error:
        show_error(answer.error)
        return
    prompts = (answer.plan or {}).get("prompts", [])
    if not prompts:
        st.caption("There is no question to show.")
        return
    names = list(dict.fromkeys(prompt["set"] for prompt in prompts))
    chosen = st.selectbox("Set", names, key="prompt_set")
    for prompt in (p for p in prompts if p["set"] == chosen):
        st.markdown(f"**Row {count(prompt['row'])}**, without demonstrations")
        st.code(prompt["base_text"], language=None, wrap_lines=True)
        st.markdown(f"**Row {count(prompt['row'])}**, with demonstrations")
        st.code(prompt["icl_text"], language=None, wrap_lines=True)


def _ask(spec: dict[str, Any]) -> Question:
    """The question for this spec, asked once a session; questions for other choices that are still open are dropped."""
    asked: dict[str, Question] = st.session_state.setdefault(_ASKED, {})
    text = as_toml(spec)
    for other in [key for key, one in asked.items() if key != text and one.answer() is None]:
        asked.pop(other).drop()
    if text not in asked:
        asked[text] = _fresh_answer(text) or ask(spec)
    if asked[text].answer() is not None:
        _remember(text, asked[text])
    return asked[text]


def _remember(text: str, asked: Question) -> None:
    answered, now = _answered(), time.monotonic()
    for old in [key for key, (when, _) in list(answered.items()) if now - when > FRESH]:
        answered.pop(old, None)
    answered.setdefault(text, (now, asked))


def _fresh_answer(text: str) -> Question | None:
    """What another session, or this one before it was loaded anew, was told a moment ago."""
    when, asked = _answered().get(text, (0.0, None))
    if asked is not None and time.monotonic() - when < FRESH:
        return asked
    _answered().pop(text, None)
    return None


@st.cache_resource(show_spinner=False)
def _answered() -> dict[str, tuple[float, Question]]:
    return {}


def _forget(spec: dict[str, Any]) -> None:
    text = as_toml(spec)
    st.session_state.get(_ASKED, {}).pop(text, None)
    _answered().pop(text, None)
