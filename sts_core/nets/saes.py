"""Loading a SAE, always through SAELens and always encoding with its own `encode`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sts_core import hub
from sts_core.errors import UserError
from sts_core.folders import ensure
from sts_core.nets import kept
from sts_core.nets.describe import SaeInfo

if TYPE_CHECKING:
    import torch


def load_sae(info: SaeInfo, device: str, dtype: str) -> Any:
    """The SAE in inference form. Weights that are not finite are refused."""
    key = (info.name, info.revision, str(info.folder), device, dtype)
    return kept.get("sae", key, lambda: _load(info, device, dtype))


def _load(info: SaeInfo, device: str, dtype: str) -> Any:
    from sae_lens import SAE
    from safetensors import SafetensorError

    try:
        sae = SAE.load_from_disk(str(info.folder), device=device, dtype=dtype)
    except (SafetensorError, FileNotFoundError, KeyError, ValueError, RuntimeError) as error:
        why = f"there is no architecture {error}" if isinstance(error, KeyError) else first_line(error)
        raise UserError(f"SAELens cannot load {info.name}: {why}", "Save the SAE again, or choose another.") from error
    check_finite(info.name, sae.state_dict().items(), "Save or train the SAE again.")
    return sae.eval()


def check_finite(name: str, weights: Iterable[tuple[str, torch.Tensor]], hint: str) -> None:
    """Refuse weights of which one is no number: everything computed with them would be none either."""
    import torch

    for part, value in weights:
        if not bool(torch.isfinite(value).all()):
            raise UserError(f"The weights of {name} hold values that are not finite ({part})", hint)


def encode(sae: Any, residuals: torch.Tensor) -> torch.Tensor:
    """Residuals [tokens, width] to features [tokens, features] in float32, in the SAE's own way."""
    import torch

    with torch.inference_mode():
        return sae.encode(residuals.to(sae.dtype)).float()


def download_sae(release: str, sae_id: str, folder: Path) -> None:
    """Fetch `release:id` with SAELens and save it as a folder that loads without the hub."""
    hub.prepare()
    from sae_lens import SAE

    try:
        sae = SAE.from_pretrained(release, sae_id, device="cpu")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{release}:{sae_id} cannot be had from the hub now ({first_line(error)})",
            "Check the connection, or name a folder with a SAE that SAELens saved.",
        ) from error
    sae.save_model(str(ensure(folder)))


def first_line(error: BaseException) -> str:
    """What a library said, in one line of at most 200 signs; a line that only announces the next is joined with it."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    if not lines:
        return type(error).__name__
    return (f"{lines[0]} {lines[1]}" if lines[0].endswith(":") and len(lines) > 1 else lines[0])[:200]
