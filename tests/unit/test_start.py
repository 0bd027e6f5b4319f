"""What the dashboard's server reads ahead: all that the pages are made of, once there is something to ask for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
_SCRIPT = """
import json, sys, threading
from pages.parts import start

up = threading.Event()
start.Runtime = type("Runtime", (), {"exists": staticmethod(up.is_set)})
reader = threading.Thread(target=start.read_ahead, daemon=True)
reader.start()
reader.join(4)
before = sorted(sys.modules)
up.set()
reader.join(30)
print(json.dumps([before, sorted(sys.modules), reader.is_alive()]))
"""


def test_all_parts_are_read_ahead_once_the_server_is_up_and_a_figure_is_drawn() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _SCRIPT], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60
    )
    before, after, reads = json.loads(ran.stdout.strip().splitlines()[-1])
    parts = {f"pages.parts.{path.stem}" for path in (PROJECT / "pages" / "parts").glob("*.py")} - {
        "pages.parts.__init__"
    }
    assert not reads
    assert "plotly.graph_objs._figure" in before  # a figure was drawn, which loads it
    assert "pages.parts.strip" not in before  # a component would not find the server's registry
    assert parts <= set(after)
