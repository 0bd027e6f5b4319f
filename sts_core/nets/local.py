"""Which models and SAEs already lie on this machine, told from folder names and small JSON files alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from sts_core import folders

_DECODERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


def models() -> list[str]:
    """The hub ids of the decoders in the hub's own cache, with their weights as safetensors."""
    from huggingface_hub import constants

    found = []
    for folder in sorted(Path(constants.HF_HUB_CACHE).glob("models--*")):
        if any(_is_decoder(snapshot) for snapshot in folder.glob("snapshots/*")):
            found.append(folder.name.removeprefix("models--").replace("--", "/"))
    return sorted(found, key=str.casefold)


def saes() -> list[Path]:
    """The folders with a SAE in the cache's `models/` that did not come from SAELens' registry."""
    return sorted(path.parent for path in (folders.cache() / "models").glob("*/cfg.json"))


def fetched_saes() -> list[Path]:
    """The folders of SAEs that were fetched from SAELens' registry."""
    return sorted(path.parent for path in _fetched().glob("*/cfg.json"))


def sae_folder(name: str) -> Path:
    """Where the SAE `release:id` of SAELens' registry is kept once fetched."""
    return _fetched() / sae_folder_name(name)


def sae_folder_name(name: str) -> str:
    """`release:id` as one folder's name."""
    return re.sub(r"[^\w.-]+", "_", name)


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None when there is none to be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _fetched() -> Path:
    return folders.cache() / "models" / "saes"


def _is_decoder(snapshot: Path) -> bool:
    config = read_json(snapshot / "config.json")
    if config is None or config.get("is_encoder_decoder") or not isinstance(config.get("architectures"), list):
        return False
    return any(str(name).endswith(_DECODERS) for name in config["architectures"]) and any(
        snapshot.glob("*.safetensors")
    )
