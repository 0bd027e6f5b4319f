"""Taking the machine out of what a job left: paths, process ids, the machine's name. What is told stays as it is."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sts_core.errors import UserError

_PATH = re.compile(
    r"(?<![\w:/.<~-])(?:~/|/|[A-Za-z]:[\\/])(?:[\w.+@-]+[\\/])+[\w.+@-]*|(?<![\w:/.<~-])/(?:tmp|home|root)\b"
)
_PROCESS = frozenset({"pid", "pid_started"})
_SHORTEST_NAME = 4
"""Letters: a shorter name of a machine is a word like any other."""


class Known(NamedTuple):
    """A place of this machine, and what it is called where no machine is told of."""

    place: Path
    name: str


def scrubbed(value: Any, known: Sequence[Known]) -> Any:
    """A JSON value without the machine it came from."""
    if isinstance(value, dict):
        return {key: scrubbed(part, known) for key, part in value.items() if key not in _PROCESS}
    if isinstance(value, list):
        return [scrubbed(part, known) for part in value]
    return without_paths(value, known) if isinstance(value, str) else value


def without_paths(text: str, known: Sequence[Known]) -> str:
    """A text whose paths are told from a known place, or by their last part alone."""
    for place, name in known:
        text = text.replace(f"{place}/", f"{name}/" if name else "").replace(str(place), name or place.name)
    return _PATH.sub(lambda found: re.split(r"[\\/]", found[0].rstrip("\\/"))[-1] or "…", text)


def refuse_traces(folder: Path, names: Sequence[str]) -> None:
    """UserError when one of these texts still tells of a machine."""
    machine = socket.gethostname()
    for name in names:
        text = (folder / name).read_text(encoding="utf-8", errors="replace")
        found = _PATH.search(text)
        if found is None and len(machine) >= _SHORTEST_NAME and machine != "localhost":
            found = re.search(rf"(?<![\w-]){re.escape(machine)}(?![\w-])", text)
        if found is not None:
            raise UserError(f"{name} still tells of this machine: {found[0][:80]}", "Take that out of it, then again.")
