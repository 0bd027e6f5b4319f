"""Whether the model hub can be reached, asked once with a short patience.

The hub's own libraries try for half a minute before they say that there is no connection. When there is none they are
told to work offline, so that what lies on this machine is used and everything else is refused at once.
"""

from __future__ import annotations

import os
import socket
import sys
from functools import cache
from urllib.parse import urlsplit

PATIENCE = 2.0
_SWITCH = "HF_HUB_OFFLINE"


def address() -> tuple[str, int]:
    """Host and port of the hub, or of the mirror that HF_ENDPOINT names."""
    parts = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    return parts.hostname or "huggingface.co", parts.port or (80 if parts.scheme == "http" else 443)


def switched_off() -> bool:
    """Whether a person has switched the hub off."""
    return os.environ.get(_SWITCH, "").lower() in ("1", "true", "yes", "on")


@cache
def trouble() -> str:
    """Why the hub cannot be reached; empty when it can."""
    try:
        with socket.create_connection(address(), timeout=PATIENCE):
            return ""
    except OSError as error:
        return str(error)


def prepare() -> None:
    """Before anything is asked of the hub: when it cannot be reached, nobody shall try."""
    if switched_off() or _behind_proxy() or not trouble():
        return
    os.environ[_SWITCH] = "1"
    for name in ("huggingface_hub.constants", "datasets.config"):
        if name in sys.modules:
            setattr(sys.modules[name], _SWITCH, True)


def _behind_proxy() -> bool:
    """A proxy answers for the hub: a direct connection says nothing then."""
    return any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"))
