"""What this process has loaded and keeps, so that the next question need not load it again.

Off unless a process that serves many questions switches it on (`keep`): then models, SAEs and tokenizers stay, the
last few of each. Whoever loads one need not know: `load_decoder`, `load_sae` and `load_tokenizer` ask here first.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

MOST = {"decoder": 3, "sae": 2, "tokenizer": 4}
"""Of each kind. Three decoders: a model in the two number formats that a measurement compares, and a fine-tuned one."""

_kept: dict[str, OrderedDict[Hashable, Any]] | None = None
_turn = threading.RLock()


def keep() -> None:
    """From now on keep what is loaded."""
    global _kept
    with _turn:
        _kept = _kept or {kind: OrderedDict() for kind in MOST}


def let_go() -> None:
    """Forget all of it, and keep nothing from now on."""
    global _kept
    with _turn:
        _kept = None


def names() -> list[str]:
    """What is kept, each as its loader called it, the last used first."""
    with _turn:
        shelves = _kept or {}
        return [str(key[0]) for kind in ("decoder", "sae") for key in reversed(shelves.get(kind, {}))]  # type: ignore[index]


def get(kind: str, key: tuple[Hashable, ...], load: Callable[[], Any]) -> Any:
    """The thing of this key, which begins with its name: kept, or loaded now. What was used longest ago makes room."""
    with _turn:
        if _kept is None:
            return load()
        shelf = _kept[kind]
        if key not in shelf:
            while len(shelf) >= MOST[kind]:
                shelf.popitem(last=False)
            shelf[key] = load()
        shelf.move_to_end(key)
        return shelf[key]
