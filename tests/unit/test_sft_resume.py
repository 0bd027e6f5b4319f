"""A fine-tune that is killed goes on to the very numbers of one that was not: real workers, real kills."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sts_core.jobs import launch, watch
from sts_core.jobs.events import read_events
from sts_core.jobs.folder import Job, locate
from sts_core.train.sft.spec import SftSpec
from sts_core.train.sft.training import train
from tests import tiny

PATIENCE = 120
STEPS, EVERY = 60, 8


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model and a training set."""
    folder = tmp_path_factory.mktemp("sft")
    tiny.save_model(folder / "tiny-llama", "llama", "chatml")
    tiny.write_rows(folder / "rows.jsonl", tiny.rows(60, seed=1))
    return folder


def spec_of(place: Path, **changes: Any) -> dict[str, Any]:
    """A fine-tune of seconds; dropout, so that the random generators count, and epochs that end between checkpoints."""
    return {
        "model": str(place / "tiny-llama"), "learning_rate": 0.01, "steps": STEPS, "batch": 4, "micro_batch": 2,
        "device": "cpu", "dtype": "float32", "checkpoint_every": EVERY, "lora": {"rank": 4, "dropout": 0.1},
        "target": {"data": str(place / "rows.jsonl"), "answer": "cot"}, "evaluate": {"target_rows": 0}, **changes,
    }  # fmt: skip


@pytest.fixture
def own_jobs(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Jobs of this test alone; whatever still runs afterwards is ended."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    for job in watch.all_jobs():
        if job.active:
            watch.cancel(job.id, patience=0)


def steps_told(job: str) -> list[int]:
    return [event["step"] for event in read_events(locate(job)) if event["event"] == "step"]


def wait_for(job: str, there: Callable[[], bool]) -> None:
    """Look until it is so, or the job's process is gone."""
    deadline = time.monotonic() + PATIENCE
    while not there() and watch.read(job).active:
        assert time.monotonic() < deadline, watch.read(job).log_tail(30)
        threading.Event().wait(0.02)


def ended(job: str) -> Job:
    wait_for(job, lambda: False)
    return watch.read(job)


def kill_after(job: str, step: int, delay: float) -> None:
    """SIGKILL the worker `delay` seconds after it told this step, wherever it is then."""
    wait_for(job, lambda: max(steps_told(job), default=0) >= step)
    threading.Event().wait(delay)
    pid = watch.read(job).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert ended(job).state == "dead", "it ended before it could be killed"


@pytest.mark.usefixtures("own_jobs")
@pytest.mark.parametrize(("method", "kills"), [("lora", 2), ("full", 1)])
def test_a_killed_fine_tune_ends_as_one_that_was_not(place: Path, tmp_path: Path, method: str, kills: int) -> None:
    losses: dict[int, float] = {}

    def hear(event: str, details: dict[str, Any]) -> None:
        if event == "step":
            losses[details["step"]] = details["loss"]

    torch.set_num_threads(1)
    whole = train(SftSpec.from_dict(spec_of(place, method=method)), tmp_path / "whole", tell=hear)
    killed = launch.start("sft", spec_of(place, method=method), "killed")
    draw = random.Random(method)
    for step in sorted(draw.sample(range(EVERY, STEPS - 25), kills)):
        kill_after(killed, step, draw.random() * 0.05)
        launch.resume(killed)
    assert ended(killed).state == "done", watch.read(killed).log_tail(30)

    told = {event["step"]: event["loss"] for event in read_events(locate(killed)) if event["event"] == "step"}
    assert told == pytest.approx(losses, rel=0, abs=1e-6)
    assert steps_told(killed) == list(range(1, STEPS + 1)), "a step told twice, or never"
    checkpoints = [event["step"] for event in read_events(locate(killed)) if event["event"] == "checkpoint"]
    assert checkpoints == [*range(EVERY, STEPS, EVERY), STEPS]
    name = "adapter_model.safetensors" if method == "lora" else "model.safetensors"
    result = locate(killed) / "result"
    weights = [load_file(folder / name) for folder in (whole.model, result / "model")]
    assert weights[0].keys() == weights[1].keys()
    for key, value in weights[0].items():
        assert (value - weights[1][key]).abs().max().item() <= 1e-6, key
    assert not list(result.rglob("*.part"))
    assert json.loads((result / "manifest.json").read_text())["gone_on_from"] is not None
