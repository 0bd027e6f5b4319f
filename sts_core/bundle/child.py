"""A step of the build in a process of its own: its memory, its imports and its stubs end with it."""

from __future__ import annotations

import os
import subprocess
import sys

from sts_core.errors import UserError
from sts_core.folders import PROJECT


def run(module: str, *arguments: str, doing: str) -> None:
    """Run `python -m module` to its end; a UserError with its last words when it fails."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])),
        "PYTHONHASHSEED": "0",  # the same rows on every machine, also where a set is walked through
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        killed = done.returncode == -9
        raise UserError(
            f"{doing} failed: {'it ran out of memory' if killed else said[-1] if said else 'no reason was given'}",
            "Free about 1.5 GB of memory and run `sts demo fetch` again."
            if killed
            else "Install the packages of requirements.txt and run `sts demo fetch` again.",
        )
