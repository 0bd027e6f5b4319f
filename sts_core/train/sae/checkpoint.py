"""A training that can be killed at any moment: its whole state in one file, replaced whole every few minutes.

It lies in a hidden folder beside the one that will hold the result, until that is in place. Arrays are safetensors, the
rest is JSON in the same file, so that the two never disagree. The shuffling buffer is not kept: a training that goes on
fills it again from where the stream of text stood.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sts_core.errors import UserError
from sts_core.folders import disk_trouble, ensure

_FILE = "checkpoint.safetensors"
_FROM = "started_with"


def part_folder(out: Path) -> Path:
    """Where an unfinished training to `out` lies."""
    return out.parent / f".{out.name}.part"


class Checkpoint:
    """The last good state of a training to one folder."""

    def __init__(self, folder: Path, started_with: dict[str, Any], fresh: bool) -> None:
        """Look for one. It must be of a training that started with the same, or `fresh` throws it away."""
        self.folder = folder
        self._started_with = json.loads(json.dumps(started_with))
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
        self.state: dict[str, Any] | None = self._found()
        """The plain part of the state; None where a training starts anew."""
        if self.state is not None:
            _same(self.state[_FROM], self._started_with, folder)

    def tensors(self) -> dict[str, Tensor]:
        """The arrays of the state."""
        return load_file(self.folder / _FILE)

    def save(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Replace the last state by this one; when the disk refuses, the last one stays."""
        ensure(self.folder)
        unfinished = self.folder / f"{_FILE}.new"
        told = json.dumps({**state, _FROM: self._started_with})
        try:
            save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, unfinished,
                      metadata={"state": told})  # fmt: skip
            with unfinished.open("rb+") as file:
                os.fsync(file.fileno())
            unfinished.replace(self.folder / _FILE)
        except (OSError, SafetensorError) as error:
            unfinished.unlink(missing_ok=True)
            raise disk_trouble(self.folder, error) from error

    def clear(self) -> None:
        """The result is in place."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _found(self) -> dict[str, Any] | None:
        path = self.folder / _FILE
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                state: dict[str, Any] = json.loads(file.metadata()["state"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            raise UserError(
                f"The unfinished training in {self.folder} cannot be read", "Add --fresh to throw it away."
            ) from None
        return state


def _same(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Refuse to go on with a training of another spec, text or model."""
    differs = [key for key in now["spec"] if before["spec"].get(key) != now["spec"][key]]
    differs += [f"the text of {name}" for name in now["text"] if before["text"].get(name) != now["text"][name]]
    differs += ["the model's weights"] if before["model"] != now["model"] else []
    if differs:
        raise UserError(
            f"An unfinished training with another spec lies in {folder}: not the same: {', '.join(differs)}",
            "Go on with the old spec, name another folder, or add --fresh to throw the unfinished training away.",
        )
