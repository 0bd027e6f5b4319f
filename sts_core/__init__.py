"""STS Explorer: what will fine-tuning on this change elsewhere, told before it is done.

`import sts_core as sts`: `sts.Spec`, `sts.run`, `sts.Result`, `sts.UserError`. Importing loads no model library.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sts_core.errors import UserError
    from sts_core.measure.api import run
    from sts_core.results import Result
    from sts_core.spec import Spec

# Read by the maths library when torch is loaded: threads that wait sleep after a few microseconds of spinning. On a
# machine that does something else as well (a browser, a second run) to spin on costs far more than it saves, and on an
# idle one to sleep at once costs a fifth: docs/decisions/0004.
if os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE").upper() == "PASSIVE":
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

__all__ = ["Result", "Spec", "UserError", "run"]

_HOMES = {
    "Result": "sts_core.results",
    "Spec": "sts_core.spec",
    "UserError": "sts_core.errors",
    "run": "sts_core.measure.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sts_core' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
