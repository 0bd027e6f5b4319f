"""A checkpoint that a failing disk or a hand has damaged is set aside, and the run ends as if it had not been."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sts_core.train.sft.spec import SftSpec
from sts_core.train.sft.training import train
from tests import tiny

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


def killed_after_four(spec: SftSpec, out: Path) -> Path:
    """A run with whole checkpoints at 2 and 4; the folder they lie in."""

    def at_checkpoint(step: int, _folder: Path) -> None:
        if step == 4:
            raise Killed

    with pytest.raises(Killed):
        train(spec, out, at_checkpoint=at_checkpoint)
    return out / "checkpoints"


def overwrite(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 4)


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


DAMAGES: dict[str, Callable[[Path, str], None]] = {
    "noise over the generators": lambda at, _method: overwrite(at / "state" / "random-0.safetensors"),
    "weights cut short": lambda at, method: cut(at / WEIGHTS[method]),
    "moments cut short": lambda at, _method: cut(at / "state" / "optimiser.safetensors"),
    "half a JSON": lambda at, _method: cut(at / "state" / "optimiser.json"),
    "zeros": lambda at, _method: zero(at / "state" / "guard.json"),
    "no trainer's state": lambda at, _method: (at / "state" / "trainer_state.json").unlink(),
    "no weights": lambda at, method: (at / WEIGHTS[method]).unlink(),
    "no settings": lambda at, method: (at / SETTINGS[method]).unlink(),
}


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_the_run_goes_on_from_the_one_before(place: Path, tmp_path: Path, method: str, damage: str) -> None:
    spec = spec_of(place, method)
    whole = train(spec, tmp_path / "whole")
    checkpoints = killed_after_four(spec, tmp_path / "run")
    DAMAGES[damage](checkpoints / "step-000004", method)
    told: Events = []
    with pytest.warns(UserWarning, match="checkpoint of step 4 is damaged and was set aside"):
        again = train(spec, tmp_path / "run", tell=lambda event, details: told.append((event, details)))
    assert [details["at"] for event, details in told if event == "checkpoint damaged"] == [4]
    assert [details["step"] for event, details in told if event == "step"] == [3, 4, 5, 6]
    assert (checkpoints / "damaged-step-000004").is_dir()
    weights = [load_file(one.model / WEIGHTS[method]) for one in (whole, again)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_where_all_are_damaged_it_begins_anew(place: Path, tmp_path: Path) -> None:
    spec = spec_of(place, "lora")
    checkpoints = killed_after_four(spec, tmp_path / "run")
    for folder in checkpoints.iterdir():
        overwrite(folder / WEIGHTS["lora"])
    told: Events = []
    with pytest.warns(UserWarning, match="is damaged"):
        train(spec, tmp_path / "run", tell=lambda event, details: told.append((event, details)))
    assert [details["at"] for event, details in told if event == "checkpoint damaged"] == [2, 4]
    assert [details["step"] for event, details in told if event == "step"] == [1, 2, 3, 4, 5, 6]


def test_what_is_sound_stays_where_it_is(place: Path, tmp_path: Path) -> None:
    spec = spec_of(place, "full")
    checkpoints = killed_after_four(spec, tmp_path / "run")
    told: Events = []
    train(spec, tmp_path / "run", tell=lambda event, details: told.append((event, details)))
    assert [details["step"] for event, details in told if event == "step"] == [5, 6]
    assert sorted(folder.name for folder in checkpoints.iterdir()) == ["step-000002", "step-000004", "step-000006"]
