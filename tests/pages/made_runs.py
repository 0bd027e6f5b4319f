"""Fine-tuning runs as their workers leave them: real job folders with real events, invented numbers."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Sequence
from typing import Any

from sts_core.folders import jobs
from sts_core.jobs.events import append_event
from sts_core.jobs.folder import create, now
from sts_core.jobs.process import created
from sts_core.spec import MMLU_DOMAINS

SPEC: dict[str, Any] = {
    "model": "smollm2-135m-instruct", "learning_rate": 0.0002, "method": "lora", "steps": 60, "batch": 8, "seed": 0,
    "target": {"data": "gsm-symbolic"}, "lora": {"rank": 16}, "prediction": "0123456789abcdef0123",
}  # fmt: skip


def make_run(
    title: str = "gsm-symbolic, LoRA, 60 steps",
    state: str = "done",
    steps: int = 60,
    done: int = 60,
    predicted: bool = True,
    scored: Sequence[str] = ("target", *MMLU_DOMAINS),
    **spec: Any,
) -> str:
    """A run that came so far; its id."""
    jobs()
    draw = random.Random(f"{title}{spec}")
    standing: dict[str, Any] = {"started": now(), "stage": "training", "done": done, "total": steps, "unit": "steps"}
    # In its final state at once: a job that waits is begun by whoever looks.
    if state == "running":
        standing |= {"pid": os.getpid(), "pid_started": created(os.getpid())}
    else:
        standing |= {"ended": now(), **({"error": "The loss is not finite"} if state == "failed" else {})}
    order = {"kind": "sft", "title": title, "spec": SPEC | spec, "options": {}}
    folder = create(order, {"state": state, **standing})
    append_event(folder, "created", kind="sft", title=title)
    if predicted:
        append_event(
            folder, "prediction", key="0123456789abcdef0123", dims=list(range(5)), measure="STS act",
            scores=[{"domain": name, "metric": "sts_act", "value": 0.5} for name in MMLU_DOMAINS],
        )  # fmt: skip
    if done:
        _tell_domains(folder, "before", draw, scored)
    for step in range(1, done + 1):
        loss = 0.6 + 1.6 * math.exp(-step / 18) + 0.05 * draw.gauss(0, 1)
        append_event(
            folder, "step", step=step, loss=loss, learning_rate=0.0002 * (1 - step / steps), epoch=step / 50,
            grad_norm=0.8 + draw.random(), tokens_per_second=310 + 20 * draw.random(),
        )  # fmt: skip
        if step % 20 == 0:
            append_event(folder, "checkpoint", step=step, name=f"step-{step:06d}", bytes=19_600_000)
            append_event(folder, "trajectory", step=step, **_overlap(step))
    if state == "done":
        _tell_domains(folder, "after", draw, scored)
        _tell_domains(folder, "change", draw, scored)
    if state != "running":
        append_event(folder, state)
    return folder.name


def _overlap(step: int) -> dict[str, float]:
    share = 0.55 + 0.05 * step / 20
    return {
        "overlap_100": share, "overlap_100_low": share - 0.06, "overlap_100_high": share + 0.05, "null_100": 0.7,
        "null_noise_100": 0.7, "null_activation_100": 0.65, "null_matched_100": 0.3, "null_chance_100": 0.02,
        "claimed_100": 0.0, "residual_cosine": 0.997, "l0_base": 31.5, "l0_tuned": 32.0, "r2_base": 0.85,
        "r2_tuned": 0.84, "trouble": 0.0,
    }  # fmt: skip


def _tell_domains(folder: Any, phase: str, draw: random.Random, scored: Sequence[str]) -> None:
    for name in scored:
        for metric, value in (("nll", 1.4), ("accuracy", 0.3)):
            change = draw.gauss(0.03, 0.06) - 0.4 * (name == "target")
            told = change if phase == "change" else value + draw.gauss(0, 0.2)
            append_event(
                folder, "evaluation", phase=phase, domain=name, metric=metric, value=told, se=0.02, n=120, source="own"
            )
