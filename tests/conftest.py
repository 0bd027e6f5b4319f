"""What every test stands on: no network, one thread, a cache folder of its own when it asks for one.

The environment is set before any test module is imported, so that libraries and child processes see it. Torch is
not imported here: a process that does without it stays without it, and reads its thread count from the environment.
"""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
REAL_CACHE = Path(os.environ.get("STS_CACHE") or PROJECT / "cache").resolve()
AXE = PROJECT / ".venv" / "axe" / "axe.min.js"

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["STREAMLIT_BROWSER_GATHER_USAGE_STATS"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["STS_DEMO_RUNS"] = "0"  # a test that asks for jobs means its own
os.environ["STS_WARM_MINUTES"] = "0"  # no process stays behind a test that did not ask for one


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder that this test and the processes it starts have for themselves."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("STS_CACHE", str(folder))
    return folder


@pytest.fixture
def bundle_cache(own_cache: Path) -> Path:
    """The same, with the real embedded bundle in it (a link: never write into it)."""
    bundle = REAL_CACHE / "bundle"
    if not (bundle / "bundle.json").is_file():
        pytest.skip("the embedded bundle is not fetched: run `sts demo fetch`")
    (own_cache / "bundle").symlink_to(bundle, target_is_directory=True)
    return own_cache


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def chromium_path() -> str | None:
    """The system's Chromium for Playwright's `executable_path`; None stands for Playwright's own."""
    return shutil.which("chromium")


@pytest.fixture(scope="session")
def axe_source() -> str:
    """The script of axe-core; a test that needs it fails without it, since an unseen page is not a good one."""
    if not AXE.is_file():
        place = AXE.relative_to(PROJECT)
        pytest.fail(f"axe-core is missing at {place}: `make test` fetches it, with npm or from npm's registry")
    return AXE.read_text(encoding="utf-8")
