"""Checkpoints that are whole or absent, with all that an exact resume needs, and no pickle.

    checkpoints/step-000020/         the adapter, or the whole model, as PEFT and transformers save them
    checkpoints/step-000020/state/   optimiser, schedule, random generators, and where the training stood

A checkpoint is written under a hidden name, made safe on the disk, and renamed. Arrays are safetensors, the rest JSON.
One that a failing disk or a hand has damaged since is set aside as `damaged-step-000020`; the one before it is gone on
with.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.trainer import TRAINER_STATE_NAME

from sts_core.errors import UserError
from sts_core.folders import disk_trouble, ensure

STATE = "state"
_NAME = re.compile(r"step-(\d{6,})")
_ARRAYS, _PLAIN = "optimiser.safetensors", "optimiser.json"
GUARD = "guard.json"


def name_of(step: int) -> str:
    """A checkpoint's folder name."""
    return f"step-{step:06d}"


def whole(folder: Path) -> dict[int, Path]:
    """The checkpoints in a run's `checkpoints/`, oldest first, by their step."""
    found = {int(match[1]): path for path in folder.glob("step-*") if (match := _NAME.fullmatch(path.name))}
    return dict(sorted(found.items()))


@contextmanager
def writing(place: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `place` when the block ends well; otherwise nothing is left of it."""
    part = place.with_name(f".{place.name}.part")
    try:
        ensure(place.parent)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        yield part
        _sync(part)
        if place.exists():
            shutil.rmtree(place)
        part.rename(place)
        _sync_folder(place.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise disk_trouble(place.parent, error) from error
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def prune(folder: Path, keep: int | None) -> None:
    """Remove what kills left half-written, and all but the newest `keep` checkpoints."""
    for part in (*folder.glob(".step-*.part"), folder / ".random"):
        shutil.rmtree(part, ignore_errors=True)
    steps = list(whole(folder))
    for step in steps[: max(0, len(steps) - keep)] if keep else []:
        # Out of sight first: a removal that is cut short must not leave half a checkpoint under its name.
        gone = folder / f".{name_of(step)}.part"
        (folder / name_of(step)).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def set_damaged_aside(folder: Path) -> dict[int, str]:
    """Take every checkpoint that cannot be gone on with out of the way; what is wrong with each, by its step."""
    found = {step: why for step, place in whole(folder).items() if (why := _damage(place))}
    for step in found:
        aside = folder / f"damaged-{name_of(step)}"
        shutil.rmtree(aside, ignore_errors=True)
        (folder / name_of(step)).rename(aside)
    return found


def _damage(place: Path) -> str | None:
    """Which file is missing, or is not what its own head says; None of a checkpoint that is sound."""
    for path in sorted({*_needed(place), *place.rglob("*.safetensors"), *place.rglob("*.json")}):
        try:
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            else:
                with safe_open(path, "pt"):  # reads the head, and holds the file's length against it
                    pass
        except (OSError, ValueError, SafetensorError) as error:
            why = "it is missing" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
            return f"{path.relative_to(place)}: {why}"
    return None


def _needed(place: Path) -> set[Path]:
    """The files without which none is gone on with: weights with their settings, and all of the state."""
    state = {_ARRAYS, _PLAIN, GUARD, TRAINER_STATE_NAME, _random_arrays(0), _random(0)}
    if (place / "adapter_config.json").is_file():
        weights = {"adapter_model.safetensors"}
    else:
        weights = {"config.json"}
        index = place / "model.safetensors.index.json"
        with suppress(OSError, ValueError):  # what is wrong with the index itself is found when it is read
            weights |= set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        weights |= set() if index.is_file() else {"model.safetensors"}
    return {place / name for name in weights} | {place / STATE / name for name in state}


def size_of(folder: Path) -> int:
    """Bytes in a folder and all below it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def link_files(source: Path, target: Path) -> None:
    """The files of one folder in another without their bytes twice, where the disk can do that."""
    for path in sorted(source.iterdir()):
        if path.is_file():
            try:
                os.link(path, target / path.name)
            except OSError:
                shutil.copy2(path, target / path.name)


def save_optimiser(folder: Path, state: Mapping[str, Any], schedule: Mapping[str, Any]) -> None:
    """Write the states of both to a checkpoint's state; parameters may go by number or by name."""
    arrays: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for owner, entry in state["state"].items():
        for key, value in entry.items():
            if isinstance(value, Tensor):
                arrays[f"{owner}/{key}"] = value.detach().cpu().contiguous()
            else:
                plain.setdefault(str(owner), {})[key] = value
    save_file(arrays, folder / _ARRAYS)
    told = {"groups": state["param_groups"], "plain": plain, "schedule": schedule}
    (folder / _PLAIN).write_text(json.dumps(told), encoding="utf-8")


def load_optimiser(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The states of the optimiser and of the schedule, as they were given."""
    told = read_state(folder / _PLAIN)
    state: dict[int | str, dict[str, Any]] = {_owner(owner): dict(entry) for owner, entry in told["plain"].items()}
    for name, value in load_file(folder / _ARRAYS).items():
        owner, _, key = name.rpartition("/")
        state.setdefault(_owner(owner), {})[key] = value
    groups = [{**group, "betas": tuple(group["betas"])} for group in told["groups"]]
    return {"state": state, "param_groups": groups}, dict(told["schedule"])


def _owner(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _random(rank: int) -> str:
    return f"random-{rank}.json"


def _random_arrays(rank: int) -> str:
    return f"random-{rank}.safetensors"


def save_random(folder: Path, rank: int = 0) -> None:
    """Write this process's random generators."""
    arrays = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        arrays |= {f"cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    save_file(arrays, folder / _random_arrays(rank))
    version, words, gauss = random.getstate()
    kind, keys, at, has_gauss, cached = np.random.get_state()
    numpy_state = [str(kind), np.asarray(keys).tolist(), int(at), int(has_gauss), float(cached)]
    told = {"python": [version, list(words), gauss], "numpy": numpy_state}
    (folder / _random(rank)).write_text(json.dumps(told), encoding="utf-8")


def load_random(folder: Path, rank: int = 0) -> None:
    """Set them back."""
    arrays, told = load_file(folder / _random_arrays(rank)), read_state(folder / _random(rank))
    torch.set_rng_state(arrays.pop("cpu"))
    if arrays and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([arrays[f"cuda{i}"] for i in range(len(arrays))])
    version, words, gauss = told["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, at, has_gauss, cached = told["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), at, has_gauss, cached))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Whatever the block draws at random, the training after it draws as if it had not been."""
    python, numpy_state, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


def read_state(path: Path) -> Mapping[str, Any]:
    """A JSON file of a checkpoint's state."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"The checkpoint {path.parent.parent.name} cannot be read ({path.name}: {error})",
            "Remove its folder: the run goes on from the one before.",
        ) from None
    return dict(value)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            _sync_folder(path)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
