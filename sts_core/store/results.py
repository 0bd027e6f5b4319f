"""The finished results of this machine as a list, and one of them opened, the shipped demo included.

How a result is kept and found by its key is told in `results.shelf`: the worker that measures needs that too.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from sts_core.errors import UserError
from sts_core.folders import DEMO, results
from sts_core.results import Result
from sts_core.results.shelf import fetch, find, keep

__all__ = ["Stored", "fetch", "find", "keep", "listing", "open_result"]


class Stored(NamedTuple):
    """A finished result as a list shows it."""

    key: str
    folder: Path
    model: str
    sae: str
    layer: int | None
    target: str
    """The target set's data, as the spec names it."""
    domains: int
    """How many."""
    finished: datetime
    """In UTC."""
    demo: bool
    """Shipped with the program, not measured here: the very one, or a copy that was imported."""

    @property
    def title(self) -> str:
        """A line that tells it from its neighbours."""
        layer = "" if self.layer is None else f", layer {self.layer}"
        return f"{Path(self.target).name} on {Path(self.model).name}{layer}"


def listing() -> list[Stored]:
    """Every whole result, newest first, the shipped demo among them; damaged folders are passed over."""
    return sorted(_stored(), key=lambda stored: (stored.finished, stored.key), reverse=True)


def open_result(key: str) -> Result:
    """The result of this key: the one measured here or, failing that, the shipped one."""
    if (there := find(key)) is not None:
        return Result(there)
    if (_manifest(_demo()) or {}).get("key") == key:
        return Result(_demo())
    raise UserError(f"There is no stored result {key!r}", "Measure it again, or choose one that is listed.")


def _demo() -> Path:
    return DEMO / "result"


def _manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder when it is one; None for a folder that holds no result one can believe."""
    try:
        manifest = Result(folder).manifest
    except (UserError, OSError, ValueError, RecursionError):
        return None
    return manifest if isinstance(manifest, dict) else None


def _stored() -> Iterator[Stored]:
    own = [entry for entry in results().iterdir() if not entry.name.startswith(".")]
    shipped = _manifest(_demo())
    for folder in (*own, _demo()):
        manifest = shipped if folder == _demo() else _manifest(folder)
        if manifest is None or not (folder == _demo() or manifest.get("key") == folder.name):
            continue
        if (stored := _read(manifest, folder, demo=manifest == shipped)) is not None:  # imported, it is still the demo
            yield stored


def _read(manifest: dict[str, Any], folder: Path, demo: bool) -> Stored | None:
    """None for a manifest that lacks what a list needs."""
    try:
        spec = manifest["spec"]
        layer = spec.get("layer", manifest.get("resolved", {}).get("sae", {}).get("layer"))
        finished = datetime.fromisoformat(manifest["finished"])
        return Stored(
            key=str(manifest["key"]),
            folder=folder,
            model=str(spec["model"]),
            sae=str(spec["sae"]),
            layer=None if layer is None else int(layer),
            target=str(spec["target"]["data"]),
            domains=len(spec["domains"]),
            finished=finished.replace(tzinfo=finished.tzinfo or UTC).astimezone(UTC),
            demo=demo,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
