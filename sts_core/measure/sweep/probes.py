"""Dictionaries that no training made, to measure in a SAE's place: what a score owes to the SAE shows beside them.

`raw`: every dimension of the residual, its positive and its negative part. `random`: as many directions drawn by chance
as the SAE has features. `pca`: the principal directions of the target set's own residuals, both ways. All are saved as
SAELens saves a standard SAE, so they are measured by the very same steps; none has a threshold beyond 0.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sts_core.folders import cache, disk_trouble, ensure
from sts_core.measure.resolve import Resolved
from sts_core.progress import Progress, Watcher, silent

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "probes"
NAMES = {"raw": "raw residual", "random": "random directions", "pca": "principal directions"}
_HOOKS = ("hook_name", "hf_hook_name", "model_name")


def features_of(kind: str, beside: Resolved) -> int:
    """How many features a probe beside this SAE has."""
    return beside.sae.features if kind == "random" else 2 * beside.sae.width


def probe_folder(kind: str, beside: Resolved) -> Path:
    """Where the probe beside this measurement lies, made or not: at the SAE's place in the model, with its seed."""
    spec = beside.spec
    about: dict[str, Any] = {"kind": kind, "hooks": _hooks(beside), "width": beside.sae.width}
    if kind == "random":
        about |= {"features": beside.sae.features, "seed": spec.run.seed}
    if kind == "pca":  # it is made of the target's residuals, so of all that makes those
        plain = spec.to_dict()
        about |= {
            "model": beside.model.revision, "target": plain["target"], "pool": plain["pool"], "run": plain["run"],
            "files": beside.files["target"],
        }  # fmt: skip
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
    return cache() / FOLDER / f"{kind}-l{beside.sae.layer}-{digest}"


def make_probe(kind: str, beside: Resolved, watch: Watcher = silent) -> Path:
    """The probe's folder; written now where it is not there yet, whole or not at all."""
    folder = probe_folder(kind, beside)
    if (folder / "cfg.json").is_file():
        return folder
    watch(Progress(f"making the probe: {NAMES[kind]}", 0, 0))
    try:
        draft = ensure(folder.parent) / f".{folder.name}.{secrets.token_hex(4)}"
        try:
            _save(_MAKERS[kind](beside), beside, draft)
            shutil.rmtree(folder, ignore_errors=True)
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        if (folder / "cfg.json").is_file():  # another process made it meanwhile
            return folder
        raise disk_trouble(folder, error) from error
    return folder


def _save(made: tuple[Tensor, Tensor], beside: Resolved, folder: Path) -> None:
    """Directions [features, width] and a middle [width] as a SAE: h = ReLU(directions · (x − middle))."""
    import torch
    from sae_lens import registry
    from sae_lens.saes.sae import SAEMetadata

    directions, middle = made
    kind, configured = registry.get_sae_class("standard")
    config = configured(
        d_in=directions.shape[1], d_sae=directions.shape[0], dtype="float32", device="cpu", apply_b_dec_to_input=True,
        metadata=SAEMetadata(**_hooks(beside)),
    )  # fmt: skip
    sae = kind(config)
    with torch.no_grad():
        for name, value in {
            "W_enc": directions.T, "W_dec": directions, "b_enc": torch.zeros(len(directions)), "b_dec": middle,
        }.items():  # fmt: skip
            dict(sae.named_parameters())[name].copy_(value)
    sae.save_model(str(folder))


def _hooks(beside: Resolved) -> dict[str, str]:
    """Where the SAE says it reads, in its own words."""
    try:
        metadata = json.loads((beside.sae.folder / "cfg.json").read_text(encoding="utf-8")).get("metadata") or {}
    except (OSError, ValueError, AttributeError):
        metadata = {}
    found = {name: str(metadata[name]) for name in _HOOKS if metadata.get(name)}
    return found or {"hook_name": beside.sae.hook}


def _raw(beside: Resolved) -> tuple[Tensor, Tensor]:
    import torch

    one = torch.eye(beside.sae.width)
    return torch.cat([one, -one]), torch.zeros(beside.sae.width)


def _random(beside: Resolved) -> tuple[Tensor, Tensor]:
    import torch

    draw = torch.Generator().manual_seed(beside.spec.run.seed)
    drawn = torch.randn((beside.sae.features, beside.sae.width), generator=draw)
    return drawn / drawn.norm(dim=1, keepdim=True), torch.zeros(beside.sae.width)


def _principal(beside: Resolved) -> tuple[Tensor, Tensor]:
    """One pass over the target set without demonstrations; residuals of outlier norm stay out, as they do later."""
    import torch

    from sts_core.measure.passes import norm_threshold, open_arm, pooled_residuals, reading_order
    from sts_core.measure.plan import prepare
    from sts_core.nets.decoder import load_decoder
    from sts_core.nets.tokenizer import load_tokenizer

    run, sae, outliers = beside.spec.run, beside.sae, beside.spec.pool.outliers
    target = prepare(beside, load_tokenizer(beside.model)).pair_sets[0]
    decoder = load_decoder(beside.model, sae.layer, run.device, run.dtype, sae.site)
    most = None if outliers == "off" else norm_threshold(decoder, target, float(outliers))
    arm, seen = open_arm(decoder, target, "base"), 0
    total, squares = torch.zeros(sae.width).double(), torch.zeros(sae.width, sae.width).double()
    for batch in reading_order(target, decoder.device):
        residuals = pooled_residuals(arm, batch).double().cpu()
        if most is not None:
            residuals = residuals[residuals.norm(dim=1) <= most]
        seen, total, squares = seen + len(residuals), total + residuals.sum(dim=0), squares + residuals.T @ residuals
    middle = total / max(seen, 1)
    axes = torch.linalg.eigh(squares / max(seen, 1) - torch.outer(middle, middle)).eigenvectors.flip(1).T.float()
    return torch.cat([axes, -axes]), middle.float()


_MAKERS: dict[str, Callable[[Resolved], Any]] = {"raw": _raw, "random": _random, "pca": _principal}
