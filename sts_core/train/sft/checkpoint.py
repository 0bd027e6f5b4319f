"""Checkpoints that are whole or absent, with all that an exact resume needs, and no pickle.

    checkpoints/step-000020/         the adapter, or the whole model, as PEFT and transformers save them
    checkpoints/step-000020/state/   optimiser, schedule, random generators, and where the training stood
    checkpoints/step-000020/sums.json    the checksum of every file

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
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sts_core.errors import UserError
from sts_core.folders import disk_trouble, ensure

STATE, SUMS = "state", "sums.json"
_NAME = re.compile(r"step-(\d{6,})")
_ARRAYS, _PLAIN = "optimiser.safetensors", "optimiser.json"


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
        _write_sums(part)
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
    found = {step: why for step, place in whole(folder).items() if (why := damage(place))}
    for step in found:
        aside = folder / f"damaged-{name_of(step)}"
        shutil.rmtree(aside, ignore_errors=True)
        (folder / name_of(step)).rename(aside)
    return found


def damage(place: Path) -> str | None:
    """Which file of a checkpoint or model is missing or not as it was written; None where all are."""
    try:
        sums = dict(json.loads((place / SUMS).read_text(encoding="utf-8")))
        return next((f"{name} has changed" for name, crc in sums.items() if _crc(place / name) != crc), None)
    except FileNotFoundError as error:
        return f"{Path(error.filename).relative_to(place)} is missing"
    except (OSError, ValueError, TypeError) as error:
        return str(error).splitlines()[0]


def _write_sums(place: Path) -> None:
    (place / SUMS).unlink(missing_ok=True)  # of the checkpoint that a model was linked from
    sums = {str(path.relative_to(place)): _crc(path) for path in sorted(place.rglob("*")) if path.is_file()}
    (place / SUMS).write_text(json.dumps(sums), encoding="utf-8")


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            crc = zlib.crc32(block, crc)
    return crc


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


def save_random(folder: Path, rank: int = 0) -> None:
    """Write this process's random generators."""
    arrays = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        arrays |= {f"cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    save_file(arrays, folder / f"random-{rank}.safetensors")
    version, words, gauss = random.getstate()
    kind, keys, at, has_gauss, cached = np.random.get_state()
    numpy_state = [str(kind), np.asarray(keys).tolist(), int(at), int(has_gauss), float(cached)]
    told = {"python": [version, list(words), gauss], "numpy": numpy_state}
    (folder / f"random-{rank}.json").write_text(json.dumps(told), encoding="utf-8")


def load_random(folder: Path, rank: int = 0) -> None:
    """Set them back."""
    arrays, told = load_file(folder / f"random-{rank}.safetensors"), read_state(folder / f"random-{rank}.json")
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
