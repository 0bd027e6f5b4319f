"""A checkpoint that a failing disk or a hand has damaged is set aside, and the run ends as if it had not been."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sts_core.jobs import launch, watch
from sts_core.jobs.folder import locate
from sts_core.train.sft.checkpoint import name_of, whole
from sts_core.train.sft.spec import SftSpec
from sts_core.train.sft.training import Trained, train
from tests import tiny
from tests.unit.test_sft_resume import ended, kill_after, own_jobs, steps_told

__all__ = ["own_jobs"]

Events = list[tuple[str, dict[str, Any]]]
WEIGHTS = {"lora": "adapter_model.safetensors", "full": "model.safetensors"}
SETTINGS = {"lora": "adapter_config.json", "full": "config.json"}


class Killed(Exception):
    """The process ends here."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sft")
    tiny.save_model(folder / "tiny", "llama", "chatml")
    tiny.write_rows(folder / "rows.jsonl", tiny.rows(40, seed=1))
    return folder


@pytest.fixture(autouse=True)
def _alone(own_cache: Path) -> None:
    """Rates are remembered in a cache of the test's own, and one thread gives the same numbers each time."""
    torch.set_num_threads(1)


def spec_of(place: Path, method: str) -> SftSpec:
    return SftSpec.from_dict({
        "model": str(place / "tiny"), "learning_rate": 0.01, "steps": 6, "batch": 4, "device": "cpu", "method": method,
        "dtype": "float32", "checkpoint_every": 2, "lora": {"rank": 4, "dropout": 0.1}, "evaluate": {"target_rows": 0},
        "target": {"data": str(place / "rows.jsonl"), "answer": "cot"},
    })  # fmt: skip


def killed_after(last: int, spec: SftSpec, out: Path) -> Path:
    """A run that ended over this checkpoint; the folder it and those before lie in."""

    def at_checkpoint(step: int, _folder: Path) -> None:
        if step == last:
            raise Killed

    with pytest.raises(Killed):
        train(spec, out, at_checkpoint=at_checkpoint)
    return out / "checkpoints"


def overwrite(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 4)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def blank(path: Path) -> None:
    """The middle of it as zeros, its head and its length as they were: what a power cut can leave."""
    all_of_it = path.read_bytes()
    quarter = len(all_of_it) // 4
    path.write_bytes(all_of_it[: 2 * quarter] + bytes(quarter) + all_of_it[3 * quarter :])


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGES: dict[str, Callable[[Path, str], None]] = {
    "noise over the generators": lambda at, _method: overwrite(at / "state" / "random-0.safetensors"),
    "weights cut short": lambda at, method: cut(at / WEIGHTS[method]),
    "weights in part zero": lambda at, method: blank(at / WEIGHTS[method]),
    "moments in part zero": lambda at, _method: blank(at / "state" / "optimiser.safetensors"),
    "half a JSON": lambda at, _method: cut(at / "state" / "optimiser.json"),
    "no trainer's state": lambda at, _method: (at / "state" / "trainer_state.json").unlink(),
    "no weights": lambda at, method: (at / WEIGHTS[method]).unlink(),
    "no settings": lambda at, method: (at / SETTINGS[method]).unlink(),
    "no sums": lambda at, _method: (at / "sums.json").unlink(),
    "sums of nothing": lambda at, _method: overwrite(at / "sums.json"),
    "nothing left": lambda at, _method: emptied(at),
}


def same(spec: SftSpec, one: Path, other: Path) -> bool:
    weights = [load_file(folder / WEIGHTS[spec.method]) for folder in (one, other)]
    return all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def steps(told: Events) -> list[int]:
    return [details["step"] for event, details in told if event == "step"]


def asides(told: Events) -> list[tuple[int, int]]:
    """The steps of damaged checkpoints, each with the step that the run goes on from."""
    return [(details["at"], details["goes_on_from"]) for event, details in told if event == "checkpoint damaged"]


def gone_on_with(spec: SftSpec, out: Path) -> tuple[Trained, Events]:
    told: Events = []
    return train(spec, out, tell=lambda event, details: told.append((event, details))), told


@pytest.mark.parametrize(
    ("method", "damage"), [*(("lora", damage) for damage in DAMAGES), ("full", "weights in part zero")]
)
def test_the_run_goes_on_from_the_one_before(place: Path, tmp_path: Path, method: str, damage: str) -> None:
    spec = spec_of(place, method)
    never = train(spec, tmp_path / "never")
    checkpoints = killed_after(4, spec, tmp_path / "run")
    DAMAGES[damage](checkpoints / "step-000004", method)
    again, told = gone_on_with(spec, tmp_path / "run")
    assert asides(told) == [(4, 2)]
    assert steps(told) == [3, 4, 5, 6]
    assert (checkpoints / "damaged-step-000004").is_dir()
    assert same(spec, never.model, again.model)


def test_where_all_are_damaged_it_begins_anew(place: Path, tmp_path: Path) -> None:
    spec = spec_of(place, "lora")
    checkpoints = killed_after(4, spec, tmp_path / "run")
    for folder in checkpoints.iterdir():
        overwrite(folder / WEIGHTS["lora"])
    _, told = gone_on_with(spec, tmp_path / "run")
    assert asides(told) == [(2, 0), (4, 0)]
    assert steps(told) == [1, 2, 3, 4, 5, 6]


def test_what_is_sound_stays_where_it_is(place: Path, tmp_path: Path) -> None:
    spec = spec_of(place, "full")
    checkpoints = killed_after(4, spec, tmp_path / "run")
    _, told = gone_on_with(spec, tmp_path / "run")
    assert steps(told) == [5, 6]
    assert sorted(folder.name for folder in checkpoints.iterdir()) == ["step-000002", "step-000004", "step-000006"]


@pytest.mark.parametrize("finished", [True, False])
def test_damage_to_the_last_one_is_mended_from_the_one_before(place: Path, tmp_path: Path, finished: bool) -> None:
    """The finished model shares its bytes with the last checkpoint, so both are damaged at once."""
    spec, out = spec_of(place, "lora"), tmp_path / "run"
    never = train(spec, tmp_path / "never")
    if finished:
        train(spec, out)
    else:
        killed_after(6, spec, out)
    blank(out / "checkpoints" / "step-000006" / WEIGHTS["lora"])
    again, told = gone_on_with(spec, out)
    assert asides(told) == [(6, 4)]
    assert steps(told) == [5, 6]
    assert same(spec, never.model, again.model)
    assert gone_on_with(spec, out)[1] == []


@pytest.mark.usefixtures("own_jobs")
def test_the_log_of_a_job_says_what_was_set_aside_and_where_it_goes_on(place: Path) -> None:
    job = launch.start("sft", {**spec_of(place, "lora").to_dict(), "steps": 60, "checkpoint_every": 8}, "damaged")
    kill_after(job, 20, 0.0)
    last = max(whole(checkpoints := locate(job) / "result" / "checkpoints"))
    overwrite(checkpoints / name_of(last) / WEIGHTS["lora"])
    launch.resume(job)
    assert ended(job).state == "done", watch.read(job).log_tail(30)
    words = f"The checkpoint of step {last} is damaged and was set aside (adapter_model.safetensors has changed)"
    assert f"{words}; the run goes on from step {last - 8}." in watch.read(job).log_tail(50)
    assert steps_told(job) == list(range(1, 61)), "a step told twice, or never"
