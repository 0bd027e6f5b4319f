"""`sts sft`: planned, started in the background with a real worker, followed, and how it ends."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from sts_core.cli import main
from sts_core.jobs import watch
from sts_core.jobs.events import read_events
from tests import tiny


@pytest.fixture(autouse=True)
def _own_jobs(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    for job in watch.all_jobs():
        if job.active:
            watch.cancel(job.id, patience=0)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A tiny model, its rows, and a spec of them."""
    tiny.save_model(tmp_path / "tiny", "llama", "chatml")
    tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows(40, seed=1))
    values: dict[str, Any] = {
        "model": "tiny", "learning_rate": 0.005, "steps": 4, "batch": 4, "device": "cpu", "dtype": "float32",
        "target": {"data": "rows.jsonl"}, "evaluate": {"target_rows": 0},
    }  # fmt: skip
    path = tmp_path / "spec.toml"
    path.write_text(tiny.as_toml(values))
    return path


def test_the_plan_starts_nothing(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sft", str(spec), "--plan", "--json", "--set", "steps=7"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 7
    assert main(["sft", str(spec), "--plan"]) == 0
    told = capsys.readouterr().out
    assert f"data    {spec.parent / 'rows.jsonl'}\n" in told
    assert "20 of 40 train" in told
    assert "and room for one more, as the next is written and for the final model" in told
    assert "a first guess" in told
    assert watch.all_jobs() == []


@pytest.mark.parametrize(
    ("change", "told"), [("learning_rat=1", "learning_rate"), ("target.data=none.jsonl", "There is no file")]
)
def test_what_is_wrong_is_told_before_a_job_is_made(
    spec: Path, change: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sft", str(spec), "--set", change]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "hint"]
    assert told in lines[0]
    assert watch.all_jobs() == []


def test_it_is_followed_to_its_end(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sft", str(spec), "--json"]) == 0
    told = capsys.readouterr()
    ended = json.loads(told.out)
    assert ended["state"] == "done"
    assert (Path(ended["result"]) / "model" / "adapter_config.json").is_file()
    job = watch.read(ended["job"])
    assert [event["step"] for event in read_events(job.folder) if event["event"] == "step"] == [1, 2, 3, 4]
    assert f"job {job.id}" in told.err
    assert "done in" in told.err


def test_a_loss_that_is_no_number_ends_with_two(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = load_file(spec.parent / "tiny" / "model.safetensors")
    next(iter(weights.values()))[0] = math.nan
    save_file(weights, spec.parent / "tiny" / "model.safetensors", metadata={"format": "pt"})
    assert main(["sft", str(spec)]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[-2] == "error: The loss is no longer a number at step 1"
    assert told[-1].startswith("hint: ")
